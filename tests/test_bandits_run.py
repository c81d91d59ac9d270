"""Runs of policies: executors, evaluations that fail or hang, interrupts, ranks."""

import logging
import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sparseprob.bandits import RandomPolicy
from sparseprob.bandits._executors import Guarded, Outcome, n_workers

X = np.random.default_rng(0).random((120, 2))


def hills(x):
    return float(np.sin(6 * x[0]) + np.cos(4 * x[1]))


def fails_at_the_left(x):
    if x[0] < 0.3:
        raise OSError("the simulation diverged")
    return hills(x)


def dies_below(x):
    if x[0] < 0.1:
        os._exit(3)
    return hills(x)


class Diverged(Exception):  # noqa: N818
    """An exception that pickles, and cannot be read back."""

    def __init__(self, step, residual):
        super().__init__(f"step {step}, residual {residual}")


def raises_diverged(x):
    raise Diverged(3, 1e9)


def policy(**options):
    return RandomPolicy(random_state=0, **({"batch_size": 5} | options)).initialize(X)


def steps(model):
    history = model.history_
    return np.array([history["batch"], history["index"], history["y"]])


class Mapper:
    """The least an executor can be."""

    map = staticmethod(map)


class FakeClient:
    """Looks like a dask client: the futures of `submit` are not those of concurrent.futures."""

    def __init__(self, pool):
        self.pool = pool

    def submit(self, f, x):
        raise AssertionError("not waited for by concurrent.futures")

    def get_executor(self):
        return self.pool


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2) as pool:
        yield pool


@pytest.mark.parametrize("kind", ["joblib", "stream", "threads", "processes", "map", "dask"])
def test_every_executor_takes_the_steps_of_the_plain_loop(kind, threads, processes):
    executor = {
        "joblib": joblib.Parallel(2, prefer="threads"),
        "stream": joblib.Parallel(2, prefer="threads", return_as="generator"),
        "threads": threads,
        "processes": processes,
        "map": Mapper(),
        "dask": FakeClient(threads),
    }[kind]
    plain = policy().run(hills, 23)
    assert_array_equal(steps(policy().run(hills, 23, executor=executor)), steps(plain))
    assert plain.n_evals_ == 23


def test_two_runs_take_the_steps_of_one():
    model = policy().run(hills, 9)  # two first ones, a batch of five, and two of the next
    assert len(model.pending_) == 0
    assert model.n_batches_ == 1
    model.run(hills, 14)
    assert_array_equal(steps(model), steps(policy().run(hills, 23)))


def test_what_is_pending_comes_first():
    model = policy().run(hills, 2)
    asked = model.ask(3)
    seen = []
    model.run(lambda x: seen.append(x) or hills(x), 5)
    assert_array_equal(np.array(seen)[:3], asked.X)
    assert len(seen) == 5
    assert_array_equal(steps(model), steps(policy().run(hills, 7)))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (np.nan, "returned nan"),
        (-np.inf, "returned -inf"),
        (None, "TypeError"),
        ("1.5", "must return a number, got '1.5'"),
        (np.ones(1), "must return a number"),
        (1j, "TypeError"),
    ],
)
def test_answers_that_are_no_numbers_fail(answer, reason, caplog):
    def f(x):
        return hills(x) if x[0] > 0.5 else answer

    with caplog.at_level(logging.WARNING, logger="sparseprob"):
        model = policy().run(f, 40)
    history = model.history_
    failed = X[history["index"], 0] <= 0.5
    assert 0 < failed.sum() < 40
    assert_array_equal(history["failed"], failed)
    assert_array_equal(history["y"][~failed], [hills(x) for x in X[history["index"][~failed]]])
    assert len(caplog.messages) == failed.sum()
    assert all(reason in message for message in caplog.messages)


@pytest.mark.parametrize("answer", [np.float32(2.5), np.array(2.5), 2.5, True])
def test_numbers_of_any_kind_are_taken(answer):
    assert policy().run(lambda x: answer, 3).history_["y"][0] == float(answer)


@pytest.mark.parametrize("kind", ["plain", "threads", "processes"])
def test_errors_are_recorded_and_the_run_goes_on(kind, threads, processes, caplog):
    executor = {"plain": None, "threads": threads, "processes": processes}[kind]
    with caplog.at_level(logging.WARNING, logger="sparseprob"):
        model = policy().run(fails_at_the_left, 42, executor=executor)
    assert_array_equal(model.history_["failed"], X[model.history_["index"], 0] < 0.3)
    assert model.n_evals_ == 42 - model.history_["failed"].sum() < 42
    assert "OSError: the simulation diverged" in caplog.messages[0]


def test_hanging_evaluations_are_given_up(threads):
    release = threading.Event()

    def f(x):
        if x[0] < 0.2:
            release.wait()
        return hills(x)

    for executor in (None, threads):
        model = policy().run(f, 20, executor=executor, timeout=0.2)
        assert_array_equal(model.history_["failed"], X[model.history_["index"], 0] < 0.2)
    release.set()


