"""What demo and learn leave behind: the model, pictures, and a report that any browser opens."""

import base64
import html
import logging
import sys
from datetime import datetime
from pathlib import Path

import numpy as np

from .. import __version__
from .._checkpoint import atomic_path

_CAPTIONS = {
    "atoms.png": "The learned atoms. Each has a grey scale of its own; middle grey is zero.",
    "learning_curve.png": "Free energy, a lower bound of the log-likelihood, and the parameters. "
    "While the temperature is above 1 the posterior is flattened on purpose.",
    "layers.png": "The relative error of each layer, and its size after over its size before.",
    "denoised.png": "Part of a photograph, with noise of 25 grey levels, and denoised.",
    "patches.png": "Some rows, their posterior means, and the causes inferred, with probabilities.",
}


def new_folder(path):
    """Make the folder of the results."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def show_progress(model, *callbacks):
    """Add a progress bar, or log lines where rich is missing, and other callbacks."""
    try:
        import rich  # noqa: F401 - what ProgressBar draws with

        from ..callbacks import ProgressBar

        model.set_callbacks(ProgressBar(), *callbacks)
    except ImportError:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
        model.set_params(verbose=1)
        if callbacks:
            model.set_callbacks(*callbacks)


def figures_of(model, n_samples):
    """Speed and parameters of a fit, as text."""
    seconds = float(np.median(model.history_["seconds"]))
    figures = {
        "points/s": f"{n_samples / seconds:,.0f}",
        "iterations": str(model.n_iter_),
        "free energy per row, last E-step (nats)": f"{model.lower_bound_:.3f}",
    }
    for name, label in (("prior_", "prior π"), ("noise_scale_", "noise scale σ")):
        if hasattr(model, name):
            figures[label] = _brief(np.ravel(getattr(model, name)))
    return figures


def _brief(values):
    """All numbers, or the range of many."""
    if len(values) > 6:
        return f"{values.min():.4g} to {values.max():.4g}"
    return " ".join(f"{value:.4g}" for value in values)


def save_model(model, path):
    """Write the fitted model so that ``joblib.load`` gives it back, on any machine, in one step."""
    import joblib

    from .. import move_estimator_to

    portable = move_estimator_to(model, np.empty(0))
    portable.__dict__.pop("_skl_callbacks", None)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        joblib.dump(portable, file)


def draw(model, folder, rows=None, image_shape=None):
    """Write the pictures; return their names and bytes, none of them if matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        print("No pictures: matplotlib is not installed; pip install 'sparseprob[plot]'.")
        return []
    matplotlib.use("Agg")
    from ..plotting import DictionaryDisplay, HistoryDisplay, InferenceDisplay

    displays = {
        "atoms.png": lambda: DictionaryDisplay.from_estimator(model, image_shape=image_shape),
        "learning_curve.png": lambda: HistoryDisplay.from_estimator(model),
    }
    if rows is not None and len(rows):
        displays["patches.png"] = lambda: InferenceDisplay.from_estimator(
            model, rows, image_shape=image_shape, n_causes=5
        )
    return [(name, _save(make().figure_, folder / name)) for name, make in displays.items()]


def draw_images(path, images):
    """Write grey images, by title, side by side; return name and bytes like `draw`."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return []
    figure, axes = plt.subplots(1, len(images), figsize=(9, 3.2), layout="constrained")
    for ax, (title, image) in zip(axes, images.items(), strict=True):
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.set_title(title)
        ax.set_axis_off()
    return [(path.name, _save(figure, path))]


def draw_compression(path, report):
    """Write the picture of a compression report; return name and bytes like `draw`."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    from ..plotting import CompressionDisplay

    return [(path.name, _save(CompressionDisplay(report).plot().figure_, path))]


def _save(figure, path):
    import matplotlib.pyplot as plt

    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
    plt.close(figure)
    return path.read_bytes()


# ---------------------------------------------------------------- report
def write_html(path, title, model, figures, pictures, introduction, *, more=""):
    """Write one self-contained page: no scripts, nothing fetched; `more` is HTML of its own."""
    page = _PAGE.format(
        title=html.escape(title),
        introduction=html.escape(introduction),
        figures=_table(figures),
        pictures="\n".join(_picture(*picture) for picture in pictures)
        or "<p>No pictures: matplotlib is not installed.</p>",
        more=more,
        parameters=_table(_parameters(model)),
        name=type(model).__name__,
        version=__version__,
        date=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    with atomic_path(path) as temporary:
        Path(temporary).write_text(page, encoding="utf-8")


def _parameters(model):
    parameters = {name: repr(value) for name, value in model.get_params(deep=False).items()}
    return {name: text if len(text) < 60 else text[:57] + "…" for name, text in parameters.items()}


def _table(entries):
    lines = (
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in entries.items()
    )
    return f"<table>{''.join(lines)}</table>"


def _picture(name, png):
    data, caption = base64.b64encode(png).decode(), html.escape(_CAPTIONS[name])
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f'<figure class="{Path(name).stem}">{image}<figcaption>{caption}</figcaption></figure>'


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c2530; --soft: #5c6976; --paper: #fbfbfa;
  --line: #d9dde1; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e7eaed; --soft: #9aa6b2; --paper: #14181d; --line: #2d353e; }}
}}
body {{ margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }}
main {{ max-width: 62rem; margin: 0 auto; padding: 3rem 1.5rem 4rem; }}
h1 {{ font-size: 1.9rem; line-height: 1.2; margin: 0 0 .6rem; letter-spacing: -.01em; }}
h2 {{ font-size: 1.1rem; margin: 2.6rem 0 .8rem; }}
p {{ max-width: 44rem; }}
figure {{ margin: 0 0 2.2rem; }}
figure img {{ max-width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 6px;
  padding: .6rem; box-sizing: border-box; }}
figure.atoms img {{ width: 36rem; }}
figcaption, footer {{ color: var(--soft); font-size: .9rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th {{ font-weight: 500; text-align: left; padding: .3rem 2.5rem .3rem 0; color: var(--soft); }}
td {{ text-align: right; padding: .3rem 0; }}
tr {{ border-bottom: 1px solid var(--line); }}
.layers th, .layers td {{ text-align: left; padding-right: 1.5rem; }}
.layers .number {{ text-align: right; }}
li {{ color: var(--soft); font-size: .9rem; }}
details td {{ font-family: ui-monospace, monospace; font-size: .85rem; }}
summary {{ cursor: pointer; }}
footer {{ margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{introduction}</p>
{figures}
<h2>Pictures</h2>
{pictures}
{more}
<details><summary>All parameters of {name}</summary>{parameters}</details>
<footer>sparseprob {version}, {date}</footer>
</main>
</body>
</html>
"""
