"""Claims about channels through a reflecting surface: error and symbols against noise.

``python benchmarks/recovery_irs.py [--trials N]`` draws pilots, patterns, channel and noise anew in
each trial, prints the tables of two studies (He & Joseph, 2024 and 2023) beside the medians their
authors report, and writes its JSON. All methods see the same trials.
"""

import argparse
import math
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _report import ROOT, Threads, print_table, row, write_json
from sklearn.exceptions import ConvergenceWarning

from sparseprob.channel import IRSMIMOLink, channel_nmse, qpsk_symbols, transmit
from sparseprob.linear_operators import KroneckerOperator
from sparseprob.metrics import symbol_error_rate
from sparseprob.recovery import (
    KroneckerOMP,
    KroneckerSBL,
    OrthogonalMatchingPursuit,
    SparseBayesianLearning,
)


def narrow(factors, slabs, share=0.003):
    """Equal variances whose prior expects a small share of the power of the slabs."""
    power = np.mean(np.abs(slabs) ** 2) * slabs.size
    scale = share * power / math.prod(np.linalg.norm(D) ** 2 for D in factors)
    return [*(np.ones(D.shape[1]) for D in factors[:-1]), np.full(factors[-1].shape[1], scale)]


def published(method="svd", coupling=0.0, prune=0.0):
    """Return the authors' method: noise known, narrow start; the mobile station has one angle."""

    def fit(factors, slabs, noise_var):
        model = KroneckerSBL(
            method,
            noise_var=noise_var,
            coupling=(coupling, 0.0, coupling) if coupling else None,
            prune=prune,
            init=narrow(factors, slabs),
        )
        return model.fit(factors, slabs).coef_

    return fit


def svd_then_am(factors, slabs, noise_var):
    """Run "svd" with its defaults, then "am" from the variances found; both learn the noise."""
    start = KroneckerSBL().fit(factors, slabs).gammas_
    return KroneckerSBL("am", prune=(1e-2, 1e-1, 1e-2), init=start).fit(factors, slabs).coef_


def kronecker(model):
    """Return a method that fits a model of factors as it is."""
    return lambda factors, slabs, noise_var: model().fit(factors, slabs).coef_


def plain(model, *, form=lambda A: A.to_dense()):
    """Return a method that is not told of factors; `form` makes the matrix of an operator."""

    def fit(factors, slabs, noise_var):
        A = form(KroneckerOperator(factors))
        return model(noise_var).fit(A, slabs.ravel()).coef_

    return fit


METHODS = {
    "SVD": published(),
    "AM": published("am", prune=(1e-2, 1e-1, 1e-3)),
    "PC(.8)": published("am", 0.8, prune=(1e-2, 1e-1, 1e-2)),
    "PC(.5)": published("am", 0.5, prune=(1e-2, 1e-1, 1e-2)),
    "SBL": plain(lambda noise_var: SparseBayesianLearning("em", noise_var=noise_var, prune=1e-4)),
    "KroneckerSBL()": kronecker(KroneckerSBL),
    "SVD, then AM": svd_then_am,
    "fast SBL": plain(lambda _: SparseBayesianLearning("fast")),
    "KroneckerOMP (3,1,3)": kronecker(lambda: KroneckerOMP((3, 1, 3))),
    "OMP(50)": plain(lambda _: OrthogonalMatchingPursuit(n_nonzero_coefs=50), form=lambda A: A),
}
JOURNAL = [name for name in METHODS if name != "OMP(50)"]
CONFERENCE = ("SVD", "AM", "SVD, then AM", "OMP(50)")
SNRS = (4, 8, 12, 16, 20)
REFERENCE = {  # medians over 50 trials of the authors' published results
    "SVD": (0.43, 0.091, 0.010, 0.0038, 0.0013),
    "AM": (0.95, 0.16, 0.023, 0.0051, 0.0012),
    "PC(.8)": (0.125, 0.037, 0.012, 0.0042, 0.0015),
    "PC(.5)": (0.16, 0.037, 0.013, 0.0039, 0.0017),
    "SBL": (0.87, 0.59, 0.29, 0.035, 0.0082),
}
REFERENCE_SYMBOLS = {("PC(.8)", 8): 1.7e-2, ("PC(.8)", 12): 5e-4, ("SVD", 12): 9e-2}  # means


class Outcome(NamedTuple):
    """What one method made of one trial."""

    error: float
    symbols: float
    seconds: float


class Trial(NamedTuple):
    """A link, a channel through it, and what a method may see of them."""

    link: IRSMIMOLink
    channel: Any
    received: Any
    seed: int

    @classmethod
    def draw(cls, seed, snr_db, **sizes):
        """Draw everything from one seed."""
        rng = np.random.RandomState(seed)
        link = IRSMIMOLink(**sizes, random_state=rng)
        channel = link.sample_channel(random_state=rng)
        return cls(link, channel, link.measure(channel, snr_db, random_state=rng), seed)

    def solve(self, name, *, squared=True, n_symbols=100_000):
        """Estimate the channel, then send symbols through it."""
        factors, (slabs, noise_var) = self.link.dictionaries(), self.received
        began = time.perf_counter()
        coef = METHODS[name](factors, slabs, noise_var)
        seconds = time.perf_counter() - began
        R = self.link.resolution
        estimate = self.link.channel_from_coef(coef.reshape(R, R, R))
        truth = self.channel.cascaded(self.link.patterns)
        sent = qpsk_symbols(n_symbols, random_state=self.seed)
        decided = transmit(sent, truth, estimate, noise_var, random_state=self.seed)
        rate = symbol_error_rate(decided, np.tile(sent, (len(truth), 1)))
        return Outcome(channel_nmse(estimate, truth, squared=squared), rate, seconds)


