"""Oracles of sparse bandits: dense matrices, everything computed again at every step."""

import numpy as np


def embedding(kernel, D, X):
    """Rows z with z z' the Nystrom approximation of k(X, X) by the points D."""
    values, vectors = np.linalg.eigh(kernel(D))
    keep = values > len(D) * np.finfo(float).eps * values[-1]
    return kernel(X, D) @ vectors[:, keep] / np.sqrt(values[keep])


def posterior(kernel, D, X, P, counts, sums, lam):
    """Mean and leverage at X given evaluated points P with counts and sums of their values."""
    Z, ZP = embedding(kernel, D, X), embedding(kernel, D, P)
    inverse = np.linalg.inv(ZP.T @ np.diag(counts) @ ZP + lam * np.eye(Z.shape[1]))
    rest = np.maximum(kernel.diag(X) - (Z**2).sum(axis=1), 0) / lam
    return Z @ inverse @ ZP.T @ sums, rest + np.einsum("ia,ab,ib->i", Z, inverse, Z)


def start_covariance(kernel, D, X, P, counts, lam):
    """Posterior covariances of X with itself over lam, with the exact prior."""
    Z, ZP = embedding(kernel, D, X), embedding(kernel, D, P)
    inverse = np.linalg.inv(ZP.T @ np.diag(counts) @ ZP + lam * np.eye(Z.shape[1]))
    return Z @ inverse @ Z.T + (kernel(X) - Z @ Z.T) / lam


class Run:
    """BBKB as its paper has it, with a second threshold for the dictionary.

    `measure(index)` gives a value, `uniform(indices, n_draw)` the random numbers of a draw. With
    `local` batches go on by the rule of every candidate's own ratio.
    """

    def __init__(self, kernel, X, measure, uniform, *, initial, lam, noise, delta, qbar=2.0,
                 C=1.5, C_D=None, fnorm=1.0, local=False):  # fmt: skip
        self.kernel, self.X, self.measure, self.uniform = kernel, X, measure, uniform
        self.lam, self.noise, self.delta, self.qbar, self.fnorm = lam, noise, delta, qbar, fnorm
        self.C, self.C_D, self.local = C, C_D, local
        self.n, self.S = np.zeros(len(X)), np.zeros(len(X))
        for j in initial:
            self.n[j] += 1
            self.S[j] += measure(j)
        self.embedded = None
        self.D, self.n_draws, self.since = np.flatnonzero(self.n), 0, 1.0
        self.mean, self.s = self.posterior()
        t = self.n.sum()
        self.logdet = np.log(t) * (self.n * self.s).sum()
        self.batches, self.betas, self.ratios = [], [], []

    def posterior(self, counts=None):
        """The function above for all candidates, whose embedding is kept while D stays."""
        counts = self.n if counts is None else counts
        if self.embedded is not self.D:
            self.embedded = self.D
            self.Z = embedding(self.kernel, self.X[self.D], self.X)
            self.rest = np.maximum(self.kernel.diag(self.X) - (self.Z**2).sum(axis=1), 0)
        Z = self.Z
        inverse = np.linalg.inv(Z.T @ (counts[:, None] * Z) + self.lam * np.eye(Z.shape[1]))
        return Z @ (inverse @ (Z.T @ self.S)), self.rest / self.lam + ((Z @ inverse) * Z).sum(1)

    def start_covariance(self):
        P, D = np.flatnonzero(self.n), self.X[self.D]
        return start_covariance(self.kernel, D, self.X, self.X[P], self.n[P], self.lam)

    def beta(self):
        info = self.C * self.logdet + np.log(1 / self.delta)
        return np.sqrt(self.lam) * self.fnorm + np.sqrt(self.noise * info)

    def batch(self, left):
        s0, counts, picks, ratio, beta = self.s.copy(), self.n.copy(), [], 1.0, self.beta()
        s, c = s0.copy(), None
        cov = self.start_covariance() if self.local else None
        while len(picks) < left:
            j = int(np.argmax(self.mean + beta * np.sqrt(s)))
            picks.append(j)
            counts[j] += 1
            s = self.posterior(counts)[1]
            ratio += s0[j]
            if c is not None:
                c += cov[:, j] ** 2 / s0
                if c.max() > self.C:
                    break
            elif ratio > self.C:
                if not self.local:
                    break
                c = 1 + (cov[:, picks] ** 2).sum(axis=1) / s0
        self.ratios.append((s0 / s, ratio, c))
        return picks, s0, beta

    def run(self, T):
        while T > sum(map(len, self.batches)):
            picks, s0, beta = self.batch(T - sum(map(len, self.batches)))
            self.batches.append(picks)
            self.betas.append(beta)
            for j in picks:
                self.n[j] += 1
                self.S[j] += self.measure(j)
                self.logdet += np.log1p(s0[j])
                self.since += s0[j]
            if self.C_D is None or self.since > self.C_D:
                P, self.since = np.flatnonzero(self.n), 1.0
                self.n_draws += 1
                p = np.minimum(1, self.qbar * self.n[P] * s0[P])
                kept = self.uniform(P, self.n_draws) < p
                self.D = P[kept] if kept.any() else P[[np.argmax(self.n[P] * s0[P])]]
            self.mean, self.s = self.posterior()
        return np.concatenate(self.batches)
