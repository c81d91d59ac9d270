"""Methods of compression by name."""

from importlib import import_module

from ._base import LayerSolver

_METHODS = {
    "magnitude": ("_magnitude", "MagnitudePruner", {}),
    "wanda": ("_wanda", "WandaPruner", {}),
    "sparsegpt": ("_sparsegpt", "SparseGPTPruner", {}),
    "awp": ("_awp", "AWP", {}),
    "svd": ("_low_rank", "LowRank", {"whiten": False}),
    "whitened_svd": ("_low_rank", "LowRank", {"whiten": True}),
    "cospadi": ("_cospadi", "CoSpaDi", {}),
    "monarch": ("_monarch", "Monarch", {}),
    "kronecker": ("_kronecker", "Kronecker", {}),
    "dsformer": ("_dsformer", "DSFormer", {}),
}
METHODS = tuple(_METHODS)


def solver_named(name, **parameters):
    """Return a solver by its name, with parameters that replace defaults.

    Raises
    ------
    ValueError
        If there is no such method, or it has no such parameter.
    """
    if name not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {name!r}.")
    module, cls, preset = _METHODS[name]
    solver = getattr(import_module(f".{module}", __package__), cls)(**preset)
    known = solver.get_params()
    for parameter in parameters:
        if parameter not in known:
            raise ValueError(
                f"The method {name!r} has no parameter {parameter!r}; it has {', '.join(known)}."
            )
    return solver.set_params(**parameters)


def as_solver(method):
    """Return a solver, given one or the name of one."""
    if isinstance(method, str):
        return solver_named(method)
    if not isinstance(method, LayerSolver):
        kind = method.__name__ if isinstance(method, type) else type(method).__name__
        raise TypeError(
            f"method must be a name ({', '.join(METHODS)}) or a solver of "
            f"sparseprob.torch.solvers, such as AWP(sparsity=0.5), got {kind}."
        )
    return method
