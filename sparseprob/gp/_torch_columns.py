"""Columns of factors, likelihoods and predictions in torch, with the names of the other kernels.

Columns are batched: each stands right-aligned in a block of covariances whose unused rows are those
of the identity. One function turns blocks into columns and gradients of columns into gradients of
blocks (Schaefer et al., 2021); torch does the rest.
"""

import math

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from ._torch_covariance import as_tensor

_BLOCK = 2**22  # differences of features between pairs of points held at a time
_LARGEST_JITTER = 1e-3  # of the prior variance
_ROUNDING = 1e-15  # a pivot below this share of the diagonal is nothing but rounding


class InverseCholeskyColumn(torch.autograd.Function):
    """Last columns (b, p) of inverse transposed Cholesky factors of matrices (b, p, p)."""

    @staticmethod
    def forward(ctx, K, nugget):
        """Return the columns, and how often the jitter of each had to grow; -1 where it failed."""
        L, tried = cholesky(K, nugget)
        last = torch.zeros(K.shape[:-1], dtype=K.dtype, device=K.device)
        last[..., -1] = 1.0
        u = torch.linalg.solve_triangular(L.mT, last[..., None], upper=True)[..., 0]
        ctx.save_for_backward(L, u)
        ctx.mark_non_differentiable(tried)
        return u, tried

    @staticmethod
    @once_differentiable
    def backward(ctx, g, _):
        """Return -K^-1 q z^T, where K z = e_last, q = g / z_last^(1/2) - e_last g.u / 2 z_last."""
        L, u = ctx.saved_tensors
        end = u[..., -1:]  # sqrt(z_last), and z = u end
        q = g / end
        q[..., -1:] -= 0.5 * (g * u).sum(-1, keepdim=True) / end**2
        r = torch.cholesky_solve(q[..., None], L)[..., 0]
        product = r[..., :, None] * (u * end)[..., None, :]
        return -0.5 * (product + product.mT), None


def cholesky(K, nugget):
    """Factor matrices, with more jitter where that fails: ten times the nugget, a hundred ...

    K holds the nugget already. Returns the factors and the counts of jitters tried.
    """
    largest = K.detach().diagonal(dim1=-2, dim2=-1).amax(-1)
    identity = torch.eye(K.shape[-1], dtype=K.dtype, device=K.device)
    L, info = torch.linalg.cholesky_ex(K)
    tried = torch.zeros(K.shape[:-2], dtype=torch.int8, device=K.device)
    step, n_tried = (1e-10 * largest).clamp_min(float(nugget)), 0
    while True:
        pivots = L.diagonal(dim1=-2, dim2=-1).square().amin(-1)
        good = (info == 0) & (pivots >= _ROUNDING * largest) & largest.isfinite()
        bad = (~good & (tried >= 0)).nonzero()[:, 0]
        if not len(bad):
            return L, tried
        n_tried += 1
        tried[bad] = n_tried
        jitter = step[bad] * 10.0**n_tried
        may_help = (jitter <= _LARGEST_JITTER * largest[bad]) & largest[bad].isfinite()
        tried[bad[~may_help]] = -1
        L[bad[~may_help]] = identity
        bad, jitter = bad[may_help], jitter[may_help]
        L[bad], info[bad] = torch.linalg.cholesky_ex(K[bad] + jitter[:, None, None] * identity)


