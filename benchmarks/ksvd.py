"""K-SVD against scikit-learn and SPAMS: error of five coefficients a patch, against learning time.

``python benchmarks/ksvd.py`` prints a table and writes its JSON; needs ``spams-bin``. All methods
see the same patches, and the same code of ours measures the dictionaries they learn. Times are
processor seconds of one thread, so that other programs on the machine do not count.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from _report import ROOT, Threads, print_table, row, write_json

from sparseprob.callbacks import History
from sparseprob.datasets import extract_patches, load_photographs
from sparseprob.dictionary import KSVD

ATOMS, NONZERO = 256, 5


def patches(n):
    """Return 8 x 8 patches of two photographs, their means taken off."""
    X = extract_patches(load_photographs(), n, size=8, random_state=0)
    return X - X.mean(axis=1, keepdims=True)


class ProcessorTime(History):
    """Atoms after each iteration, and processor seconds so far."""

    def setup(self, estimator, context):
        """Start the clock."""
        super().setup(estimator, context)
        self.began = time.process_time()

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        """Record atoms and time."""
        super().on_fit_task_end(estimator, context, fitted_estimator=fitted_estimator)
        if context.task_name == "iteration":
            self.records["seconds"][-1] = time.process_time() - self.began


def ours(X, n_batches, settings):
    """Yield seconds and atoms: of `partial_fit` after some batches, of `fit` after iterations."""
    options = {"n_nonzero_coefs": NONZERO, "random_state": 0}
    model, seconds = KSVD(ATOMS, **options), 0.0
    for n in range(max(n_batches)):
        batch = X[(n * 512) % len(X) :][:512]
        began = time.process_time()
        model.partial_fit(batch)
        seconds += time.process_time() - began
        if n + 1 in n_batches:
            yield seconds, model.components_
    for online_passes, max_iter in settings:
        history = ProcessorTime(("components_",))
        model = KSVD(ATOMS, online_passes=online_passes, max_iter=max_iter, tol=0, **options)
        model.set_callbacks(history).fit(X)
        yield from zip(history.records["seconds"], history.records["components_"], strict=True)


def spams_atoms(X, n_batches):
    """Yield seconds and atoms of SPAMS, each from a start of its own."""
    import spams

    columns = np.asfortranarray(X.T)
    for n in n_batches:
        began = time.process_time()
        D = spams.trainDL(
            columns, K=ATOMS, lambda1=NONZERO, mode=3, iter=n, batchsize=512, numThreads=1,
            verbose=False,
        )  # fmt: skip
        yield time.process_time() - began, D.T


def sklearn_atoms(X, alphas, n_passes):
    """Yield seconds and atoms of scikit-learn, for penalties that lead to about five non-zeros."""
    from sklearn.decomposition import MiniBatchDictionaryLearning

    for alpha in alphas:
        for max_iter in n_passes:
            began = time.process_time()
            model = MiniBatchDictionaryLearning(
                ATOMS, alpha=alpha, max_iter=max_iter, batch_size=512, fit_algorithm="cd",
                tol=0, max_no_improvement=None, random_state=0,
            )  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(X)
            yield time.process_time() - began, model.components_


def measured(X, points):
    """Return seconds and the squared error per patch of codes by matching pursuit."""
    return [(seconds, error(X, np.array(D, order="C"))) for seconds, D in points]


def error(X, D):
    """Mean squared error of a patch, of OMP codes with these atoms."""
    model = KSVD(ATOMS, n_nonzero_coefs=NONZERO, init=D, online_passes=0, max_iter=1, tol=0)
    model.partial_fit(X)
    return model.error_[0] / len(X)


def until(curve, level):
    """Seconds after which a curve is at most at a level; infinity if it never is."""
    return next((seconds for seconds, value in curve if value <= level), np.inf)


def at(curve, seconds):
    """Error of the last point within the time; infinity before the first."""
    return min((value for when, value in curve if when <= seconds), default=np.inf)


def compare(X, quick):
    """Return the lines of the table, and the curves."""
    batches = (20, 40) if quick else (50, 200, 800, 2000)
    settings = ((1, 3),) if quick else ((1, 1), (2, 1), (4, 15), (8, 15))
    curves = {"KSVD": sorted(measured(X, ours(X, batches[:2], settings)))}
    curves["SPAMS"] = measured(X, spams_atoms(X, batches))
    alphas, passes = ((0.3,), (1,)) if quick else ((0.2, 0.3), (1, 2))
    curves["scikit-learn"] = measured(X, sklearn_atoms(X, alphas, passes))
    lines, mine = [], curves["KSVD"]
    for name in ("SPAMS", "scikit-learn"):
        for seconds, value in sorted(curves[name]):
            what = f"error of KSVD / {name} after {seconds:.1f} s"
            note = f"{name}: {value:.5f} a patch"
            lines.append(row(what, at(mine, seconds) / value, 1, note=note))
    for seconds, value in sorted(curves["scikit-learn"]):
        what = f"speed of KSVD against scikit-learn, at its error {value:.5f}"
        lines.append(row(what, seconds / until(mine, value), 5, at_least=True, unit="x"))
    return lines, curves


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few patches, no file")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/ksvd.json")
    args = parser.parse_args()
    X = patches(5_000 if args.quick else 100_000)
    with Threads(1):
        list(ours(X[:1000], (2,), ((1, 1),)))  # compiles
        lines, curves = compare(X, args.quick)
    print_table(lines, f"{len(X)} patches of 8 x 8, {ATOMS} atoms, {NONZERO} non-zeros")
    if not args.quick:
        write_json(args.output, lines, curves=curves)


if __name__ == "__main__":
    main()
