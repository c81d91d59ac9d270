"""Alternating projections, one rank after the other (P. Netrapalli et al., 2014)."""

import math

from ._blocks import LowRank
from ._filled import ThresholdSolver

_SETTLED = 0.1  # a stage ends when its falling threshold is this share of what stays


class AlternatingProjections(ThresholdSolver):
    """For each rank up to r: project M - S on it, and lower the threshold of S step by step."""

    def start(self):
        """Threshold the data by their largest singular value."""
        n, p = self.rows.n_rows, self.rows.shape[1]
        self.beta = 1 / (2 * (n * p) ** 0.25)
        self.remaining = self.decays()
        self.matrix, _ = self.made(self.low, math.inf)
        self.largest = float(self.svd.leading(self.matrix, 2)[0].s[0])
        self.enough = self.options.tol * self.summary.norm / (2 * (n * p) ** 0.5)
        self._restart()

    def _restart(self):
        """Begin at rank 1, with the next decay of the threshold."""
        self.gamma = self.remaining.pop(0)
        self.stage, self.t = 1, 0
        self.matrix, _ = self.made(LowRank.zeros(self.rows), self.beta * self.largest)

    def step(self):
        """Project, threshold; go to the next rank when this one has settled."""
        found, _ = self.svd.leading(self.matrix, min(self.stage + 5, self.svd.largest))
        self.low = found.truncated(self.stage)
        s = [float(x) for x in found.s[: self.stage + 1]] + [0.0]
        falling = self.gamma**self.t * s[self.stage - 1]
        self.threshold = self.beta * (s[self.stage] + falling)
        self.matrix, _ = self.made(self.low, self.threshold)
        self.objective = self.residual
        self.t += 1
        if self.residual <= self.options.tol or self.threshold < self.enough:
            self.finished = not (self.remaining and self.doubtful())
            if not self.finished:
                self._restart()
        elif falling < _SETTLED * s[self.stage] and self.stage < self.options.rank:
            self.stage, self.t = self.stage + 1, 0
