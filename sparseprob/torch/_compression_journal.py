"""What solvers say while a model is compressed: log lines, warnings, errors, with layers named."""

import logging
import warnings
from contextlib import contextmanager

_LOG = logging.getLogger("sparseprob")


class Journal:
    """Log of the layers that are done, and warnings to be given once for many layers.

    Parameters
    ----------
    n_layers : int
        Layers to be done.
    """

    def __init__(self, n_layers):
        self.n_layers, self.n_done = n_layers, 0
        self._warned: dict[tuple, list[str]] = {}

    def tell(self, row):
        """Log a layer that is done."""
        self.n_done += 1
        _LOG.info(
            "%s (%d x %d): %s, density %.3f, error %.3f, %.2f s",
            row.name or "the model", *row.shape, row.method, row.density, row.rel_error,
            row.seconds, extra={"n_done": self.n_done, "n_layers": self.n_layers},
        )  # fmt: skip

    @contextmanager
    def naming(self, name):
        """Let errors of a solver begin with the name of the layer, and keep its warnings."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                yield
            except (ValueError, TypeError, FloatingPointError) as error:
                raise type(error)(f"Layer {name!r}: {error}") from error
        for warning in caught:
            key = (warning.category, str(warning.message))
            self._warned.setdefault(key, []).append(name)

    def warn(self):
        """Give each warning once, with the first layer and the number of others."""
        for (category, message), names in self._warned.items():
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            warnings.warn(f"Layer {names[0]!r}{others}: {message}", category, stacklevel=4)
