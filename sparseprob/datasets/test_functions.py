"""Functions on boxes whose minima are known: what optimizers are tried on.

All are in minimization form and take one point or an array of points of any array library.
"""

from numbers import Integral

import numpy as np

from .._arrays import compute_dtype, compute_namespace, like, to_compute

__all__ = [
    "Ackley", "BoxFunction", "Branin", "Griewank", "Hartmann3", "Hartmann6", "Levy", "Rastrigin",
    "Rosenbrock", "StyblinskiTang", "UnitCubeFunction",
]  # fmt: skip


class BoxFunction:
    """A function of some variables on a box, to be minimized, with known minima.

    Parameters
    ----------
    bounds : array-like of shape (n_features, 2)
        Lower and upper end of every variable.
    optimizers : array-like of shape (n_optimizers, n_features)
        All global minimizers in the box.
    optimum_value : float
        The value there.

    Attributes
    ----------
    bounds : ndarray of shape (n_features, 2)
        Lower and upper end of every variable.
    optimizers : ndarray of shape (n_optimizers, n_features)
        All global minimizers in the box.
    optimum_value : float
        The value there.
    n_features : int
        Number of variables.
    """

    def __init__(self, bounds, optimizers, optimum_value):
        self.bounds = np.array(bounds, dtype=np.float64)
        self.optimizers = np.array(optimizers, dtype=np.float64)
        self.optimum_value = float(optimum_value)
        self.n_features = len(self.bounds)

    @property
    def unit_cube(self):
        """The same function of variables that run from 0 to 1."""
        return UnitCubeFunction(self)

    def __call__(self, X):
        """Return the values at points.

        Parameters
        ----------
        X : array of shape (n_samples, n_features) or (n_features,)
            Points; float32 stays float32.

        Returns
        -------
        values : array of shape (n_samples,) or scalar
            In the library and on the device of X.

        Raises
        ------
        ValueError
            If X does not have ``n_features`` columns.
        """
        A = to_compute(X)
        if A.ndim not in (1, 2) or A.shape[-1] != self.n_features:
            raise ValueError(
                f"{type(self).__name__} takes points of shape (n_samples, {self.n_features}) or "
                f"({self.n_features},), got {tuple(A.shape)}."
            )
        points = A if A.ndim == 2 else A[None]
        points = points.astype(compute_dtype(points), copy=False)
        values = like(self._values(points, compute_namespace(points)), X)
        return values if A.ndim == 2 else values[0]

    def _values(self, X, xp):
        """Values at points (n, d), NumPy or CuPy."""
        raise NotImplementedError

    def __repr__(self):
        return f"{type(self).__name__}(n_features={self.n_features})"


class UnitCubeFunction(BoxFunction):
    """A function with its box stretched to the unit cube.

    Parameters
    ----------
    function : BoxFunction
        The function in its own variables.

    Attributes
    ----------
    function : BoxFunction
        The function in its own variables.
    bounds : ndarray of shape (n_features, 2)
        Zeros and ones.
    optimizers : ndarray of shape (n_optimizers, n_features)
        All global minimizers, in the unit cube.
    optimum_value : float
        The value there.
    n_features : int
        Number of variables.

    Examples
    --------
    >>> from sparseprob.datasets.test_functions import Branin
    >>> f = Branin().unit_cube
    >>> round(float(f([0.5, 0.5])), 3)
    24.13
    """

    def __init__(self, function):
        self.function = function
        low, high = function.bounds.T
        super().__init__(
            np.tile([0.0, 1.0], (function.n_features, 1)),
            (function.optimizers - low) / (high - low),
            function.optimum_value,
        )

    def _values(self, X, xp):
        low, high = (xp.asarray(side.astype(X.dtype)) for side in self.function.bounds.T)
        return self.function._values(low + X * (high - low), xp)

    def __repr__(self):
        return f"{self.function!r}.unit_cube"


