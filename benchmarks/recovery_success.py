"""How often thresholding methods recover a sparse vector, beside reference rates.

``python benchmarks/recovery_success.py`` runs 40 trials a point (100 measurements of 256 unknowns,
no noise), prints the table of success rates and writes its JSON.
"""

import argparse
import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
from _report import ROOT, print_table, row, write_json
from sklearn.exceptions import ConvergenceWarning

from sparseprob.recovery import (
    CoSaMP,
    HardThresholdingPursuit,
    IterativeHardThresholding,
    OrthogonalMatchingPursuit,
    SubspacePursuit,
)

BAND = 0.10  # rates of 40 trials have standard errors up to 0.08
METHODS = {
    "OMP": OrthogonalMatchingPursuit,
    "CoSaMP": CoSaMP,
    "SP": SubspacePursuit,
    "NIHT": IterativeHardThresholding,
    "HTP": HardThresholdingPursuit,
    "IHT": lambda s: IterativeHardThresholding(s, normalized=False),
}
# Success rates of a prototype on the same problems, in the order of METHODS.
REFERENCES = {
    ("Gaussian", 20): (0.90, 1.00, 1.00, 0.975, 0.975, 0.35),
    ("Gaussian", 30): (0.65, 0.45, 1.00, 0.65, 0.80, 0.175),
    ("Gaussian", 40): (0.075, 0.00, 0.40, 0.025, 0.075, 0.00),
    ("±1", 20): (0.30, 1.00, 0.975, 0.875, 0.80, 0.00),
    ("±1", 30): (0.00, 0.175, 0.50, 0.225, 0.025, 0.00),
}


def problem(seed, n_nonzero, entries, sizes=(100, 256)):
    """Unit columns and a vector with Gaussian or ±1 entries at random places."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=sizes)
    A /= np.linalg.norm(A, axis=0)
    x = np.zeros(sizes[1])
    support = rng.choice(sizes[1], n_nonzero, replace=False)
    gaussian = entries == "Gaussian"
    x[support] = rng.normal(size=n_nonzero) if gaussian else rng.choice([-1.0, 1.0], n_nonzero)
    return A, x


def success_rate(method, n_nonzero, entries, n_trials):
    """Share of the trials with a relative error below 1e-4."""
    successes = 0
    for seed in range(n_trials):
        A, x = problem(seed, n_nonzero, entries)
        error = np.linalg.norm(method(n_nonzero).fit(A, A @ x).coef_ - x)
        successes += error < 1e-4 * np.linalg.norm(x)
    return float(successes / n_trials)


def swapped(rates, references):
    """Count pairs of methods, further apart in the reference than the band, in another order."""
    return sum(
        (first[1] - second[1]) * (first[0] - second[0]) < 0
        for first, second in combinations(zip(rates, references, strict=True), 2)
        if abs(first[1] - second[1]) > BAND
    )


def table(options):
    """Yield a line for every rate, and those that sum them up."""
    differences, shortfalls, n_swapped = [], [], 0
    for (entries, n_nonzero), references in REFERENCES.items():
        rates = [
            success_rate(method, n_nonzero, entries, options.trials) for method in METHODS.values()
        ]
        n_swapped += swapped(rates, references)
        for name, rate, reference in zip(METHODS, rates, references, strict=True):
            what = f"success of {name}, {n_nonzero} {entries} entries"
            yield row(what, rate, note=f"reference {reference:g}")
            shortfalls.append(reference - rate)
            if name != "HTP":  # its constant step recovers more than the reference's
                differences.append(abs(rate - reference))
    yield row("recovery rates, largest shortfall from a reference", float(max(shortfalls)), BAND)
    yield row("recovery rates but HTP's, largest difference", float(max(differences)), BAND)
    yield row("recovery rates, pairs of methods in another order", int(n_swapped), 0)


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # failures are what is counted
        rows = list(table(options))
    print_table(rows, f"Recovery of sparse vectors, {options.trials} trials")
    output = options.output or ROOT / "benchmarks/results/recovery_success.json"
    write_json(output, rows)


if __name__ == "__main__":
    main()
