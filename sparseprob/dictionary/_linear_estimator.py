"""What the estimators of linear models with discrete latents share: BSC, TSC, DSC."""

import numpy as np

from .._arrays import to_numpy
from ._base import TruncatedSparseCoding
from ._linear_model import LinearDiscreteModel


class LinearDiscreteCoding(TruncatedSparseCoding):
    """Base of the linear models: a subclass says its alphabet ``_values``, and whether it is tied.

    Where the non-zero values share one probability, ``prior_`` is that of being non-zero.
    """

    _tied = True

    def _make_model(self):
        return LinearDiscreteModel(
            self._values, tied=self._tied, fit_offset=self.fit_offset, **self._model_options()
        )

    def _parameter_attributes(self, params):
        return {
            "components_": params["components"],
            "prior_": self._prior_attribute(params["prior"]),
            "noise_scale_": float(params["noise_scale"]),
            "offset_": params["offset"],
        }

    def _parameters(self):
        return {
            "components": to_numpy(self.components_).astype(np.float64),
            "prior": self._prior_parameter(),
            "noise_scale": np.array(self.noise_scale_),
            "offset": to_numpy(self.offset_).astype(np.float64),
        }

    def _prior_attribute(self, prior):
        """Turn the probabilities (V,) of the non-zero values into what the user sees."""
        return float(prior.sum())

    def _prior_parameter(self):
        V = len(self._values)
        return np.full(V, self.prior_ / V)
