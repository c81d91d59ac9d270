"""Sums over the inputs of modules, gathered by hooks while a model runs."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from ..._arrays import compute_namespace
from .._tensors import to_array
from ._tokens import kind, mask_of, rows_in_chunks

_N_RECENT = 8  # inputs kept alive to see whether other layers are fed by them


class NotShared(Exception):
    """Layers that were fed by one tensor at first are fed by different ones later."""


class _Enough(BaseException):
    """Every layer has been seen: the rest of the model need not run."""


class Moments:
    """Sums of x x^T and x over rows x, and their number.

    Products are taken in double precision on the CPU; on a GPU in single precision, and added up in
    double precision.
    """

    def __init__(self):
        self.outer, self.total, self.n = None, None, 0

    def add(self, rows):
        """Add the rows of a tensor (n, d)."""
        with device_of(rows):
            A = to_array(rows)
            xp = compute_namespace(A)
            if xp is np:
                A = A.astype(np.float64, copy=False)
            if self.outer is None:
                self.outer = xp.zeros((A.shape[1], A.shape[1]))
                self.total = xp.zeros(A.shape[1])
            self.outer += A.T @ A
            self.total += A.sum(axis=0, dtype=np.float64)
        self.n += len(A)


def device_of(tensor):
    """Make the GPU of a tensor, if it is on one, that of CuPy."""
    if tensor.device.type != "cuda":
        return contextlib.nullcontext()
    import cupy

    return cupy.cuda.Device(tensor.device.index)


class Collector:
    """Watches modules; those fed by one and the same tensor share one set of sums.

    Parameters
    ----------
    modules : dict of str to Module
    max_tokens : int, default=None
        Rows that are taken of each module.
    share : bool, default=True
        Whether modules may share sums.
    stop_early : bool, default=False
        Leave a run of the model as soon as each module has been called; for modules that are
        called once in every run.
    count_only : bool, default=False
        Only see the order of the modules and which of them share their input.

    Attributes
    ----------
    moments : dict of str to Moments
        Sums, by the name of the first module that was fed by a tensor.
    leaders : dict of str to str
        The name in `moments` for each module, in the order of the first calls.
    calls : Counter
        How often each module was called.
    n_batches : int
        Batches read.
    """

    def __init__(self, modules, *, max_tokens=None, share=True, stop_early=False, count_only=False):
        self.modules, self.max_tokens, self.share = modules, max_tokens, share
        self.stop_early, self.count_only = stop_early, count_only
        self.moments: dict[str, Moments] = {}
        self.leaders: dict[str, str] = {}
        self.calls: Counter = Counter()
        self.n_batches = 0
        self._recent: list[list] = []  # tensor, what identifies it, who has added it up
        self._mask, self._in_run = None, set()

    def run(self, model, batches):
        """Run a model on batches, as many as `max_tokens` asks for."""
        handles = [
            module.register_forward_pre_hook(self._hook(name, module), with_kwargs=True)
            for name, module in self.modules.items()
        ]
        try:
            with evaluating(model):
                for batch in batches:
                    self._run_one(model, batch)
                    if self._is_full():
                        break
        finally:
            for handle in handles:
                handle.remove()
        self._check_shared()

    def _run_one(self, model, batch):
        self.n_batches += 1
        self._mask, self._in_run = mask_of(batch), set()
        try:
            call(model, batch)
        except _Enough:
            pass
        finally:
            self._recent.clear()

    def _hook(self, name, module):
        def see(_, args, kwargs):
            x = args[0] if args else kwargs.get("input", next(iter(kwargs.values()), None))
            self._see(name, module, x)
            self._in_run.add(name)
            if self.stop_early and len(self._in_run) == len(self.modules):
                raise _Enough

        return see

    def _see(self, name, module, x):
        self.calls[name] += 1
        entry = self._entry(module, x)
        owner = entry[2]
        if name not in self.leaders:
            joins = self.share and owner is not None and self.calls[owner] == 1
            self.leaders[name] = owner if joins else name
        leader = self.leaders[name]
        if leader != name:
            if owner != leader:
                raise NotShared(name, leader)
            return
        entry[2] = owner or name
        if not self.count_only:
            self._add(self.moments.setdefault(name, Moments()), module, x)

    def _add(self, moments, module, x):
        for rows in rows_in_chunks(module, x.detach(), self._mask):
            if self.max_tokens is not None:
                rows = rows[: self.max_tokens - moments.n]
            if len(rows):
                moments.add(rows)

    def _entry(self, module, x):
        """Return what is known of a tensor; it stays alive, so that its address is its own."""
        version = 0 if x.is_inference() else x._version
        memory = (x.data_ptr(), tuple(x.shape), x.stride(), x.dtype, version, kind(module))
        for i, entry in enumerate(self._recent):
            if entry[1] == memory:
                self._recent.append(self._recent.pop(i))
                return entry
        self._recent = [*self._recent[1 - _N_RECENT :], [x, memory, None]]
        return self._recent[-1]

    def _is_full(self):
        return (
            self.max_tokens is not None
            and len(self.moments) > 0
            and all(moments.n >= self.max_tokens for moments in self.moments.values())
        )

    def _check_shared(self):
        for name, leader in self.leaders.items():
            if self.calls[name] != self.calls[leader]:
                raise NotShared(name, leader)


def collect(model, batches, modules, **options):
    """Return a Collector that has run; where layers part ways later, each gets sums of its own."""
    collector = Collector(modules, **options)
    try:
        collector.run(model, batches)
    except NotShared as error:
        if isinstance(batches, Iterator):
            name, leader = error.args
            raise ValueError(
                f"Layers {leader!r} and {name!r} were fed by the same tensor at first and by "
                "different ones later; pass a list of batches, which can be read twice."
            ) from None
        collector = Collector(modules, share=False, **options)
        collector.run(model, batches)
    return collector


def call(model, batch):
    """Run a model on a batch: a mapping by keywords, a tuple or list in order, else as it is."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


@contextlib.contextmanager
def evaluating(model, *, fused=False):
    """Let a model run without gradients and dropout.

    Parameters
    ----------
    model : Module
    fused : bool, default=False
        Whether attention may use fused kernels, which bypass its modules.
    """
    modes = [(module, module.training) for module in model.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    try:
        torch.backends.mha.set_fastpath_enabled(fast and fused)
        with torch.no_grad(), _uncompiled(model):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes:
            module.training = mode


def _uncompiled(model):
    """Run compiled modules as they are written, since hooks are not compiled in."""
    compiled = any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )
    return torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()
