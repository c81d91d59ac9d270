"""Slow and obvious: moments of recorded inputs, layer after layer; and a solver of a user."""

from numbers import Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from torch import nn

from sparseprob.torch.layers import StructuredLinear
from sparseprob.torch.solvers import LayerSolution, LayerSolver


def second_moment(x):
    """C of rows, one outer product after the other."""
    rows = x.detach().double().reshape(-1, x.shape[-1])
    return sum(torch.outer(row, row) for row in rows) / len(rows)


def recorded(model, batches, name):
    """Inputs that one layer gets when the model runs."""
    found = []
    module = model.get_submodule(name)
    handle = module.register_forward_pre_hook(lambda _, args: found.append(args[0].clone()))
    with torch.no_grad():
        for x in batches:
            model(x)
    handle.remove()
    return torch.cat([x.reshape(-1, x.shape[-1]) for x in found])


class DividedLinear(StructuredLinear):
    """W = numerator / denominator."""

    def __init__(self, in_features, out_features, bias=True, **options):
        super().__init__(in_features, out_features, bias, **options)
        self.numerator = nn.Parameter(torch.ones(out_features, in_features, **options))
        self.register_buffer("denominator", torch.ones(in_features, **options))

    def dense_weight(self):
        return self.numerator / self.denominator

    def forward(self, x):
        return nn.functional.linear(x, self.dense_weight(), self.bias)


class DividedSolution(LayerSolution):
    def __init__(self, problem, denominator):
        super().__init__(problem)
        self._W, self._denominator = problem.W, denominator

    def _dense(self):
        return self._W / self._denominator

    @property
    def n_params(self):
        return self._W.size // 2

    def to_module(self, bias=None):
        module = DividedLinear(*self.shape[::-1], bias is not None).to(self._weight.dtype)
        module.numerator = nn.Parameter(self._tensor(self._W.copy()))
        module.denominator = self._tensor(self._denominator)
        if bias is not None:
            module.bias = nn.Parameter(bias.detach().clone())
        return module


class Divide(LayerSolver):
    """Divide each column by 1 + strength * C_jj: looks at the inputs, and is easy to follow."""

    _parameter_constraints = {"strength": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, strength=1.0, fail_at=None):
        self.strength, self.fail_at = strength, fail_at

    def _solve(self, problem):
        if self.fail_at == problem.shape:
            raise FloatingPointError("the solver met NaN.")
        return DividedSolution(problem, 1 + self.strength * problem.scales**2)


class Halve(LayerSolver):
    """Looks at the weight alone."""

    _needs_stats = False

    def _solve(self, problem):
        return DividedSolution(problem, np.full(problem.shape[1], 2.0, dtype=problem.W.dtype))
