"""``sparseprob denoise`` and ``sparseprob inpaint``: the user's own pictures."""

import argparse
from pathlib import Path

import numpy as np

from .._checkpoint import atomic_path
from . import _report

_GREY_LEVELS = 255


def add_parser(commands):
    """Add both commands to the parser."""
    denoise = _command(commands, "denoise", "remove white noise from a picture", run_denoise)
    denoise.add_argument(
        "--noise-scale", type=float, default=None,
        help="standard deviation of the noise in grey levels, 0 to 255; default: estimated",
    )  # fmt: skip
    inpaint = _command(commands, "inpaint", "fill in missing pixels of a picture", run_inpaint)
    inpaint.add_argument(
        "mask", metavar="MASK", type=Path,
        help="picture of the same size, white where pixels are missing",
    )  # fmt: skip


def _command(commands, name, text, run):
    parser = commands.add_parser(
        name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("image", metavar="IMAGE", type=Path, help="a picture, grey or colour")
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    parser.add_argument("--n-components", type=int, default=128, help="atoms of the dictionary")
    parser.add_argument("--size", type=int, default=8, help="width and height of a patch")
    parser.add_argument("--step", type=int, default=1, help="pixels between patches: 2 is faster")
    parser.add_argument("--max-iter", type=int, default=40, help="iterations of EM")
    parser.add_argument("--random-state", type=int, default=0, help="seed")
    parser.set_defaults(run=run)
    return parser


def run_denoise(options):
    """Denoise, write, say what was done."""
    from ..dictionary import estimate_noise

    kind_of_picture(options.output)
    image = read_image(options.image)
    scale = options.noise_scale
    scale = estimate_noise(image) if scale is None else scale / _GREY_LEVELS
    if not scale > 0:
        raise ValueError(
            f"--noise-scale must be positive, got {scale * _GREY_LEVELS:g}; there is nothing to "
            "remove from a picture without noise."
        )
    restored = restored_image(options, image, denoising_model(options, scale))
    write_image(restored, options.output)
    source = "estimated" if options.noise_scale is None else "given"
    print(f"noise {scale * _GREY_LEVELS:.1f} grey levels ({source}); written to {options.output}")


def run_inpaint(options):
    """Fill in, write, say what was done."""
    kind_of_picture(options.output)
    image, mask = read_image(options.image), read_image(options.mask, mode="L") > 0.5
    if mask.shape != image.shape[:2]:
        raise ValueError(
            f"MASK must have the size of IMAGE, {image.shape[:2]}, got {mask.shape}; resize it."
        )
    holes = np.where(mask if image.ndim == 2 else mask[:, :, None], np.nan, image)
    restored = restored_image(options, holes, inpainting_model(options))
    write_image(np.where(np.isnan(holes), restored, image), options.output)
    print(f"{int(mask.sum())} pixels ({mask.mean():.1%}) filled in; written to {options.output}")


def denoising_model(options, scale):
    """Make the model of patches with white noise of a known scale."""
    from ..dictionary import GaussianSparseCoding

    return GaussianSparseCoding(
        options.n_components, n_candidates=min(12, options.n_components), tol=0,
        init={"noise_variance": scale**2}, max_iter=options.max_iter,
        learn=("components", "prior", "slab"), random_state=options.random_state,
    )  # fmt: skip


def inpainting_model(options):
    """Make the model of patches with missing pixels."""
    from ..dictionary import GaussianSparseCoding

    return GaussianSparseCoding(
        options.n_components, missing="nan", tol=0, max_iter=options.max_iter,
        random_state=options.random_state,
    )  # fmt: skip


def restored_image(options, image, model):
    """Restore an image with a progress bar."""
    from ..dictionary import restore_image

    _report.show_progress(model)
    return restore_image(
        image, model, size=options.size, step=options.step, random_state=options.random_state
    )


def read_image(path, mode=None):
    """Read a picture as floats between 0 and 1, (height, width) or (height, width, 3)."""
    Image = _pillow()
    with Image.open(path) as picture:
        grey = picture.mode in ("1", "L", "LA", "I;16")
        return np.asarray(picture.convert(mode or ("L" if grey else "RGB"))) / _GREY_LEVELS


def write_image(image, path):
    """Write floats between 0 and 1 as a picture, in one step."""
    levels = np.round(np.clip(image, 0, 1) * _GREY_LEVELS).astype(np.uint8)
    with atomic_path(path) as temporary:
        _pillow().fromarray(levels).save(temporary, format=kind_of_picture(path))


def kind_of_picture(path):
    """Format that the name of a file asks for; refuses what could not be written."""
    kind = _pillow().registered_extensions().get(Path(path).suffix.lower())
    if kind is None:
        raise ValueError(
            f"--output must end in .png, .jpg or another kind of picture, got {str(path)!r}."
        )
    if not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f"The folder of {str(path)!r} does not exist; create it first.")
    return kind


def _pillow():
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Reading pictures needs pillow, which is not installed; pip install 'sparseprob[plot]'."
        ) from error
    return Image
