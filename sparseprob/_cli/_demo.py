"""``sparseprob demo``: a dictionary of two photographs, a photograph denoised, and a report."""

import time
from pathlib import Path

import numpy as np

from . import _report
from ._models import MODELS, model_class

_SIZE, _N_TRAIN, _N_TEST, _N_ATOMS, _N_SHOWN = 16, 20_000, 4_000, 100, 12
_CROP, _NOISE = np.s_[200:328, 250:378], 25 / 255  # roof and sky of the temple


def add_parser(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo", help="learn a dictionary of photographs in less than a minute, with pictures"
    )
    parser.add_argument("--output", type=Path, default=Path("sparseprob_demo"), metavar="FOLDER")
    parser.add_argument("--model", choices=MODELS[:-1], default="gsc", help="default: %(default)s")
    parser.add_argument("--random-state", type=int, default=0)
    parser.set_defaults(run=run)


def run(options):
    """Learn, draw, report."""
    began = time.perf_counter()
    folder = _report.new_folder(options.output)
    train, test = _patches(options.random_state)
    model = _learned(options.model, train, options.random_state)
    figures = _figures(model, train, test)
    _report.save_model(model, folder / "model.joblib")
    pictures = _report.draw(model, folder, rows=_telling_rows(test))
    images, scores = _denoised(options.random_state)
    figures |= scores
    pictures += _report.draw_images(folder / "denoised.png", images)
    _report.write_html(
        folder / "report.html", "A dictionary of two photographs", model, figures, pictures, _INTRO
    )
    for name, value in figures.items():
        print(f"{name:<44} {value}")
    written = [*(name for name, _ in pictures), "model.joblib", "report.html"]
    print(f"written to {folder}{'/'}: {', '.join(written)}  ({time.perf_counter() - began:.0f} s)")


_INTRO = (
    f"{_N_TRAIN:,} patches of {_SIZE} × {_SIZE} pixels were cut at random out of two photographs, "
    "their means removed and their correlations reduced. Each patch is explained by a few atoms, "
    "plus noise. Below, a noisy photograph is cleaned by a model of its own patches."
)


def _patches(random_state):
    from ..datasets import ZCAWhitening, extract_patches, load_photographs

    n_patches = _N_TRAIN + _N_TEST
    patches = extract_patches(load_photographs(), n_patches, size=_SIZE, random_state=random_state)
    patches -= patches.mean(axis=1, keepdims=True)
    whitening = ZCAWhitening(retained_variance=0.5).fit(patches[:_N_TRAIN])
    white = whitening.transform(patches)
    return white[:_N_TRAIN], white[_N_TRAIN:]


def _learned(name, train, random_state):
    model = model_class(name)(
        _N_ATOMS, schedule="anneal", max_iter=60, tol=0, random_state=random_state
    )
    _report.show_progress(model)
    return model.fit(train)


def _denoised(random_state):
    """Images by title, and the PSNR of the noisy and of the denoised one."""
    from ..datasets import load_photographs
    from ..dictionary import GaussianSparseCoding, restore_image
    from ..metrics import peak_signal_to_noise_ratio

    truth = load_photographs()[0][_CROP]
    noisy = truth + _NOISE * np.random.default_rng(random_state).normal(size=truth.shape)
    model = GaussianSparseCoding(
        _N_ATOMS, init={"noise_variance": _NOISE**2}, learn=("components", "prior", "slab"),
        max_iter=30, tol=0, random_state=random_state,
    )  # fmt: skip
    _report.show_progress(model)
    clean = restore_image(noisy, model, random_state=random_state)
    before, after = (peak_signal_to_noise_ratio(truth, image) for image in (noisy, clean))
    images = {"photograph": truth, f"noisy, {before:.1f} dB": noisy,
              f"denoised, {after:.1f} dB": clean}  # fmt: skip
    return images, {"PSNR of the noisy photograph": f"{before:.2f} dB",
                    "PSNR of the denoised photograph": f"{after:.2f} dB"}  # fmt: skip


def _figures(model, train, test):
    error = ((test - model.reconstruct(test)) ** 2).sum()
    explained = 1 - error / ((test - test.mean(axis=0)) ** 2).sum()
    return _report.figures_of(model, len(train)) | {
        "free energy per held-out patch (nats)": f"{model.score(test):.3f}",
        "explained variance on held-out patches": f"{explained:.1%}",
    }


def _telling_rows(test):
    """A dozen patches of more than middling contrast: flat ones have no causes to show."""
    contrast = test.std(axis=1)
    return test[np.flatnonzero(contrast > np.median(contrast))[:_N_SHOWN]]
