"""Compression of all linear layers of a model, one after the other or all at once."""

import warnings
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import islice

from torch import nn

from .. import mpi
from . import _compression_checks as checks
from ._compression_journal import Journal
from ._compression_report import CompressionReport
from ._compression_tasks import Task, solve_all, stats_of
from ._layers_of_model import copy_of, find_layers, shown
from ._model_editor import ModelEditor
from ._steps import steps_in_order
from .calibration import LayerStats
from .calibration._collector import call, evaluating
from .calibration._grams import check_batches, check_called, gather
from .solvers._registry import as_solver

_MODES, _REPLACE = ("sequential", "one_shot"), ("dense", "module")
_NEED_NOTHING = "magnitude, svd, monarch, kronecker or dsformer"


def compress(
    model, method, calibration=None, *, include=("*",), exclude=("*head*", "*embed*"),
    module_types=(nn.Linear,), overrides=None, mode="sequential", groups=None, replace="dense",
    inplace=False,
):  # fmt: skip
    r"""Compress the linear layers of a model, each by itself.

    For each layer a solver looks for a weight V that is cheaper to store, with outputs near those
    of W on the calibration data: it lowers :math:`\mathrm{tr}((W - V) C (W - V)^T)`, C being the
    second moment of the inputs. Nothing is trained.

    Each layer is told in the log (``logging.getLogger("sparseprob")``, level INFO). Inside ``with
    distributed():`` each rank passes the same model and calibration data of its own; moments are
    summed over the ranks, layers are shared out by their cost, and every rank ends with the same
    model.

    Parameters
    ----------
    model : torch.nn.Module
        Any model; each layer is solved on its own device. Layers keep their type, half precision
        included. Linear layers comprise ``Conv1D`` of transformers.
    method : LayerSolver or str
        A solver, or the name of one with its default parameters: "magnitude", "wanda", "sparsegpt",
        "awp", "svd", "whitened_svd", "cospadi", "monarch", "kronecker", "dsformer".
    calibration : iterable or dict of str to LayerStats, default=None
        Batches, read as often as there are steps: mappings become ``model(**batch)``, tuples and
        lists ``model(*batch)``, anything else ``model(batch)``; see `calibration.collect_grams`,
        whose answer may be given instead. None suits methods that look at the weight alone.
    include, exclude : sequence of str, default=("*",), ("*head*", "*embed*")
        Patterns of the names of layers to be compressed, and of exceptions.
    module_types : tuple of type, default=(torch.nn.Linear,)
        Kinds of layers; ``torch.nn.Conv2d`` is seen as a matrix (out, in * height * width).
    overrides : dict of str to LayerSolver or str, default=None
        Other solvers for layers whose names match a pattern; the first match counts.
    mode : {"sequential", "one_shot"}, default="sequential"
        "sequential" goes through the layers in the order in which they are called, and calibrates
        each on what it will be given, the outputs of layers that are compressed already: better
        while errors are moderate, at a pass over the data for each tensor that feeds layers.
        "one_shot" calibrates all on the dense model: one pass, with the moments of all layers in
        memory.
    groups : list of list of str, default=None
        Names of layers that share one dictionary, for solvers that offer it (`CoSpaDi`).
    replace : {"dense", "module"}, default="dense"
        "dense" writes the new weight into the layer: any model goes on working, and its size in
        memory stays. "module" puts in a layer that stores only what is left, which models that
        read the weights of their layers themselves do not bear.
    inplace : bool, default=False
        Change the given model rather than a copy. When something fails it is left as it was.

    Returns
    -------
    model : torch.nn.Module
        The compressed model.
    report : CompressionReport
        Error and size of each layer, and what was skipped, why.

    Raises
    ------
    ValueError, TypeError
        Before any work, if names, parameters, weights and calibration do not fit together; with the
        name of the layer, if one cannot be solved.
    NotImplementedError
        If a convolution has groups.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch import compress
    >>> from sparseprob.torch.solvers import WandaPruner
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    >>> batches = [torch.randn(50, 8) for _ in range(4)]
    >>> smaller, report = compress(model, WandaPruner(sparsity=0.5), batches)
    >>> float((smaller[0].weight == 0).float().mean())
    0.5
    >>> [row.name for row in report.rows]
    ['0', '2']
    """
    checks.check_choice("mode", mode, _MODES)
    checks.check_choice("replace", replace, _REPLACE)
    solver, names = as_solver(method), (include, exclude, module_types)

    def planned(of):
        layers, skipped, ties = find_layers(of, *names)
        return _tasks(layers, solver, overrides, groups), skipped, ties

    tasks, skipped, ties = planned(model)
    _check(tasks, calibration, replace, inplace)
    calibration = _readable(calibration, mode)
    n_params = sum(parameter.numel() for parameter in model.parameters())
    if not inplace:
        model = copy_of(model)
        tasks, _, _ = planned(model)
    editor = ModelEditor(model, keep=inplace)
    try:
        rows = _run(editor, tasks, calibration, mode, replace)
        if replace == "module":
            _try(editor.model, calibration)
    except BaseException as error:
        editor.undo()
        if replace == "module" and isinstance(error, AttributeError):
            raise ValueError(
                f"The model cannot do with other modules in place of its layers ({error}): it "
                "reads their weights itself; use replace='dense' or exclude these layers."
            ) from error
        raise
    given = calibration is None or isinstance(calibration, Mapping)
    report = CompressionReport(
        rows, skipped, ties, n_params=n_params, mode="one_shot" if given else mode
    )
    return editor.model, report


