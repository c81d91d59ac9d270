"""Widths of confidence bounds, applied to the root of the leverage."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions


def self_normalized(t, policy):
    """Return the width of the authors of BBKB, with the information of exactly these picks."""
    spread = policy.noise_variance * (policy._logdet() - np.log(policy._delta))
    return np.sqrt(policy._lam) * policy.fnorm + np.sqrt(spread)


def srinivas(t, policy):
    """Return the width for a finite set and functions drawn from the process [Srinivas2010]_."""
    logarithm = np.log(policy._candidates.total * t**2 * np.pi**2 / (6 * policy._delta))
    return np.sqrt(2 * policy._lam * max(logarithm, 0.0))


def igp(t, policy):
    """Return the width of IGP-UCB, for functions of bounded norm [Chowdhury2017]_."""
    return _chowdhury(policy, 1.0)


def igp_sampling(t, policy):
    """Return the width of GP-TS [Chowdhury2017]_."""
    return _chowdhury(policy, 2.0)


def _chowdhury(policy, n_bounds):
    gain = 0.5 * policy._logdet()
    spread = 2 * policy.noise_variance * (gain + 1 + np.log(n_bounds / policy._delta))
    return np.sqrt(policy._lam) * policy.fnorm + np.sqrt(spread)


def elimination(t, policy):
    """Return the width for all candidates at the end of each of a known number of batches."""
    bounds = policy._candidates.total * policy._n_planned / policy._delta
    spread = 2 * policy.noise_variance * np.log(bounds)
    return np.sqrt(policy._lam) * policy.fnorm + np.sqrt(spread)


def posterior(t, policy):
    """Return the width of one posterior standard deviation."""
    return np.sqrt(policy._lam)


def width_options(rules):
    """Return what the parameter `beta` may be: one of some rules, a number or a function."""
    return [StrOptions(set(rules)), Interval(Real, 0, None, closed="left"), callable]


def width(policy, rules):
    """Return the width of a policy now, by its parameter `beta`.

    Parameters
    ----------
    policy : Policy
        With ``beta``, a name in `rules`, a number, or a function of (t, policy) with the number t
        of the coming evaluation.
    rules : dict
        From names to functions of (t, policy).
    """
    t = policy._ledger.n_absorbed + 1
    if isinstance(policy.beta, Real):
        value = float(policy.beta)
    else:
        rule = policy.beta if callable(policy.beta) else rules[policy.beta]
        value = float(rule(t, policy))
    if not value >= 0:
        raise ValueError(f"beta must give widths that are not negative, got {value} at t={t}.")
    return policy.beta_scale * value


BATCH_SIZE = [Interval(Integral, 1, None, closed="left"), None]
MEMORY = [Interval(Real, 0, None, closed="neither")]
