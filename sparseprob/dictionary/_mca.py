"""Maximal causes (J. Lücke, M. Sahani, 2008) and maximum magnitude causes (J. Bornschein, 2013)."""

import warnings

import numpy as np
from sklearn.utils._param_validation import StrOptions

from .. import mpi
from .._arrays import compute_dtype, compute_namespace, like, to_compute, to_numpy
from .._threads import over_chunks
from ._base import TruncatedSparseCoding
from ._max_model import MaxModel
from ._parameters import with_parameters

_NEGATIVE = 0.25  # share of the mass of X that may be negative without a warning


class _MaxCauses(TruncatedSparseCoding):
    """What both models with a maximum share."""

    _annealing = {"T": [(0, 4.0), (0.8, 1.0)]}
    _magnitude = False
    _parameter_constraints = {
        name: constraint
        for name, constraint in TruncatedSparseCoding._parameter_constraints.items()
        if name != "fit_offset"
    } | {"combination": [StrOptions({"auto", "soft", "hard"})], "monotone": ["boolean"]}

    def _make_model(self):
        return MaxModel(
            magnitude=self._magnitude, combination=self.combination, monotone=self.monotone,
            **self._model_options(),
        )  # fmt: skip

    def _parameter_attributes(self, params):
        return {
            "components_": params["components"],
            "prior_": float(params["prior"].sum()),
            "noise_scale_": float(params["noise_scale"]),
        }

    def _parameters(self):
        return {
            "components": to_numpy(self.components_).astype(np.float64),
            "prior": np.array([self.prior_]),
            "noise_scale": np.array(self.noise_scale_),
        }

    def inverse_transform(self, X):
        """Map codes to data space: at each feature, the winner of all ``s_h W_h``.

        That is the largest of them and 0, or, for maximum magnitude causes, the one of the largest
        magnitude. Binary codes give the noise-free rows of the model. Posterior means are mapped
        to something else than the posterior mean of the rows, which `reconstruct` gives.

        Parameters
        ----------
        X : array of shape (n_samples, n_components)

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
        """
        codes, W = to_compute(X), self._parameters()["components"]
        dtype = compute_dtype(X) if hasattr(X, "dtype") else codes.dtype
        W = compute_namespace(codes).asarray(W, dtype=dtype)
        return like(self._make_model().superposed(codes.astype(dtype), W), X)


@with_parameters(combination="auto", monotone=False)
class MaximalCausesAnalysis(_MaxCauses):
    r"""Sparse coding with positive causes of which the largest wins, learned by truncated EM.

    Where active causes meet, the data show the largest of them, not their sum:
    :math:`p(s_h = 1) = \pi`,
    :math:`p(y_d \mid s) = \mathcal N(y_d; \max_h s_h W_{dh}, \sigma^2)` with :math:`W \ge 0`.
    While the temperature is above 1 the maximum is softened to
    :math:`(\sum_h s_h W_{dh}^\rho)^{1/\rho}` with :math:`\rho = T / (T - 1)`. The posterior is
    computed over a truncated set of states: none, every single cause, and all combinations of at
    most `max_active` causes among `n_candidates` preselected for the row.

    Parameters
    ----------
    {parameters}
    combination : {"auto", "soft", "hard"}, default="auto"
        The exact maximum or the soft one; "auto" is soft while the temperature is above 1.
        "soft" has :math:`\rho = 21` at temperature 1.
    monotone : bool, default=False
        Move new atoms back towards the old ones while they let the free energy fall at the same
        temperature; an iteration then costs at least two E-steps.
    preselect : {"default", "joint"} or callable, default="default"
        Score that ranks the candidates: by how little a cause exceeds the row, joint probability
        of the single cause, or ``preselect(projections (n, H), context) -> scores (n, H)``.
    init : {"mean", "data"}, array of shape (n_components, n_features) or dict, default="mean"
        Initial atoms: the mean plus noise, random rows, or given, not negative; a dict may hold
        "components", "prior", "noise_scale".

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        The atoms, in the units of X; entries are at least 1e-4.
    prior_ : float
        Probability that a cause is active.
    noise_scale_ : float
        Standard deviation of the noise, in the units of X.
    {attributes}

    Warns
    -----
    UserWarning
        If more than a quarter of the mass of X is negative.

    See Also
    --------
    MaximumMagnitudeCausesAnalysis : For causes of both signs.

    Notes
    -----
    A new entry is the mean of the data that the cause explains, :math:`W_{dh} = \sum_n \langle
    A_{dh} \rangle y_d / \sum_n \langle A_{dh} \rangle` with :math:`A_{dh} = \partial
    \bar W_d / \partial W_{dh}`; causes tied at a hard maximum all count. This is a step of a
    fixed-point iteration: the free energy may fall now and then, see `monotone`.

    References
    ----------
    .. [1] J. Lücke, M. Sahani. "Maximal Causes for Non-linear Component Extraction". JMLR
       9:1227-1267, 2008.
    .. [2] G. Puertas, J. Bornschein, J. Lücke. "The Maximal Causes of Natural Scenes are Edge
       Filters". NIPS 23:1939-1947, 2010.

    Examples
    --------
    >>> from sparseprob.datasets import make_bars
    >>> from sparseprob.dictionary import MaximalCausesAnalysis
    >>> X = make_bars(300, model="max", random_state=0).data
    >>> model = MaximalCausesAnalysis(10, schedule="anneal", max_iter=40, tol=0, random_state=0)
    >>> model.fit_transform(X).shape
    (300, 10)
    """

    def _engine(self, X):
        engine = super()._engine(X)
        share = _negative_share(X, engine.options)
        if share > _NEGATIVE:
            warnings.warn(
                f"{share:.0%} of the mass of X is negative, where causes are positive; use "
                "MaximumMagnitudeCausesAnalysis for data of both signs.",
                UserWarning,
                stacklevel=3,
            )
        return engine


