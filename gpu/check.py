"""The GPU gives the same answers as the CPU, for every estimator and kernel.

``python gpu/check.py``: runs on a machine with a GPU, prints a table, exits with 1 on a difference.
"""

import argparse
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import cupy
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]

from _report import print_table, row, write_json
from instances import INSTANCES, POLICIES
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.gaussian_process.kernels import RBF

from sparseprob import dictionary, recovery, sketch
from sparseprob._kernels import kernels
from sparseprob.callbacks import Checkpoint
from sparseprob.datasets import make_bars, make_rkhs_bandit, on_gpu
from sparseprob.dictionary._states import build_state_table

FLOAT64, FLOAT32 = 1e-10, 2e-3  # a fit of a few iterations in single precision
PROCESS = 1e-6  # covariances are close to singular, and fits go through many of them
KERNEL = {np.float64: 1e-11, np.float32: 1e-4}
RECOVERY = {  # the same columns are chosen; coefficients differ by rounding
    np.float64: 1e-8, np.complex128: 1e-8, np.float32: 2e-3, np.complex64: 2e-3,
}  # fmt: skip
_OPTIONS = {"max_active": 3, "max_iter": 4, "tol": 0, "random_state": 0}
VARIANTS = {  # estimators with other options: compared, without the seam
    dictionary.DSC(4, missing="nan", **_OPTIONS): ", missing",
    dictionary.MCA(4, combination="soft", **_OPTIONS): ", soft",
    dictionary.MCA(4, missing="nan", **_OPTIONS): ", missing",
    dictionary.GSC(4, noise="full", prior_covariance="full", **_OPTIONS): ", full covariances",
    dictionary.GSC(4, noise="diag", missing="nan", **_OPTIONS): ", missing",
}
SIZES = [  # H, n_candidates, max_active, values, points
    (10, 5, 1, 1, 1), (1, 1, 1, 1, 3), (30, 8, 4, 1, 1000), (12, 6, 3, 2, 333), (16, 13, 6, 1, 257),
    (7, 7, 7, 1, 100), (40, 10, 4, 2, 100), (200, 8, 4, 1, 5000), (80, 80, 1, 1, 300),
    (26, 26, 2, 1, 130), (9, 7, 4, 3, 129),
]  # fmt: skip


def difference(a, b):
    """Largest difference relative to the largest value."""
    a, b = (np.asarray(cupy.asnumpy(x)).astype(np.complex128) for x in (a, b))
    return float(np.abs(a - b).max() / max(1e-300, np.abs(b).max())) if a.size else 0.0


def check_estimators():
    """Fit every estimator that follows X on both devices; compare what it learned and returns."""
    for estimator in (*INSTANCES, *VARIANTS):
        if not estimator.__sklearn_tags__().array_api_support or is_regressor(estimator):
            continue
        if is_gaussian_process(estimator):
            continue
        X, name = rows_for(estimator), type(estimator).__name__
        if estimator in VARIANTS:
            name += VARIANTS[estimator]
        for dtype, tolerance in ((np.float64, FLOAT64), (np.float32, FLOAT32)):
            host = clone(estimator).fit(X.astype(dtype))
            device = clone(estimator).fit(cupy.asarray(X.astype(dtype)))
            worst = max(_differences(host, device, X.astype(dtype)))
            yield row(f"{name} {np.dtype(dtype).name}: GPU = CPU", worst, tolerance)
        if estimator not in VARIANTS:
            yield from _check_seam(estimator, name, X)


def recovers(estimator):
    """Whether it is one of the regressors with sparse coefficients."""
    return ".recovery." in type(estimator).__module__


def check_recovery():
    """Recover sparse vectors on both devices, real and complex, from matrices and factors."""
    for dtype, tolerance in RECOVERY.items():
        A, Y = measurements(dtype)
        for estimator in filter(recovers, INSTANCES):
            host, device = (
                clone(estimator).fit(A, Y),
                clone(estimator).fit(*map(cupy.asarray, (A, Y))),
            )
            worst = difference(device.coef_, host.coef_)
            worst = max(worst, difference(device.predict(cupy.asarray(A)), host.predict(A)))
            name = f"{type(estimator).__name__} {np.dtype(dtype).name}"
            yield row(f"{name}: GPU = CPU", worst, tolerance)
        factors, Y = factored(dtype)
        for estimator in (
            recovery.KroneckerSBL(max_iter=20, tol=0),
            recovery.KroneckerOMP((2, 2, 2)),
        ):
            host = clone(estimator).fit(factors, Y)
            device = clone(estimator).fit([*map(cupy.asarray, factors)], cupy.asarray(Y))
            name = f"{type(estimator).__name__} {np.dtype(dtype).name}"
            yield row(f"{name}: GPU = CPU", difference(device.coef_, host.coef_), tolerance)


