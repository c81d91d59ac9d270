"""Moving objects in the video of a fixed camera: what a low-rank background does not explain.

Reference: Candes, Li, Ma and Wright, "Robust principal component analysis?", J. ACM 58(3), 2011.
"""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .. import mpi
from .._arrays import compute_namespace, like, to_compute, to_numpy
from .._base import Estimator
from ._frames import FrameRows, majority
from ._online import OnlineRobustPCA
from ._robust_pca import RobustPCA

_MAD = 1.4826  # standard deviation of normal noise over its median absolute deviation
_AUTO = 3.0  # standard deviations; the vote of neighbors deals with the noise beyond
_ONLINE = ("orpca", "grasta")
_LEVELS = 255  # no threshold is finer than a grey level of eight bits
_N_PIXELS = 20_000  # enough values of a frame to find its few coordinates from
_MEMORY = 100  # frames over which the noise is averaged online


class BackgroundSubtractor(Estimator):
    r"""Split the video of a fixed camera into its background and the objects that move.

    Seen as a matrix with a row for each frame, the background has low rank: one for the scene, and
    few more for changes of the light [1]_. Objects are gross errors in a few pixels of each frame.
    A pixel is in the mask of the objects where frame and background differ by more than a
    threshold, which is found from the noise.

    Parameters
    ----------
    n_components : int, default=3
        Largest rank of the background.
    solver : {"ialm", "stable", "orpca", "grasta"}, default="ialm"
        "ialm" and "stable" take all frames at once, see :class:`RobustPCA`; "orpca" and "grasta"
        one after the other, see :class:`OnlineRobustPCA`, which is what `partial_fit` needs.
    threshold : "auto" or float, default="auto"
        Least difference from the background, in the units of the frames, of color frames in any
        channel. "auto" is three standard deviations of the noise, at least 1/255 of the range of
        pixels.
    window : int, default=3
        Odd width of the square of pixels whose majority decides about its middle; 1 for no vote.
    forgetting : float, default=1.0
        For "orpca" and "grasta": what earlier frames weigh after one more frame. Below 1 the
        background follows a scene that changes, and takes in objects that stop.
    tol : float, default=1e-3
        Relative residual at which "ialm" stops, or change of the background for "stable".
    max_iter : int, default=500
        Largest number of iterations of "ialm" and "stable".
    random_state : int, RandomState instance or None, default=None
        Seed of the start of the solver.

    Attributes
    ----------
    masks_ : bool array of shape (n_frames, height, width)
        Objects in the frames of `fit`; not set by `partial_fit`.
    background_ : array of shape (height, width) or (height, width, n_channels)
        Background in the middle of all light seen, or after `partial_fit` of the last frame.
    components_ : array of shape (rank, n_values)
        Orthonormal basis of backgrounds, each a frame of height x width x channels values.
    noise_scale_ : float
        Standard deviation of the noise, from the median absolute difference in each frame.
    threshold_ : float
        The threshold in use.
    frame_shape_ : tuple of int
        Shape of a frame.
    n_frames_seen_ : int
        Number of frames so far.
    model_ : RobustPCA or OnlineRobustPCA
        The fitted solver.

    See Also
    --------
    RobustPCA : The split itself, of any matrix.
    sparseprob.datasets.make_surveillance_video : Video with known masks.

    Notes
    -----
    Frames are computed in single precision. The coordinates of a frame minimize absolute
    deviations over up to 20 000 of its values. Callbacks follow the iterations of the solver.

    References
    ----------
    .. [1] E. Candes, X. Li, Y. Ma, J. Wright. "Robust Principal Component Analysis?" Journal of the
       ACM 58(3), 2011.

    Examples
    --------
    >>> from sparseprob.datasets import make_surveillance_video
    >>> from sparseprob.rpca import BackgroundSubtractor
    >>> video = make_surveillance_video(60, (48, 64), random_state=0)
    >>> model = BackgroundSubtractor(random_state=0).fit(video.frames[:50])
    >>> mask = model.apply(video.frames[55])
    >>> bool((mask == video.masks[55]).mean() > 0.99)
    True
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "solver": [StrOptions({"ialm", "stable", *_ONLINE})],
        "threshold": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "window": [Interval(Integral, 1, None, closed="left")],
        "forgetting": [Interval(Real, 0, 1, closed="right")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }
    _reference_attribute = "background_"

    def __init__(
        self,
        n_components=3,
        *,
        solver="ialm",
        threshold="auto",
        window=3,
        forgetting=1.0,
        tol=1e-3,
        max_iter=500,
        random_state=None,
    ):
        self.n_components = n_components
        self.solver = solver
        self.threshold = threshold
        self.window = window
        self.forgetting = forgetting
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, frames, y=None):
        """Learn the background of a video, and find the objects in it.

        Parameters
        ----------
        frames : array or source of shape (n_frames, height, width[, n_channels])
            Grey or color frames, integers or floats; a NumPy, CuPy or torch array, a list of
            arrays, a memory map or h5py dataset. Inside ``with distributed():`` those of this rank.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If frames differ in shape, have NaN or infinity, or are fewer than `n_components`.

        Warns
        -----
        ConvergenceWarning
            If the solver needs more than `max_iter` iterations.
        """
        with mpi.errors_together():
            video = self._read(frames, None)
        n_frames = int(mpi.row_sum(float(len(video))))
        if n_frames < self.n_components:
            raise ValueError(
                f"n_components={self.n_components} needs at least as many frames, got {n_frames}; "
                "pass more frames."
            )
        self.model_ = self._new_model().set_callbacks(*getattr(self, "_skl_callbacks", []))
        _fit_quietly(self.model_, video.all_rows())
        self.model_.set_callbacks()
        self.frame_shape_, self.n_frames_seen_ = video.frame_shape, n_frames
        self.components_ = like(to_compute(self.model_.components_), video.frames)
        coordinates, scales, low, high = self._survey(video)
        self._limits = -mpi.row_max(-low), mpi.row_max(high)
        self.noise_scale_ = float(np.median(np.concatenate(mpi.all_gather(scales))))
        self._set_threshold()
        middle = np.median(np.concatenate(mpi.all_gather(to_numpy(coordinates))), axis=0)
        self._set_background(middle, video)
        self.masks_ = self._masks(video, coordinates)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, frames, y=None):
        """Follow the background with more frames; start with some dozen of them.

        Parameters
        ----------
        frames : array of shape (n_frames, height, width[, n_channels])
            Or one frame without the first axis; three dimensions of which the last is 3 or 4 are a
            color frame at the first call.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If `solver` is not an online one, or frames differ in shape from those before.
        """
        if self.solver not in _ONLINE:
            raise ValueError(
                f"partial_fit needs solver='orpca' or solver='grasta', got {self.solver!r}."
            )
        first = not hasattr(self, "components_")
        video = self._read(frames, None if first else self.frame_shape_, "partial_fit")
        if first:
            self.model_ = self._new_model()
            self.frame_shape_, self._limits = video.frame_shape, (np.inf, -np.inf)
            self.n_frames_seen_, self.noise_scale_ = 0, 0.0
        for start in range(0, len(video), video.batch_size):
            self.model_.partial_fit(video[start : start + video.batch_size])
        self.components_ = like(to_compute(self.model_.components_), video.frames)
        coordinates, scales, low, high = self._survey(video)
        self._limits = min(low, self._limits[0]), max(high, self._limits[1])
        for scale in scales:
            self.n_frames_seen_ += 1
            weight = 1 / min(self.n_frames_seen_, _MEMORY)
            self.noise_scale_ += weight * (float(scale) - self.noise_scale_)
        self._set_threshold()
        self._set_background(coordinates[-1], video)
        self.__dict__.pop("masks_", None)
        return self

    def apply(self, frames):
        """Find the objects in frames, by the background learned.

        Parameters
        ----------
        frames : array or source of shape (n_frames, height, width[, n_channels])
            Or one frame without the first axis.

        Returns
        -------
        masks : bool array of shape (n_frames, height, width)
            True where objects are; without the first axis for one frame.

        Raises
        ------
        ValueError
            If frames differ in shape from those of `fit`, or have NaN or infinity.
        """
        video = self._read(frames, self._fitted_shape(), "apply")
        masks = self._masks(video)
        return masks[0] if video.is_single else masks

    def background(self, frames):
        """Return what frames would look like without objects.

        Parameters
        ----------
        frames : array or source of shape (n_frames, height, width[, n_channels])
            Or one frame without the first axis.

        Returns
        -------
        background : array of the shape of `frames`
            In single precision.
        """
        return self._decomposed(frames, "background", lambda rows, low: low)

    def foreground(self, frames):
        """Return how frames differ from their background.

        Parameters
        ----------
        frames : array or source of shape (n_frames, height, width[, n_channels])
            Or one frame without the first axis.

        Returns
        -------
        foreground : array of the shape of `frames`
            ``frames - background(frames)``, in single precision; noise outside the objects.
        """
        return self._decomposed(frames, "foreground", lambda rows, low: rows - low)

    # ------------------------------------------------------------ steps
    def _fitted_shape(self):
        check_is_fitted(self)
        return self.frame_shape_

    def _read(self, frames, frame_shape, method="fit"):
        if self.window % 2 == 0:
            raise ValueError(f"window must be odd, got {self.window!r}.")
        video = FrameRows(frames, frame_shape)
        if frame_shape is not None:
            self._check_same_library(video.frames, method)
        return video

    def _new_model(self):
        options = {"solver": self.solver, "random_state": self.random_state}
        if self.solver in _ONLINE:
            return OnlineRobustPCA(self.n_components, forgetting=self.forgetting, **options)
        return RobustPCA(self.n_components, tol=self.tol, max_iter=self.max_iter, **options)

    def _blocks(self, video, coordinates=None):
        """Yield where a block of rows starts, the rows, their coordinates and their background."""
        V = to_compute(self.components_)
        for start in range(0, len(video), video.batch_size):
            rows = video[start : start + video.batch_size]
            if coordinates is None:
                found = _coordinates(rows, V)
            else:
                found = coordinates[start : start + len(rows)]
            yield start, rows, found, found @ V

    def _survey(self, video):
        """Coordinates of all frames, scales of their noise, smallest and largest pixel."""
        xp = compute_namespace(to_compute(self.components_))
        coordinates = xp.empty((len(video), self.components_.shape[0]), dtype=np.float32)
        scales, low, high = np.empty(len(video)), np.inf, -np.inf
        for start, rows, found, background in self._blocks(video):
            here = slice(start, start + len(rows))
            coordinates[here] = found
            scales[here] = _MAD * to_numpy(xp.median(abs(rows - background), axis=1))
            low, high = min(low, float(rows.min())), max(high, float(rows.max()))
        return coordinates, scales, low, high

    def _set_threshold(self):
        grain = (self._limits[1] - self._limits[0]) / _LEVELS
        auto = max(_AUTO * self.noise_scale_, grain)
        self.threshold_ = auto if self.threshold == "auto" else float(self.threshold)

    def _set_background(self, coordinates, video):
        V = to_compute(self.components_)
        background = like(coordinates.astype(np.float32), V) @ V
        self.background_ = like(background.reshape(self.frame_shape_), video.frames)

    def _masks(self, video, coordinates=None):
        xp = compute_namespace(to_compute(self.components_))
        masks = xp.empty((len(video), *self.frame_shape_[:2]), dtype=bool)
        for start, rows, _, background in self._blocks(video, coordinates):
            masks[start : start + len(rows)] = self._mask(rows - background)
        return like(masks, video.frames)

    def _mask(self, foreground):
        """Masks of rows of differences from the background."""
        far = (abs(foreground) > self.threshold_).reshape(-1, *self.frame_shape_)
        return majority(far.any(axis=-1) if far.ndim == 4 else far, self.window)

    def _decomposed(self, frames, method, part):
        video = self._read(frames, self._fitted_shape(), method)
        xp = compute_namespace(to_compute(self.components_))
        out = xp.empty((len(video), *self.frame_shape_), dtype=np.float32)
        for start, rows, _, background in self._blocks(video):
            out[start : start + len(rows)].reshape(rows.shape)[...] = part(rows, background)
        out = like(out, video.frames)
        return out[0] if video.is_single else out


def _coordinates(rows, components):
    """Coordinates of least absolute deviations, from some of the values of each row."""
    xp = compute_namespace(rows)
    n_values = rows.shape[1]
    if n_values > _N_PIXELS:
        some = np.random.RandomState(0).choice(n_values, _N_PIXELS, replace=False)
        some = like(np.sort(some), rows)
        rows, components = rows[:, some], components[:, some]
    if len(components) == 0:
        return xp.zeros((len(rows), 0), dtype=rows.dtype)
    Q, R = xp.linalg.qr(components.T)
    subspace = RobustPCA()
    subspace.components_, subspace.center_ = xp.ascontiguousarray(Q.T), None
    subspace.n_features_in_ = rows.shape[1]
    return subspace.transform(rows) @ xp.linalg.pinv(R).T


def _fit_quietly(model, rows):
    """Fit; of the warnings only the one about iterations counts.

    The certificate of "ialm" is about matrices without noise, and a video has noise everywhere.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows)
    if isinstance(model, RobustPCA) and model.n_iter_ >= model.max_iter:
        warnings.warn(
            f"The background did not settle in max_iter={model.max_iter} iterations; increase "
            "max_iter or tol.",
            ConvergenceWarning,
            stacklevel=4,
        )
