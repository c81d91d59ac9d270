"""Gaussian Sparse Coding with spikes and slabs (A.-S. Sheikh, J. A. Shelton, J. Lücke, 2014)."""

import numpy as np
from sklearn.utils._param_validation import StrOptions

from .._arrays import compute_dtype, compute_namespace, like, to_compute, to_numpy
from ._base import TruncatedSparseCoding
from ._parameters import with_parameters
from ._slab_model import SlabModel


@with_parameters(
    noise="scalar",
    prior_covariance="diag",
    homogeneous_prior=False,
    normalize_components=True,
    learn=("components", "prior", "noise", "slab"),
)
class GaussianSparseCoding(TruncatedSparseCoding):
    r"""Linear sparse coding with spike-and-slab causes, learned by truncated EM.

    A cause is absent, or present with a Gaussian intensity: :math:`p(s_h = 1) = \pi_h`,
    :math:`z \sim \mathcal N(\mu, \Psi)`,
    :math:`p(y \mid s, z) = \mathcal N(y; W (s \odot z), \Sigma)`. Intensities are integrated out
    exactly. The posterior is computed over a truncated set of spikes: none, every single cause, and
    all combinations of at most `max_active` causes among `n_candidates` preselected for the row.

    Parameters
    ----------
    {parameters}
    noise : {"scalar", "diag", "full"}, default="scalar"
        Covariance of the noise: equal variances, a variance for each feature, or a full matrix.
    prior_covariance : {"diag", "full"}, default="diag"
        Covariance of the intensities: independent, or correlated, which is slower.
    homogeneous_prior : bool, default=False
        Give all causes the same prior probability.
    normalize_components : bool, default=True
        Scale atoms to unit length after the fit, and intensities to match; the model stays the
        same.
    preselect : {"default", "joint"} or callable, default="default"
        Score that ranks the candidates: likelihood of the single cause, its joint probability, or
        ``preselect(projections (n, H), context) -> scores (n, H)``.
    missing : {"nan"}, default=None
        "nan": NaN in X marks entries that were not observed; codes, bounds and learning use the
        others. Not with ``noise="full"``. None refuses NaN.
    init : {"mean", "data"}, array of shape (n_components, n_features) or dict, default="mean"
        Initial atoms: the mean plus noise, random rows, or given; a dict may hold "components",
        "prior" (of each cause, or one number), "noise_variance", "slab_mean", "slab_covariance".
        Initial priors are drawn so that about two causes are active.

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        The atoms, of unit length if `normalize_components`.
    prior_ : array of shape (n_components,) or float
        Probability that each cause is active; one number if `homogeneous_prior`.
    noise_variance_ : float or array of shape (n_features,) or (n_features, n_features)
        Variance of the noise; which of them depends on `noise`.
    slab_mean_ : array of shape (n_components,)
        Mean intensities of active causes.
    slab_covariance_ : array of shape (n_components,) or (n_components, n_components)
        Variances of the intensities, or their covariance if ``prior_covariance="full"``.
    {attributes}

    References
    ----------
    .. [1] A.-S. Sheikh, J. A. Shelton, J. Lücke. "A Truncated EM Approach for Spike-and-Slab Sparse
       Coding". JMLR 15:2653-2687, 2014.

    Examples
    --------
    >>> from sparseprob.datasets import make_bars
    >>> from sparseprob.dictionary import GaussianSparseCoding
    >>> X = make_bars(500, size=4, random_state=0).data
    >>> model = GaussianSparseCoding(8, max_iter=20, tol=0, random_state=0).fit(X)
    >>> model.transform(X).shape
    (500, 8)
    """

    _annealing = {"T": [(0, 4.0), (0.8, 1.0)]}
    _learnable = ("components", "prior", "noise", "slab")
    _parameter_constraints = {
        name: constraint
        for name, constraint in TruncatedSparseCoding._parameter_constraints.items()
        if name != "fit_offset"
    } | {
        "noise": [StrOptions({"scalar", "diag", "full"})],
        "prior_covariance": [StrOptions({"diag", "full"})],
        "homogeneous_prior": ["boolean"],
        "normalize_components": ["boolean"],
    }

    def _make_model(self):
        if self.missing is not None and self.noise == "full":
            raise ValueError(
                "missing='nan' needs noise='scalar' or 'diag', got noise='full'; each row would "
                "need an inverse of its own."
            )
        return SlabModel(
            noise=self.noise, correlated=self.prior_covariance == "full",
            homogeneous=self.homogeneous_prior, **self._model_options(),
        )  # fmt: skip

    def _parameter_attributes(self, params):
        W, mean, psi = (params[k] for k in ("components", "slab_mean", "slab_covariance"))
        prior, noise = params["prior"], params["noise_variance"]
        if self.normalize_components:
            length = np.linalg.norm(W, axis=1)
            length[length == 0] = 1.0
            W, mean = W / length[:, None], mean * length
            psi = psi * (length**2 if psi.ndim == 1 else np.outer(length, length))
        return {
            "components_": W,
            "prior_": float(prior.mean()) if self.homogeneous_prior else prior,
            "noise_variance_": float(noise) if noise.ndim == 0 else noise,
            "slab_mean_": mean,
            "slab_covariance_": psi,
        }

    def _parameters(self):
        names = ("components", "prior", "noise_variance", "slab_mean", "slab_covariance")
        params = {
            name: np.array(to_numpy(getattr(self, f"{name}_")), dtype=np.float64) for name in names
        }
        params["prior"] = np.broadcast_to(params["prior"], params["slab_mean"].shape)
        return params

    def inverse_transform(self, X):
        """Map codes to data space, ``codes @ components_``.

        Parameters
        ----------
        X : array of shape (n_samples, n_components)

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
        """
        codes = to_compute(X)
        dtype = compute_dtype(X) if hasattr(X, "dtype") else codes.dtype
        W = compute_namespace(codes).asarray(self._parameters()["components"], dtype=dtype)
        return like(codes.astype(dtype) @ W, X)

    def sample(self, n_samples=1):
        """Draw data, spikes and slabs from the model.

        Parameters
        ----------
        n_samples : int, default=1

        Returns
        -------
        X : array of shape (n_samples, n_features)
        spikes : array of shape (n_samples, n_components)
            1 where a cause is active, 0 elsewhere.
        slabs : array of shape (n_samples, n_components)
            Intensities, those of inactive causes included.
        """
        return super().sample(n_samples)
