"""Hyper-parameter search on two data sets of scikit-learn, beside its own searches and others.

``python benchmarks/bandits_search.py`` prints a table and writes its JSON. Every search makes the
same number of fits on the same folds; what counts is the mean score over all folds of the setting
that it chooses. Halving fits most settings to few rows: its choice is scored on the whole folds
afterwards, which is not counted. Peers that are not installed are left out: ``pip install optuna
scikit-optimize``. Optuna learns from every setting, the others from batches of four.
"""

import argparse
import importlib.util
import json
import time
import warnings
from pathlib import Path

import numpy as np
from _report import ROOT, Threads, print_table, row, write_json
from scipy.stats import loguniform, randint, uniform
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - the next needs it
from sklearn.model_selection import (
    HalvingRandomSearchCV,
    KFold,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sparseprob.bandits import BanditSearchCV

N_ITER = 40
HALVING = 27  # and then 9, 3, 1: also 40 settings
N_FOLDS = 3
BATCH = 4


class Problem:
    """Data, a model, its ranges, and the folds of a seed."""

    def __init__(self, data, model, ranges, scoring, folds):
        self.X, self.y = data
        self.model, self.ranges, self.scoring = model, ranges, scoring
        self.folds = folds

    def cv(self, seed):
        """Return the folds."""
        return self.folds(N_FOLDS, shuffle=True, random_state=seed)

    def score(self, setting, seed):
        """Return the mean score of a setting over the folds."""
        model = clone(self.model).set_params(**setting)
        options = {"cv": self.cv(seed), "scoring": self.scoring}
        return cross_val_score(model, self.X, self.y, **options).mean()


def problems():
    """Return the problems by name."""
    return {
        "breast cancer, SVC": Problem(
            load_breast_cancer(return_X_y=True),
            make_pipeline(StandardScaler(), SVC()),
            {
                "svc__C": loguniform(1e-3, 1e4),
                "svc__gamma": loguniform(1e-6, 1e1),
                "svc__kernel": ["rbf", "sigmoid", "poly"],
                "svc__degree": randint(2, 5),
                "svc__coef0": uniform(0, 1),
            },
            "roc_auc",
            StratifiedKFold,
        ),
        "diabetes, gradient boosting": Problem(
            load_diabetes(return_X_y=True),
            GradientBoostingRegressor(random_state=0),
            {
                "n_estimators": randint(10, 101),
                "learning_rate": loguniform(1e-3, 1),
                "max_depth": randint(1, 7),
                "min_samples_leaf": randint(1, 41),
                "subsample": uniform(0.3, 0.7),
                "max_features": uniform(0.1, 0.9),
            },
            "r2",
            KFold,
        ),
    }


def searched(search, problem):
    """Return the chosen setting of a search class and its score."""
    search.fit(problem.X, problem.y)
    assert sum(~np.isnan(search.cv_results_["mean_test_score"])) <= N_ITER
    return search.best_params_


def ours(problem, seed):
    """BanditSearchCV as it comes."""
    return searched(
        BanditSearchCV(problem.model, problem.ranges, n_iter=N_ITER, batch_size=BATCH, refit=False,
                       scoring=problem.scoring, cv=problem.cv(seed), random_state=seed),
        problem,
    )  # fmt: skip


def at_random(problem, seed):
    """RandomizedSearchCV."""
    return searched(
        RandomizedSearchCV(problem.model, problem.ranges, n_iter=N_ITER, refit=False,
                           scoring=problem.scoring, cv=problem.cv(seed), random_state=seed),
        problem,
    )  # fmt: skip


def halving(problem, seed):
    """HalvingRandomSearchCV, from many settings on few rows to one on all."""
    return searched(
        HalvingRandomSearchCV(problem.model, problem.ranges, n_candidates=HALVING, factor=3,
                              min_resources="exhaust", scoring=problem.scoring, refit=False,
                              cv=problem.cv(seed), random_state=seed),
        problem,
    )  # fmt: skip


def optuna_tpe(problem, seed):
    """Optuna's default sampler, one setting after the other."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kinds = {name: _optuna_kind(optuna, spread) for name, spread in problem.ranges.items()}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    for _ in range(N_ITER):
        trial = study.ask(kinds)
        study.tell(trial, problem.score(trial.params, seed))
    return study.best_params


def _optuna_kind(optuna, spread):
    if isinstance(spread, list):
        return optuna.distributions.CategoricalDistribution(spread)
    low, high = spread.support()
    if spread.dist.name == "randint":
        return optuna.distributions.IntDistribution(int(low), int(high))
    return optuna.distributions.FloatDistribution(low, high, log=spread.dist.name == "loguniform")


def scikit_optimize(problem, seed):
    """BayesSearchCV of scikit-optimize."""
    from skopt import BayesSearchCV

    kinds = {name: _skopt_kind(spread) for name, spread in problem.ranges.items()}
    search = BayesSearchCV(
        problem.model,
        kinds,
        n_iter=N_ITER,
        n_points=BATCH,
        refit=False,
        scoring=problem.scoring,
        cv=problem.cv(seed),
        random_state=seed,
    )
    return dict(searched(search, problem))


def _skopt_kind(spread):
    from skopt.space import Categorical, Integer, Real

    if isinstance(spread, list):
        return Categorical(spread)
    low, high = spread.support()
    if spread.dist.name == "randint":
        return Integer(int(low), int(high))
    return Real(low, high, prior="log-uniform" if spread.dist.name == "loguniform" else "uniform")


METHODS = {
    "BanditSearchCV": ours,
    "RandomizedSearchCV": at_random,
    "HalvingRandomSearchCV": halving,
    "Optuna": optuna_tpe,
    "BayesSearchCV": scikit_optimize,
}
PEERS = {"Optuna": "optuna", "BayesSearchCV": "skopt"}


def run(method, problem, seed):
    """Return the score of the setting that a method chooses, and its seconds."""
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        setting = METHODS[method](problem, seed)
    seconds = time.process_time() - began
    return {"score": float(problem.score(setting, seed)), "seconds": seconds}


def table(runs):
    """Rows of the table: mean scores, and ours less that of chance, seed by seed."""
    for name, methods in runs.items():
        for method, found in methods.items():
            scores = [each["score"] for each in found]
            seconds = np.mean([each["seconds"] for each in found])
            note = f"from {min(scores):.4f} to {max(scores):.4f}, {seconds:.3g} s"
            yield row(f"{name}: {method}", float(np.mean(scores)), note=note)
        if {"BanditSearchCV", "RandomizedSearchCV"} <= set(methods):
            pairs = zip(methods["BanditSearchCV"], methods["RandomizedSearchCV"], strict=True)
            gains = np.array([one["score"] - other["score"] for one, other in pairs])
            note = f"mean of {len(gains)} seeds, {(gains > 0).sum()} of them above zero"
            yield row(f"{name}: BanditSearchCV over RandomizedSearchCV", float(gains.mean()),
                      0.0, at_least=True, note=note)  # fmt: skip


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(METHODS), help="some of: %(default)s")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one seed of the first: a test")
    output = ROOT / "benchmarks/results/bandits_search.json"
    parser.add_argument("--output", type=Path, default=output)
    options = parser.parse_args()
    todo = dict(list(problems().items())[: 1 if options.quick else None])
    runs = json.loads(options.output.read_text())["runs"] if options.output.exists() else {}
    methods = [
        method
        for method in options.only.split(",")
        if method not in PEERS or importlib.util.find_spec(PEERS[method])
    ]
    with Threads(1):
        for name, problem in todo.items():
            for method in methods:
                seeds = range(1 if options.quick else options.seeds)
                found = [run(method, problem, seed) for seed in seeds]
                runs.setdefault(name, {})[method] = found
                scores = [each["score"] for each in found]
                print(f"{name}, {method}: {np.mean(scores):.4f}", flush=True)
    rows = list(table(runs))
    print_table(rows, f"best mean score over {N_FOLDS} folds, {N_ITER} settings each")
    write_json(options.output, rows, runs=runs)


if __name__ == "__main__":
    main()
