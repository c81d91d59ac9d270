"""How much one column can lower a regularized loss: the rules of selection, on whole arrays.

S. Mohammad-Taheri, S. Brugiapaglia, "The greedy side of the LASSO", 2023, arXiv:2303.00844. Columns
have unit length; c is the modulus of the correlation of a column with the residual, rho the length
of the residual. The price of a column is alpha w for the l1 penalty and alpha w^2 for l0.
"""

from typing import NamedTuple

from .._arrays import compute_namespace

_CODES = {("squared", "l1"): 1, ("squared", "l0"): 2, ("sqrt", "l1"): 3, ("sqrt", "l0"): 4}


class Rule(NamedTuple):
    """A loss, a penalty and the weight of the penalty."""

    loss: str
    penalty: str
    alpha: float

    @property
    def code(self):
        """Number of the rule in kernels; 0 is the largest correlation, of every rule at alpha=0."""
        return 0 if self.alpha == 0 else _CODES[self.loss, self.penalty]

    def prices(self, weights):
        """Return what it costs to use a column: alpha w or alpha w^2."""
        return self.alpha * (weights if self.penalty == "l1" else weights * weights)


def decrease(rule, c, rho, price):
    """Return by how much a column outside the support can lower the objective.

    Parameters
    ----------
    rule : Rule
    c : real array
        Moduli of the correlations of unit columns with the residual.
    rho : real array
        Lengths of the residuals; broadcasts with `c`.
    price : real array
        Prices of the columns; broadcasts with `c`.

    Returns
    -------
    gain : real array of the shape of `c`
        Never negative.
    """
    xp = compute_namespace(c)
    return _DECREASE[rule.code](xp, c, rho, price)


def active_decrease(rule, x, rho, price):
    """Return by how much moving a coefficient of the support can lower the objective.

    Parameters
    ----------
    rule : Rule
    x : real array
        Moduli of the coefficients of unit columns, the least-squares fit.
    rho : real array
        Lengths of the residuals; broadcasts with `x`.
    price : real array
        Prices of the columns; broadcasts with `x`.

    Returns
    -------
    gain : real array of the shape of `x`
        Never negative.
    """
    xp = compute_namespace(x)
    return _ACTIVE[rule.code](xp, x, rho, price)


def _squared_l1(xp, c, rho, price):
    return xp.maximum(c - price / 2, 0) ** 2


def _squared_l0(xp, c, rho, price):
    return xp.maximum(c * c - price, 0)


def _sqrt_l1(xp, c, rho, price):
    # With price = cos a and c / rho = cos b it is rho (1 - cos(a - b)), written without canceling.
    rho = xp.maximum(rho, _tiny(xp, c))
    below = xp.sqrt(xp.maximum((rho - c) * (rho + c), 0))
    sine = xp.sqrt(xp.maximum(1 - price * price, 0))
    s = xp.maximum(sine * c - price * below, 0) / rho
    gain = rho * s * s / (1 + (price * c + sine * below) / rho)
    return xp.where(price < 1, gain, 0)


def _sqrt_l0(xp, c, rho, price):
    below = xp.sqrt(xp.maximum((rho - c) * (rho + c), 0))
    return xp.maximum(c * c / xp.maximum(rho + below, _tiny(xp, c)) - price, 0)


def _active_squared_l1(xp, x, rho, price):
    v = xp.minimum(x, price / 2)
    return price * v - v * v


def _active_squared_l0(xp, x, rho, price):
    return xp.where(x > 0, xp.maximum(price - x * x, 0), 0)


def _active_sqrt_l1(xp, x, rho, price):
    sine = xp.sqrt(xp.maximum(1 - price * price, 0))
    bounded = sine * x > price * rho  # never where price >= 1
    v = xp.where(bounded, price * rho / xp.where(bounded, sine, 1), x)
    return price * v - v * v / xp.maximum(rho + xp.sqrt(rho * rho + v * v), _tiny(xp, x))


def _active_sqrt_l0(xp, x, rho, price):
    loss = x * x / xp.maximum(rho + xp.sqrt(rho * rho + x * x), _tiny(xp, x))
    return xp.where(x > 0, xp.maximum(price - loss, 0), 0)


def _tiny(xp, a):
    return xp.finfo(xp.asarray(a).dtype).tiny


_DECREASE = {
    0: lambda xp, c, rho, price: c * c,
    1: _squared_l1,
    2: _squared_l0,
    3: _sqrt_l1,
    4: _sqrt_l0,
}
_ACTIVE = {
    0: lambda xp, x, rho, price: xp.zeros_like(x),
    1: _active_squared_l1,
    2: _active_squared_l0,
    3: _active_sqrt_l1,
    4: _active_sqrt_l0,
}
