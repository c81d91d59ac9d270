"""Regret of a run: how much was lost against always evaluating the best candidate."""

import numpy as np

from .._arrays import to_numpy
from ._ledger import PENDING, TOLD

__all__ = ["counted", "regret", "regret_of_picks"]


def counted(policy):
    """Return which rows of the log a policy chose by its rule and have ended, told or failed.

    The initial design and outside data are not counted.
    """
    log = policy._ledger.log
    return (log["batch"] >= 1) & (log["status"] != PENDING)


def regret(policy, f_values, kind="cumulative"):
    """Regret of a policy after each of its evaluations, the initial design not counted.

    Parameters
    ----------
    policy : Policy
        A policy that has run.
    f_values : array of shape (n_candidates,)
        Noise-free value of every candidate, of all ranks.
    kind : {"cumulative", "simple", "inference", "relative"}, default="cumulative"
        See `regret_of_picks`. For ``"inference"``, the candidate recommended is the evaluated one
        with the largest exact posterior mean given all feedback so far; that takes a number of
        operations of the evaluations times the square of the distinct candidates.

    Returns
    -------
    regret : ndarray of shape (n_evals,)
        Never negative.
    """
    f = _checked_values(f_values, -1)
    total = policy._candidates.total
    if len(f) != total:
        raise ValueError(
            f"f_values must hold one value for each of {total} candidates, got {len(f)}."
        )
    chosen = counted(policy)
    recommended = recommended_indices(policy)[chosen] if kind == "inference" else None
    picks = policy._ledger.log["index"][chosen]
    return regret_of_picks(f, picks, kind, maximize=policy.maximize, recommended=recommended)


def recommended_indices(policy):
    """Return the evaluated candidate of the largest exact posterior mean after each evaluation.

    With features Z of the q distinct candidates, Z Z' = K, the inverse of Z' diag(n) Z + lam I
    takes a rank-one update for every evaluation.
    """
    ledger, log, lam = policy._ledger, policy._ledger.log, policy._lam
    places = {int(index): i for i, index in enumerate(ledger.indices)}
    values, vectors = np.linalg.eigh(np.asarray(policy._kernel(ledger.points, ledger.points)))
    Z = vectors * np.sqrt(np.maximum(values, 0))
    inverse, sums = np.eye(len(Z)) / lam, np.zeros(len(Z))
    seen, best = np.full(len(Z), -np.inf), np.full(len(log), -1)
    for i, told in enumerate((log["status"] == TOLD) & log["absorbed"]):
        if told:
            place = places[int(log["index"][i])]
            u = inverse @ Z[place]
            inverse -= np.outer(u, u / (1.0 + Z[place] @ u))
            sums += Z[place] * policy._inside(log["y"][i])
            seen[place] = 0.0
        if not np.isinf(seen).all():
            best[i] = ledger.indices[np.argmax(Z @ (inverse @ sums) + seen)]
    return best


def regret_of_picks(f_values, picks, kind="cumulative", *, maximize=True, recommended=None):
    r"""Regret after each of some evaluations.

    With :math:`f^* = \max_x f(x)` over the candidates, the evaluated candidates
    :math:`x_1, x_2, \dots` and those that were recommended, :math:`\hat x_1, \hat x_2, \dots`:

    - ``"cumulative"``: :math:`R_t = \sum_{s \le t} (f^* - f(x_s))`;
    - ``"simple"``: :math:`\min_{s \le t} (f^* - f(x_s))`, the gap of the best evaluation so far;
    - ``"inference"``: :math:`f^* - f(\hat x_t)`, the gap of the answer one would give after t;
    - ``"relative"``: :math:`R_t / (t (f^* - \bar f))`, :math:`\bar f` the mean over all candidates:
      1 is the expected regret of choosing uniformly at random.

    Gaps are those of the true values, never of the noisy feedback: an evaluation that failed and
    one that was repeated count like any other. When minimizing, f is replaced by -f.

    Parameters
    ----------
    f_values : array of shape (n_candidates,)
        Noise-free value of every candidate.
    picks : array of shape (n_evals,)
        Indices of the evaluated candidates in the order in which they were chosen.
    kind : {"cumulative", "simple", "inference", "relative"}, default="cumulative"
        Which regret.
    maximize : bool, default=True
        Whether large values are good.
    recommended : array of shape (n_evals,), default=None
        Index recommended after each evaluation, for ``"inference"``.

    Returns
    -------
    regret : ndarray of shape (n_evals,)
        Never negative.

    Raises
    ------
    ValueError
        For an unknown kind, values that are not one finite number for each candidate, or equal
        values with ``"relative"``.

    Examples
    --------
    >>> from sparseprob.bandits._regret import regret_of_picks
    >>> regret_of_picks([0.0, 1.0, 3.0], [0, 2, 1], "cumulative").tolist()
    [3.0, 3.0, 5.0]
    >>> regret_of_picks([0.0, 1.0, 3.0], [0, 1, 2], "simple").tolist()
    [3.0, 2.0, 0.0]
    """
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {sorted(_KINDS)}, got {kind!r}.")
    f = _checked_values(f_values, np.max(picks, initial=-1))
    gaps = f.max() - f if maximize else f - f.min()
    return _KINDS[kind](gaps, np.asarray(picks), recommended)


def _checked_values(f_values, largest_index):
    f = np.asarray(to_numpy(f_values), dtype=np.float64)
    if f.ndim != 1 or len(f) <= largest_index:
        raise ValueError(
            f"f_values must hold one value for each candidate, got shape {f.shape} and an "
            f"evaluation of candidate {largest_index}."
        )
    if not np.isfinite(f).all():
        raise ValueError("f_values must be finite; leave candidates without a value out of X.")
    return f


def _cumulative(gaps, picks, _):
    return np.cumsum(gaps[picks])


def _simple(gaps, picks, _):
    return np.minimum.accumulate(gaps[picks])


def _inference(gaps, picks, recommended):
    if recommended is None:
        raise ValueError("kind='inference' needs the candidate recommended after each evaluation.")
    return gaps[np.asarray(recommended)]


def _relative(gaps, picks, _):
    if not gaps.any():
        raise ValueError("kind='relative' is not defined where all f_values are equal.")
    return _cumulative(gaps, picks, _) / (gaps.mean() * np.arange(1, len(picks) + 1))


_KINDS = {
    "cumulative": _cumulative, "simple": _simple, "inference": _inference, "relative": _relative,
}  # fmt: skip
