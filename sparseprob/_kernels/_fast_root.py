"""Roots of numbers in [0, 1] that the compiler can turn into vector instructions.

Mantissa and exponent are split by the bits of the number; the logarithm of the mantissa is the
series of the inverse hyperbolic tangent.
"""

import math

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ._fast_exp import exp_of_negative

_SQRT2, _LN2 = math.sqrt(2.0), math.log(2.0)
_SERIES = tuple(2.0 / (2 * i + 1) for i in range(11))  # |s| < 0.1716: the rest is below 1e-17
_MANTISSA, _ONE = (1 << 52) - 1, 1023 << 52
_MAGIC_BITS, _MAGIC = 0x4330000000000000, 2.0**52 + 1023  # the integer k in the last places is k


@intrinsic
def _bits_of(typingctx, x):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic
def _number_of(typingctx, bits):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


# Inlined, or loops over it would not be vectorized; without "reassoc", which would undo the magic.
@njit(cache=True, forceinline=True, fastmath={"contract"}, error_model="numpy")
def root(t, exponent):
    """t ** exponent for 0 <= t <= 1 and exponent > 0, to 3e-16 (1 + exponent |log t|).

    Zero gives what the smallest normal number gives, or nearly.
    """
    bits = _bits_of(t)
    k = _number_of((bits >> 52) | _MAGIC_BITS) - _MAGIC
    m = _number_of((bits & _MANTISSA) | _ONE)
    large = m > _SQRT2
    m = 0.5 * m if large else m
    k = k + 1.0 if large else k
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = _SERIES[10]
    p = p * z + _SERIES[9]
    p = p * z + _SERIES[8]
    p = p * z + _SERIES[7]
    p = p * z + _SERIES[6]
    p = p * z + _SERIES[5]
    p = p * z + _SERIES[4]
    p = p * z + _SERIES[3]
    p = p * z + _SERIES[2]
    p = p * z + _SERIES[1]
    p = p * z + _SERIES[0]
    return exp_of_negative(min(exponent * (k * _LN2 + s * p), 0.0))
