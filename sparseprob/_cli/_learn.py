"""``sparseprob learn``: a dictionary of the user's own rows, in one process or under mpiexec."""

import argparse
import contextlib
import inspect
import json
import os
import re
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from .. import mpi
from . import _report
from ._models import MODELS, model_class

_LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS")
_N_SHOWN = 12


def add_parser(commands):
    """Add the command, with every constructor parameter of every model as an option."""
    parser = commands.add_parser(
        "learn", help="learn a dictionary of your own rows, in one process or under mpiexec",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("data", metavar="DATA", help="rows.npy, rows.npz or file.h5:/name")
    parser.add_argument("--model", choices=MODELS, default="bsc", help="model, by its acronym")
    parser.add_argument("--output", type=Path, default=Path("model.joblib"), help="fitted model")
    parser.add_argument(
        "--report", type=Path, help="also write this HTML page and pictures beside it"
    )
    parser.add_argument("--image-shape", type=_pair, help="HEIGHT,WIDTH of a row, for the pictures")
    parser.add_argument("--checkpoint", type=Path, help="file to save the state of the fit to")
    parser.add_argument("--checkpoint-every", type=int, default=5, help="iterations between saves")
    parser.add_argument("--resume", action="store_true", help="continue from --checkpoint")
    parser.add_argument("--gpu", action="store_true", help="compute on the GPU")
    common, special = (
        parser.add_argument_group(f"parameters of {which}")
        for which in ("all models", "some models")
    )
    for name, models in _parameters().items():
        _add_parameter(common if len(models) == len(MODELS) else special, name, models)
    parser.set_defaults(run=run)


def _parameters():
    """Names of all constructor parameters, and the models that have them."""
    found: dict[str, list[str]] = {}
    for model in MODELS:
        for name in inspect.signature(model_class(model)).parameters:
            found.setdefault(name, []).append(model)
    return found


def _add_parameter(group, name, models):
    """Add an option that stays away unless it is given: every model has defaults of its own."""
    classes = [model_class(model) for model in models]
    constraints = [c for cls in classes for c in cls._parameter_constraints[name]]
    defaults = {model: _default(cls, name) for model, cls in zip(models, classes, strict=True)}
    text, others = _first_sentences(classes[0])[name], [m for m in MODELS if m not in models]
    if others:
        text += f" [not {' '.join(others)}]" if len(others) < 3 else f" [{' '.join(models)}]"
    text += _HINTS.get(name, "")
    group.add_argument(
        f"--{name.replace('_', '-')}", dest=f"parameter_{name}", default=argparse.SUPPRESS,
        help=f"{text} (default: {_joined(defaults)})", **_option_type(name, constraints),
    )  # fmt: skip


def _default(cls, name):
    value = inspect.signature(cls).parameters[name].default
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _joined(defaults):
    """The default, or the defaults by model where they differ."""
    if len(set(defaults.values())) == 1:
        return next(iter(defaults.values()))
    usual = max(defaults.values(), key=list(defaults.values()).count)
    others = [f"{model} {text}" for model, text in defaults.items() if text != usual]
    return f"{usual}; {', '.join(others)}"


def _first_sentences(model):
    """What the docstring says first of each parameter."""
    section = inspect.cleandoc(model.__doc__).split("Parameters\n----------\n")[1]
    entries = re.findall(r"^(\w+) : .*\n((?:    .*\n|\n)+)", section, flags=re.MULTILINE)
    texts = {name: " ".join(text.split()).replace("%", "%%") for name, text in entries}
    return {name: re.split(r"(?<=[.;]) ", text)[0].rstrip(".;") for name, text in texts.items()}


def _option_type(name, constraints):
    """How argparse reads a parameter, from the values the estimator allows."""
    numbers = [c.type for c in constraints if isinstance(c, Interval)]
    choices = {o for c in constraints if isinstance(c, StrOptions) for o in c.options}
    if "boolean" in constraints:
        return {"action": argparse.BooleanOptionalAction}
    if name in _READERS:
        return {"type": _READERS[name], "metavar": "VALUE"}
    if Integral in numbers or name in ("random_state", "verbose"):
        return {"type": int, "metavar": "INT"}
    if Real in numbers:
        return {"type": float, "metavar": "FLOAT"}
    return {"choices": sorted(choices)} if choices else {"type": str, "metavar": "VALUE"}


def _pair(text):
    height, _, width = text.partition(",")
    return int(height), int(width)


def _schedule(text):
    """Read "anneal" or the points of a LinearSchedule in JSON."""
    from ..dictionary import LinearSchedule

    return text if text == "anneal" else LinearSchedule(json.loads(text))


def _init(text):
    """Read the name of an initialization or a file of atoms."""
    return np.load(text) if text.endswith(".npy") else text


def _names(text):
    return tuple(text.split(","))


def _numbers(text):
    """Read an alphabet."""
    return tuple(float(number) for number in text.split(","))


_READERS = {"schedule": _schedule, "init": _init, "learn": _names, "values": _numbers}
_HINTS = {"values": "; write --values=-1,0,1"}  # argparse takes -1,0,1 for an option


# ---------------------------------------------------------------- the fit
def run(options):
    """Learn from the rows of this rank; rank 0 writes model and report."""
    _check_targets(options)
    with ranks():
        with mpi.errors_together():
            X, part = _rows(options)
        model = _model(options)
        resume_from = options.checkpoint if options.resume else None
        try:
            model.fit(part, resume_from=resume_from)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_how_to_resume(options)) from None
        if mpi.rank() == 0:
            _finish(options, model, X)


