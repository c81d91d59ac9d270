"""Eight numbers side by side, as one value that compiled loops compute with.

Small problems of equal size are solved eight at a time: every operation is one vector instruction,
whatever the order of the loops. An array of shape (..., LANES), C-contiguous, is a sequence of such
values; `load` and `store` count it in values.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 8
_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_FUSED = ("contract",)  # a product and a sum may become one instruction


class _LanesType(types.Type):
    def __init__(self):
        super().__init__(name=f"Lanes{LANES}")


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _VECTOR)


_lanes = _LanesType()


def _pointer(context, builder, kind, A, i):
    data = context.make_array(kind)(context, builder, A).data
    return builder.bitcast(
        builder.gep(data, [builder.mul(i, ir.Constant(i.type, LANES))]), _VECTOR.as_pointer()
    )


@intrinsic
def load(typingctx, A, i):
    """Return value i of an array of values."""

    def codegen(context, builder, signature, args):
        return builder.load(_pointer(context, builder, signature.args[0], *args), align=8)

    return _lanes(A, types.intp), codegen


@intrinsic
def store(typingctx, A, i, value):
    """Write value i of an array of values."""

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], pointer, align=8)
        return context.get_dummy_value()

    return types.void(A, types.intp, _lanes), codegen


@intrinsic
def same(typingctx, x):
    """Return a value whose lanes are all the number x."""

    def codegen(context, builder, signature, args):
        one = builder.insert_element(
            ir.Constant(_VECTOR, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0)
        )
        every = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(one, one, every)

    return _lanes(types.float64), codegen


@intrinsic
def add(typingctx, a, b):
    """Return a + b."""

    def codegen(context, builder, signature, args):
        return builder.fadd(*args, flags=_FUSED)

    return _lanes(_lanes, _lanes), codegen


@intrinsic
def sub(typingctx, a, b):
    """Return a - b."""

    def codegen(context, builder, signature, args):
        return builder.fsub(*args, flags=_FUSED)

    return _lanes(_lanes, _lanes), codegen


@intrinsic
def mul(typingctx, a, b):
    """Return a * b."""

    def codegen(context, builder, signature, args):
        return builder.fmul(*args, flags=_FUSED)

    return _lanes(_lanes, _lanes), codegen


@intrinsic
def plus_product(typingctx, c, a, b):
    """Return c + a * b."""

    def codegen(context, builder, signature, args):
        return builder.fadd(args[0], builder.fmul(*args[1:], flags=_FUSED), flags=_FUSED)

    return _lanes(_lanes, _lanes, _lanes), codegen


@intrinsic
def minus_product(typingctx, c, a, b):
    """Return c - a * b."""

    def codegen(context, builder, signature, args):
        return builder.fsub(args[0], builder.fmul(*args[1:], flags=_FUSED), flags=_FUSED)

    return _lanes(_lanes, _lanes, _lanes), codegen


@intrinsic
def inverse_root(typingctx, a):
    """Return 1 / sqrt(a); not a number where a is negative, infinite where it is zero."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        root = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}f64")
        return builder.fdiv(ir.Constant(_VECTOR, [1.0] * LANES), builder.call(root, args))

    return _lanes(_lanes), codegen


@intrinsic
def prefetch(typingctx, A, i):
    """Bring number i of an array into the cache, if it can be had without waiting."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        pointer = builder.bitcast(builder.gep(data, [args[1]]), byte)
        builder.call(ask, [pointer, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(A, types.intp), codegen
