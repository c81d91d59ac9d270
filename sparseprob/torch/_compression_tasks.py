"""Layers to be solved together, and their solutions, on one rank or on several."""

import copy
import time
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from .. import mpi
from ._compression_checks import check_module
from ._compression_report import VALUE_BITS, LayerRow
from ._layers_of_model import Layer
from .calibration._collector import device_of


@dataclass
class Task:
    """Layers that one call of a solver compresses: one, or a group with a shared dictionary."""

    solver: Any
    layers: list[Layer]
    grouped: bool = False

    @property
    def cost(self):
        """Work of the solver, up to a factor."""
        return sum(layer.shape[0] * layer.shape[1] ** 2 for layer in self.layers)

    @property
    def shape(self):
        """Shape of the weights, one below the other."""
        return sum(layer.shape[0] for layer in self.layers), self.layers[0].shape[1]

    def solutions(self, stats):
        """Solve; `stats` holds one LayerStats or None for each layer."""
        matrices = [layer.matrix for layer in self.layers]
        with device_of(matrices[0]), mpi.each_rank_alone():
            if self.grouped:
                return self.solver.solve_group(matrices, None if None in stats else stats)
            return [self.solver.solve(matrices[0], stats[0])]


@dataclass
class Result:
    """What becomes of a layer: another matrix, or modules in the order of its own."""

    row: LayerRow
    dense: Any = None
    modules: list = field(default_factory=list)

    def move(self, device):
        """Move to a device."""
        self.dense = None if self.dense is None else self.dense.to(device)
        self.modules = [module.to(device) for module in self.modules]
        return self


def stats_of(layer, stats):
    """Statistics of all modules that hold the weight of a layer, merged; None without any."""
    if stats is None:
        return None
    found = [stats[name] for name, _ in layer.modules]
    seen = [known for known in found if known.n_tokens != 0]
    return reduce(lambda a, b: a.merge(b), seen or found[:1])


def solve_all(tasks, stats, replace, journal):
    """Solve tasks, shared out between the ranks by their cost; every rank gets all results.

    Parameters
    ----------
    tasks : list of Task
    stats : dict of str to LayerStats or None
    replace : {"dense", "module"}
    journal : Journal

    Returns
    -------
    list of list of Result
        For each task, for each of its layers.
    """
    owners = _owners([task.cost for task in tasks])
    done = {}
    with mpi.errors_together():
        for i, task in enumerate(tasks):
            if owners[i] == mpi.rank():
                known = [stats_of(layer, stats) for layer in task.layers]
                done[i] = _solve(task, known, replace, journal)
    if mpi.n_ranks() == 1:
        return [done[i] for i in range(len(tasks))]
    return [_from_owner(done.get(i), owner, tasks[i]) for i, owner in enumerate(owners)]


def _owners(costs):
    """Rank that solves each task: the costly ones first, in turn."""
    owners = [0] * len(costs)
    for turn, i in enumerate(sorted(range(len(costs)), key=lambda i: -costs[i])):
        owners[i] = turn % mpi.n_ranks()
    return owners


def _from_owner(results, owner, task):
    """Send results, over the host, to the ranks that did not find them."""
    portable = None
    if owner == mpi.rank():
        portable = [result.move("cpu") for result in copy.deepcopy(results)]
    found = mpi.all_gather(portable)[owner]
    if owner == mpi.rank():
        return results
    devices = [layer.weight.device for layer in task.layers]
    return [result.move(device) for result, device in zip(found, devices, strict=True)]


def _solve(task, stats, replace, journal):
    began = time.perf_counter()
    with journal.naming(task.layers[0].name):
        solutions = task.solutions(stats)
    seconds = (time.perf_counter() - began) / len(task.layers)
    results = []
    for layer, solution, known in zip(task.layers, solutions, stats, strict=True):
        with journal.naming(layer.name), device_of(layer.weight):
            result = Result(_row(layer, solution, known, seconds))
            if replace == "dense":
                result.dense = solution.dense()
            else:
                result.modules = _stand_ins(layer, solution)
        journal.tell(result.row)
        results.append(result)
    return results


def _row(layer, solution, stats, seconds):
    d_out, d_in = layer.shape
    return LayerRow(
        layer.name,
        (d_out, d_in),
        solution.method,
        float(solution.density),
        float(solution.relative_error(stats)),
        "weight" if stats is None else "outputs",
        VALUE_BITS * d_out * d_in,
        int(solution.n_bits(VALUE_BITS)),
        seconds,
        None if stats is None else stats.n_tokens,
    )


def _stand_ins(layer, solution):
    """Return a module for each module of the layer; those of tied layers share their parts."""
    (_, first), *others = layer.modules
    made = solution.to_module(getattr(first, "bias", None))
    check_module(layer, made)
    shared = [*made.parameters(), *made.buffers()]
    own = getattr(made, "bias", None)
    memo = {id(part): part for part in shared if part is not own}
    return [made, *(copy.deepcopy(made, dict(memo)) for _ in others)]
