"""Slow and obvious forms of what AdaBKB computes, from the formulas."""

import numpy as np


def dtc(kernel, lam, dictionary, points, counts, sums, X):
    """Return means and leverages at X of the posterior with a dictionary, by dense inverses."""
    K = kernel(dictionary, dictionary)
    values, vectors = np.linalg.eigh(K)
    keep = values > len(K) * np.finfo(float).eps * values.max()
    E = vectors[:, keep] / np.sqrt(values[keep])
    Z, A = kernel(points, dictionary) @ E, kernel(X, dictionary) @ E
    precision = Z.T @ np.diag(counts) @ Z + lam * np.eye(E.shape[1])
    mean = A @ np.linalg.solve(precision, Z.T @ sums)
    explained = np.einsum("ij,ij->i", A, np.linalg.solve(precision, A.T).T)
    rest = np.maximum(kernel.diag(X) - (A**2).sum(axis=1), 0)
    return mean, rest / lam + explained


def exact(kernel, lam, X, y, Q, extra=None):
    """Return mean and variance at Q from all values; `extra` points count in the variance only."""
    K = kernel(X) + lam * np.eye(len(X))
    mean = kernel(Q, X) @ np.linalg.solve(K, y)
    P = X if extra is None or not len(extra) else np.vstack([X, extra])
    K = kernel(P) + lam * np.eye(len(P))
    cross = kernel(Q, P)
    variance = kernel.diag(Q) - np.einsum("ij,ij->i", cross, np.linalg.solve(K, cross.T).T)
    return mean, np.maximum(variance, 0)


class Cell:
    """A cell of the slow tree."""

    def __init__(self, low, high, parent, depth):
        self.low, self.high, self.parent, self.depth = low, high, parent, depth
        self.center = (low + high) / 2
        self.children = []


class SlowAdaBKB:
    """AdaBKB with the exact posterior, one evaluation at a time, everything computed afresh.

    Parameters
    ----------
    f, kernel, lam : objective, kernel of scikit-learn, ridge
    bounds : array of shape (d, 2)
    lengths : array of shape (d,)
        What sides are compared by.
    width : float
    initial : array of shape (n, d)
        Evaluated first.
    """

    def __init__(self, f, kernel, lam, bounds, lengths, width, initial, fnorm=1.0, n_split=3,
                 max_depth=8):  # fmt: skip
        self.f, self.kernel, self.lam, self.lengths = f, kernel, lam, lengths
        self.width, self.fnorm, self.n_split, self.max_depth = width, fnorm, n_split, max_depth
        self.leaves = [Cell(bounds[:, 0].copy(), bounds[:, 1].copy(), None, 0)]
        self.X = list(initial)
        self.y = [f(x) for x in initial]

    def radius(self, cell):
        """Distance from center to the farther of two corners in the kernel's metric, times F."""
        c, k = cell.center[None], self.kernel
        squared = [
            k(c)[0, 0] + k(x[None])[0, 0] - 2 * k(c, x[None])[0, 0] for x in (cell.low, cell.high)
        ]
        return self.fnorm * np.sqrt(max(squared))

    def posterior(self, x):
        """Mean and standard deviation at a point."""
        mean, variance = exact(self.kernel, self.lam, np.array(self.X), np.array(self.y), x[None])
        return mean[0], np.sqrt(variance[0])

    def upper(self, cell, beta):
        """Upper bound at the center."""
        mean, std = self.posterior(cell.center)
        return mean + beta / np.sqrt(self.lam) * std

    def index(self, cell, beta):
        """How large the function may be in a cell."""
        bound = self.upper(cell, beta)
        if cell.parent is not None:
            bound = min(bound, self.upper(cell.parent, beta) + self.radius(cell.parent))
        return bound + self.radius(cell)

    def step(self):
        """Cut cells and evaluate one center."""
        beta = self.width
        lower = []
        for x in self.X:
            mean, std = self.posterior(x)
            lower.append(mean - beta / np.sqrt(self.lam) * std)
        best = self.X[int(np.argmax(lower))]
        self.leaves = [
            leaf for leaf in self.leaves
            if self.index(leaf, beta) >= max(lower) or np.array_equal(leaf.center, best)
        ]  # fmt: skip
        values = {id(leaf): self.index(leaf, beta) for leaf in self.leaves}
        while True:
            leaf = max(self.leaves, key=lambda cell: values[id(cell)])
            _, std = self.posterior(leaf.center)
            big = beta / np.sqrt(self.lam) * std > self.radius(leaf)
            if big or leaf.depth >= self.max_depth:
                break
            for child in self.cut(leaf):
                values[id(child)] = self.index(child, beta)
        self.X.append(leaf.center)
        self.y.append(self.f(leaf.center))

    def cut(self, leaf):
        """Cut a leaf across its longest side."""
        side = int(np.argmax(((leaf.high - leaf.low) / self.lengths).round(9)))
        edges = np.linspace(leaf.low[side], leaf.high[side], self.n_split + 1)
        for first, last in zip(edges, edges[1:], strict=False):
            low, high = leaf.low.copy(), leaf.high.copy()
            low[side], high[side] = first, last
            leaf.children.append(Cell(low, high, leaf, leaf.depth + 1))
        self.leaves = [other for other in self.leaves if other is not leaf] + leaf.children
        return leaf.children