def _run(editor, tasks, calibration, mode, replace):
    """Solve and write, step by step; return the rows of the report."""
    journal, rows = Journal(sum(len(task.layers) for task in tasks)), []
    for step, once in steps_in_order(editor.model, tasks, calibration, mode):
        stats = _stats(editor.model, step, calibration, once)
        solved = solve_all(step, stats, replace, journal)
        if mode == "one_shot":
            journal.warn()
        for task, results in zip(step, solved, strict=True):
            for layer, result in zip(task.layers, results, strict=True):
                editor.write(layer, result)
                rows.append(result.row)
    if mode == "sequential":
        journal.warn()
    return rows


def _stats(model, step, calibration, once):
    """Statistics of the modules of a step, by name."""
    if calibration is None or isinstance(calibration, Mapping):
        return calibration
    layers = [layer for task in step for layer in task.layers]
    modules = {name: module for layer in layers for name, module in layer.modules}
    stats = gather(model, calibration, modules, stop_early=once)
    check_called({layer.name: stats_of(layer, stats) for layer in layers})
    return stats


def _try(model, calibration):
    """Run the first batch, if there is one to be had."""
    if calibration is None or isinstance(calibration, Mapping | Iterator):
        return
    with mpi.errors_together(), evaluating(model, fused=True):
        for batch in islice(calibration, 1):
            call(model, batch)


# ---------------------------------------------------------------- the plan
def _tasks(layers, solver, overrides, groups):
    """Return what is to be solved: a task for each layer, or for each group."""
    if not isinstance(overrides, Mapping | None):
        raise TypeError(
            f"overrides must map patterns of names to solvers, got {type(overrides).__name__}."
        )
    others = {pattern: as_solver(other) for pattern, other in (overrides or {}).items()}
    by_name = {name: layer for layer in layers for name in layer.names}
    for pattern in others:
        if not any(fnmatchcase(name, pattern) for name in by_name):
            raise ValueError(
                f"The pattern {pattern!r} of overrides matches no layer; there are "
                f"{shown(list(by_name))}."
            )

    def solver_of(layer):
        matching = (o for p, o in others.items() if any(fnmatchcase(n, p) for n in layer.names))
        return next(matching, solver)

    grouped = [_group(names, by_name, solver_of) for names in groups or ()]
    taken = [id(layer) for task in grouped for layer in task.layers]
    if len(set(taken)) < len(taken):
        raise ValueError("A layer stands in groups twice; name each layer once.")
    alone = [Task(solver_of(layer), [layer]) for layer in layers if id(layer) not in taken]
    return [*grouped, *alone]


def _group(names, by_name, solver_of):
    if isinstance(names, str):
        raise TypeError(f"groups must hold lists of names of layers, got {names!r}.")
    for name in names:
        if name not in by_name:
            raise ValueError(
                f"groups names the layer {name!r}, which is not to be compressed; there are "
                f"{shown(list(by_name))}."
            )
    layers = [by_name[name] for name in names]
    solvers = {id(solver_of(layer)): solver_of(layer) for layer in layers}
    solver = next(iter(solvers.values()), None)
    if len(solvers) != 1 or not hasattr(solver, "solve_group"):
        raise ValueError(
            f"The group {list(names)!r} needs one solver that shares a dictionary between layers, "
            "such as CoSpaDi."
        )
    widths = {layer.shape[1] for layer in layers}
    if len(widths) > 1:
        raise ValueError(
            f"The layers of the group {list(names)!r} have {sorted(widths)} inputs; only layers "
            "with equally many inputs can share a dictionary."
        )
    return Task(solver, layers, grouped=True)


# ---------------------------------------------------------------- checks
def _check(tasks, calibration, replace, inplace):
    """Refuse what cannot be done, before any work."""
    layers = [layer for task in tasks for layer in task.layers]
    with mpi.errors_together():
        for layer in layers:
            checks.check_layer(layer)
            if replace == "module":
                checks.check_replaceable(layer, inplace)
        for task in tasks:
            _check_solver(task, calibration)
        _check_calibration(layers, calibration)
    checks.check_same_on_all_ranks(layers)


def _check_solver(task, calibration):
    with Journal(len(task.layers)).naming(task.layers[0].name):
        task.solver.check(task.shape)
    if calibration is None and task.solver.needs_calibration:
        raise ValueError(
            f"{type(task.solver).__name__} looks at the inputs of layers: give calibration data, "
            f"or use a method that needs none: {_NEED_NOTHING}."
        )


def _check_calibration(layers, calibration):
    if _are_stats(calibration):
        for name in (name for layer in layers for name, _ in layer.modules):
            if name not in calibration:
                raise ValueError(f"calibration has no statistics of layer {name!r}; collect them.")
    elif calibration is not None:
        check_batches(calibration)


def _are_stats(calibration):
    return (
        isinstance(calibration, Mapping)
        and len(calibration) > 0
        and all(isinstance(value, LayerStats) for value in calibration.values())
    )


def _readable(calibration, mode):
    """Return calibration data that can be read as often as the mode does."""
    if mode == "sequential" and isinstance(calibration, Iterator):
        warnings.warn(
            "calibration is an iterator, which can be read once: its batches are kept in memory. "
            "Pass a list or a DataLoader, or use mode='one_shot'.",
            UserWarning,
            stacklevel=3,
        )
        with mpi.errors_together():
            return list(calibration)
    return calibration
