"""Claims about other likelihoods, about a simulation in five dimensions, and about real data.

A part of gp.py, which runs them. The real data are those that scikit-learn ships.
"""

import time

import numpy as np
from _gp_peers import installed
from _gp_tasks import nlpd
from _report import row
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.metrics import log_loss, mean_poisson_deviance
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from sparseprob.datasets import make_spatial_field
from sparseprob.gp import (
    DKLGPClassifier,
    DKLGPPoissonRegressor,
    DKLGPRegressor,
    SWSGPClassifier,
    VecchiaGPRegressor,
)


def timed(function, *arguments):
    """Return seconds of the processor and the result."""
    began = time.process_time()
    result = function(*arguments)
    return time.process_time() - began, result


# ---------------------------------------------------------------- classes and counts
def likelihoods(options):
    """Classes and counts on fields, beside the Vecchia-Laplace approximation of gpboost."""
    n = 600 if options.quick else 10_000
    kernel = ConstantKernel(2.0) * Matern(0.1, nu=1.5)
    start = ConstantKernel(1.0) * Matern([0.25, 0.25], nu=1.5)
    for kind, mean in (("bernoulli", 0.0), ("poisson", 0.5)):
        drawn = make_spatial_field(
            n + n // 4, kernel=kernel, likelihood=kind, mean=mean, random_state=0
        )
        train, test = np.s_[:n], np.s_[n:]
        models = {
            "DKLGP": {"bernoulli": DKLGPClassifier, "poisson": DKLGPPoissonRegressor}[kind](start)
        }
        if kind == "bernoulli":
            models["SWSGP"] = SWSGPClassifier(
                start, n_inducing=n // 10, n_neighbors=16, max_iter=30, random_state=0
            )
        X, y = drawn.data[train], drawn.target[train]
        found = {}
        for name, model in models.items():
            model.fit(X[:300], y[:300])  # compiles everything
            seconds, _ = timed(model.fit, X, y)
            found[name] = seconds, _predicted(model, drawn.data[test])
        if installed("gpboost"):
            found["gpboost"] = gpboost_laplace(kind, X, y, drawn.data[test])
        truth = np.exp(drawn.field[test])
        yield from _loss_rows(kind, n, drawn.target[test], found, truth)


def _predicted(model, X):
    """Probability of the second class, or mean of the count."""
    return model.predict_proba(X)[:, 1] if hasattr(model, "predict_proba") else model.predict(X)


def _loss_rows(kind, n, y, found, odds):
    """Losses of probabilities or rates; that of the true ones is the least to expect."""
    if kind == "bernoulli":
        name, loss, best = "log loss", log_loss, odds / (1 + odds)
    else:
        name, loss, best = "mean Poisson deviance", mean_poisson_deviance, odds
    losses = {method: loss(y, value) for method, (_, value) in found.items()}
    for method, (seconds, _) in found.items():
        yield row(f"{kind} field, {n} points, {method}: {name} above that of the truth",
                  losses[method] - loss(y, best),
                  note=f"{losses[method]:.4f}; {seconds:.1f} s")  # fmt: skip
    if "gpboost" in found:
        what = f"{kind} field, {n} points"
        yield row(f"{what}: {name} of DKLGP above gpboost's", losses["DKLGP"] - losses["gpboost"],
                  2e-3)  # fmt: skip
        yield row(f"{what}: processor time of gpboost over DKLGP",
                  found["gpboost"][0] / found["DKLGP"][0], 1, at_least=True,
                  note=f"{found['gpboost'][0]:.1f} s beside {found['DKLGP'][0]:.1f} s")  # fmt: skip


def gpboost_laplace(kind, X, y, X_test):
    """Seconds and predictions of gpboost with a likelihood, 30 neighbors."""
    import gpboost

    began = time.process_time()
    model = gpboost.GPModel(
        gp_coords=X, cov_function="matern", cov_fct_shape=1.5, gp_approx="vecchia",
        num_neighbors=30, num_parallel_threads=1, seed=0,
        likelihood={"bernoulli": "bernoulli_logit", "poisson": "poisson"}[kind],
    )  # fmt: skip
    model.fit(y=y.astype(float))
    seconds = time.process_time() - began
    model.set_prediction_data(num_neighbors_pred=30)
    return seconds, model.predict(gp_coords_pred=X_test, predict_response=True)["mu"]


