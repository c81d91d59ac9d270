"""What BBKB and BKB share: a sparse posterior that is redrawn, and picks by upper bounds."""

import warnings
from functools import wraps
from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from .. import mpi
from .._arrays import compute_namespace, to_numpy
from .._threads import one_blas_thread
from ._batch import BanditWarning
from ._candidate_scores import CandidateScores
from ._dictionary import draw
from ._policy import Policy
from ._sparse_posterior import SparsePosterior

_HOST_BYTES = 2048 * 2**20
_LONGEST = 4  # chains, in dimensions of the embedding, before the embedding is whitened anew
_LARGE = 5000  # points of a dictionary
_SMALL = 100


def _small_products(method):
    """Keep BLAS to one thread: those of small products wait for each other, and spin meanwhile."""

    @wraps(method)
    def alone(*args):
        with one_blas_thread():
            return method(*args)

    return alone


class SparsePolicy(Policy):
    """Base of the policies with a dictionary; they write `_rule` and `_width`."""

    _parameter_constraints = Policy._parameter_constraints | {
        "qbar": [Interval(Real, 0, None, closed="neither")],
        "exact_start": ["boolean"],
        "storage": [StrOptions({"auto", "dense", "stream"})],
        "max_memory_mb": [None, Interval(Real, 0, None, closed="neither")],
    }

    # ---- what a policy writes -------------------------------------------------------------------

    def _rule(self, start_leverage):
        """Whether the batch is complete with the pick of this leverage at the batch's start."""
        raise NotImplementedError

    def _width(self):
        """Width of the confidence intervals, before `beta_scale`."""
        raise NotImplementedError

    def _redraw_is_due(self):
        return True

    # ---- hooks ----------------------------------------------------------------------------------

    def _start(self):
        X = self._candidates.X
        self._model = SparsePosterior(self._kernel, self._lam)
        prior = self._kernel.diag(X) / self._lam
        self._scores = CandidateScores(X, prior, self.storage, self._max_bytes())
        self._n_draws = self._n_builds = self._n_fallbacks = 0
        self._has_warned_of_size = False
        self._n_covered = 0  # evaluated candidates that the dictionary holds; all, or some of them
        self._logdet, self._ratio_since_redraw, self._is_built = 0.0, 1.0, False
        self._start_batch()

    def _max_bytes(self):
        if self.max_memory_mb is not None:
            return self.max_memory_mb * 2**20
        if not self._candidates.is_on_gpu:
            return _HOST_BYTES / mpi.n_ranks()
        import cupy

        pool = cupy.get_default_memory_pool()
        return 0.5 * (cupy.cuda.runtime.memGetInfo()[0] + pool.free_bytes())

    def _start_batch(self):
        self._picks, self._start_leverages, self._ratio = [], {}, 1.0
        self._n_evaluated = len(self._ledger.indices)  # when the batch started
        self._pick_now, self._is_flushed, self._picked_in = None, False, self._batch
        if self._is_built:
            self._model.start_batch()
            self._scores.start_batch(keep=self._can_extend())

    def _can_extend(self):
        return self.exact_start and self._n_covered == len(self._ledger.indices)

    @_small_products
    def _select(self):
        row, value = self._scores.top(self._model, self._beta)
        index, _ = self._candidates.best_of_ranks(value, self._candidates.offset + row)
        return self._look_up(index)

    def _look_up(self, index):
        """Return a candidate with its mean and leverage, ready to be picked."""
        point = self._on_device(self._candidates.points([index]))
        xp, model = compute_namespace(point), self._model
        W, prior = model.rows(point), self._kernel.diag(point) / self._lam
        found = [W[0] @ self._weights, model.leverages(W, prior)[0]]
        found.append(model.leverages(W, prior, model.start_inverse)[0])
        mean, leverage, start_leverage = to_numpy(xp.stack(found)).tolist()
        self._pick_now = (index, W[0], start_leverage)
        return index, mean, leverage

    @_small_products
    def _picked(self, index):
        if self._pick_now is None or self._pick_now[0] != index:
            raise RuntimeError(f"Candidate {index} was not the one selected.")
        _, w, start_leverage = self._pick_now
        self._pick_now, self._picked_in = None, self._batch
        u = self._model.pick(w)
        self._scores.push(self._model, u, self._beta)
        self._picks.append(index)
        self._start_leverages[index] = start_leverage
        self._ratio += start_leverage
        self._ratio_since_redraw += start_leverage
        return bool(self._rule(start_leverage))

    @_small_products
    def _learn(self, indices, values, rebuild):
        ended = not self._picks or self._batch > self._picked_in
        if not self._is_built:
            self._build(np.ones(len(self._ledger.indices), dtype=bool))
            self._logdet = np.log(self._ledger.n_absorbed) * self._sum_of_leverages()
        else:
            self._gain(indices)
            if rebuild:
                self._build(self._draw())
            elif not (ended and self._redraw_is_due() and self._redraw()):
                self._take_in(indices, values)
        self._beta = float(self.beta_scale * self._width())
        pending = self._pending_points()
        self._weights = self._model.mean_weights(pending)
        self._scores.set_means(self._model, self._weights, self._beta)
        if ended:
            self._start_batch()
        else:
            self._is_flushed = True

    def _gain(self, indices):
        """Add to `logdet_` the leverages at the start of the batch of what was told."""
        unknown = [i for i in indices.tolist() if i not in self._start_leverages]
        known = dict(self._start_leverages)
        if unknown:  # measured elsewhere
            points = self._on_device(self._candidates.points(unknown))
            known |= zip(unknown, to_numpy(self._model.leverages_at(points)), strict=True)
        self._logdet += float(np.log1p([known[i] for i in indices.tolist()]).sum())

    def _sum_of_leverages(self):
        leverages = self._model.leverages_at(self._on_device(self._ledger.points))
        return float(self._ledger.counts @ to_numpy(leverages))

    def _posterior_at(self, X):
        return self._model.at(X, self._weights)

    def _posterior_on_candidates(self):
        return self._scores.mean, self._scores.leverages(self._model)

    def _size(self):
        return len(self._model.indices)

    # ---- the dictionary -------------------------------------------------------------------------

    def _draw(self):
        """Draw from all evaluated candidates; return which of them are kept."""
        ledger = self._ledger
        leverages = self._model.start_leverages(self._on_device(ledger.points))
        self._n_draws += 1
        kept, fallback = draw(
            ledger.indices, ledger.counts, to_numpy(leverages), self.qbar, self._seed, self._n_draws
        )
        self._n_fallbacks += fallback
        return kept

    def _redraw(self):
        """Draw a dictionary and take in the feedback; False if it is the same as before."""
        kept = self._draw()
        self._ratio_since_redraw = 1.0
        if np.array_equal(np.sort(self._ledger.indices[kept]), np.sort(self._model.indices)):
            return False
        if not (kept.all() and self._extend()):
            self._build(kept)
        return True

    def _build(self, kept):
        """Build posterior and scores from evaluated candidates, of which some are the dictionary.

        Pending evaluations count in the variances, as they were picked.
        """
        ledger, model = self._ledger, self._model
        points = self._on_device(ledger.points)
        xp = compute_namespace(points)
        model.build(
            ledger.indices[kept], points[xp.asarray(kept)], points, ledger.counts, ledger.sums
        )
        self._scores.build(model)
        self._is_built, self._n_builds = True, self._n_builds + 1
        self._n_covered = int(kept.sum())
        pending = self._pending_points()
        for w in model.rows(pending) if len(pending) else ():
            self._scores.push(model, model.pick(w), 0.0)
        self._warn_of_size(int(kept.sum()))

    def _extend(self):
        """Add the candidates that are new to a dictionary of all others; False if not possible."""
        model, scores, ledger = self._model, self._scores, self._ledger
        if self._is_flushed or scores.start is None:
            return False
        model.return_to_start()
        scores.return_to_start(model.n_start)
        model.forget_evaluated(self._n_evaluated)
        points = self._on_device(ledger.points)
        for slot in range(self._n_evaluated, len(points)):
            point = points[slot : slot + 1]
            column = model.extend(int(ledger.indices[slot]), point)
            if column is None:
                return False
            scores.add_column(model, point, column)
        picked = points[compute_namespace(points).asarray(ledger.slots(self._picks))]
        for w in model.rows(picked):
            scores.push(model, model.pick(w), 0.0)
        log = ledger.log
        values = self._inside(log["y"][log["batch"] == self._picked_in])
        model.learn(picked, values)
        self._n_covered = len(points)
        self._warn_of_size(len(points))
        return True

    def _take_in(self, indices, values):
        """Take in feedback without another dictionary."""
        model, ledger = self._model, self._ledger
        points = self._on_device(self._candidates.points(indices))
        model.learn(points, values)
        if model.n_chain > _LONGEST * max(model.n_components, 16) and not self._is_flushed:
            self._build(np.isin(ledger.indices, model.indices))

    def _warn_of_size(self, size):
        limit = min(max(self._candidates.total / 2, _SMALL), _LARGE)
        if size > limit and not self._has_warned_of_size:
            self._has_warned_of_size = True
            warnings.warn(
                f"The dictionary has {size} points for {self._candidates.total} candidates; raise "
                f"lam={self._lam:.3g} or lower qbar={self.qbar}, or use GPUCB, which is exact.",
                BanditWarning,
                stacklevel=2,
            )

    def _on_device(self, points):
        return self._candidates.xp.asarray(points)

    def _pending_points(self):
        return self._on_device(self._candidates.points(self._ledger.unabsorbed_indices))

    # ---- answers --------------------------------------------------------------------------------

    @property
    def logdet_(self):
        """The information of all evaluations so far, as the width takes it."""
        self._check_learned()
        return self._logdet

    @property
    def dictionary_indices_(self):
        """Numbers of the candidates that are the dictionary."""
        self._check_learned()
        return np.sort(self._model.indices)

    @property
    def n_dictionary_builds_(self):
        """How often the embedding was computed from scratch."""
        return self._n_builds

    @property
    def n_dictionary_fallbacks_(self):
        """How often a draw kept no candidate, so that the one of the largest weight was kept."""
        return self._n_fallbacks