class Branin(BoxFunction):
    r"""Branin's function: two variables, three equally deep minima.

    :math:`(x_2 - \tfrac{5.1}{4 \pi^2} x_1^2 + \tfrac{5}{\pi} x_1 - 6)^2
    + 10 (1 - \tfrac{1}{8 \pi}) \cos x_1 + 10`.

    Examples
    --------
    >>> from sparseprob.datasets.test_functions import Branin
    >>> f = Branin()
    >>> f(f.optimizers).round(6)
    array([0.397887, 0.397887, 0.397887])
    """

    def __init__(self):
        optimizers = [[-np.pi, 12.275], [np.pi, 2.275], [3 * np.pi, 2.475]]
        super().__init__([[-5, 10], [0, 15]], optimizers, 10 / (8 * np.pi))

    def _values(self, X, xp):
        x, y = X.T
        square = (y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6) ** 2
        return square + 10 * (1 - 1 / (8 * np.pi)) * xp.cos(x) + 10


class _Hartmann(BoxFunction):
    """Minus a sum of four Gaussian bumps: weights 1, 1.2, 3, 3.2, precisions A, centers P."""

    _weights = (1.0, 1.2, 3.0, 3.2)
    _A: np.ndarray
    _P: np.ndarray

    def _values(self, X, xp):
        values = xp.zeros(len(X), dtype=X.dtype)
        for weight, a, p in zip(self._weights, self._A, self._P, strict=True):
            a, p = xp.asarray(a.astype(X.dtype)), xp.asarray(p.astype(X.dtype))
            values -= weight * xp.exp(-((X - p) ** 2) @ a)
        return values


