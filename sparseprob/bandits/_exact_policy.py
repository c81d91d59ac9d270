"""Base of the policies whose posterior is exact on all candidates."""

from ._exact_posterior import ExactPosterior, check_memory
from ._policy import Policy
from ._widths import MEMORY, igp, self_normalized, srinivas, width, width_options

_RULES = {"self-normalized": self_normalized, "srinivas": srinivas, "igp": igp}


class ExactPolicy(Policy):
    """Exact posterior, width after each feedback; a policy adds ``_select`` and ``_picked``."""

    _rules = _RULES
    _parameter_constraints: dict = Policy._parameter_constraints | {
        "beta": width_options(_RULES),
        "max_memory_mb": MEMORY,
    }

    def _start(self):
        max_bytes, name = self.max_memory_mb * 2**20, type(self).__name__
        if self.max_evals is not None:
            check_memory(self._candidates, self.max_evals, max_bytes, name)
        self._posterior = ExactPosterior(self._candidates, self._kernel, self._lam, max_bytes, name)
        self._begin_batch()

    def _begin_batch(self):
        """Forget what was counted of the batch before."""

    def _waiting(self):
        """Evaluations that count in the variances though their values are not known."""
        return self._ledger.unabsorbed_indices

    def _learn(self, indices, values, rebuild):
        ledger, waiting = self._ledger, self._waiting()
        if rebuild:
            self._posterior.rebuild(
                ledger.indices, ledger.points, ledger.counts, ledger.sums, waiting
            )
        else:
            self._posterior.learn(indices, values)
        if not len(waiting):
            self._begin_batch()
        self._beta = width(self, self._rules)

    def _logdet(self):
        """Twice the information that the evaluations carry, log det(I + K / lam)."""
        return self._posterior.logdet

    def _best_bound(self, width):
        """Return the candidate of the largest upper bound, its mean and leverage."""
        posterior, xp = self._posterior, self._candidates.xp
        bound = posterior.mean + width * xp.sqrt(posterior.leverage)
        index, _ = self._candidates.argmax(bound)
        return index, *posterior.of(index)

    def _size(self):
        return len(self._posterior.indices)

    def _posterior_at(self, X):
        return self._posterior.at(X)

    def _posterior_on_candidates(self):
        return self._posterior.mean, self._posterior.leverage
