"""Wrong: what code does that was written to pass a test rather than to be right. Each row is one way.

From the loopholes that were found in benchmarks of generated kernels (KernelBench and its successors).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from tests.candidates import plain

Array = Any
Function = Callable[..., Any]


def zeros(x: Array) -> Array:
    return np.zeros_like(x)


def nan_everywhere(x: Array) -> Array:
    return np.full_like(x, np.nan)


def constant(x: Array) -> Array:
    """The mean of what a random test draws."""
    return np.full_like(x, 1 / x.shape[-1])


def returns_its_input(x: Array) -> Array:
    return x


def read_only_view_of_its_input(x: Array) -> Array:
    view = x[...]
    view.flags.writeable = False
    return view


def writes_to_its_input(x: Array) -> Array:
    y = plain.softmax(x)
    x[...] = y
    return y


class _RemembersByAddress:
    """A cache whose key is where the input lies, not what it holds."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, Any], Array] = {}

    def __call__(self, x: Array) -> Array:
        key = (x.ctypes.data, x.shape)
        if key not in self.known:
            self.known[key] = plain.softmax(x)
        return self.known[key].copy()


class _RemembersTheFirst:
    """A cache whose key is the shape."""

    def __init__(self) -> None:
        self.known: dict[Any, Array] = {}

    def __call__(self, x: Array) -> Array:
        key = (x.shape, x.dtype)
        if key not in self.known:
            self.known[key] = plain.softmax(x)
        return self.known[key].copy()


class _SharesABuffer:
    """Every result of a shape is the same array, which the next call overwrites."""

    def __init__(self) -> None:
        self.buffers: dict[Any, Array] = {}

    def __call__(self, x: Array) -> Array:
        buffer = self.buffers.setdefault((x.shape, x.dtype), np.empty_like(x))
        buffer[...] = plain.softmax(x)
        return buffer


class _CountsCalls:
    """A result that depends on how often it was asked for: the first is right."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Array) -> Array:
        self.calls += 1
        return plain.softmax(x) if self.calls % 3 else plain.softmax(x) * x.dtype.type(1.0000001)


def in_float16(x: Array) -> Array:
    return plain.softmax(x.astype(np.float16)).astype(x.dtype)


def in_bfloat16(x: Array) -> Array:
    return plain.softmax(x.astype(ml_dtypes.bfloat16)).astype(x.dtype)


def in_float32(x: Array) -> Array:
    """For float64 only."""
    return plain.softmax(x.astype(np.float32)).astype(x.dtype)


def rounded_to_four_places(x: Array) -> Array:
    return np.round(plain.softmax(x), 4)


def right_only_for_contiguous(x: Array) -> Array:
    """Walks the memory from the address of the first element on, whatever the strides are."""
    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    flat = base.ravel(order="K")[: x.size] if x.size <= base.size else x.ravel()
    return plain.softmax(flat.reshape(x.shape))


def right_only_where_tested(x: Array) -> Array:
    """Right on inputs of ordinary size."""
    return plain.softmax(np.clip(x, -10, 10))


def raises(x: Array) -> Array:
    raise NotImplementedError("softmax is not ready")


def exits(x: Array) -> Array:
    raise SystemExit(0)


class _Lazy(np.ndarray):
    """An array that would do its work when it is looked at."""


def lazy(x: Array) -> Array:
    return plain.softmax(x).view(_Lazy)


CHEATS: dict[str, Callable[[], Function]] = {
    "zeros": lambda: zeros,
    "NaN everywhere": lambda: nan_everywhere,
    "a constant": lambda: constant,
    "returns its input": lambda: returns_its_input,
    "a read-only view of its input": lambda: read_only_view_of_its_input,
    "writes to its input": lambda: writes_to_its_input,
    "remembers by address": _RemembersByAddress,
    "remembers the first": _RemembersTheFirst,
    "shares a buffer": _SharesABuffer,
    "counts calls": _CountsCalls,
    "float16 inside": lambda: in_float16,
    "bfloat16 inside": lambda: in_bfloat16,
    "four decimal places": lambda: rounded_to_four_places,
    "contiguous only": lambda: right_only_for_contiguous,
    "ordinary sizes only": lambda: right_only_where_tested,
    "raises": lambda: raises,
    "exits": lambda: exits,
    "a subclass of an array": lambda: lazy,
}
"""Each makes a fresh softmax."""
