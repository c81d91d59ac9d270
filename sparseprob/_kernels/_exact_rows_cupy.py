"""Rows of an exact posterior on many candidates, on the GPU."""

import cupy


def add_rows(R, weights, out):
    """Add the first rows of R (q, n), weighted, to out (n,) in place; weights live on the host."""
    if len(weights):
        out += cupy.asarray(weights) @ R[: len(weights)]
