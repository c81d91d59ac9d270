"""``sparseprob compress``: a neural network made smaller, with a report."""

import argparse
import ast
import contextlib
import json
import logging
import sys
import time
import warnings
from pathlib import Path

from .. import mpi
from . import _report, _video
from ._learn import ranks
from ._networks import open_network

_METHODS = ("magnitude", "wanda", "sparsegpt", "awp", "svd", "whitened_svd", "cospadi", "monarch",
            "kronecker", "dsformer")  # fmt: skip


def add_parser(commands):
    """Add the command to the parser."""
    text = "compress the linear layers of a neural network"
    parser = commands.add_parser(
        "compress", help=text, description=text + ", and report the error of each",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "model", metavar="MODEL", type=Path,
        help="directory of transformers, or file of torch.save(module, file)",
    )  # fmt: skip
    parser.add_argument("--method", choices=_METHODS, default="awp", help="how")
    parser.add_argument("--sparsity", type=float, help="share of zeros, for pruners; default: 0.5")
    parser.add_argument("--compression", type=float, help="share of storage saved, for the others")
    parser.add_argument(
        "--set", dest="parameters", metavar="NAME=VALUE", nargs="+", default=[],
        help="other parameters of the solver, such as refit=True",
    )  # fmt: skip
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE",
        help="text; for a module of torch.save a .npy file of inputs",
    )  # fmt: skip
    parser.add_argument("--n-windows", type=int, default=128, help="windows of the text to use")
    parser.add_argument(
        "--context", type=int, help="tokens of a window; default: 128, or what the model can read"
    )
    parser.add_argument(
        "--mode", choices=("sequential", "one_shot"), default="sequential",
        help="calibrate on the layers compressed so far, or on the dense model",
    )  # fmt: skip
    parser.add_argument("--include", nargs="+", default=["*"], metavar="NAME", help="layers")
    parser.add_argument(
        "--exclude", nargs="+", default=["*head*", "*embed*"], metavar="NAME", help="exceptions"
    )
    parser.add_argument(
        "--replace", choices=("dense", "module"), default="dense",
        help="write weights into the model, or put in layers that store less",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--trust", action="store_true", help="run code in a file of torch.save")
    parser.add_argument("--gpu", action="store_true", help="compute on the GPU")
    parser.set_defaults(run=run)


def run(options):
    """Load, compress, write, report; under mpiexec each rank has a part of the data."""
    began = time.perf_counter()
    with ranks():
        with mpi.errors_together():
            _video.check_new(options.output)
            _check(options)
            solver = _solver(options)
            network, batches = _network(options)
        model, report = _compressed(options, network, solver, batches)
        if mpi.rank() > 0:
            return
    with _video.new_folder(options.output) as folder:
        how = network.save(model.cpu(), folder, as_module=options.replace == "module")
        _write_report(options, folder, solver, report)
    print(report)
    print(f"written to {options.output}/  ({time.perf_counter() - began:.0f} s)")
    print(f"load it with {how.replace('DIR', str(options.output))}")


def _network(options):
    """Open the network and read the batches of this rank."""
    network, batches = open_network(options.model, trust=options.trust), None
    if options.gpu:
        _to_gpu(network.model)
    if options.calibration is not None:
        batches = network.batches(options.calibration, options.n_windows, options.context)
        batches = batches[mpi.rank() :: mpi.n_ranks()]
    return network, batches


def _to_gpu(model):
    try:
        import cupy
        import torch
    except ImportError as error:
        raise ImportError(
            "--gpu needs CuPy, which is not installed; pip install 'sparseprob[gpu]'."
        ) from error
    if not (cupy.cuda.is_available() and torch.cuda.is_available()):
        raise ValueError("--gpu needs a GPU that CuPy and torch both see; leave it out.")
    mpi.bind_device()
    model.cuda(cupy.cuda.runtime.getDevice())


def _compressed(options, network, solver, batches):
    from ..torch import compress

    with _progress(), _short_warnings():
        try:
            return compress(
                network.model, solver, batches, include=options.include, exclude=options.exclude,
                mode=options.mode, replace=options.replace, inplace=True,
            )  # fmt: skip
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Nothing was written.") from None


def _check(options):
    if options.n_windows < 1:
        raise ValueError(f"--n-windows must be at least 1, got {options.n_windows}.")
    if options.context is not None and options.context < 1:
        raise ValueError(f"--context must be at least 1, got {options.context}.")
    if options.calibration is not None and not options.calibration.is_file():
        raise FileNotFoundError(
            f"There is no calibration file {str(options.calibration)!r}; name another one."
        )


def _solver(options):
    from ..torch.solvers._registry import solver_named

    given = {name: getattr(options, name) for name in ("sparsity", "compression")}
    parameters = {name: value for name, value in given.items() if value is not None}
    for text in options.parameters:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"--set takes NAME=VALUE, got {text!r}.")
        parameters[name] = _value(value)
    return solver_named(options.method, **parameters)


def _value(text):
    """Read a number, None, True or a tuple; anything else is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _write_report(options, folder, solver, report):
    (folder / "report.json").write_text(json.dumps(report.to_dict(), indent=1), encoding="utf-8")
    totals = report.totals
    layers = totals["bits_after"] / totals["bits_before"]
    model = totals["model_bits_after"] / totals["model_bits_before"]
    figures = {
        "layers": str(totals["n_layers"]),
        "bits of these layers": f"{layers:.1%} of before",
        "bits of the model": f"{model:.1%} of before",
        "mean relative error": f"{totals['rel_error']:.4f}",
        "mode": report.mode,
        "seconds": f"{totals['seconds']:.1f}",
    }
    source = options.calibration
    what = "weights" if source is None else f"outputs of each layer on {source.name}"
    _report.write_html(
        folder / "report.html",
        f"{options.model.name} compressed by {type(solver).__name__}",
        solver,
        figures,
        _report.draw_compression(folder / "layers.png", report),
        f"Errors are those of the {what}. Sizes count 16 bits for a number.",
        more=f"<h2>Layers</h2>{report.to_html()}",
    )


# ---------------------------------------------------------------- progress
@contextlib.contextmanager
def _progress():
    """Show each layer that is done: as a bar with rich, else as a line."""
    log = logging.getLogger("sparseprob")
    level = log.level
    with _handler() as handler:
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)


@contextlib.contextmanager
def _short_warnings():
    """Print warnings as lines, without the code that gave them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)


@contextlib.contextmanager
def _handler():
    try:
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
    except ImportError:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("[%(n_done)d/%(n_layers)d] %(message)s"))
        handler.addFilter(lambda record: hasattr(record, "n_done"))
        yield handler
        return
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield _Bar(bar)


class _Bar(logging.Handler):
    """A progress bar of layers, with a line for each above it."""

    def __init__(self, bar):
        super().__init__()
        self.bar, self.task = bar, bar.add_task("layers", total=None)

    def emit(self, record):
        """Show a record of a layer."""
        if hasattr(record, "n_done"):
            self.bar.console.print(
                record.getMessage(), highlight=False, markup=False, soft_wrap=True
            )
            self.bar.update(self.task, completed=record.n_done, total=record.n_layers)
