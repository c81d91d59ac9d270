"""What compression did to each layer of a model."""

import html
from dataclasses import asdict, dataclass

VALUE_BITS = 16  # of a stored number, before and after


@dataclass(frozen=True)
class LayerRow:
    """One compressed layer.

    Parameters
    ----------
    name : str
        Name of the layer in the model.
    shape : tuple of int
        Numbers of outputs and inputs.
    method : str
        The solver.
    density : float
        Stored numbers over numbers of the weight.
    rel_error : float
        Relative error, of the outputs on the calibration data or of the weight.
    error_of : {"outputs", "weight"}
        Which error it is.
    bits_before, bits_after : int
        Size of the weight at 16 bits a number, and of what replaces it, positions included.
    seconds : float
        Time to solve the layer.
    n_tokens : int, default=None
        Inputs of the layer in the calibration data.
    """

    name: str
    shape: tuple[int, int]
    method: str
    density: float
    rel_error: float
    error_of: str
    bits_before: int
    bits_after: int
    seconds: float
    n_tokens: int | None = None


class CompressionReport:
    """What `compress` did: a row for each layer, totals, and what it left alone.

    Parameters
    ----------
    rows : list of LayerRow
        In the order in which the layers were compressed.
    skipped : dict of str to str, default=None
        Why a matrix was left as it is, by its name.
    tied : list of list of str, default=None
        Names of parameters that share one compressed weight.
    n_params : int, default=None
        Numbers in the whole model before; None counts the rows alone.
    mode : {"sequential", "one_shot"}, default="one_shot"
        Where the inputs came from.

    Examples
    --------
    >>> from sparseprob.torch import CompressionReport
    >>> from sparseprob.torch._compression_report import LayerRow
    >>> row = LayerRow("fc", (8, 4), "AWP", 0.5, 0.1, "outputs", 512, 288, 0.01)
    >>> print(CompressionReport([row]))
    layer  shape  method  density  error  bits after  seconds
    fc     8 x 4  AWP       0.500  0.100        0.56     0.01
    1 layer, 32 numbers: 0.56 of the bits, mean error 0.100 of outputs
    """

    def __init__(self, rows, skipped=None, tied=None, *, n_params=None, mode="one_shot"):
        self.rows, self.skipped, self.tied = list(rows), dict(skipped or {}), list(tied or [])
        self.n_params, self.mode = n_params, mode

    @property
    def totals(self):
        """Sizes, mean error and time over all rows, as a dict."""
        before = sum(row.bits_before for row in self.rows)
        after = sum(row.bits_after for row in self.rows)
        whole = before if self.n_params is None else VALUE_BITS * self.n_params
        n = max(len(self.rows), 1)
        return {
            "n_layers": len(self.rows),
            "bits_before": before,
            "bits_after": after,
            "model_bits_before": whole,
            "model_bits_after": whole - before + after,
            "density": _weighted(self.rows, "density"),
            "rel_error": sum(row.rel_error for row in self.rows) / n,
            "seconds": sum(row.seconds for row in self.rows),
        }

    def to_dict(self):
        """Return everything as numbers, text, lists and dicts, for JSON.

        Returns
        -------
        dict
            With the keys rows, totals, skipped, tied and mode.
        """
        return {
            "mode": self.mode,
            "rows": [asdict(row) | {"shape": list(row.shape)} for row in self.rows],
            "totals": self.totals,
            "skipped": self.skipped,
            "tied": [list(names) for names in self.tied],
        }

    def to_html(self):
        """Return the report as tables of HTML.

        Returns
        -------
        str
            A part of a page, without styles.
        """
        head, *lines = self._cells()
        rows = "".join(_html_row(line, "td") for line in lines)
        table = f"{_html_row(head, 'th')}{rows}"
        parts = [f'<table class="layers">{table}</table>', f"<p>{self._summary()}</p>"]
        notes = [html.escape(note) for note in self._notes()]
        if notes:
            parts.append(f"<ul>{''.join(f'<li>{note}</li>' for note in notes)}</ul>")
        return "\n".join(parts)

    def _repr_html_(self):
        return self.to_html()

    def __str__(self):
        cells = self._cells()
        widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        return "\n".join([*lines, self._summary(), *self._notes()])

    def __repr__(self):
        return f"<CompressionReport: {self._summary()}>"

    def _cells(self):
        head = ("layer", "shape", "method", "density", "error", "bits after", "seconds")
        return [head] + [
            (
                row.name or "(the model)",
                f"{row.shape[0]} x {row.shape[1]}",
                row.method,
                f"{row.density:.3f}",
                f"{row.rel_error:.3f}",
                f"{row.bits_after / row.bits_before:.2f}",
                f"{row.seconds:.2f}",
            )
            for row in self.rows
        ]

    def _summary(self):
        totals = self.totals
        n = totals["n_layers"]
        kinds = " and ".join(sorted({row.error_of for row in self.rows})) or "nothing"
        text = (
            f"{n} layer{'s' * (n != 1)}, {totals['bits_before'] // VALUE_BITS:,} numbers: "
            f"{totals['bits_after'] / max(totals['bits_before'], 1):.2f} of the bits, "
            f"mean error {totals['rel_error']:.3f} of {kinds}"
        )
        if self.n_params is not None:
            share = totals["model_bits_after"] / max(totals["model_bits_before"], 1)
            text += f"; whole model, {self.n_params:,} numbers: {share:.2f} of the bits"
        return text

    def _notes(self):
        skipped = [f"skipped {name}: {reason}" for name, reason in self.skipped.items()]
        return [*(f"tied: {' = '.join(names)}" for names in self.tied), *skipped]


def _weighted(rows, field):
    """Mean over rows, each weighing its numbers."""
    sizes = [row.shape[0] * row.shape[1] for row in rows]
    total = sum(s * getattr(row, field) for s, row in zip(sizes, rows, strict=True))
    return total / max(sum(sizes), 1)


def _html_row(cells, tag):
    inner = "".join(
        f"<{tag}{'' if i < 3 else ' class=number'}>{html.escape(cell)}</{tag}>"
        for i, cell in enumerate(cells)
    )
    return f"<tr>{inner}</tr>"
