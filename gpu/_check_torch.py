"""Layer solvers of the torch bridge: tensors on the CPU and on a GPU, and CuPy arrays.

`check_solvers()` yields rows for gpu/check.py.
"""

import cupy
import numpy as np
import torch
from _report import row

from sparseprob.torch import compress, solvers
from sparseprob.torch.calibration import LayerStats

SHAPE, N_TOKENS = (48, 64), 400
EXACT = 1e-4  # single against double precision, which differ by some 1e-6 on a CPU
CHOSEN = 1e-3  # of the error: choices of entries of nearly equal worth may go either way
MODULE = 1e-4  # products of single precision
SAME = 1e-5  # the same kernels; atomic sums of a product may come in another order
_CODES = {"max_iter": 5, "random_state": 0}
SOLVERS = {  # by name: a solver, and whether it chooses among entries again and again
    "MagnitudePruner": (solvers.MagnitudePruner(), False),
    "WandaPruner": (solvers.WandaPruner(), False),
    "WandaPruner, matrix": (solvers.WandaPruner(granularity="matrix"), False),
    "WandaPruner, 2:4": (solvers.WandaPruner(granularity="nm", nm="2:4"), False),
    "Refit": (solvers.Refit(solvers.WandaPruner()), False),
    "SparseGPTPruner": (solvers.SparseGPTPruner(), True),
    "SparseGPTPruner, 2:4": (solvers.SparseGPTPruner(granularity="nm", nm="2:4"), True),
    "AWP": (solvers.AWP(), True),
    "AWP, 2:4": (solvers.AWP(granularity="nm", nm="2:4"), True),
    "AWP, blocks": (solvers.AWP(granularity="block", block_size=8), True),
    "AWP, 4 bits": (solvers.AWP(sparsity=0.0, bits=4, group_size=16), True),
    "AWP, refit": (solvers.AWP(refit=True), True),
    "AWP, joint, from SparseGPT": (solvers.AWP(bits=4, group_size=16, init="sparsegpt"), True),
    "LowRank": (solvers.LowRank(0.4), False),
    "LowRank, plain": (solvers.LowRank(0.4, whiten=False), False),
    "CoSpaDi": (solvers.CoSpaDi(0.4, **_CODES), True),
    "CoSpaDi, plain, random": (
        solvers.CoSpaDi(0.4, whiten=False, init="random", **_CODES), True,
    ),
    "DSFormer": (solvers.DSFormer(0.4), True),
    "DSFormer, whitened": (solvers.DSFormer(0.4, whiten=True), True),
    "Monarch": (solvers.Monarch(0.4), False),
    "Monarch, whitened": (solvers.Monarch(0.4, whiten="block"), False),
    "Monarch, refitted": (solvers.Monarch(0.4, whiten="block", refit=True), False),
    "Kronecker": (solvers.Kronecker(n_terms=2), False),
    "BestOf": (solvers.BestOf([solvers.LowRank(0.4), solvers.CoSpaDi(0.4, **_CODES)]), True),
}  # fmt: skip


def difference(a, b):
    """Largest difference relative to the largest value."""
    a, b = (np.asarray(x.detach().cpu() if isinstance(x, torch.Tensor) else cupy.asnumpy(x))
            for x in (a, b))  # fmt: skip
    return float(np.abs(a - b).max() / np.abs(b).max())


def problem():
    """Return a weight, and inputs whose deviations spread over a hundredfold."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(SHAPE[1], SHAPE[1])) * np.logspace(0, -2, SHAPE[1])
    return rng.normal(size=SHAPE), rng.normal(size=(N_TOKENS, SHAPE[1])) @ mixing.T


def check_solvers():
    """Compress one layer by every solver on both devices; compare weights, errors, modules."""
    W, x = (torch.from_numpy(A).float() for A in problem())
    stats, on_gpu = LayerStats.of(x), LayerStats.of(x.cuda())
    yield row("LayerStats: GPU = CPU", difference(on_gpu.gram, stats.gram), 1e-5)
    arrays = LayerStats(cupy.from_dlpack(on_gpu.gram), None, on_gpu.n_tokens)
    for name, (solver, chooses) in SOLVERS.items():
        host, device = solver.solve(W, stats), solver.solve(W.cuda(), on_gpu)
        assert device.dense().is_cuda, f"{name} left the GPU"
        if chooses:
            errors = [s.relative_error(t) for s, t in ((device, on_gpu), (host, stats))]
            worst = abs(errors[0] - errors[1]) / errors[1]
            yield row(f"{name}: error, GPU = CPU", worst, CHOSEN)
        else:
            yield row(f"{name}: GPU = CPU", difference(device.dense(), host.dense()), EXACT)
        again = solver.solve(cupy.from_dlpack(W.cuda()), arrays).dense()
        assert isinstance(again, cupy.ndarray), f"{name} left CuPy"
        yield row(f"{name}: CuPy = torch on the GPU", difference(again, device.dense()), SAME)
        bias = torch.ones(SHAPE[0], device="cuda")
        found = device.to_module(bias)(x.cuda())
        expected = x.cuda().double() @ device.dense().double().T + 1
        yield row(f"{name}: module = weight", difference(found, expected), MODULE)
    yield from check_driver(x)


def check_driver(x):
    """Compress a network of three layers on both devices, one layer after the other."""
    torch.manual_seed(0)
    layers = (torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 64))
    model = torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Linear(64, 8))
    for mode in ("sequential", "one_shot"):
        reports = []
        for device in ("cpu", "cuda"):
            given = model.to(device)
            smaller, report = compress(given, solvers.LowRank(0.3), [x.to(device)], mode=mode)
            assert next(smaller.parameters()).device.type == device
            reports.append([line.rel_error for line in report.rows])
        worst = difference(torch.tensor(reports[1]), torch.tensor(reports[0]))
        yield row(f"compress, {mode}: errors of the layers, GPU = CPU", worst, EXACT)