def test_a_fast_answer_is_not_held_up_by_the_timeout():
    with pytest.raises(KeyboardInterrupt):  # whatever it raises passes through the thread
        Guarded(lambda x: (_ for _ in ()).throw(KeyboardInterrupt), timeout=5)(X[0])
    assert Guarded(hills, timeout=5)(X[0]).value == hills(X[0])


@pytest.mark.parametrize("kind", ["plain", "threads", "processes"])
def test_a_hopeless_objective_ends_the_run(kind, threads, processes):
    executor = {"plain": None, "threads": threads, "processes": processes}[kind]
    with pytest.raises(RuntimeError, match="None of the first 2 evaluations gave a number") as info:
        policy().run(raises_diverged, 20, executor=executor)
    cause = info.value.__cause__
    assert "step 3, residual 1000000000.0" in str(cause)
    if kind == "processes":  # the frames have come along
        assert any("raises_diverged" in note for note in cause.__notes__)


def test_one_number_is_enough_to_go_on_until_many_fail_in_a_row():
    answers = iter([1.0] + [np.nan] * 100)
    model = policy(n_initial=3)
    with pytest.raises(RuntimeError, match="The last 32 evaluations failed; the last: ValueError"):
        model.run(lambda x: next(answers), 90)
    assert model.n_evals_ == 1
    assert model.run(hills, 10).n_evals_ == 11


def test_functions_that_cannot_be_pickled_are_reported(processes):
    with pytest.raises(RuntimeError, match="None of the first 2 .*ickl"):
        policy().run(lambda x: 1.0, 10, executor=processes)


def test_exceptions_that_cannot_be_pickled_travel_as_their_text():
    class Local(Exception):  # noqa: N818
        pass

    sent = Outcome(reason="Local: lost", error=Local("lost")).__getstate__()
    assert isinstance(sent["error"], RuntimeError)
    assert str(sent["error"]) == "Local: lost"


def interrupted_at(n, f=hills):
    """An objective that is interrupted once, at its n-th call."""
    calls = []

    def interrupted(x):
        calls.append(x)
        if len(calls) == n:
            raise KeyboardInterrupt
        return f(x)

    return interrupted


@pytest.mark.parametrize("n", [1, 4, 9])
def test_an_interrupted_run_goes_on_where_it_was(n, tmp_path):
    model = policy()
    with pytest.raises(KeyboardInterrupt):
        model.run(interrupted_at(n), 30)
    assert model.n_evals_ == n - 1
    assert len(model.pending_) > 0
    model.save(tmp_path / "policy.npz")
    expected = steps(policy().run(hills, 30))
    for again in (model, RandomPolicy.load(tmp_path / "policy.npz")):
        again.run(hills, 30 - again.n_evals_)
        assert_array_equal(steps(again), expected)


def test_an_interrupt_while_the_policy_changes_waits():
    import signal

    from sparseprob.bandits._run import _uninterrupted

    done = []

    def change():
        with _uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        change()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_killed_process_loses_nothing_that_was_measured():
    model = policy().run(hills, 12)
    with (
        ProcessPoolExecutor(1) as pool,
        pytest.raises(RuntimeError, match="The executor broke .* call run with a new executor"),
    ):
        model.run(dies_below, 100, executor=pool)
    history = model.history_
    told = ~np.isnan(history["y"])
    assert told.sum() == model.n_evals_ > 12
    assert not history["failed"].any()
    assert len(model.pending_) == (~told).sum() > 0
    n = len(history)
    model.run(hills, len(model.pending_))
    assert_array_equal(steps(model), steps(policy().run(hills, n)))


def test_callbacks_see_every_batch_and_stop_the_run():
    seen = []

    def callback(model):
        seen.append(model.n_evals_)
        return len(seen) == 3

    model = policy().run(hills, 50, callback=callback)
    assert seen == [2, 7, 12]
    assert len(model.history_) == 12


def test_the_budget_of_the_policy_ends_the_run():
    model = policy(max_evals=11).run(hills, 50)
    assert model.n_evals_ == 11
    assert_array_equal(model.batch_sizes_, [5, 4])


class Free(RandomPolicy):
    """Asks while evaluations are pending."""

    _asynchronous = True


def test_asynchronous_policies_keep_all_workers_busy():
    together = threading.Barrier(3, timeout=20)  # nobody gets through unless three are there

    def f(x):
        together.wait()
        return hills(x)

    model = Free(n_initial=3, random_state=0).initialize(X)
    with ThreadPoolExecutor(3) as pool:
        model.run(f, 30, executor=pool)
    assert model.n_evals_ == 30
    assert not model.history_["failed"].any()
    y = [hills(x) for x in X[model.history_["index"]]]
    assert_array_equal(model.history_["y"], y)


def test_asynchronous_policies_run_without_futures_too():
    for executor in (None, joblib.Parallel(2, prefer="threads"), Mapper()):
        model = Free(n_initial=3, random_state=0).initialize(X).run(hills, 12, executor=executor)
        assert model.n_evals_ == 12


