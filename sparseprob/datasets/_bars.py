"""The bars test (P. Földiák, Biological Cybernetics 64:165-170, 1990), with known causes."""

import numpy as np
from sklearn.utils import Bunch, check_random_state

_COMBINATIONS = ("linear", "max", "absmax")


def make_bars(
    n_samples=1000,
    size=5,
    *,
    p_bar=None,
    amplitude=10.0,
    noise=2.0,
    signed=False,
    model="linear",
    values=None,
    random_state=None,
):
    """Generate images in which horizontal and vertical bars appear independently.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of images.
    size : int, default=5
        Width and height of an image; there are ``2 * size`` bars.
    p_bar : float, default=None
        Probability that a bar appears; None means two bars per image on average.
    amplitude : float, default=10.0
        Brightness of a bar.
    noise : float, default=2.0
        Standard deviation of the Gaussian noise on every pixel.
    signed : bool, default=False
        Draw the sign of each bar in `components` at random.
    model : {"linear", "max", "absmax"}, default="linear"
        Where bars cross, pixels are the sum, the maximum, or the value of largest magnitude.
    values : sequence of float, default=None
        Non-zero values that an appearing bar takes with equal probability; None means 1.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    bunch : Bunch
        ``data`` (n_samples, size**2), ``components`` (2 * size, size**2) and ``states``
        (n_samples, 2 * size).

    Raises
    ------
    ValueError
        If `model` is unknown or `p_bar` is not a probability.

    References
    ----------
    .. [1] P. Földiák. "Forming sparse representations by local anti-Hebbian learning". Biological
       Cybernetics 64:165-170, 1990.

    Examples
    --------
    >>> from sparseprob.datasets import make_bars
    >>> bars = make_bars(100, random_state=0)
    >>> bars.data.shape, bars.components.shape, bars.states.shape
    ((100, 25), (10, 25), (100, 10))
    """
    if model not in _COMBINATIONS:
        raise ValueError(f"model must be one of {_COMBINATIONS}, got {model!r}.")
    n_bars = 2 * size
    p_bar = 2 / n_bars if p_bar is None else p_bar
    if not 0 <= p_bar <= 1:
        raise ValueError(f"p_bar must lie between 0 and 1, got {p_bar!r}.")
    rng = check_random_state(random_state)
    components = _bars(size) * amplitude
    if signed:
        components *= rng.choice([-1.0, 1.0], size=(n_bars, 1))
    states = (rng.uniform(size=(n_samples, n_bars)) < p_bar).astype(float)
    if values is not None:
        states *= rng.choice(np.asarray(values, dtype=float), size=states.shape)
    data = _superpose(states, components, model)
    data += rng.normal(scale=noise, size=data.shape)
    return Bunch(data=data, components=components, states=states)


def _bars(size):
    images = np.zeros((2 * size, size, size))
    lines = np.arange(size)
    images[lines, lines, :] = 1
    images[size + lines, :, lines] = 1
    return images.reshape(2 * size, size**2)


def _superpose(states, components, model):
    if model == "linear":
        return states @ components
    total = np.zeros((len(states), components.shape[1]))
    for s, component in zip(states.T, components, strict=True):
        part = np.outer(s, component)
        stronger = part > total if model == "max" else np.abs(part) > np.abs(total)
        total[stronger] = part[stronger]
    return total