def summary(outcomes, **where):
    """Medians and means of some trials."""
    errors, symbols, seconds = np.transpose(outcomes)
    return where | {
        "median": float(np.median(errors)), "mean": float(np.mean(errors)),
        "symbols_median": float(np.median(symbols)), "symbols_mean": float(np.mean(symbols)),
        "seconds": float(np.median(seconds)), "trials": len(errors),
    }  # fmt: skip


def journal(options):
    """Three pilots, six patterns: all methods against the signal-to-noise ratio."""
    for name in JOURNAL:
        trials = options.sbl_trials if name == "SBL" else options.trials
        for snr in options.snrs if trials else ():
            outcomes = [Trial.draw(seed, snr).solve(name) for seed in range(trials)]
            yield summary(outcomes, method=name, snr_db=snr)
        print(f"  {name} done", flush=True)


def conference(options):
    """Six pilots, four to ten patterns, against OMP with 50 atoms; errors are not squared."""
    for n_patterns in options.patterns:
        for name in CONFERENCE:
            for snr in options.conference_snrs:
                sizes = {"pilots": 6, "patterns": n_patterns}
                outcomes = [
                    Trial.draw(seed, snr, **sizes).solve(name, squared=False, n_symbols=10_000)
                    for seed in range(options.trials)
                ]
                yield summary(outcomes, method=name, snr_db=snr, n_patterns=n_patterns)
        print(f"  {n_patterns} patterns done", flush=True)


def claims(table):
    """Return the lines with targets: medians at high ratios, the order at low ones, symbols."""
    found = {(line["method"], line["snr_db"]): line for line in table}
    for (name, snr), line in found.items():
        if snr >= 16 and name in REFERENCE:
            reference = REFERENCE[name][SNRS.index(snr)]
            note = f"three times the authors' median; {line['trials']} trials"
            what = f"IRS-MIMO channel, {snr} dB: median NMSE of {name}"
            yield row(what, line["median"], 3 * reference, note=note)
    for snr in (s for s in (4, 8) if ("SVD", s) in found):
        coupled, svd, best = (
            found[name, snr]["median"] for name in ("PC(.8)", "SVD", "SVD, then AM")
        )
        note = f"{coupled:.2g} over {svd:.2g}"
        yield row(f"IRS-MIMO channel, {snr} dB: median NMSE of PC(.8) over SVD", coupled / svd, 1,
                  note=note)  # fmt: skip
        what = f"IRS-MIMO channel, {snr} dB: median NMSE of SVD, then AM"
        note = "the authors' best method, PC(.8)"
        yield row(what, best, REFERENCE["PC(.8)"][SNRS.index(snr)], note=note)
    for (name, snr), reference in REFERENCE_SYMBOLS.items():
        if (name, snr) in found:
            what = f"IRS-MIMO symbols, {snr} dB: mean error rate of {name}"
            measured = found[name, snr]["symbols_mean"]
            yield row(what, measured, note=f"the authors' mean: {reference:g}")


def print_study(table, title, columns, keys=("median", "mean", "symbols_mean", "seconds")):
    """Print one block per figure: a line per method, a column per ratio."""
    print(f"\n{title}")
    for key in keys:
        print(f"  {key:<24}" + "".join(f"{f'{snr} dB':>10}" for snr in columns))
        lines = {}
        for line in table:
            name = line["method"]
            if "n_patterns" in line:
                name += f", {line['n_patterns']} patterns"
            lines.setdefault(name, []).append(line[key])
        for name, values in lines.items():
            print(f"    {name:<22}" + "".join(f"{value:>10.2g}" for value in values))


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument(
        "--sbl-trials", type=int, default=2, help="of plain SBL by EM, which is slow"
    )
    parser.add_argument("--only", default="journal,conference", help="some of: %(default)s")
    parser.add_argument("--quick", action="store_true", help="one trial: a test of this program")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "benchmarks/results/recovery_irs.json"
    )
    options = parser.parse_args()
    options.snrs, options.conference_snrs, options.patterns = SNRS, range(5, 31, 5), (4, 6, 8, 10)
    if options.quick:
        options.trials, options.sbl_trials = 1, 0
        options.snrs, options.conference_snrs, options.patterns = (8, 20), (20,), (4,)
    warnings.simplefilter("ignore", ConvergenceWarning)  # most runs end at 150 iterations
    rows, studies = [], {}
    with Threads(1):
        if "journal" in options.only:
            studies["journal"] = list(journal(options))
            title = "3 pilots, 6 patterns: 288 measurements, 5832 unknowns"
            print_study(studies["journal"], title, options.snrs)
            rows += claims(studies["journal"])
        if "conference" in options.only:
            studies["conference"] = list(conference(options))
            title = "6 pilots, error not squared"
            print_study(studies["conference"], title, options.conference_snrs)
    if rows:
        print_table(rows, "Claims")
    write_json(options.output, rows, **studies)


if __name__ == "__main__":
    main()
