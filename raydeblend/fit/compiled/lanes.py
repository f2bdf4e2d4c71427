"""Arithmetic on as many samples at once as a register of the processor holds.

What numba makes of a loop over samples keeps its sums in memory, and fills half a register of
processors that have wide ones.  So the innermost loops are told to LLVM directly.  Each lane has
the operations of the plain loop in the same order, so that the width changes no bit of them.
Nothing here checks bounds: rows hold whole blocks of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils

LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8
_FLOAT, _INTEGER, _INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR, WHOLE = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INTEGER, LANES)
# Products and sums may be fused, as `cache.FUSED`.
_FUSED = ("contract",)
# 1.5 · 2^23: the sum with a float32 has the float's nearest integer in its last bits.
ROUND = 12582912.0


class Lanes:
    """Writes the code of a function on vectors of `LANES` numbers."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def add(self, a: Any, b: Any) -> Any:
        """Return a + b."""
        return self.builder.fadd(a, b, flags=_FUSED)

    def subtract(self, a: Any, b: Any) -> Any:
        """Return a − b."""
        return self.builder.fsub(a, b, flags=_FUSED)

    def times(self, a: Any, b: Any) -> Any:
        """Return a b."""
        return self.builder.fmul(a, b, flags=_FUSED)

    def larger(self, a: Any, b: Any) -> Any:
        """Return the larger of a and b; b where a is no number."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def constant(self, value: float) -> Any:
        """Return the same number in every lane."""
        return ir.Constant(VECTOR, [float(value)] * LANES)

    def spread(self, number: Any) -> Any:
        """Return one number of the program in every lane."""
        nothing = ir.Constant(VECTOR, ir.Undefined)
        first = self.builder.insert_element(nothing, number, ir.Constant(_INTEGER, 0))
        every = ir.Constant(WHOLE, [0] * LANES)
        return self.builder.shuffle_vector(first, nothing, every)

    def sum(self) -> Any:
        """Return the place of a sum that is 0; it stays in a register."""
        place = cgutils.alloca_once(self.builder, VECTOR)
        self.builder.store(self.constant(0), place)
        return place

    def add_to(self, place: Any, value: Any) -> None:
        """Add to a sum."""
        self.builder.store(self.add(self.builder.load(place), value), place)

    def total(self, value: Any) -> Any:
        """Return the sum of all lanes, half by half."""
        nothing, width = ir.Constant(VECTOR, ir.Undefined), LANES
        while width > 1:
            width //= 2
            order = [width + i if i < width else i for i in range(LANES)]
            other = self.builder.shuffle_vector(value, nothing, ir.Constant(WHOLE, order))
            value = self.add(value, other)
        return self.builder.extract_element(value, ir.Constant(_INTEGER, 0))

    def load(self, pointer: Any, at: Any) -> Any:
        """Return the numbers from an index on."""
        return self.builder.load(self._vector(pointer, at), align=4)

    def store(self, value: Any, pointer: Any, at: Any) -> None:
        """Write the numbers from an index on."""
        self.builder.store(value, self._vector(pointer, at), align=4)

    def power_of_two(self, t: Any, series: Sequence[float]) -> Any:
        """Return 2^t, the series that of 2^f, |f| <= 1/2; see `gaussians.power_of_two`."""
        rounding = self.constant(ROUND)
        shifted = self.add(t, rounding)
        f = self.subtract(t, self.subtract(shifted, rounding))
        value = self.constant(series[-1])
        for coefficient in series[-2::-1]:
            value = self.add(self.times(value, f), self.constant(coefficient))
        builder, bits = self.builder, ir.Constant(WHOLE, [23] * LANES)
        exponent = builder.shl(builder.bitcast(shifted, WHOLE), bits)
        return builder.bitcast(builder.add(builder.bitcast(value, WHOLE), exponent), VECTOR)

    def _vector(self, pointer: Any, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(pointer, [at]), VECTOR.as_pointer())


def index(number: int) -> Any:
    """Return a whole number as an index."""
    return ir.Constant(_INDEX, number)


def array_of(context: Any, builder: Any, signature: Any, arguments: Any, number: int) -> Any:
    """Return the array of an argument, with `data` and `shape`."""
    make = context.make_array(signature.args[number])
    return make(context, builder, arguments[number])
