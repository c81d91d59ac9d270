"""Online EM on batches of rows (O. Cappé, E. Moulines, JRSS-B 71:593-613, 2009)."""

import numpy as np

from ._statistics import Statistics
from ._truncated_em import EMState

_POWER, _DELAY, _WARM_UP = (
    0.6,
    2.0,
    1,
)  # step size (t + delay)^-power; batches before the first M-step


class OnlineStatistics:
    """Running statistics per row, and the parameters they led to.

    Parameters
    ----------
    seed : int
        For the initial parameters.
    params : dict, default=None
        Parameters to start from; None draws them from the first batch.
    """

    def __init__(self, seed, params=None):
        self.seed, self.params, self.n_batches, self.running = seed, params, 0, None

    def update(self, em):
        """Take in the rows of an engine; return the record of the batch."""
        if self.params is None:
            self.params = em.start(self.seed).params
        state = EMState(params=self.params, seed=self.seed, n_steps=self.n_batches)
        settings = {"T": 1.0, "data_cut": em.options.data_cut, "anneal_prior": 0.0, "partial": 0.0}
        statistics, _ = em.e_step(self.params, settings, state)
        n_rows = float(statistics["n_rows"])
        record = {
            "lower_bound": float(statistics["free_energy"]) / n_rows, "temperature": 1.0,
            "n_used": n_rows, **em.model.record(self.params),
        }  # fmt: skip
        if not np.isfinite(record["lower_bound"]):
            raise FloatingPointError("The free energy of the batch is not finite; rescale X.")
        mean = Statistics(statistics.shapes, buffer=statistics.buffer / n_rows)
        step = 1.0 if self.running is None else (self.n_batches + _DELAY) ** -_POWER
        self.running = mean if self.running is None else self.running.blended(mean, step)
        self.n_batches += 1
        if self.n_batches >= _WARM_UP:
            self.params = em.model.maximize(self.running, self.params, em.summary.variance.mean())
        return record
