"""Exact bandit policies from their formulas: a dense posterior at every step, all by loops."""

import numpy as np


def posterior(kernel, lam, X, indices, y=None):
    """Mean and leverage of all candidates after a list of evaluations, with repeats."""
    prior = kernel.diag(X)
    if not len(indices):
        return np.zeros(len(X)), prior / lam
    P = X[np.asarray(indices)]
    K, cross = kernel(P) + lam * np.eye(len(P)), kernel(X, P)
    explained = np.einsum("ij,ji->i", cross, np.linalg.solve(K, cross.T))
    mean = np.zeros(len(X)) if y is None else cross @ np.linalg.solve(K, np.asarray(y))
    return mean, (prior - explained) / lam


def logdet(kernel, lam, X, indices):
    """Log determinant of I + K / lam over a list of evaluations."""
    P = X[np.asarray(indices)]
    return np.linalg.slogdet(np.eye(len(P)) + kernel(P) / lam)[1]


def widths(rule, lam, noise_variance, fnorm, delta, n_candidates, information, n_told):
    """Width by the formula of each rule; `information` is log det(I + K / lam)."""
    if rule == "self-normalized":
        return lam**0.5 * fnorm + (noise_variance * (information + np.log(1 / delta))) ** 0.5
    if rule == "srinivas":
        t = n_told + 1
        on_deviation = (2 * np.log(n_candidates * t**2 * np.pi**2 / (6 * delta))) ** 0.5
        return on_deviation * lam**0.5
    gain = information / 2
    on_deviation = (
        fnorm + (noise_variance / lam) ** 0.5 * (2 * (gain + 1 + np.log(1 / delta))) ** 0.5
    )
    return on_deviation * lam**0.5


def upper_bound_run(
    kernel, X, feedback, n_evals, *, lam, delta, initial, rule="self-normalized", end, factor
):
    """Batches by upper bounds: the mean waits for the end of a batch, variances do not.

    `feedback(t, index)` is the value of evaluation t; ``end(batch)`` says whether a batch is
    complete and ``factor(batch)`` what the width is multiplied by, both given the leverages of the
    picks so far, each at its pick.
    """
    indices = list(initial)
    y = [feedback(t, index) for t, index in enumerate(indices)]
    sizes = []
    while len(indices) < n_evals:
        mean, _ = posterior(kernel, lam, X, indices, y)
        information = logdet(kernel, lam, X, indices)
        width = widths(rule, lam, lam, 1.0, delta, len(X), information, len(y))
        leverages = []
        while len(indices) < n_evals:
            _, leverage = posterior(kernel, lam, X, indices)
            index = int(np.argmax(mean + factor(leverages) * width * np.sqrt(leverage)))
            indices.append(index)
            leverages.append(leverage[index])
            if end(leverages):
                break
        y += [feedback(t, index) for t, index in enumerate(indices) if t >= len(y)]
        sizes.append(len(leverages))
    return indices, sizes


def gain(leverages):
    """Information of picks, each with its leverage at its pick."""
    return 0.5 * float(np.sum(np.log(1 + np.asarray(leverages))))
