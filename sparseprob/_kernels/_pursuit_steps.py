"""What a batch of greedy pursuits is told and what it answers; shared by all their forms."""

from typing import NamedTuple

import numpy as np

MAX_ITER, TOL, NO_DECREASE, ACTIVE, RANK, ZERO, LOW_RESIDUAL = range(7)
STOP_REASONS = ("max_iter", "tol", "no_decrease", "active_index", "rank", "zero_target")


class Limits(NamedTuple):
    """When a pursuit ends, and what it may choose."""

    code: int  # of the rule of selection
    tol: float  # squared length of the residual; negative for none
    dependent: float  # squared distance to the span, below which a column is in it
    negligible: float  # correlations relative to the right-hand side that are rounding errors
    low: float  # squared residual relative to the right-hand side that is not to be trusted


class Steps(NamedTuple):
    """Outcome of the pursuits of n right-hand sides; packed arrays are empty without a path."""

    support: np.ndarray  # (n, K) int64, -1 behind the last
    coef: np.ndarray  # (n, K) float64 or complex128, of unit columns
    count: np.ndarray  # (n,) int64, number of columns chosen
    stop: np.ndarray  # (n,) int64, reason of the end
    dropped: np.ndarray  # (n,) int64, first step at which a dependent column came up, or -1
    square: np.ndarray  # (n,) float64, squared length of the residual
    coefs: np.ndarray  # (n, K (K + 1) / 2) after each step
    squares: np.ndarray  # (n, K + 1) before each step
    largest: np.ndarray  # (n, K + 1) largest correlation before each step


def new_steps(n, K, dtype, with_path):
    """Return memory for the outcome of n pursuits of at most K steps."""
    wide = np.result_type(dtype, np.float64)
    m, packed = (K + 1, K * (K + 1) // 2) if with_path else (0, 0)
    return Steps(
        np.full((n, K), -1, dtype=np.int64),
        np.zeros((n, K), dtype=wide),
        np.zeros(n, dtype=np.int64),
        np.zeros(n, dtype=np.int64),
        np.full(n, -1, dtype=np.int64),
        np.zeros(n),
        np.zeros((n, packed), dtype=wide),
        np.zeros((n, m)),
        np.zeros((n, m)),
    )
