"""Evaluations of an objective that may fail or hang: here, in threads, processes or MPI workers."""

import math
import os
import pickle
import queue
import threading
import traceback
from concurrent.futures import BrokenExecutor, as_completed
from dataclasses import dataclass

import joblib


@dataclass
class Outcome:
    """A number, or the reason why there is none."""

    value: float = math.nan
    reason: str | None = None
    error: BaseException | None = None

    def __getstate__(self):
        """Leave out an exception that another process could not read."""
        state = self.__dict__.copy()
        if self.error is not None:
            where = "".join(traceback.format_exception(self.error))
            try:
                state["error"] = pickle.loads(pickle.dumps(self.error))
            except Exception:  # noqa: BLE001 - exceptions of users are of any kind
                state["error"] = RuntimeError(self.reason)
            state["error"].add_note(where)  # the frames do not travel
        return state


class Guarded:
    """An objective as a function that never raises: ``Guarded(f, timeout)(x)`` is an `Outcome`."""

    def __init__(self, f, timeout=None):
        self.f, self.timeout = f, timeout

    def __call__(self, x):
        try:
            y = self.f(x) if self.timeout is None else _within(self.timeout, self.f, x)
            value = _number(y)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
            return Outcome(reason=f"{type(error).__name__}: {error}", error=error)
        return Outcome(value)


def _number(y):
    if isinstance(y, (str, bytes)) or getattr(y, "shape", None):
        raise TypeError(f"the objective must return a number, got {y!r}")
    value = float(y)
    if not math.isfinite(value):
        raise ValueError(f"the objective returned {value}")
    return value


def _within(timeout, f, x):
    """Return f(x), or raise TimeoutError and leave the thread that hangs behind."""
    answer: queue.SimpleQueue = queue.SimpleQueue()

    def work():
        try:
            answer.put((f(x), None))
        except BaseException as error:  # noqa: BLE001 - raised again below
            answer.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        y, error = answer.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError(f"no answer within {timeout:g} s") from None
    if error is not None:
        raise error
    return y


def evaluator(executor):
    """Return the function that evaluates points: ``(guarded, points) -> (position, Outcome)...``.

    Raises
    ------
    TypeError
        If the executor is of no known kind.
    """
    if executor is None:
        return _serial
    executor = as_pool(executor)
    for fits, way in _WAYS:
        if fits(executor):
            return lambda guarded, points: way(executor, guarded, points)
    raise TypeError(
        "executor must be None, a joblib.Parallel, or have a method submit (concurrent.futures, "
        f"MPIPoolExecutor, a dask client) or map, got {executor!r}."
    )


def as_pool(executor):
    """Return the concurrent.futures side of a dask client, other executors as they are."""
    return executor.get_executor() if hasattr(executor, "get_executor") else executor


def n_workers(executor):
    """Return how many evaluations an executor runs at a time, as far as it tells."""
    if isinstance(executor, joblib.Parallel):
        return joblib.effective_n_jobs(executor.n_jobs)
    for name in ("num_workers", "_max_workers"):
        found = getattr(executor, name, None)
        if found:
            return int(found)
    client = getattr(executor, "_client", None)  # of dask
    return sum(client.ncores().values()) if client is not None else os.cpu_count() or 1


def _serial(guarded, points):
    for position, x in enumerate(points):
        yield position, guarded(x)


def _joblib(executor, guarded, points):
    yield from enumerate(executor(joblib.delayed(guarded)(x) for x in points))


def _submitted(executor, guarded, points):
    """Yield outcomes as they come; what has not begun is canceled when the caller leaves."""
    futures = {}
    try:
        for position, x in enumerate(points):
            futures[executor.submit(guarded, x)] = position
        for future in as_completed(list(futures)):
            yield futures.pop(future), outcome_of(future)
    finally:
        for future in futures:
            future.cancel()


def _mapped(executor, guarded, points):
    yield from enumerate(executor.map(guarded, list(points)))


def outcome_of(future):
    """Return the outcome of a future; what did not reach the objective (pickling) fails too."""
    try:
        return future.result()
    except BrokenExecutor:
        raise
    except Exception as error:  # noqa: BLE001 - recorded like an error of the objective
        return Outcome(reason=f"{type(error).__name__}: {error}", error=error)


_WAYS = (
    (lambda executor: isinstance(executor, joblib.Parallel), _joblib),
    (lambda executor: hasattr(executor, "submit"), _submitted),
    (lambda executor: hasattr(executor, "map"), _mapped),
)
