"""Stationary correlations and their derivatives over whole arrays; kinds as where compiled."""


def radial(xp, kind, shape, r2):
    """Return correlations at squared scaled distances, derivatives by these and by log shape."""
    if kind == 3:
        phi = xp.exp(-0.5 * r2)
        return phi, -0.5 * phi, xp.zeros_like(phi)
    if kind == 4:
        t = 0.5 * r2 / shape
        phi = xp.exp(-shape * xp.log1p(t))
        return phi, -0.5 * phi / (1 + t), shape * phi * (t / (1 + t) - xp.log1p(t))
    r = xp.sqrt((2 * kind + 1) * r2)
    e = xp.exp(-r)
    if kind == 0:
        return e, -0.5 * e * (r > 0) / xp.maximum(r, 1e-300), xp.zeros_like(e)
    if kind == 1:
        return (1 + r) * e, -1.5 * e, xp.zeros_like(e)
    return (1 + r + r * r / 3) * e, -(5 / 6) * (1 + r) * e, xp.zeros_like(e)
