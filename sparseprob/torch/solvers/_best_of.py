"""The best of several solvers at equal size."""

from collections import Counter
from numbers import Real

from sklearn.utils._param_validation import Interval

from ._base import LayerSolver


class BestOf(LayerSolver):
    """Solve a layer in several ways and keep the most accurate of the small solutions.

    Parameters
    ----------
    solvers : list of LayerSolver
        Their parameters are reached by the names of their classes, in small letters, as in
        ``lowrank__compression`` or, of the second of a kind, ``lowrank_2__compression``.
    rtol : float, default=0.05
        Solutions take part whose bits are at most 1 + `rtol` times the smallest number of bits.

    Notes
    -----
    The solution is that of the winner, whose name is its ``method``; its ``candidates`` list the
    method, error and bits of all of them, in the order of `solvers`.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.torch.calibration import LayerStats
    >>> from sparseprob.torch.solvers import BestOf, MagnitudePruner, WandaPruner
    >>> rng = np.random.default_rng(0)
    >>> stats = LayerStats.of(rng.normal(size=(200, 16)) * np.arange(1, 17))
    >>> solution = BestOf([MagnitudePruner(), WandaPruner()]).solve(rng.normal(size=(8, 16)), stats)
    >>> solution.method
    'WandaPruner'
    """

    _parameter_constraints: dict = {
        "solvers": [list, tuple],
        "rtol": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, solvers, *, rtol=0.05):
        self.solvers = solvers
        self.rtol = rtol

    @property
    def needs_calibration(self):
        """Whether one of the solvers needs statistics of the inputs."""
        return any(solver.needs_calibration for solver in self.solvers)

    def get_params(self, deep=True):
        """Return the parameters.

        Parameters
        ----------
        deep : bool, default=True
            Whether the solvers and their parameters are among them.

        Returns
        -------
        dict
        """
        params = super().get_params(deep=False)
        for name, solver in self._named() if deep else ():
            params[name] = solver
            params |= {f"{name}__{key}": value for key, value in solver.get_params().items()}
        return params

    def set_params(self, **params):
        """Set parameters, solvers, or parameters of solvers.

        Parameters
        ----------
        **params
            As `get_params` names them.

        Returns
        -------
        BestOf
            Itself.
        """
        if "solvers" in params:
            self.solvers = params.pop("solvers")
        places = {name: place for place, (name, _) in enumerate(self._named())}
        new = {places[name]: params.pop(name) for name in list(params) if name in places}
        if new:
            self.solvers = [new.get(place, solver) for place, solver in enumerate(self.solvers)]
        return super().set_params(**params)

    def _named(self):
        seen: Counter = Counter()
        for solver in self.solvers:
            name = type(solver).__name__.lower()
            seen[name] += 1
            yield (name if seen[name] == 1 else f"{name}_{seen[name]}"), solver

    def _check_shape(self, d_out, d_in):
        if not self.solvers or not all(isinstance(s, LayerSolver) for s in self.solvers):
            raise ValueError(f"solvers must be a list of layer solvers, got {self.solvers!r}.")
        for solver in self.solvers:
            solver.check((d_out, d_in))

    def _solve(self, problem):
        solutions = [solver.solve(problem.weight, problem.stats) for solver in self.solvers]
        bits = [solution.n_bits() for solution in solutions]
        errors = [solution.relative_error(problem.stats) for solution in solutions]
        most = (1 + self.rtol) * min(bits)
        best = min((i for i in range(len(bits)) if bits[i] <= most), key=errors.__getitem__)
        winner = solutions[best]
        winner.candidates = [
            {"method": s.method, "relative_error": error, "n_bits": n}
            for s, error, n in zip(solutions, errors, bits, strict=True)
        ]
        return winner
