"""Compression on several ranks: each calibrates on batches of its own, all end with one model."""

import pytest
import torch
from numpy.testing import assert_allclose

PROGRAM = """
import sys
import torch
from torch import nn

from sparseprob import distributed
from sparseprob.mpi import n_ranks, rank
from sparseprob.torch import compress
from sparseprob.torch.calibration import collect_grams
from sparseprob.torch.solvers import CoSpaDi, MagnitudePruner, WandaPruner


class Routed(nn.Module):
    # two experts: which one is called depends on the batch; query and key share their input

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.query, self.key, self.out = (nn.Linear(6, 6) for _ in range(3))
        self.experts = nn.ModuleList(nn.Linear(6, 8) for _ in range(2))
        self.double()

    def forward(self, x):
        y = self.out(self.query(x) * self.key(x))
        return self.experts[int(x[0, 0] > 0)](y)


def run(mine, mode):
    found = {}
    for name, method, replace in [
        ("wanda", WandaPruner(sparsity=0.5), "dense"),
        ("modules", MagnitudePruner(sparsity=0.5), "module"),
        ("cospadi", CoSpaDi(n_atoms=4, n_nonzero=2, init="random", max_iter=2), "dense"),
    ]:
        small, report = compress(model, method, mine, mode=mode, replace=replace)
        rows = {row.name: (row.rel_error, row.n_tokens) for row in report.rows}
        found[name] = (small(batches[0]).detach(), rows)
    return found


def assert_same_everywhere(comm, found):
    for one in comm.allgather([outputs for outputs, _ in found.values()]):
        for (outputs, _), other in zip(found.values(), one, strict=True):
            assert torch.equal(outputs, other)


torch.manual_seed(1)
batches = list(torch.randn(7, 9, 6, dtype=torch.float64))
model = Routed()
with distributed() as comm:
    mine = batches[rank() :: n_ranks()]
    stats = collect_grams(model, mine)
    results = {"stats": {name: (s.gram, s.mean, s.n_tokens) for name, s in stats.items()}}
    results["one_shot"] = run(mine, "one_shot")
    results["sequential"] = run(mine, "sequential")
    results["idle"] = run(batches if rank() == 0 else [], "sequential")  # for the other ranks
    for mode in ("one_shot", "sequential", "idle"):
        assert_same_everywhere(comm, results[mode])
    if rank() == 0:
        torch.save(results, sys.argv[1])
"""


@pytest.mark.mpi
def test_ranks_end_with_the_model_of_one_process(mpiexec, tmp_path):
    found = {}
    for n in (1, 2, 3):
        mpiexec(n, PROGRAM, str(tmp_path / f"{n}.pt"))
        found[n] = torch.load(tmp_path / f"{n}.pt")
    for n in (2, 3):
        for name, (gram, mean, n_tokens) in found[1]["stats"].items():
            assert_allclose(found[n]["stats"][name][0], gram, rtol=1e-12, atol=1e-14)
            assert_allclose(found[n]["stats"][name][1], mean, rtol=1e-12, atol=1e-14)
            assert found[n]["stats"][name][2] == n_tokens
        for mode in ("one_shot", "sequential", "idle"):
            for name in ("wanda", "modules"):  # CoSpaDi draws its first atoms without a seed
                outputs, rows = found[1][mode][name]
                assert_allclose(found[n][mode][name][0], outputs, rtol=1e-10)
                assert found[n][mode][name][1].keys() == rows.keys()
                for layer, (error, n_tokens) in found[n][mode][name][1].items():
                    assert_allclose(error, rows[layer][0], rtol=1e-8)
                    assert n_tokens == rows[layer][1]


REFUSED = """
import torch
from sparseprob import distributed
from sparseprob.mpi import rank
from sparseprob.torch import compress
from sparseprob.torch.solvers import WandaPruner


def refused(batches, seed=0):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    try:
        compress(model, WandaPruner(sparsity=0.5), batches)
    except Exception as error:
        print("refused:", error, flush=True)


with distributed():
    good = [torch.ones(8, 4)]
    refused(good, seed=rank())
    refused(good if rank() else 3)
    refused([torch.ones(2, 5)] if rank() else good)
    refused([])
"""


@pytest.mark.mpi
def test_errors_of_one_rank_end_all(mpiexec):
    output = mpiexec(2, REFUSED).stdout
    for message in (
        "The ranks hold different models (layer '0')",
        "got int; put a single batch into a list",
        "shapes cannot be multiplied",
        "calibration holds no batches",
    ):
        assert output.count(message) == 2
    assert output.count("refused:") == 8
