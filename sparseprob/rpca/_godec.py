"""GoDec: rank and number of outliers known (T. Zhou, D. Tao, 2011)."""

from ._blocks import LowRank
from ._filled import ThresholdSolver, difference


class GoDec(ThresholdSolver):
    """Alternate the best rank-r approximation of M - S and the `card` largest entries of M - L."""

    def start(self):
        """L is the truncated SVD of the data."""
        card = self.options.card
        total = self.rows.n_rows * self.rows.shape[1]
        self.card = round(card * total) if isinstance(card, float) else int(card)
        self._next = LowRank.zeros(self.rows)
        self.matrix = self.made(self._next, float("inf"))[0]

    def step(self):
        """Fit L, then choose the entries of S."""
        before, rank = self.low, self.options.rank
        found, _ = self.svd.leading(self.matrix, min(rank + 5, self.svd.largest))
        self.low = found.truncated(rank)
        self.threshold = self.kth_largest(self.low, self.card) if self.card else float("inf")
        self.matrix, _ = self.made(self.low, self.threshold)
        self.objective = self.residual
        moved = difference(self.low, before) / self.summary.norm
        self.finished = self.residual <= self.options.tol or moved <= self.options.tol
