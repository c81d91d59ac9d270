"""The picture of a compressed network: what is drawn, not how it looks."""

from types import SimpleNamespace

import pytest
from numpy.testing import assert_allclose

from sparseprob.plotting import CompressionDisplay

plt = pytest.importorskip("matplotlib.pyplot")


def report(names=("net.a.fc", "net.b.fc", "net.b.out"), methods=("AWP", "LowRank", "AWP")):
    rows = [
        SimpleNamespace(
            name=name, method=method, rel_error=0.1 * i, error_of="outputs", bits_before=100,
            bits_after=50 + i,
        )
        for i, (name, method) in enumerate(zip(names, methods, strict=True), 1)
    ]  # fmt: skip
    return SimpleNamespace(rows=rows)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def bars(ax):
    """Width of the bar at each place."""
    return {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in ax.patches}


def test_bars_are_errors_and_sizes_in_the_order_of_the_layers():
    display = CompressionDisplay(report()).plot()
    errors, sizes = (bars(ax) for ax in display.axes_)
    assert_allclose([errors[i] for i in range(3)], [0.1, 0.2, 0.3])
    assert_allclose([sizes[i] for i in range(3)], [0.51, 0.52, 0.53])
    bottom, top = display.ax_.get_ylim()
    assert bottom > top  # the first layer is on top
    assert display.ax_.get_xlabel() == "relative error of outputs"
    assert display.axes_[1].get_xlim()[1] > 1


def test_methods_have_colors_and_a_legend_where_there_are_several():
    display = CompressionDisplay(report()).plot()
    colors = {}
    for bar in display.ax_.patches:
        colors.setdefault(bar.get_facecolor(), []).append(round(bar.get_y() + 0.35))
    assert sorted(colors.values()) == [[0, 2], [1]]
    legend = display.figure_.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["AWP", "LowRank"]
    one = CompressionDisplay(report(methods=["AWP"] * 3)).plot()
    assert not one.figure_.legends


@pytest.mark.parametrize(
    ("names", "shown", "common"),
    [
        (("net.a.fc", "net.b.fc", "net.b.out"), ["a.fc", "b.fc", "b.out"], "net"),
        (("a", "a.b", "a.c"), ["a", "a.b", "a.c"], ""),
        (("x.y.a", "x.y.b", "x.y.c"), ["a", "b", "c"], "x.y"),
        (("", "b", "c"), ["(the model)", "b", "c"], ""),
    ],
)
def test_names_are_shown_without_what_they_have_in_common(names, shown, common):
    ax = CompressionDisplay(report(names)).plot().ax_
    assert [label.get_text() for label in ax.get_yticklabels()] == shown
    assert ax.get_ylabel() == common


def test_given_axes_are_used():
    _, axes = plt.subplots(1, 2)
    display = CompressionDisplay(report(["fc"], ["AWP"])).plot(axes=axes)
    assert display.ax_ is axes[0]
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["fc"]
