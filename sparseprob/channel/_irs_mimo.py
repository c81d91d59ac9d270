"""MIMO link through an intelligent reflecting surface (Y. He, G. Joseph, IEEE TSP, 2024)."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from .._arrays import compute_namespace, like, to_compute, to_numpy
from ._steering import angle_grid, check_count, steering_vectors
from ._symbols import complex_normal, qpsk_symbols

_N_PATHS = 3  # adjacent angles of a cluster
_DARK = 1e-5  # a pattern that reflects less than this norm tells nothing
_N_DRAWS = 100


class IRSChannel(NamedTuple):
    """A channel from mobile station to surface to base station.

    Parameters
    ----------
    ms_to_irs : ndarray of shape (n_irs, n_ms)
        Channel from the mobile station to the surface.
    irs_to_bs : ndarray of shape (n_bs, n_irs)
        Channel from the surface to the base station.
    coef : ndarray of shape (resolution, resolution, resolution)
        The sparse form: coefficients of surface, mobile station and base station angles, which
        the factors of :meth:`IRSMIMOLink.dictionaries` turn into received slabs.
    """

    ms_to_irs: np.ndarray
    irs_to_bs: np.ndarray
    coef: np.ndarray

    def cascaded(self, patterns):
        r"""Return the channel from mobile station to base station for patterns of the surface.

        Parameters
        ----------
        patterns : ndarray of shape (n_irs, n_patterns) or (n_irs,)
            Reflection of each element of the surface.

        Returns
        -------
        ndarray of shape (n_patterns, n_bs, n_ms) or (n_bs, n_ms)
            :math:`H_2 \operatorname{diag}(\theta_i) H_1` for each pattern.
        """
        return (self.irs_to_bs * np.asarray(patterns).T[..., None, :]) @ self.ms_to_irs


class Received(NamedTuple):
    """What the base station receives.

    Parameters
    ----------
    slabs : ndarray of shape (n_patterns, n_pilots, n_bs)
        The y that :class:`~sparseprob.recovery.KroneckerSBL` takes.
    noise_var : float
        Variance of the complex noise in it.
    """

    slabs: np.ndarray
    noise_var: float


class IRSMIMOLink:
    r"""Pilots from a mobile station over a reflecting surface to a base station.

    The base station receives :math:`H_2 \operatorname{diag}(\theta_i) H_1 X` for some patterns
    :math:`\theta_i` of the surface and pilots X. Few angles matter on each side; on a grid of R
    angles, differences of angles at the surface are R numbers as well, and the received slabs are
    :math:`x \times_1 D_1 \times_2 D_2 \times_3 D_3` with a tensor x whose support is a Kronecker
    product. Estimating the channel is sparse recovery under a Kronecker dictionary.

    Parameters
    ----------
    n_bs : int, default=16
        Antennas of the base station.
    n_ms : int, default=6
        Antennas of the mobile station.
    n_irs : int, default=256
        Elements of the surface.
    resolution : int, default=18
        Number R of grid angles.
    pilots : int or array of shape (n_ms, n_pilots), default=3
        Pilots sent for each pattern; a number draws QPSK pilots of unit power.
    patterns : int or array of shape (n_irs, n_patterns), default=6
        Patterns of the surface; a number draws entries :math:`\pm 1/\sqrt{n_\mathrm{irs}}`.
    random_state : int, RandomState instance or None, default=None
        Seed of the pilots and patterns drawn.

    Attributes
    ----------
    pilots : ndarray of shape (n_ms, n_pilots)
        Pilots, given or drawn.
    patterns : ndarray of shape (n_irs, n_patterns)
        Patterns, given or drawn.

    Raises
    ------
    TypeError
        If a count is not an int.
    ValueError
        If a count is too small, or pilots or patterns have the wrong shape or are not finite.

    References
    ----------
    .. [1] Y. He, G. Joseph. "Bayesian Algorithms for Kronecker-structured Sparse Vector Recovery
       With Application to IRS-MIMO Channel Estimation". IEEE Trans. Signal Processing, 2024.
    .. [2] Y. He, G. Joseph. "Structure-aware Sparse Bayesian Learning-based Channel Estimation
       for Intelligent Reflecting Surface-aided MIMO". ICASSP, 2023.

    Examples
    --------
    >>> from sparseprob.channel import IRSMIMOLink, channel_nmse
    >>> link = IRSMIMOLink(random_state=0)
    >>> channel = link.sample_channel(random_state=1)
    >>> received = link.measure(channel, snr_db=20, random_state=2)
    >>> received.slabs.shape, [D.shape for D in link.dictionaries()]
    ((6, 3, 16), [(6, 18), (3, 18), (16, 18)])
    >>> estimate = link.channel_from_coef(channel.coef)  # or the coef_ of KroneckerSBL
    >>> bool(channel_nmse(estimate, channel.cascaded(link.patterns)) < 1e-20)
    True
    """

    def __init__(
        self, n_bs=16, n_ms=6, n_irs=256, *, resolution=18, pilots=3, patterns=6, random_state=None
    ):
        self.n_bs, self.n_ms = check_count("n_bs", n_bs), check_count("n_ms", n_ms)
        self.n_irs = check_count("n_irs", n_irs)
        self.resolution = check_count("resolution", resolution, _N_PATHS)
        rng = check_random_state(random_state)
        if np.ndim(pilots) == 0:
            pilots = qpsk_symbols((self.n_ms, check_count("pilots", pilots)), random_state=rng)
            pilots = pilots / np.sqrt(self.n_ms)
        if np.ndim(patterns) == 0:
            size = (self.n_irs, check_count("patterns", patterns))
            patterns = rng.choice([-1.0, 1.0], size=size) / np.sqrt(self.n_irs)
        self.pilots = _check_matrix("pilots", pilots, self.n_ms, "n_ms")
        self.patterns = _check_matrix("patterns", patterns, self.n_irs, "n_irs")

    def dictionaries(self):
        r"""Return the three factors of the dictionary.

        Returns
        -------
        list of ndarray
            :math:`D_1 = \Theta^\top (a_\mathrm{irs}(\psi_0) \circ \bar A_\mathrm{irs})` of shape
            (n_patterns, resolution), :math:`D_2 = X^\top \bar A_\mathrm{ms}` of shape (n_pilots,
            resolution) and :math:`D_3 = A_\mathrm{bs}` of shape (n_bs, resolution).
        """
        D1 = self._surface(self.patterns)
        return [D1, self.pilots.T @ self._array(self.n_ms).conj(), self._array(self.n_bs)]

    def sample_channel(self, *, random_state=None):
        """Draw a channel with a cluster of paths at the surface and at the base station.

        Paths leave the mobile station at one angle and the surface at one angle; at the surface
        and at the base station they arrive at three adjacent angles with gains CN(0, 1). A channel
        that one of the patterns leaves dark is drawn again.

        Parameters
        ----------
        random_state : int, RandomState instance or None, default=None
            Seed.

        Returns
        -------
        IRSChannel
            Both parts of the channel, and its coefficients.

        Raises
        ------
        ValueError
            If a pattern leaves every channel dark.
        """
        rng = check_random_state(random_state)
        for _ in range(_N_DRAWS):
            channel = self._draw_channel(rng)
            norms = np.linalg.norm(channel.cascaded(self.patterns), axis=(1, 2))
            if norms.min() >= _DARK:
                return channel
        raise ValueError(
            f"Pattern {int(norms.argmin())} reflected nothing in {_N_DRAWS} channels drawn; "
            "choose other patterns, or draw others with another random_state."
        )

    def _draw_channel(self, rng):
        R, paths = self.resolution, np.arange(_N_PATHS)
        ms_angle, departure = rng.randint(R, size=2)
        at_irs, at_bs = (paths + rng.randint(R - _N_PATHS + 1) for _ in range(2))
        irs_gains = np.sqrt(self.n_ms * self.n_irs / _N_PATHS) * complex_normal(rng, _N_PATHS)
        bs_gains = np.sqrt(self.n_bs * self.n_irs / _N_PATHS) * complex_normal(rng, _N_PATHS)
        A_irs = self._array(self.n_irs)
        H1 = np.outer(A_irs[:, at_irs] @ irs_gains, self._array(self.n_ms)[:, ms_angle].conj())
        H2 = np.outer(self._array(self.n_bs)[:, at_bs] @ bs_gains, A_irs[:, departure].conj())
        coef = np.zeros((R, R, R), dtype=complex)
        # Column j of D1 has the phases of the difference ψ_0 - ψ_j, here of arrival and departure.
        coef[((departure - at_irs) % R)[:, None], ms_angle, at_bs] = np.outer(irs_gains, bs_gains)
        return IRSChannel(H1, H2, coef)

    def measure(self, channel, snr_db=np.inf, *, random_state=None):
        """Receive the pilots through a channel, with noise.

        Parameters
        ----------
        channel : IRSChannel
            Of :meth:`sample_channel`, or of your own.
        snr_db : float, default=inf
            Mean power of the noiseless slabs over the variance of the noise, in decibels; infinity
            means no noise.
        random_state : int, RandomState instance or None, default=None
            Seed of the noise.

        Returns
        -------
        Received
            Slabs and the variance of their noise.

        Raises
        ------
        ValueError
            If `snr_db` is NaN or minus infinity.
        """
        if not snr_db > -np.inf:
            raise ValueError(f"snr_db must be a number of decibels or infinity, got {snr_db!r}.")
        slabs = (channel.cascaded(self.patterns) @ self.pilots).swapaxes(1, 2)
        noise_var = float(np.mean(np.abs(slabs) ** 2)) * 10 ** (-snr_db / 10)
        noise = complex_normal(check_random_state(random_state), slabs.shape)
        return Received(slabs + np.sqrt(noise_var) * noise, noise_var)

    def channel_from_coef(self, coef, patterns=None):
        """Return the channels that coefficients stand for.

        Parameters
        ----------
        coef : array of shape (resolution, resolution, resolution)
            Coefficients, for example ``coef_`` of :class:`~sparseprob.recovery.KroneckerSBL`.
        patterns : array of shape (n_irs, n_patterns), default=None
            Patterns of the surface; None means those the link was measured with. Others predict
            what the surface could do.

        Returns
        -------
        array of shape (n_patterns, n_bs, n_ms)
            One channel per pattern, in the library and precision of `coef`.

        Raises
        ------
        ValueError
            If a shape is wrong.
        """
        x, R = to_compute(coef), self.resolution
        if x.shape != (R, R, R):
            raise ValueError(f"coef must have shape {(R, R, R)}, got {x.shape}.")
        if patterns is not None:
            patterns = _check_matrix("patterns", to_numpy(patterns), self.n_irs, "n_irs")
        D1 = self._surface(self.patterns if patterns is None else patterns)
        xp = compute_namespace(x)
        dtype = np.complex64 if x.dtype in (np.float32, np.complex64) else np.complex128
        A_bs, A_ms = self._array(self.n_bs), self._array(self.n_ms)
        factors = [xp.asarray(A, dtype=dtype) for A in (D1, A_bs, A_ms.conj())]
        H = xp.einsum("ijk,pi,bk,mj->pbm", x.astype(dtype), *factors, optimize=True)
        return like(H, coef)

    def _array(self, n_antennas):
        return steering_vectors(n_antennas, angle_grid(self.resolution))

    def _surface(self, patterns):
        A = self._array(self.n_irs)
        return patterns.T @ (A[:, :1] * A.conj())


def _check_matrix(name, value, n_rows, meaning):
    A = np.asarray(value)
    if A.ndim != 2 or len(A) != n_rows or A.shape[1] < 1:
        raise ValueError(
            f"{name} must be an int or have {meaning}={n_rows} rows and at least one column, "
            f"got shape {A.shape}."
        )
    if not np.isfinite(A).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity.")
    return A


def channel_nmse(estimate, channel, *, squared=True):
    r"""Normalized error of channel estimates, averaged over patterns.

    :math:`\frac1K \sum_i \|\hat H_i - H_i\|_F^2 / \|H_i\|_F^2`.

    Parameters
    ----------
    estimate, channel : array of shape (n_patterns, n_bs, n_ms)
        Estimated and true channels.
    squared : bool, default=True
        Average squared ratios; False averages ratios of norms.

    Returns
    -------
    float
        Zero for a perfect estimate, one for an estimate of zero.

    Raises
    ------
    ValueError
        If the shapes differ or are not three-dimensional, or a true channel is zero.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.channel import channel_nmse
    >>> H = np.ones((2, 3, 4))
    >>> round(channel_nmse(0.9 * H, H), 6), round(channel_nmse(0.9 * H, H, squared=False), 6)
    (0.01, 0.1)
    """
    H_hat, H = (np.asarray(to_numpy(A)) for A in (estimate, channel))
    if H_hat.shape != H.shape or H.ndim != 3:
        raise ValueError(
            "estimate and channel must have the same three-dimensional shape, "
            f"got {H_hat.shape} and {H.shape}."
        )
    norms = np.linalg.norm(H, axis=(1, 2))
    if not norms.all():
        raise ValueError(f"The true channel of pattern {int(norms.argmin())} is zero.")
    ratios = np.linalg.norm(H_hat - H, axis=(1, 2)) / norms
    return float(np.mean(ratios**2 if squared else ratios))
