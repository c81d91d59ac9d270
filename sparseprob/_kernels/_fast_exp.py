"""An exponential that the compiler can turn into vector instructions, for arguments <= 0.

Range reduction by W. J. Cody and W. Waite (1980) and a Taylor polynomial on |r| <= ln(2) / 2.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

_LOG2E = 1.0 / math.log(2.0)
_MAGIC64, _MAGIC32 = 1.5 * 2.0**52, np.float32(1.5 * 2.0**23)
_LN2_HI64, _LN2_LO64 = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LN2_HI32, _LN2_LO32 = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOG2E32 = np.float32(_LOG2E)
_LOWEST64, _LOWEST32 = -708.0, np.float32(-87.0)
_C64 = tuple(1.0 / math.factorial(i) for i in range(13))
_C32 = tuple(np.float32(1.0 / math.factorial(i)) for i in range(8))


@intrinsic
def _power_of_two(typingctx, t):
    """2^k, where k sits in the lowest bits of the float t (which had 1.5 * 2^mantissa added)."""
    double = t == types.float64
    word = ir.IntType(64 if double else 32)
    bias, shift = (1023, 52) if double else (127, 23)

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], word)
        bits = builder.shl(builder.add(bits, word(bias)), word(shift))
        return builder.bitcast(bits, ir.DoubleType() if double else ir.FloatType())

    return t(t), codegen


def exp_of_negative(x):
    """Return exp(x) for x <= 0 to a relative error of 2e-16 or 1e-7; 0 below the normal numbers."""
    return np.exp(x)  # pragma: no cover - replaced by the compiled versions below


@overload(exp_of_negative, inline="never")
def _exp_of_negative(x):
    return _exp64 if x == types.float64 else _exp32


def _exp64(x):
    y = max(x, _LOWEST64)
    t = y * _LOG2E + _MAGIC64
    k = t - _MAGIC64
    r = (y - k * _LN2_HI64) - k * _LN2_LO64
    p = _C64[12]
    p = p * r + _C64[11]
    p = p * r + _C64[10]
    p = p * r + _C64[9]
    p = p * r + _C64[8]
    p = p * r + _C64[7]
    p = p * r + _C64[6]
    p = p * r + _C64[5]
    p = p * r + _C64[4]
    p = p * r + _C64[3]
    p = p * r + _C64[2]
    p = p * r + _C64[1]
    p = p * r + _C64[0]
    return p * _power_of_two(t) if x >= _LOWEST64 else 0.0


def _exp32(x):
    y = max(x, _LOWEST32)
    t = y * _LOG2E32 + _MAGIC32
    k = t - _MAGIC32
    r = (y - k * _LN2_HI32) - k * _LN2_LO32
    p = _C32[7]
    p = p * r + _C32[6]
    p = p * r + _C32[5]
    p = p * r + _C32[4]
    p = p * r + _C32[3]
    p = p * r + _C32[2]
    p = p * r + _C32[1]
    p = p * r + _C32[0]
    return p * _power_of_two(t) if x >= _LOWEST32 else np.float32(0.0)