def ranks():
    """Distribute over MPI ranks when the program was started by an MPI launcher."""
    launched = any(int(os.environ.get(name) or 0) > 1 for name in _LAUNCHED)
    return mpi.distributed() if launched else contextlib.nullcontext()


def _check_targets(options):
    """Refuse what could not be written, before hours of learning."""
    if options.resume and options.checkpoint is None:
        raise ValueError("--resume needs --checkpoint FILE, the file to continue from.")
    for path in (options.output, options.checkpoint, options.report):
        folder = None if path is None else path.absolute().parent
        if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise FileNotFoundError(
                f"The folder of {str(path)!r} cannot be written to; create it first."
            )


def _rows(options):
    """All rows, and those of this rank."""
    from ..datasets import on_gpu, open_rows

    X = open_rows(options.data)
    part = X if mpi.n_ranks() == 1 else _RowRange(X, mpi.row_slice(len(X)))
    if isinstance(X, np.ndarray) and mpi.n_ranks() > 1:
        part = X[mpi.row_slice(len(X))]
    return X, on_gpu(part) if options.gpu else part


class _RowRange:
    """A range of the rows of a dataset on disk, without reading it."""

    def __init__(self, rows, part):
        self.rows, self.first = rows, part.start
        self.shape, self.dtype = (part.stop - part.start, rows.shape[1]), rows.dtype

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        start, stop, _ = key.indices(self.shape[0])
        return self.rows[self.first + start : self.first + stop]


def _model(options):
    from ..callbacks import Checkpoint

    cls, prefix = model_class(options.model), "parameter_"
    given = {
        name.removeprefix(prefix): value
        for name, value in vars(options).items()
        if name.startswith(prefix)
    }
    for name in given:
        if name not in inspect.signature(cls).parameters:
            raise ValueError(
                f"--{name.replace('_', '-')} is no parameter of {options.model}; leave it out, or "
                f"choose --model {' or '.join(_parameters()[name])}."
            )
    model = cls(**given)
    callbacks = []
    if options.checkpoint is not None:
        callbacks.append(Checkpoint(options.checkpoint, every=options.checkpoint_every))
    _report.show_progress(model, *callbacks)
    return model


def _how_to_resume(options):
    if options.checkpoint is None:
        return "Nothing was saved; --checkpoint FILE would have kept the state."
    if not options.checkpoint.exists():
        return f"No checkpoint was written yet (every {options.checkpoint_every} iterations)."
    return f"Continue with the same command and --resume; the state is in {options.checkpoint}."


def _finish(options, model, X):
    _report.save_model(model, options.output)
    figures = {"rows": f"{X.shape[0]:,}", "columns": str(X.shape[1])}
    figures |= _report.figures_of(model, X.shape[0]) | {"ranks": str(mpi.n_ranks())}
    for name, value in figures.items():
        print(f"{name:<44} {value}")
    if options.report is not None:
        _write_report(options, model, X, figures)
    print(f"written to {options.output}")


def _write_report(options, model, X, figures):
    from .. import move_estimator_to

    rows = np.asarray(X[:: max(1, len(X) // _N_SHOWN)][:_N_SHOWN], dtype=model.components_.dtype)
    host = move_estimator_to(model, rows)
    pictures = _report.draw(host, options.report.parent, rows, options.image_shape)
    title = f"{type(model).__name__} of {Path(options.data).name}"
    introduction = f"Learned from {X.shape[0]:,} rows of {X.shape[1]} numbers."
    _report.write_html(options.report, title, model, figures, pictures, introduction)
