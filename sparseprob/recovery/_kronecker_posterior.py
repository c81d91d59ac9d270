"""The Gaussian posterior of a Kronecker-structured vector, from its factors (He & Joseph, 2024).

The dictionary and the covariance are never formed: singular value decompositions of the small
factors diagonalize both, and products along the modes do the rest.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from .._arrays import compute_namespace, to_numpy
from ..linear_operators import mode_product, mode_products, outer
from ..mpi import row_sum


class Measurements(NamedTuple):
    """Snapshots in coordinates of the spans of the factors, and the energy outside the spans."""

    Y: Any  # (T, m_1, ..., m_K), of this rank
    outside: float  # squared length of what no column can explain, of all ranks
    n_rows: int  # measurements of a snapshot, the ones outside the spans included
    n_snapshots: int  # of all ranks


def squared_norm(A):
    """Return the sum of squared moduli, accumulated in float64."""
    return float((compute_namespace(A).abs(A).astype(np.float64) ** 2).sum())


def compress(data, factors):
    """Turn factors with more rows than columns into square ones, and the data with them.

    Both keep their inner products, so that no posterior changes; what lies outside the spans is
    measured once, as the length of a residual.

    Returns
    -------
    data : Measurements
    factors : list
        Factors with at most as many rows as columns.
    """
    factors = list(factors)
    for k, F in enumerate(factors):
        if F.shape[0] > F.shape[1]:
            Q, factors[k] = compute_namespace(F).linalg.qr(F)
            Y = mode_product(data.Y, Q.conj().T, k + 1)
            lost = row_sum(squared_norm(data.Y - mode_product(Y, Q, k + 1)))
            data = data._replace(Y=Y, outside=data.outside + lost)
    return data, factors


class KroneckerPosterior:
    """Posterior of x given variances and noise: mean, variances, evidence.

    Parameters
    ----------
    data : Measurements
    factors : list of arrays of shape (m_k, n_k)
        With m_k <= n_k, see `compress`.
    gammas : list of real arrays of shape (n_k,)
        Prior variances are the products of their entries.
    noise_var : float

    Attributes
    ----------
    share : float64 array of shape (m_1, ..., m_K)
        p / (noise_var + p), p being the prior variances along the singular vectors.
    """

    def __init__(self, data, factors, gammas, noise_var):
        self.data, self.gammas, self.noise_var = data, gammas, noise_var
        self.xp = compute_namespace(data.Y)
        linalg = self.xp.linalg
        parts = [
            linalg.svd(F * g**0.5, full_matrices=False)
            for F, g in zip(factors, gammas, strict=True)
        ]
        self.V = [Vh.conj().T for _, _, Vh in parts]
        self._s = outer([s.astype(np.float64) for _, s, _ in parts])
        self._p = self._s**2
        self.share = self._p / (noise_var + self._p)
        self._Y = mode_products(data.Y, [U.conj().T for U, _, _ in parts])
        self._energy = row_sum((self.xp.abs(self._Y) ** 2).sum(axis=0, dtype=np.float64))

    def mean(self):
        """Return the posterior means (T, n_1, ..., n_K) of this rank's snapshots."""
        weights = (self._s / (self.noise_var + self._p)).astype(self.gammas[0].dtype)
        return mode_products(weights * self._Y, [g[:, None] ** 0.5 * V for g, V in self._pairs()])

    def variances(self):
        """Return the posterior variances (n_1, ..., n_K), the same for all snapshots."""
        explained = (-self.share).astype(self.gammas[0].dtype)[None]
        squares = [g[:, None] * self.xp.abs(V) ** 2 for g, V in self._pairs()]
        result = mode_products(explained, squares)[0]
        result += outer(self.gammas)
        return self.xp.maximum(result, 0, out=result)

    def second_moments(self):
        """Return the mean over all snapshots of the posterior expectation of |x|^2."""
        moments = self.variances()
        total = row_sum(_sum_of_squares(self.mean())).astype(moments.dtype, copy=False)
        total /= self.data.n_snapshots
        moments += total
        return moments

    def next_noise_var(self):
        """Return the noise variance that maximizes the expected likelihood."""
        residual = (self._energy * (1 - self.share) ** 2).sum() + self.data.outside
        spread = self.noise_var * self.share.sum()
        return float(residual / self.data.n_snapshots + spread) / self.data.n_rows

    def log_evidence(self):
        """Return log p(y) of all snapshots together, in nats."""
        data, v = self.data, self.noise_var
        n_outside = data.n_rows - self._p.size
        log_det = float(self.xp.log(v + self._p).sum()) + n_outside * math.log(v)
        fit = float((self._energy / (v + self._p)).sum()) + data.outside / v
        if self._Y.dtype.kind == "c":
            return -data.n_snapshots * (log_det + data.n_rows * math.log(math.pi)) - fit
        constant = data.n_rows * math.log(2 * math.pi)
        return -0.5 * (data.n_snapshots * (log_det + constant) + fit)

    def _pairs(self):
        return zip(self.gammas, self.V, strict=True)


def _sum_of_squares(stack):
    """Return the sum over the first axis of squared moduli; overwrites the stack."""
    xp, parts = compute_namespace(stack), stack.view(stack.real.dtype)
    xp.square(parts, out=parts)
    total = parts[0] if len(parts) == 1 else parts.sum(axis=0)
    return (
        total if parts is stack or stack.dtype.kind != "c" else total[..., ::2] + total[..., 1::2]
    )


class PosteriorCovariance(NamedTuple):
    """The covariance of a posterior in factored form: Gamma^1/2 (I - V share V^H) Gamma^1/2."""

    supports: list  # positions of the entries that were not pruned
    V: list
    gammas: list  # real arrays, in the units of the squared coefficients together
    share: Any

    def moved_to(self, xp):
        """Return the same in NumPy or CuPy."""
        move = to_numpy if xp is np else xp.asarray
        supports, V, gammas = ([move(A) for A in field] for field in self[:3])
        return PosteriorCovariance(supports, V, gammas, move(self.share))

    def prediction_variance(self, factors):
        """Return the variances of the noise-free predictions through factors (P_k, N_k)."""
        xp, dtype = compute_namespace(self.share), self.gammas[0].dtype
        roots = [
            F[:, S] * g**0.5 for F, S, g in zip(factors, self.supports, self.gammas, strict=True)
        ]
        prior = outer([(xp.abs(R) ** 2).sum(axis=1) for R in roots])
        squares = [xp.abs(R @ V) ** 2 for R, V in zip(roots, self.V, strict=True)]
        explained = mode_products(self.share.astype(dtype)[None], squares)[0]
        return xp.maximum(prior - explained, 0)

    def color(self, white):
        """Turn a stack of standard normal tensors (n, n_1, ..., n_K) into draws around zero."""
        along = mode_products(white, [V.conj().T for V in self.V])
        along *= (1 - (1 - self.share) ** 0.5).astype(self.gammas[0].dtype)
        draws = white - mode_products(along, self.V)
        for k, g in enumerate(self.gammas):
            draws *= (g**0.5).reshape(-1, *(1,) * (len(self.gammas) - k - 1))
        return draws