def is_gaussian_process(estimator):
    """Whether it is one of the Gaussian processes."""
    return ".gp." in type(estimator).__module__


def check_gaussian_processes():
    """Fit every Gaussian process on both devices; compare what it learned and what it predicts."""
    rng = np.random.default_rng(0)
    X, queries = rng.random((400, 2)), rng.random((50, 2))
    f = np.sin(6 * X).sum(axis=1)
    for estimator in filter(is_gaussian_process, INSTANCES):
        if is_classifier(estimator):
            y = (f + 0.3 * rng.normal(size=len(f)) > 0.8).astype(int)
        elif "Poisson" in type(estimator).__name__:
            y = rng.poisson(np.exp(f)).astype(float)
        else:
            y = f + 0.1 * rng.normal(size=len(f))
        host = clone(estimator).fit(X, y)
        device = clone(estimator).fit(cupy.asarray(X), cupy.asarray(y))
        worst = max(_differences_of_processes(host, device, queries))
        yield row(f"{type(estimator).__name__} float64: GPU = CPU", worst, PROCESS)


def _differences_of_processes(host, device, X):
    yield difference(device.kernel_.theta, host.kernel_.theta)
    for name in ("noise_variance_", "log_marginal_likelihood_value_", "elbo_", "mean_"):
        if hasattr(host, name):
            yield difference(getattr(device, name), getattr(host, name))
    A, options = cupy.asarray(X), {} if is_classifier(host) else {"return_std": True}
    name = "predict_proba" if is_classifier(host) else "predict"
    found, expected = (getattr(m, name)(Z, **options) for m, Z in ((device, A), (host, X)))
    for ours, theirs in zip(found, expected, strict=True):
        assert isinstance(ours, cupy.ndarray), f"{name} left the GPU"
        yield difference(ours, theirs)


def check_bandits():
    """Run every policy on both devices; compare its picks and its posterior."""
    drawn = make_rkhs_bandit(400, 2, random_state=0)
    noise = 0.1 * np.random.default_rng(0).normal(size=130)
    problem = {"noise_variance": 0.01, "max_evals": 120, "random_state": 0}
    for given in POLICIES:
        name, runs = type(given).__name__, []
        if name == "AdaBKB":  # searches a box, on the host
            continue
        for X in (drawn.X, cupy.asarray(drawn.X)):
            policy = clone(given).set_params(kernel=RBF(0.2), **problem).initialize(X)
            while policy.n_evals_ < 120 and len(batch := policy.ask()):
                policy.tell(batch, drawn.f[batch.indices] + noise[batch.ids])
            runs.append(policy)
        host, device = runs
        assert isinstance(device.mean_, cupy.ndarray), f"mean_ of {name} left the GPU"
        differ = (host.history_["index"] != device.history_["index"]).sum()
        yield row(f"{name}: picks of 120 that differ, GPU and CPU", int(differ), 0)
        worst = max(difference(getattr(device, n), getattr(host, n))
                    for n in ("mean_", "posterior_std_"))  # fmt: skip
        yield row(f"{name}: posterior, GPU = CPU", worst, 1e-8)


def check_sketches():
    """Estimate a product from sketches made on both devices."""
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(2, 2000, 30)) * rng.pareto(1.5, size=(2000, 1))
    for sketcher in (
        sketch.PrioritySketcher(200), sketch.ThresholdSketcher(200), sketch.CountSketcher(200),
        sketch.GaussianSketcher(200), sketch.SignSketcher(200),
    ):  # fmt: skip
        host = sketcher.sketch(A).product(sketcher.sketch(B))
        device = sketcher.sketch(cupy.asarray(A)).product(sketcher.sketch(cupy.asarray(B)))
        assert isinstance(device, cupy.ndarray), "the product left the GPU"
        yield row(f"{type(sketcher).__name__}: GPU = CPU", difference(device, host), FLOAT64)


