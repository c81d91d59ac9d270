"""Monarch layers against a dense layer of 4096 x 4096, and against what the device allows.

`monarch()` yields the rows of the table; ``python gpu/_torch_monarch.py`` prints them.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from _report import print_table, row

from sparseprob.torch.layers import MonarchLinear
from sparseprob.torch.solvers import Monarch

SIZE, BLOCKS = 4096, (4, 16, 64)
CASES = ((4096, torch.float32), (8192, torch.bfloat16))
FASTER_THAN_DENSE = 1.5  # with 4 blocks, batch 8192, bfloat16


def seconds(calls, rounds=5, repeats=20):
    """Return the shortest mean time of each call by the clock of the device, taking turns."""
    times = [[] for _ in calls]
    for call in calls * 3:
        call()
    for _ in range(rounds):
        for found, call in zip(times, calls, strict=True):
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record()
            for _ in range(repeats):
                call()
            ended.record()
            ended.synchronize()
            found.append(began.elapsed_time(ended) / repeats / 1e3)
    return [min(found) for found in times]


def rates(dtype):
    """Return bytes per second of a copy and operations per second of a product of this type."""
    A, B = torch.randn(2, 8192, 8192, device="cuda", dtype=dtype)
    C, source = torch.empty_like(A), torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy, product = seconds(
        [lambda: target.copy_(source), lambda: torch.mm(A, B, out=C)], repeats=5
    )
    return 2 * source.numel() / copy, 2 * 8192**3 / product


def minimum(layer, batch, dtype, bandwidth, speed):
    """Return the time of the layer's operations, or of reading and writing what it must."""
    factors = layer.left.numel() + layer.right.numel()
    n_bytes = (2 * batch * SIZE + factors) * dtype.itemsize
    operations = 2 * batch * factors
    return n_bytes, operations, max(n_bytes / bandwidth, operations / speed)


@torch.no_grad()
def forward_rows(batch, dtype):
    """Time layers of several numbers of blocks, as they are and compiled, and the dense one."""
    bandwidth, speed = rates(dtype)
    options = {"device": "cuda", "dtype": dtype}
    x, dense = torch.randn(batch, SIZE, **options), torch.nn.Linear(SIZE, SIZE, **options)
    layers = [MonarchLinear(SIZE, SIZE, n_blocks, **options) for n_blocks in BLOCKS]
    compiled = [torch.compile(layer, fullgraph=True) for layer in layers]
    of_dense, *found = seconds(
        [
            lambda f=f: f(x)
            for f in (dense, *(f for pair in zip(layers, compiled, strict=True) for f in pair))
        ]
    )
    kind = f"batch {batch}, {str(dtype).removeprefix('torch.')}"
    note = f"copy {bandwidth / 1e12:.2f} TB/s, product {speed / 1e12:.0f} TFLOP/s"
    yield row(f"dense {SIZE} x {SIZE}, {kind}", of_dense * 1e3, unit="ms", note=note)
    for n_blocks, layer, plain, fused in zip(BLOCKS, layers, found[::2], found[1::2], strict=True):
        n_bytes, operations, least = minimum(layer, batch, dtype, bandwidth, speed)
        what = f"Monarch, {n_blocks} blocks of rank {layer.block_rank}, {kind}"
        note = (f"{plain * 1e3:.3f} ms; at least {n_bytes / 1e6:.0f} MB, {operations / 1e9:.0f} "
                f"GFLOP: {least * 1e3:.3f} ms")  # fmt: skip
        yield row(f"{what}: time over its minimum", plain / least, note=note)
        note = f"{fused * 1e3:.3f} ms"
        yield row(f"{what}, compiled: time over its minimum", fused / least, note=note)
        wanted = n_blocks == 4 and dtype == torch.bfloat16
        target = FASTER_THAN_DENSE if wanted else None
        yield row(f"{what}: speed over dense", of_dense / plain, target, at_least=True)
        yield row(f"{what}, compiled: speed over dense", of_dense / fused, at_least=True)


def projection_rows():
    """Time the solver on one weight."""
    weight = torch.randn(SIZE, SIZE, device="cuda")
    for n_blocks in (4, "sqrt"):
        solver = Monarch(0.5, n_blocks=n_blocks)
        (took,) = seconds([lambda s=solver: s.solve(weight)], rounds=2, repeats=1)
        what = f"Monarch projection of {SIZE} x {SIZE}, n_blocks={n_blocks}"
        yield row(what, took, unit="s")


def monarch():
    """Yield all rows."""
    for batch, dtype in CASES:
        yield from forward_rows(batch, dtype)
    yield from projection_rows()


if __name__ == "__main__":
    print_table(list(monarch()), "Monarch layers")