def test_asynchronous_runs_survive_failures_and_finish_what_was_pending():
    model = Free(n_initial=3, random_state=0).initialize(X)
    model.run(hills, 3)
    waiting = [model.ask(1) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        model.run(fails_at_the_left, 40, executor=pool)
    assert len(model.history_) == 43
    assert len(model.pending_) == 0
    assert_array_equal(model.history_["index"][3:5], [int(b.indices[0]) for b in waiting])
    assert 0 < model.history_["failed"].sum() < 40


def test_an_asynchronous_run_that_breaks_keeps_what_was_measured():
    model = Free(n_initial=2, random_state=0).initialize(X).run(hills, 2)
    with (
        ProcessPoolExecutor(2) as pool,
        pytest.raises(RuntimeError, match="The executor broke"),
    ):
        model.run(dies_below, 100, executor=pool)
    assert 2 <= model.n_evals_ < 102
    assert len(model.pending_) == len(model.history_) - model.n_evals_ > 0
    assert model.run(hills, 10).n_evals_ > 10


def test_numbers_of_workers(threads, processes):
    assert n_workers(threads) == n_workers(processes) == 2
    assert n_workers(joblib.Parallel(3)) == 3
    assert n_workers(Mapper()) == os.cpu_count()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"f": 3}, TypeError, "f must be a function of a point, got 3"),
        ({"n_evals": 0}, ValueError, "n_evals must be a positive whole number, got 0"),
        ({"n_evals": 2.0}, ValueError, "n_evals must be a positive whole number"),
        ({"timeout": 0}, ValueError, "timeout must be a positive number of seconds or None"),
        ({"callback": 3}, TypeError, "callback must be a function of the policy"),
        ({"executor": 3}, TypeError, "executor must be None, a joblib.Parallel, or have"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        policy().run(**({"f": hills, "n_evals": 3} | options))


RANKS = """
import sys
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.bandits import RandomPolicy

X = np.random.default_rng(0).random((120, 2))
calls = []

def f(x):
    calls.append(x)
    if x[0] < 0.2:
        raise OSError("diverged")
    return float(np.sin(6 * x[0]) + np.cos(4 * x[1]))

def hopeless(x):
    raise OSError("hopeless")

if __name__ == "__main__":
    with distributed() as comm:
        policy = RandomPolicy(batch_size=7, random_state=0).initialize(X[row_slice(len(X))])
        policy.run(f, 40, callback=lambda p: comm.rank == 0 and p.n_evals_ > 25)
        total = comm.allreduce(len(calls))
        if comm.rank == comm.size - 1:
            np.savez(sys.argv[1], history=policy.history_, calls=total, own=len(calls))
        try:
            RandomPolicy(random_state=0).initialize(X[row_slice(len(X))]).run(hopeless, 9)
        except RuntimeError as error:
            print(f"rank {comm.rank}: {error}", flush=True)
"""


@pytest.mark.mpi
def test_ranks_share_the_evaluations_and_give_up_together(tmp_path, mpiexec):
    done = mpiexec(3, RANKS, "ranks.npz")
    found = np.load(tmp_path / "ranks.npz")
    model = policy(batch_size=7)
    model.run(lambda x: np.nan if x[0] < 0.2 else hills(x), 40, callback=lambda p: p.n_evals_ > 25)
    for name in ("index", "y", "failed", "batch"):
        assert_array_equal(found["history"][name], model.history_[name])
    assert found["calls"] == len(model.history_)
    assert found["own"] < 0.5 * found["calls"]
    assert done.stderr.count("diverged") == model.history_["failed"].sum() > 0
    assert done.stdout.count("None of the first 2 evaluations gave a number") == 3


WORKERS = """
import sys
import numpy as np
from mpi4py import MPI
from mpi4py.futures import MPICommExecutor
from sparseprob.bandits import RandomPolicy

def f(x):
    return float(np.sin(6 * x[0]) + np.cos(4 * x[1]))

if __name__ == "__main__":
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as pool:
        if pool is not None:
            X = np.random.default_rng(0).random((120, 2))
            policy = RandomPolicy(batch_size=5, random_state=0).initialize(X)
            policy.run(f, 23, executor=pool)
            np.save(sys.argv[1], policy.history_["y"])
"""


@pytest.mark.mpi
def test_mpi_workers_evaluate(tmp_path, mpiexec):
    mpiexec(3, WORKERS, "y.npy")
    assert_array_equal(np.load(tmp_path / "y.npy"), policy().run(hills, 23).history_["y"])


def test_torch_candidates_reach_the_objective_as_numpy_points():
    torch = pytest.importorskip("torch")
    model = RandomPolicy(batch_size=5, random_state=0).initialize(torch.from_numpy(X))
    model.run(hills, 12)
    assert_array_equal(model.history_["y"], policy().run(hills, 12).history_["y"])