def check_torch():
    """Compress layers of networks on both devices, where torch is installed."""
    if find_spec("torch") is not None:
        from _check_torch import check_solvers

        yield from check_solvers()


def normal(rng, shape, dtype):
    """Random numbers, with an imaginary part if the type has one."""
    values = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.normal(size=shape)
    return values.astype(dtype)


def measurements(dtype):
    """Forty right-hand sides of two columns each, and noise."""
    rng = np.random.default_rng(0)
    A, coef = normal(rng, (60, 20), dtype), np.zeros((20, 40), dtype=dtype)
    for x in coef.T:
        x[rng.choice(20, 2, replace=False)] = 1 + np.abs(normal(rng, 2, dtype))
    return A, (A @ coef + 0.01 * normal(rng, (60, 40), dtype)).astype(dtype)


def factored(dtype):
    """Measurements of a tensor with two entries in each direction, through three factors."""
    rng = np.random.default_rng(0)
    factors = [normal(rng, (6, 9), dtype) for _ in range(3)]
    tensor = np.zeros((9, 9, 9), dtype=dtype)
    tensor[np.ix_([1, 5], [2, 3], [0, 7])] = 1 + np.abs(normal(rng, (2, 2, 2), dtype))
    Y = np.einsum("ai,bj,ck,ijk->abc", *factors, tensor)
    return factors, (Y + 0.01 * normal(rng, Y.shape, dtype)).astype(dtype)


def rows_for(estimator):
    """Rows of bars; counts, or with entries missing, where the estimator takes such."""
    X = make_bars(500, size=4, random_state=0).data
    if estimator.__sklearn_tags__().input_tags.positive_only:
        return np.round(np.abs(X))
    if getattr(estimator, "missing", None) == "nan":
        X[np.random.default_rng(0).random(X.shape) < 0.2] = np.nan
    return X


def _differences(host, device, X):
    A = cupy.asarray(X)
    for name, value in vars(host).items():
        if name.endswith("_") and isinstance(value, (float, np.ndarray)):
            yield difference(getattr(device, name), value)
    for method in ("transform", "score_samples", "reconstruct", "predict"):
        if hasattr(host, method):
            result = getattr(device, method)(A)
            assert isinstance(result, cupy.ndarray), f"{method} left the GPU"
            yield difference(result, getattr(host, method)(X))
    if hasattr(host, "infer"):
        found, expected = device.infer(A, top_k=3), host.infer(X, top_k=3)
        for name in ("prob", "marginals", "abs_marginals"):
            assert isinstance(found[name], cupy.ndarray), f"infer: {name} left the GPU"
            yield difference(found[name], expected[name])


class _Interrupt(Checkpoint):
    """Write a checkpoint after every iteration and stop the fit after the second."""

    def on_fit_task_end(self, estimator, context):
        """Write, then stop."""
        super().on_fit_task_end(estimator, context)
        if self._seen == 2:
            raise KeyboardInterrupt


