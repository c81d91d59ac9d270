"""Search of hyper-parameters by a bandit policy (beside scikit-learn's search classes)."""

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import RandomizedSearchCV, check_cv
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from ._policy import Policy
from ._proposals import MOST_ASKS, Proposals
from ._search_space import SearchSpace

_BETA_SCALE = 0.1  # of the theory's width, which explores for longer than searches last


class BanditSearchCV(RandomizedSearchCV):
    """Search of hyper-parameters that chooses what to try next from the scores so far.

    A finite set of settings is drawn from the distributions. The first ones cover the space; then
    a policy picks batches of settings, with a Gaussian process over the unit cube of quantiles
    (ranks of listed numbers, indicators of categories) whose kernel is fitted anew before every
    batch to the normal scores of the mean test scores. The folds of a batch are fitted in parallel
    by ``n_jobs``, and no setting is tried twice. All folds stay the same, also those of a shuffled
    splitter without a seed.

    Parameters
    ----------
    estimator : estimator object
        What is cloned, set and fitted.
    param_distributions : dict or list of dict
        For each parameter a list of values, or a distribution of ``scipy.stats`` (anything with
        a method ``ppf``). Lists of numbers are ordered, other lists are categories.
    n_iter : int, default=50
        Number of settings to try.
    policy : Policy, default=None
        What chooses batches; None is a `BBKB` of ``batch_size``. Its kernel is where the fit of
        the kernel starts. `noise_variance`, `random_state` are set by the search.
    batch_size : int, default=4
        Settings tried at a time, each with all folds. Larger batches keep more cores busy,
        smaller ones learn sooner.
    n_initial : int, default=None
        Settings of the first batch; None means twice the number of parameters and two more, at
        most a third of `n_iter`.
    n_candidates : int, default=2048
        Size of the finite set; small discrete spaces are listed wholly.
    scoring : str, callable, list, tuple or dict, default=None
        As in scikit-learn. Of several metrics the one that `refit` names decides, or the first.
    n_jobs : int, default=None
        Fits that run side by side.
    refit : bool, str or callable, default=True
        Whether to fit the best setting on the whole data.
    cv : int, cross-validation generator or iterable, default=None
        The folds.
    verbose : int, default=0
        As in scikit-learn.
    pre_dispatch : int or str, default='2*n_jobs'
        As in scikit-learn.
    random_state : int, RandomState instance or None, default=None
        An integer gives the same search each time, whatever `n_jobs`.
    error_score : 'raise' or float, default=np.nan
        Score of a fit that fails. A setting without a finite score ranks last.
    return_train_score : bool, default=False
        Whether ``cv_results_`` holds training scores.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        One row for each setting in the order of trial, for ``pandas.DataFrame``; beside what
        scikit-learn reports, the number of its ``batch``.
    best_estimator_ : estimator
    best_score_ : float
    best_params_ : dict
    best_index_ : int
    scorer_ : callable or dict
    n_splits_ : int
    refit_time_ : float
    multimetric_ : bool
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of str

    See Also
    --------
    BBKB : The policy.

    References
    ----------
    [Calandriello2020]_ for the policy.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from sparseprob.bandits import BanditSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> ranges = {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-4, 1e2)}
    >>> search = BanditSearchCV(SVC(), ranges, n_iter=16, random_state=0).fit(X, y)
    >>> bool(search.best_score_ > 0.97)
    True
    """

    _checked_cv_orig: Any  # of scikit-learn, the folds of a fit
    _parameter_constraints = RandomizedSearchCV._parameter_constraints | {
        "policy": [Policy, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_initial": [Interval(Integral, 1, None, closed="left"), None],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        estimator,
        param_distributions,
        *,
        n_iter=50,
        policy=None,
        batch_size=4,
        n_initial=None,
        n_candidates=2048,
        scoring=None,
        n_jobs=None,
        refit=True,
        cv=None,
        verbose=0,
        pre_dispatch="2*n_jobs",
        random_state=None,
        error_score=np.nan,
        return_train_score=False,
    ):
        super().__init__(
            estimator=estimator,
            param_distributions=param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.policy = policy
        self.batch_size = batch_size
        self.n_initial = n_initial
        self.n_candidates = n_candidates

    @property
    def n_features_in_(self):
        """Number of features seen in `fit`, where the best estimator tells it."""
        return super().n_features_in_

    def _check_input_parameters(self, X, y, split_params):
        """Draw the folds once: scores of different batches are compared."""
        super()._check_input_parameters(X, y, split_params)
        folds = list(self._checked_cv_orig.split(X, y, **split_params))
        self._checked_cv_orig = check_cv(folds)

    def _run_search(self, evaluate_candidates, *, callback_ctx=None):
        rng = check_random_state(self.random_state)
        space = SearchSpace(self.param_distributions, max(self.n_candidates, self.n_iter), rng)
        n_iter = self._checked_n_iter(space)
        proposals = Proposals(
            space.points, self._policy(), self._n_initial(space, n_iter), rng.randint(2**30)
        )
        self._lost: list = []
        search = callback_ctx.subcontext(task_name="search", max_subtasks=None)
        search.call_on_fit_task_begin(estimator=self)
        number = 0
        while len(proposals.rows) < n_iter:
            rows = proposals.next(min(self.batch_size, n_iter - len(proposals.rows)))
            settings = [space.settings[row] for row in rows]
            context = search.subcontext(
                task_name="batch", max_subtasks=len(rows) * self.n_splits_,
                sequential_subtasks=False,
            ).call_on_fit_task_begin(estimator=self)  # fmt: skip
            proposals.take(rows, self._scores(evaluate_candidates, settings, number, context))
            context.call_on_fit_task_end(estimator=self)
            number += 1
        if self._lost and self._lost[-1][0] == number - 1:
            self._reformat()
        search.call_on_fit_task_end(estimator=self)
        del self._lost, self._formatted

    def _checked_n_iter(self, space):
        if len(space.settings) >= self.n_iter:
            return self.n_iter
        warnings.warn(
            f"There are only {len(space.settings)} settings, fewer than n_iter={self.n_iter}; all "
            "of them are tried, as GridSearchCV would.",
            UserWarning,
        )
        return len(space.settings)

    def _policy(self):
        if self.policy is not None:
            return self.policy
        from ._bbkb import BBKB

        never_full = MOST_ASKS * self.batch_size + 1  # the search ends a batch
        return BBKB(beta_scale=_BETA_SCALE, min_batch_size=never_full)

    def _n_initial(self, space, n_iter):
        if self.n_initial is not None:
            return min(self.n_initial, n_iter)
        n_parameters = len({name for setting in space.settings for name in setting})
        return min(2 * n_parameters + 2, max(1, n_iter // 3))

    def _scores(self, evaluate_candidates, settings, number, context):
        """Fit and score a batch of settings; NaN where nothing came of it."""
        failed = np.full(len(settings), np.nan)
        try:
            results = evaluate_candidates(
                settings, more_results={"batch": [number] * len(settings)}, callback_ctx=context
            )
        except ValueError as error:
            if number == 0 or self.error_score == "raise" or "fits failed" not in str(error):
                raise
            warnings.warn(f"{error}\nThe search goes on.", FitFailedWarning)
            self._lost.append((number, settings))
            return failed
        scores = np.asarray(results[f"mean_test_{self._metric(results)}"][-len(settings) :])
        return np.where(np.isfinite(scores), scores, np.nan)

    def _metric(self, results):
        """Name of the metric that decides."""
        names = [name[10:] for name in results if name.startswith("mean_test_")]
        return self.refit if self.refit in names else names[0]

    def _format_results(self, candidate_params, n_splits, out, more_results=None):
        """Report also the batches of which every fit failed."""
        given, params, out = out, list(candidate_params), list(out)
        batches = list(more_results["batch"])
        for number, settings in getattr(self, "_lost", []):
            place = int(np.searchsorted(batches, number))
            params[place:place] = settings
            batches[place:place] = [number] * len(settings)
            out[place * n_splits : place * n_splits] = [self._nothing(out[0])] * (
                n_splits * len(settings)
            )
        results = super()._format_results(params, n_splits, out, {"batch": batches})
        self._formatted = results, candidate_params, n_splits, given, more_results
        return results

    def _reformat(self):
        """Bring the last results up to date: nothing was reported after the last batch was lost."""
        results, *arguments = self._formatted
        results.update(self._format_results(*arguments))

    def _nothing(self, entry):
        """Return what a fit reports, for a fit that failed."""
        found = entry | {"fit_time": 0.0, "score_time": 0.0}
        for name in ("test_scores", "train_scores"):
            if isinstance(entry.get(name), dict):
                found[name] = dict.fromkeys(entry[name], self.error_score)
            elif name in entry:
                found[name] = self.error_score
        return found