@with_parameters(combination="auto", monotone=False)
class MaximumMagnitudeCausesAnalysis(_MaxCauses):
    r"""Sparse coding in which the cause of the largest magnitude wins, learned by truncated EM.

    Where active causes meet, the data show the one of the largest magnitude, with its sign, as
    objects that occlude each other do: :math:`p(s_h = 1) = \pi`,
    :math:`p(y_d \mid s) = \mathcal N(y_d; W_{d h^*}, \sigma^2)` with
    :math:`h^* = \arg\max_h |s_h W_{dh}|`. While the temperature is above 1 the maximum is softened
    to the signed root of :math:`\sum_h s_h \,\mathrm{sign}(W_{dh}) |W_{dh}|^\rho`. The posterior
    is computed over a truncated set of states: none, every single cause, and all combinations of
    at most `max_active` causes among `n_candidates` preselected for the row.

    Parameters
    ----------
    {parameters}
    combination : {"auto", "soft", "hard"}, default="auto"
        The exact maximum or the soft one; "auto" is soft while the temperature is above 1.
        "soft" has :math:`\rho = 6` at temperature 1.
    monotone : bool, default=False
        Move new atoms back towards the old ones while they let the free energy fall at the same
        temperature; an iteration then costs at least two E-steps.
    preselect : {"default", "joint"} or callable, default="default"
        Score that ranks the candidates: the distance of the cause from the row, joint probability
        of the single cause, or ``preselect(projections (n, H), context) -> scores (n, H)``.
    init : {"mean", "data"}, array of shape (n_components, n_features) or dict, default="mean"
        Initial atoms: the mean plus noise, random rows, or given; a dict may hold "components",
        "prior", "noise_scale".

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        The atoms, in the units of X; magnitudes are at least 1e-4.
    prior_ : float
        Probability that a cause is active.
    noise_scale_ : float
        Standard deviation of the noise, in the units of X.
    {attributes}

    See Also
    --------
    MaximalCausesAnalysis : For positive causes.

    Notes
    -----
    A new entry is the mean of the data that the cause explains, damped where these are few. This
    is a step of a fixed-point iteration: the free energy may fall now and then, see `monotone`.

    References
    ----------
    .. [1] J. Bornschein, M. Henniges, J. Lücke. "Are V1 Simple Cells Optimized for Visual
       Occlusions? A Comparative Study". PLOS Comput Biol 9(6):e1003062, 2013.

    Examples
    --------
    >>> from sparseprob.datasets import make_bars
    >>> from sparseprob.dictionary import MaximumMagnitudeCausesAnalysis
    >>> X = make_bars(300, model="absmax", signed=True, random_state=0).data
    >>> model = MaximumMagnitudeCausesAnalysis(
    ...     10, schedule="anneal", max_iter=40, tol=0, random_state=0
    ... )
    >>> model.fit_transform(X).shape
    (300, 10)
    """

    _magnitude = True


def _negative_share(X, options):
    """Share of the negative entries in the sum of all magnitudes, over all ranks."""

    def take(start, Y, sums):
        xp = compute_namespace(Y)
        sums += to_numpy(
            xp.stack([xp.nansum(xp.minimum(Y, 0)), xp.nansum(abs(Y))]).astype(np.float64)
        )

    with mpi.errors_together():
        parts = over_chunks(take, X, options.batch_size, options.dtype, lambda: np.zeros(2))
    negative, total = mpi.row_sum(np.sum(parts, axis=0))
    return -negative / max(total, np.finfo(float).tiny)
