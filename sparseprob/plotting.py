"""Pictures of fitted models: dictionaries, curves, inferred causes, regret, compression."""

import numpy as np

from ._arrays import to_numpy
from ._plotting_bandits import BatchDisplay, RegretDisplay
from ._plotting_compression import CompressionDisplay

__all__ = [
    "BatchDisplay",
    "CompressionDisplay",
    "DictionaryDisplay",
    "HistoryDisplay",
    "InferenceDisplay",
    "RegretDisplay",
]

_CURVES = {
    "lower_bound": "free energy per row (nats)",
    "noise_scale": "noise scale",
    "prior": "prior probability",
    "temperature": "temperature",
}


_FRAME = "#b9c9dc"


def _pyplot():
    """Import matplotlib when the first picture is drawn."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Plotting needs matplotlib, which is not installed; pip install 'sparseprob[plot]'."
        ) from error
    return plt


def _image_shape(n_features, image_shape):
    if image_shape is not None:
        if int(np.prod(image_shape)) != n_features:
            raise ValueError(
                f"image_shape must have {n_features} pixels, got {tuple(image_shape)}; "
                "give (height, width) of the rows of X."
            )
        return tuple(image_shape)
    side = round(n_features**0.5)
    return (side, side) if side**2 == n_features else (1, n_features)


def _mosaic(images, n_columns):
    """Tile images (n, height, width), each scaled to [-1, 1], with one pixel between."""
    n, height, width = images.shape
    n_rows = -(-n // n_columns)
    canvas = np.full((n_rows * (height + 1) + 1, n_columns * (width + 1) + 1), np.nan)
    for i, image in enumerate(images):
        top, left = (i // n_columns) * (height + 1) + 1, (i % n_columns) * (width + 1) + 1
        canvas[top : top + height, left : left + width] = image / max(np.abs(image).max(), 1e-300)
    return canvas


def _show(ax, image, **options):
    ax.imshow(image, cmap="gray", interpolation="nearest", **options)
    ax.set_facecolor(_FRAME)  # seen where the image is masked
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(color=_FRAME, linewidth=0.6)


class DictionaryDisplay:
    """The atoms of a dictionary as one mosaic; zero is middle grey, each atom has its own scale.

    Parameters
    ----------
    components : array of shape (n_components, n_features)
        The atoms.
    image_shape : tuple of int, default=None
        Height and width of an atom; None means square, or one line.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the mosaic.
    figure_ : matplotlib Figure
        Figure of the mosaic.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.plotting import DictionaryDisplay
    >>> display = DictionaryDisplay(np.eye(16)).plot()
    >>> display.ax_.images[0].get_array().shape
    (21, 21)
    """

    def __init__(self, components, *, image_shape=None):
        self.components, self.image_shape = components, image_shape

    @classmethod
    def from_estimator(cls, estimator, *, image_shape=None, ax=None, n_columns=None):
        """Show the atoms of a fitted estimator.

        Parameters
        ----------
        estimator : object with ``components_``
        image_shape : tuple of int, default=None
            Height and width of an atom; None means square, or one line.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        n_columns : int, default=None
            Atoms side by side; None makes the mosaic square.

        Returns
        -------
        display : DictionaryDisplay
        """
        display = cls(estimator.components_, image_shape=image_shape)
        return display.plot(ax=ax, n_columns=n_columns)

    def plot(self, *, ax=None, n_columns=None):
        """Draw the mosaic.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        n_columns : int, default=None
            Atoms side by side; None makes the mosaic square.

        Returns
        -------
        display : DictionaryDisplay
        """
        atoms = np.asarray(to_numpy(self.components), dtype=float)
        height, width = _image_shape(atoms.shape[1], self.image_shape)
        n_columns = n_columns or max(1, round((len(atoms) * height / width) ** 0.5))
        canvas = _mosaic(atoms.reshape(-1, height, width), n_columns)
        if ax is None:
            size = 6 / max(canvas.shape)
            plt = _pyplot()
            _, ax = plt.subplots(
                figsize=(canvas.shape[1] * size, canvas.shape[0] * size), layout="constrained"
            )
        _show(ax, np.ma.masked_invalid(canvas), vmin=-1, vmax=1)
        self.ax_, self.figure_ = ax, ax.figure
        return self


class HistoryDisplay:
    """Free energy and parameters over the iterations of a fit.

    Parameters
    ----------
    history : dict of array
        ``history_`` of an estimator.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One axes for each quantity that changed.
    figure_ : matplotlib Figure
        Figure of the curves.

    Examples
    --------
    >>> from sparseprob.plotting import HistoryDisplay
    >>> display = HistoryDisplay({"lower_bound": [-3.0, -2.0], "noise_scale": [2.0, 1.0]}).plot()
    >>> len(display.axes_)
    2
    """

    def __init__(self, history):
        self.history = history

    @classmethod
    def from_estimator(cls, estimator):
        """Show the history of a fitted estimator.

        Parameters
        ----------
        estimator : object with ``history_``

        Returns
        -------
        display : HistoryDisplay
        """
        return cls(estimator.history_).plot()

    def plot(self):
        """Draw one small curve for each quantity that changed.

        Returns
        -------
        display : HistoryDisplay
        """
        shown = {
            name: np.asarray(self.history[name], dtype=float)
            for name in _CURVES
            if name in self.history and (name == "lower_bound" or np.ptp(self.history[name]) > 0)
        }
        self.figure_, axes = _pyplot().subplots(
            1, len(shown), figsize=(3.2 * len(shown), 2.6), squeeze=False, layout="constrained"
        )
        self.axes_ = axes[0]
        for ax, (name, values) in zip(self.axes_, shown.items(), strict=True):
            ax.plot(np.arange(1, len(values) + 1), values, color="#1f5fa8", linewidth=1.8)
            ax.set(title=_CURVES[name], xlabel="iteration")
            ax.title.set_fontsize("medium")
            ax.grid(alpha=0.25)
            ax.spines[["top", "right"]].set_visible(False)
        self._keep_the_end_visible(shown)
        return self

    def _keep_the_end_visible(self, shown):
        """Leave out the steep start of the free energy, which would flatten the rest."""
        bound = shown.get("lower_bound")
        if bound is not None and len(bound) > 10:
            late = bound[len(bound) // 20 + 1 :]
            if np.ptp(late) > 0:
                self.axes_[0].set_ylim(
                    late.min() - 0.1 * np.ptp(late), late.max() + 0.1 * np.ptp(late)
                )


class InferenceDisplay:
    """For some rows: the data, the posterior mean, and the causes with their probabilities.

    Parameters
    ----------
    data, reconstructions : array of shape (n_rows, n_features)
        The rows, and their posterior means.
    components : array of shape (n_components, n_features)
        The atoms.
    marginals : array of shape (n_rows, n_components)
        Probability of each cause.
    image_shape : tuple of int, default=None
        Height and width of a row; None means square, or one line.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One line of axes for each row of data.
    figure_ : matplotlib Figure
        Figure of all rows.
    """

    def __init__(self, data, reconstructions, components, marginals, *, image_shape=None):
        self.data, self.reconstructions = data, reconstructions
        self.components, self.marginals = components, marginals
        self.image_shape = image_shape

    @classmethod
    def from_estimator(cls, estimator, X, *, image_shape=None, n_causes=6):
        """Infer rows with a fitted estimator and show them.

        Parameters
        ----------
        estimator : object with ``components_``, ``infer`` and ``reconstruct``
        X : array of shape (n_rows, n_features)
            A dozen rows make a page.
        image_shape : tuple of int, default=None
            Height and width of a row; None means square, or one line.
        n_causes : int, default=6
            Number of causes shown for each row, the most probable first.

        Returns
        -------
        display : InferenceDisplay
        """
        marginals = to_numpy(estimator.infer(X, top_k=1).marginals)
        if marginals.ndim == 3:  # probabilities of each of the values of an alphabet
            marginals = marginals[:, :, np.asarray(to_numpy(estimator.values)) != 0].sum(axis=2)
        means, atoms = to_numpy(estimator.reconstruct(X)), to_numpy(estimator.components_)
        display = cls(to_numpy(X), means, atoms, marginals, image_shape=image_shape)
        return display.plot(n_causes=n_causes)

    def plot(self, *, n_causes=6):
        """Draw the rows, two to a line where there are many.

        Parameters
        ----------
        n_causes : int, default=6
            Number of causes shown for each row, the most probable first.

        Returns
        -------
        display : InferenceDisplay
        """
        shape = _image_shape(self.data.shape[1], self.image_shape)
        n, n_causes = len(self.data), min(n_causes, self.components.shape[0])
        n_blocks = 2 if n > 6 else 1
        n_lines, width = -(-n // n_blocks), 2 + n_causes
        ratios = ([1.0] * width + [0.35]) * n_blocks
        self.figure_, self.axes_ = _pyplot().subplots(
            n_lines, len(ratios[:-1]), figsize=(0.82 * sum(ratios[:-1]), 1.02 * n_lines + 0.3),
            gridspec_kw={"width_ratios": ratios[:-1]}, squeeze=False, layout="constrained",
        )  # fmt: skip
        for ax in self.axes_.ravel():
            ax.set_axis_off()
        for i in range(n):
            block, line = divmod(i, n_lines)
            axes = self.axes_[line, block * (width + 1) : block * (width + 1) + width]
            self._draw_row(axes, i, shape, n_causes, titles=line == 0)
        return self

    def _draw_row(self, axes, i, shape, n_causes, titles):
        scale = np.abs(self.data[i]).max()
        pictures = [self.data[i], self.reconstructions[i]]
        for ax, picture in zip(axes, pictures, strict=False):
            ax.set_axis_on()
            _show(ax, picture.reshape(shape), vmin=-scale, vmax=scale)
        if titles:
            axes[0].set_title("row", fontsize=9)
            axes[1].set_title("mean", fontsize=9)
            heading = axes[2].annotate(
                "causes, with their probabilities", (0, 1.12), xycoords="axes fraction", fontsize=9
            )
            heading.set_in_layout(False)  # it may reach over the pictures to its right
        causes = np.argsort(-self.marginals[i], kind="stable")[:n_causes]
        for ax, h in zip(axes[2:], causes, strict=False):
            if self.marginals[i, h] >= 0.005:
                ax.set_axis_on()
                limit = np.abs(self.components[h]).max()
                _show(ax, self.components[h].reshape(shape), vmin=-limit, vmax=limit)
                ax.set_xlabel(f"{self.marginals[i, h]:.2f}", fontsize=8, labelpad=1)