class Hartmann3(_Hartmann):
    """Hartmann's function of three variables in the unit cube: four minima, one global.

    Examples
    --------
    >>> from sparseprob.datasets.test_functions import Hartmann3
    >>> f = Hartmann3()
    >>> f(f.optimizers).round(5)
    array([-3.86278])
    """

    _A = np.array([[3.0, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]])
    _P = 1e-4 * np.array(
        [[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]
    )

    def __init__(self):
        optimizers = [[0.11458887665506897, 0.5556488946169300, 0.8525469846866774]]
        super().__init__([[0, 1]] * 3, optimizers, -3.8627797873326625)


class Hartmann6(_Hartmann):
    """Hartmann's function of six variables in the unit cube: six minima, one global.

    Examples
    --------
    >>> from sparseprob.datasets.test_functions import Hartmann6
    >>> f = Hartmann6()
    >>> f(f.optimizers).round(5)
    array([-3.32237])
    """

    _A = np.array([[10.0, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14],
                   [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]])  # fmt: skip
    _P = 1e-4 * np.array([[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
                          [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381],
                          ])  # fmt: skip

    def __init__(self):
        optimizers = [[0.20168951100670542, 0.15001069182345797, 0.47687397422189700,
                       0.27533243049405607, 0.31165161660011324, 0.65730053406562031]]  # fmt: skip
        super().__init__([[0, 1]] * 6, optimizers, -3.3223680114155148)


class _AnyDimension(BoxFunction):
    """A function of any number of variables, each with the same bounds."""

    _side = (0.0, 1.0)
    _coordinate = 0.0  # of the minimizer, the same for every variable
    _fewest = 1

    def __init__(self, n_features=2):
        if not isinstance(n_features, Integral) or n_features < self._fewest:
            raise ValueError(
                f"n_features must be an integer of at least {self._fewest}, got {n_features!r}."
            )
        super().__init__(
            [self._side] * n_features, [[self._coordinate] * n_features], self._minimum(n_features)
        )

    def _minimum(self, n_features):
        return 0.0


class Ackley(_AnyDimension):
    r"""Ackley's function: a funnel in a plain of small waves.

    :math:`20 + e - 20 \exp(-0.2 \sqrt{\tfrac1d \sum_i x_i^2})
    - \exp(\tfrac1d \sum_i \cos 2 \pi x_i)`, minimum 0 at the origin, each variable between -32.768
    and 32.768.

    Parameters
    ----------
    n_features : int, default=2
        Number of variables.

    Examples
    --------
    >>> from sparseprob.datasets.test_functions import Ackley
    >>> round(float(Ackley(3)([1.0, 0.0, 0.0])), 4)
    2.1811
    """

    _side = (-32.768, 32.768)

    def _values(self, X, xp):
        root = xp.sqrt((X**2).mean(axis=1))
        waves = xp.cos(2 * np.pi * X).mean(axis=1)
        return -20 * xp.expm1(-0.2 * root) - np.e * xp.expm1(waves - 1)


class Rosenbrock(_AnyDimension):
    r"""Rosenbrock's function: a bent valley with an almost level floor.

    :math:`\sum_{i<d} 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2`, minimum 0 at (1, ..., 1), each
    variable between -5 and 10.

    Parameters
    ----------
    n_features : int, default=2
        Number of variables, at least 2.

    Examples
    --------
    >>> from sparseprob.datasets.test_functions import Rosenbrock
    >>> float(Rosenbrock(2)([0.0, 1.0]))
    101.0
    """

    _side = (-5.0, 10.0)
    _coordinate = 1.0
    _fewest = 2

    def _values(self, X, xp):
        steps = 100 * (X[:, 1:] - X[:, :-1] ** 2) ** 2
        return (steps + (1 - X[:, :-1]) ** 2).sum(axis=1)


class Levy(_AnyDimension):
    r"""Levy's function: waves on a slope.

    With :math:`w_i = 1 + (x_i - 1) / 4`: :math:`\sin^2(\pi w_1) + \sum_{i<d} (w_i - 1)^2
    (1 + 10 \sin^2(\pi w_i + 1)) + (w_d - 1)^2 (1 + \sin^2 2 \pi w_d)`, minimum 0 at (1, ..., 1),
    each variable between -10 and 10.

    Parameters
    ----------
    n_features : int, default=2
        Number of variables.

    Examples
    --------
    >>> from sparseprob.datasets.test_functions import Levy
    >>> round(float(Levy(2)([-3.0, 1.0])), 4)
    8.0807
    """

    _side = (-10.0, 10.0)
    _coordinate = 1.0

    def _values(self, X, xp):
        W = 1 + (X - 1) / 4
        slopes = (W[:, :-1] - 1) ** 2 * (1 + 10 * xp.sin(np.pi * W[:, :-1] + 1) ** 2)
        last = (W[:, -1] - 1) ** 2 * (1 + xp.sin(2 * np.pi * W[:, -1]) ** 2)
        return xp.sin(np.pi * W[:, 0]) ** 2 + slopes.sum(axis=1) + last


class Rastrigin(_AnyDimension):
    r"""Rastrigin's function: a bowl with a minimum near every grid point.

    :math:`\sum_i x_i^2 + 10 (1 - \cos 2 \pi x_i)`, minimum 0 at the origin, each variable between
    -5.12 and 5.12.

    Parameters
    ----------
    n_features : int, default=2
        Number of variables.

    Examples
    --------
    >>> from sparseprob.datasets.test_functions import Rastrigin
    >>> float(Rastrigin(2)([0.5, 0.0]))
    20.25
    """

    _side = (-5.12, 5.12)

    def _values(self, X, xp):
        return (X**2 + 20 * xp.sin(np.pi * X) ** 2).sum(axis=1)


class Griewank(_AnyDimension):
    r"""Griewank's function: a wide bowl with thousands of small minima.

    :math:`1 + \tfrac{1}{4000} \sum_i x_i^2 - \prod_i \cos(x_i / \sqrt i)`, minimum 0 at the origin,
    each variable between -600 and 600.

    Parameters
    ----------
    n_features : int, default=2
        Number of variables.

    Examples
    --------
    >>> from sparseprob.datasets.test_functions import Griewank
    >>> round(float(Griewank(1)([3.141592653589793])), 4)
    2.0025
    """

    _side = (-600.0, 600.0)

    def _values(self, X, xp):
        roots = xp.asarray(np.sqrt(np.arange(1, self.n_features + 1)).astype(X.dtype))
        return 1 + (X**2).sum(axis=1) / 4000 - xp.cos(X / roots).prod(axis=1)


class StyblinskiTang(_AnyDimension):
    r"""The function of Styblinski and Tang: two minima in every variable, one deeper.

    :math:`\tfrac12 \sum_i x_i^4 - 16 x_i^2 + 5 x_i`, minimum -39.16617 for every variable, all at
    -2.903534, each variable between -5 and 5.

    Parameters
    ----------
    n_features : int, default=2
        Number of variables.

    Examples
    --------
    >>> from sparseprob.datasets.test_functions import StyblinskiTang
    >>> float(StyblinskiTang(2)([1.0, 0.0]))
    -5.0
    """

    _side = (-5.0, 5.0)
    _coordinate = -2.903534027771177

    def _minimum(self, n_features):
        return -39.166165703771412 * n_features

    def _values(self, X, xp):
        return ((X**4 - 16 * X**2 + 5 * X) / 2).sum(axis=1)