def _check_resumed(estimator, name, A, resident):
    """A second fit, and a fit that was stopped and goes on, have the bits of the first."""
    again = [clone(estimator).fit(A)]
    if hasattr(estimator, "_checkpoint_state"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fit.npz"
            with suppress(KeyboardInterrupt):
                clone(estimator).set_callbacks(_Interrupt(path)).fit(A)
            again.append(clone(estimator).fit(A, resume_from=path))
    worst = max(max(_differences_of_models(model, resident)) for model in again)
    yield row(f"{name}: repeated and resumed, equal bits", worst, 0.0)


def _check_seam(estimator, name, X):
    """Torch tensors, rows streamed from the host, and resumed fits."""
    resident = clone(estimator).fit(cupy.asarray(X))
    by_batches = isinstance(estimator, dictionary.KSVD)  # a batch is part of its method, no chunk
    chunked = "batch_size" in estimator.get_params() and not by_batches
    small = {"batch_size": 64} if chunked else {}
    streamed = clone(estimator).set_params(**small).fit(on_gpu(X))  # in several chunks
    yield row(
        f"{name}: streamed = resident", max(_differences_of_models(streamed, resident)), FLOAT64
    )
    yield from _check_resumed(estimator, name, cupy.asarray(X), resident)
    try:
        import torch
    except ImportError:
        return
    tensor = torch.from_numpy(X).cuda()
    fitted = clone(estimator).fit(tensor)
    assert fitted.transform(tensor).is_cuda
    worst = difference(
        cupy.from_dlpack(fitted.transform(tensor)), resident.transform(cupy.asarray(X))
    )
    yield row(f"{name}: torch on the GPU = CuPy", worst, FLOAT64)


def _differences_of_models(a, b):
    for name, value in vars(b).items():
        if name.endswith("_") and isinstance(value, (float, cupy.ndarray)):
            yield difference(getattr(a, name), value)


def check_kernels():
    """Compare the twins of the linear discrete kernels over sizes and posterior shapes."""
    for dtype, tolerance in KERNEL.items():
        for scale in (0.1, 10.0):
            for sizes in SIZES:
                worst, repeats = _compare_twins(sizes, dtype, scale)
                shape = "flat" if scale < 1 else "concentrated"
                label = f"kernels {np.dtype(dtype).name} {shape} H,H',g,V,n={sizes}"
                yield row(label, worst, tolerance)
                yield row(f"{label}: repeated runs, equal bits", float(not repeats), 0.0)


def worst_of(rows, name):
    """One line for many: the largest difference over its tolerance."""
    return row(name, max(r["measured"] / max(float(r["target"][2:]), 1e-300) for r in rows), 1.0,
               note=f"{len(rows)} comparisons")  # fmt: skip


def _compare_twins(sizes, dtype, scale):
    H, n_candidates, max_active, V, n = sizes
    rng = np.random.default_rng(H + n)
    W, values = rng.normal(size=(H, 12)), np.array([1.0, -2.0, 0.5])[:V]
    B = (scale * rng.normal(size=(H, n))).astype(dtype)
    slope, bias = (0.7 * values).astype(dtype), rng.normal(size=(V, H)).astype(dtype)
    coupling = (0.1 * scale * W @ W.T).astype(dtype)
    weight, shift = rng.normal(size=(2, V, H)).astype(dtype)
    table = build_state_table(n_candidates, max_active, V + 1, n_components=H)
    score = (weight[:, :, None] * B + shift[:, :, None]).max(axis=0)
    host = (B, slope, bias, coupling, weight, shift)
    first, results = kernels("linear_discrete", B).select_candidates(*_selected(host, table)), []
    for xp in (np, cupy, cupy):
        arrays = tuple(map(xp.asarray, host))
        kernel = kernels("linear_discrete", arrays[0])
        candidates = cupy.asnumpy(kernel.select_candidates(*_selected(arrays, table)))
        # Rounding may swap latents of nearly equal score: compare their scores, not their numbers,
        # and compute all posteriors from the candidates that the CPU chose.
        chosen, pairs = np.take_along_axis(score, candidates, axis=0), xp.zeros((H, H))
        parts = kernel.truncated_posterior(
            arrays[0], xp.asarray(first), *arrays[1:4], values, table, pairs=pairs
        )
        results.append([cupy.asnumpy(a) for a in (chosen, *parts, pairs)])
    worst = max(difference(a, b) for a, b in zip(results[1], results[0], strict=True))
    same = all(np.array_equal(a, b) for a, b in zip(results[1], results[2], strict=True))
    return worst, same


def _selected(arrays, table):
    """Arguments of the selection."""
    B, *_, weight, shift = arrays
    return B, weight, shift, table.n_candidates


PARTS = {
    "recovery": check_recovery, "sketches": check_sketches, "estimators": check_estimators,
    "gp": check_gaussian_processes, "bandits": check_bandits, "torch": check_torch,
}  # fmt: skip


def main():
    """Check everything, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default=",".join([*PARTS, "kernels"]), help="some of: %(default)s"
    )
    parser.add_argument("--output", default=ROOT / "gpu/results/check.json")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    rows = [line for part in chosen if part in PARTS for line in PARTS[part]()]
    each = list(check_kernels()) if "kernels" in chosen else []
    if each:
        rows.append(worst_of(each, "kernels: largest difference over its tolerance"))
    print_table([*rows, *each], "GPU against CPU: largest relative difference")
    write_json(arguments.output, rows, kernels=each)
    return 0 if all(r["met"] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