# ---------------------------------------------------------------- five dimensions
def simulation(options):
    """Variants of DKLGP in five dimensions at the true parameters; NLL and RMSE of the field."""
    n = 300 if options.quick else 2500
    kernel = Matern(0.25 * np.arange(1, 6), nu=1.5)
    for kind, noise in (("gaussian", 0.01), ("student_t", 0.01)):
        options_of = {"likelihood": kind, "noise_variance": noise, "optimize_kernel": False}
        if kind == "student_t":
            options_of["df"] = 2.0
        models = {
            variant: DKLGPRegressor(kernel, variant=variant, pattern="ball", rho=2.0, **options_of)
            for variant in ("full", "global", "diagonal")
        } | {"nearest, m=30": DKLGPRegressor(kernel, **options_of)}
        losses = {name: [] for name in models}
        for seed in range(options.seeds):
            drawn = make_spatial_field(
                n, 5, kernel=kernel, likelihood=kind, noise_variance=noise, df=2.0,
                random_state=seed,
            )  # fmt: skip
            cut = 4 * n // 5
            for name, model in models.items():
                model.fit(drawn.data[:cut], drawn.target[:cut])
                mean, std = model.predict(drawn.data[cut:], return_std=True)
                f = drawn.field[cut:]
                losses[name].append((nlpd(f, mean, std**2), np.sqrt(np.mean((mean - f) ** 2))))
        yield from _variant_rows(f"five dimensions, {n} points, {kind}", losses)


def _variant_rows(what, losses):
    means = {name: np.mean(values, axis=0) for name, values in losses.items()}
    for name, (loss, error) in means.items():
        yield row(f"{what}, {name}: NLL of the field", float(loss), note=f"RMSE {error:.4f}")
    for name in ("global", "diagonal"):
        yield row(f"{what}: NLL of {name} above full", float(means[name][0] - means["full"][0]), 0,
                  at_least=True)  # fmt: skip


# ---------------------------------------------------------------- real data
def real(options):
    """Data sets of scikit-learn in five folds, beside its exact Gaussian processes."""
    yield from _diabetes()
    sets = {"breast cancer": load_breast_cancer(return_X_y=True)}
    if not options.quick:
        X, digit = load_digits(return_X_y=True)
        sets["digits, odd or even"] = X[:, X.std(axis=0) > 0], digit % 2
    for name, (X, y) in sets.items():
        yield from _classes(name, X, y)


def _diabetes():
    X, y = load_diabetes(return_X_y=True)
    d = X.shape[1]
    kernel = ConstantKernel() * Matern(np.full(d, 3.0), (0.1, 1e3), nu=1.5)
    models = {
        "exact": GaussianProcessRegressor(kernel + WhiteKernel(0.5), normalize_y=True),
        "VecchiaGP": VecchiaGPRegressor(kernel, noise_variance=0.5, normalize_y=True),
        "DKLGP": DKLGPRegressor(kernel, noise_variance=0.5, normalize_y=True),
    }
    losses = {name: [] for name in models}
    for train, test in KFold(5, shuffle=True, random_state=0).split(X):
        scaler = StandardScaler().fit(X[train])
        for name, model in models.items():
            model.fit(scaler.transform(X[train]), y[train])
            observed = {} if name == "exact" else {"observation": True}
            mean, std = model.predict(scaler.transform(X[test]), return_std=True, **observed)
            losses[name].append((nlpd(y[test], mean, std**2), np.mean((y[test] - mean) ** 2)))
    means = {name: np.mean(values, axis=0) for name, values in losses.items()}
    for name in ("VecchiaGP", "DKLGP"):
        (loss, square), (best, least) = means[name], means["exact"]
        note = f"{loss:.4f}, RMSE {square**0.5:.2f}; exact {best:.4f}, {least**0.5:.2f}"
        yield row(f"diabetes, {name}, m=30: NLPD above exact", float(loss - best), note=note)


def _classes(name, X, y):
    kernel = ConstantKernel(4.0) * Matern(5.0, (0.1, 1e3), nu=1.5)
    models = {
        "exact Laplace": GaussianProcessClassifier(kernel, random_state=0),
        "DKLGP": DKLGPClassifier(kernel),
        "SWSGP": SWSGPClassifier(
            kernel, n_inducing=200, n_neighbors=30, max_iter=100, random_state=0
        ),
    }
    losses, seconds = {m: [] for m in models}, dict.fromkeys(models, 0.0)
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(X, y):
        scaler = StandardScaler().fit(X[train])
        for method, model in models.items():
            took, _ = timed(model.fit, scaler.transform(X[train]), y[train])
            seconds[method] += took / 5
            losses[method].append(log_loss(y[test], model.predict_proba(scaler.transform(X[test]))))
    means = {method: float(np.mean(values)) for method, values in losses.items()}
    for method in ("DKLGP", "SWSGP"):
        said = [f"{means[m]:.4f} in {seconds[m]:.1f} s" for m in (method, "exact Laplace")]
        gap = means[method] - means["exact Laplace"]
        yield row(
            f"{name}, {method}: log loss above exact Laplace", gap, note=", exact ".join(said)
        )