class _Pattern:
    """Columns of a pattern, in blocks of about the same size."""

    def __init__(self, indptr, indices, first, stop):
        self._indptr, self._indices = as_tensor(indptr), as_tensor(indices)
        sizes = self._indptr[first + 1 : stop + 1] - self._indptr[first:stop]
        self._columns = first + torch.argsort(sizes, stable=True)
        self._sizes = (self._indptr[self._columns + 1] - self._indptr[self._columns]).cpu().numpy()

    def blocks(self, n_features):
        """Yield columns (b,), members (b, p), positions (b, p) in the data, and which are used."""
        stop = len(self._sizes)
        while stop > 0:
            size = int(self._sizes[stop - 1])
            start = max(0, stop - max(1, _BLOCK // (size**2 * n_features)))
            columns = self._columns[start:stop]
            ends = self._indptr[columns + 1][:, None]
            offsets = torch.arange(-size, 0, device=ends.device)
            used = ends + offsets >= self._indptr[columns][:, None]
            positions = torch.where(used, ends + offsets, ends - 1)
            yield columns, self._indices[positions].long(), positions, used
            stop = start


def covariances(covariance, module, features, members, used, diagonal):
    """Return blocks (b, p, p) of covariances with something on their diagonals."""
    K = covariance.matrix(module, features[members])
    own = K.detach()[:, -1, -1:].expand(used.shape)
    K = torch.where(used[:, :, None] & used[:, None, :], K, torch.zeros_like(K))
    return K + torch.diag_embed(torch.where(used, diagonal, own))


def _start(covariance, X):
    """Return the module on the device of X, and the rows as a tensor."""
    A = as_tensor(X)
    return covariance.module(A.device), A


def factor_columns(covariance, X, nugget, indptr, indices, first, stop, data, failed):
    """Write columns of the factor; see the kernels for the CPU."""
    posterior_columns(
        covariance, X, nugget, nugget, len(X), indptr, indices, first, stop, data, failed
    )


def posterior_columns(
    covariance, X, noise, nugget, n_noisy, indptr, indices, first, stop, data, failed
):
    """Write columns of the factor of points of which the first n_noisy have noise."""
    module, A = _start(covariance, X)
    data, failed = as_tensor(data), as_tensor(failed)
    with torch.no_grad():
        F = covariance.features(module, A)
        blocks = _Pattern(indptr, indices, first, stop).blocks(F.shape[1])
        for columns, members, positions, used in blocks:
            noisy = (members < n_noisy).to(A)
            diagonal = noise * noisy + nugget * (1 - noisy)
            K = covariances(covariance, module, F, members, used, diagonal)
            u, tried = InverseCholeskyColumn.apply(K, nugget)
            data[positions[used]], failed[columns] = u[used], tried


def column_gradients(covariance, X, nugget, indptr, indices, first, stop, dU, n_lengthscales=1):
    """Return the gradient by theta of a function whose gradient by the factor is dU."""
    gradient = _Gradient(covariance, X)
    dU = as_tensor(dU)
    blocks = _Pattern(indptr, indices, first, stop).blocks(gradient.features.shape[1])
    for _, members, positions, used in blocks:
        nuggets = torch.full_like(dU[positions], float(nugget))
        K = covariances(covariance, gradient.module, gradient.features, members, used, nuggets)
        u, _ = InverseCholeskyColumn.apply(K, nugget)
        gradient.add((u * torch.where(used, dU[positions], 0.0)).sum())
    return gradient.total()


def response_columns(
    covariance, X, noise, indptr, indices, residual, first, stop, n_lengthscales, failed
):
    """Return sums over columns of the likelihood of noisy values; see the kernels for the CPU.

    The gradient is by theta and at last by the log noise; there is no information.
    """
    log_noise = torch.tensor(math.log(noise), dtype=torch.float64, requires_grad=True)
    gradient = _Gradient(covariance, X, log_noise)
    y, failed = as_tensor(residual), as_tensor(failed)
    log_diagonal = quadratic = 0.0
    blocks = _Pattern(indptr, indices, first, stop).blocks(gradient.features.shape[1])
    with torch.set_grad_enabled(n_lengthscales > 0):
        for columns, members, _, used in blocks:
            noises = log_noise.exp().to(y).expand(members.shape)
            K = covariances(covariance, gradient.module, gradient.features, members, used, noises)
            u, failed[columns] = InverseCholeskyColumn.apply(K, noise)
            logs = u[:, -1].log().sum()
            squares = (u * torch.where(used, y[members], 0.0)).sum(-1).square().sum()
            log_diagonal += float(logs.detach())
            quadratic += float(squares.detach())
            if n_lengthscales > 0:
                gradient.add(logs - 0.5 * squares)
    slope = gradient.total() if n_lengthscales > 0 else np.zeros(0)
    return log_diagonal, quadratic, slope, np.zeros((0, 0))


class _Gradient:
    """Gradient by theta and more, summed over blocks; the feature map is passed back once."""

    def __init__(self, covariance, X, *more):
        self.module, A = _start(covariance, X)
        self._leaves = list(covariance.free_parameters(self.module).values())
        self._more = list(more)
        self._features = covariance.features(self.module, A)
        self.features = self._features.detach().requires_grad_(self._features.requires_grad)
        self._targets = [*self._leaves, *self._more]
        if self.features.requires_grad:
            self._targets.append(self.features)
        self._sums = [torch.zeros_like(target) for target in self._targets]

    def add(self, value):
        """Add the gradient of the value of a block."""
        parts = torch.autograd.grad(value, self._targets, allow_unused=True)
        for total, part in zip(self._sums, parts, strict=True):
            if part is not None:
                total += part

    def total(self):
        """Return the gradient on the host."""
        sums = self._sums
        if self.features.requires_grad:
            parts = torch.autograd.grad(self._features, self._leaves, sums.pop(), allow_unused=True)
            sums = [
                total if part is None else total + part
                for total, part in zip(sums, [*parts, *[None] * len(self._more)], strict=True)
            ]
        return np.concatenate([np.zeros(0), *(s.cpu().numpy().ravel() for s in sums)])


def predict_columns(
    covariance, X, noise, scaled_test, neighbors, residual, means, deviations, failed
):
    """Predict values without noise from their neighbors' noisy ones, in place."""
    module, A = _start(covariance, X)
    y, near, tests = as_tensor(residual), as_tensor(neighbors), as_tensor(scaled_test)
    means, deviations, failed = (as_tensor(out) for out in (means, deviations, failed))
    m = near.shape[1]
    with torch.no_grad():
        F, queries = covariance.features(module, A), covariance.features(module, tests)
        n_columns = max(1, _BLOCK // ((m + 1) ** 2 * F.shape[1]))
        for start in range(0, len(near), n_columns):
            part = slice(start, start + n_columns)
            members = near[part].long()
            K = covariance.matrix(module, torch.cat([F[members], queries[part, None]], dim=1))
            identity = torch.eye(m, dtype=K.dtype, device=K.device)
            L, failed[part] = cholesky(K[:, :m, :m] + noise * identity, noise)
            sides = torch.stack([K[:, :m, m], y[members]], dim=-1)
            v, w = torch.linalg.solve_triangular(L, sides, upper=False).unbind(-1)
            means[part] = (v * w).sum(-1)
            deviations[part] = (K[:, m, m] - (v * v).sum(-1)).clamp_min(0).sqrt()
