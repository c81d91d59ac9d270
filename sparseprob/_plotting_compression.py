"""The picture of a compressed network: error and size of each layer."""

import numpy as np

__all__ = ["CompressionDisplay"]

_COLORS = ("#1f5fa8", "#c44e2c", "#0a8f8f", "#7a4fa3", "#d69a1e", "#6b6b6b", "#a83a6b", "#4f7f2b")
_LINE, _LEAST, _MOST = 0.17, 2.4, 14.0  # inches: of a layer, of the figure


class CompressionDisplay:
    """Relative error and size of each layer of a compressed network.

    Parameters
    ----------
    report : CompressionReport
        What `sparseprob.torch.compress` reports, or any object with ``rows`` that have ``name``,
        ``method``, ``rel_error``, ``error_of``, ``bits_before`` and ``bits_after``.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the errors.
    axes_ : ndarray of matplotlib Axes of shape (2,)
        Axes of the errors and of the sizes; the first layer is on top.
    figure_ : matplotlib Figure
        Figure of both.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from sparseprob.plotting import CompressionDisplay
    >>> row = SimpleNamespace(name="fc", method="AWP", rel_error=0.1, error_of="outputs",
    ...                       bits_before=512, bits_after=288)
    >>> display = CompressionDisplay(SimpleNamespace(rows=[row])).plot()
    >>> [float(bar.get_width()) for ax in display.axes_ for bar in ax.patches]
    [0.1, 0.5625]
    """

    def __init__(self, report):
        self.report = report

    def plot(self, *, axes=None):
        """Draw one bar for each layer and method.

        Parameters
        ----------
        axes : sequence of two matplotlib Axes, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        display : CompressionDisplay
        """
        rows = self.report.rows
        if axes is None:
            axes = _new_axes(len(rows))
        self.axes_ = np.asarray(axes)
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        errors = [row.rel_error for row in rows]
        sizes = [row.bits_after / row.bits_before for row in rows]
        kinds = " or ".join(sorted({row.error_of for row in rows}))
        self._draw(self.axes_[0], errors, f"relative error of {kinds}")
        self._draw(self.axes_[1], sizes, "size after / before")
        self.axes_[1].axvline(1, color="0.6", linestyle=":", linewidth=1)
        self.axes_[1].set_xlim(right=max(1.05, self.axes_[1].get_xlim()[1]))
        self._name_layers(self.axes_[0])
        self.axes_[1].set_yticks([])
        return self

    def _draw(self, ax, widths, label):
        rows, places = self.report.rows, np.arange(len(widths))
        methods = list(dict.fromkeys(row.method for row in rows))
        for i, method in enumerate(methods):
            mine = np.array([row.method == method for row in rows])
            color = _COLORS[i % len(_COLORS)]
            ax.barh(places[mine], np.asarray(widths)[mine], color=color, height=0.7, label=method)
        ax.set(xlabel=label, ylim=(len(widths) - 0.4, -0.6))
        ax.set_xlim(0, max(1e-3, 1.05 * max(widths, default=1.0)))
        ax.grid(axis="x", alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
        if ax is self.axes_[1] and len(methods) > 1:
            ax.figure.legend(
                *ax.get_legend_handles_labels(), loc="outside upper right", ncols=len(methods),
                fontsize="small", frameon=False,
            )  # fmt: skip

    def _name_layers(self, ax):
        """Write the names, without what all of them begin with."""
        names = [row.name or "(the model)" for row in self.report.rows]
        parts = [name.split(".") for name in names]
        n = 0
        while len(names) > 1 and all(len(p) > n + 1 and p[n] == parts[0][n] for p in parts):
            n += 1
        ax.set_yticks(range(len(names)), [".".join(p[n:]) for p in parts], fontsize="small")
        ax.tick_params(axis="y", length=0)
        if n:
            ax.set_ylabel(".".join(parts[0][:n]))


def _new_axes(n_rows):
    from .plotting import _pyplot

    height = min(max(_LINE * n_rows + 1, _LEAST), _MOST)
    _, axes = _pyplot().subplots(
        1, 2, figsize=(8.5, height), layout="constrained", width_ratios=(3, 2)
    )
    return axes
