"""The order in which layers are compressed: as they are called, together if fed by one tensor."""

from collections.abc import Mapping
from itertools import islice

from .. import mpi
from .calibration._collector import collect


def steps_in_order(model, tasks, calibration, mode):
    """Yield the tasks of each step, and whether their modules are called once in a run.

    Parameters
    ----------
    model : Module
    tasks : list of Task
    calibration : iterable, dict of LayerStats, or None
    mode : {"sequential", "one_shot"}
        A step of "one_shot" comprises all tasks.

    Yields
    ------
    tasks : list of Task
    once : bool
    """
    if mode == "one_shot" or calibration is None or isinstance(calibration, Mapping):
        yield tasks, False
        return
    leaders, calls = _probe(model, tasks, calibration)
    steps: dict[str, list] = {}
    for task in sorted(tasks, key=lambda task: _position(task, list(leaders))):
        first = min(_names(task), key=lambda name: _position_of(name, list(leaders)))
        steps.setdefault(leaders.get(first, first), []).append(task)
    for step in steps.values():
        yield step, all(calls.get(name) == 1 for task in step for name in _names(task))


def _names(task):
    return [name for layer in task.layers for name, _ in layer.modules]


def _position(task, order):
    return min(_position_of(name, order) for name in _names(task))


def _position_of(name, order):
    return order.index(name) if name in order else len(order)


def _probe(model, tasks, calibration):
    """Run the first batch: who is called, how often, and who is fed by the same tensor."""
    modules = {
        name: module for task in tasks for layer in task.layers for name, module in layer.modules
    }
    with mpi.errors_together():
        collector = collect(model, list(islice(calibration, 1)), modules, count_only=True)
    found = mpi.all_gather((collector.leaders, dict(collector.calls)))
    return next((pair for pair in found if pair[0]), ({}, {}))
