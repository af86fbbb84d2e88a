"""Mistakes that any operator can be met with, made from the right function."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

import refnet
from verify.arithmetic.formats import FORMATS
from verify.mistakes.evidence import Function
from verify.mistakes.mistake import Mistake

NETWORK = ("mlp", "mlp_gradients", "sgd_epoch")


@cache
def variations_of(op: str) -> tuple[Mistake, ...]:
    """The right function of an operator or a network, called wrongly."""
    right: Any = refnet.OPS.get(op) or (getattr(refnet, op) if op in NETWORK else None)
    if right is None:
        return ()
    vjp: Function | None = getattr(right, "vjp", None)
    flushed = Mistake(
        "flushed-to-zero",
        op,
        "numbers below the smallest normal one are taken for 0",
        (),
        value=partial(_flushing, right),
        vjp=None if vjp is None else partial(_flushing, vjp),
    )
    swapped = Mistake(
        "arguments-swapped",
        op,
        "the incoming gradient and the input are in each other's place",
        (),
        vjp=None if vjp is None else partial(_swapped, vjp),
    )
    return flushed, swapped


def _flushing(function: Function, *arguments: Any, **settings: Any) -> Any:
    return _flushed(function(*map(_flushed, arguments), **settings))


def _flushed(array: Any) -> Any:
    """0 in the place of subnormal numbers, however deep in lists; the signs stay."""
    if isinstance(array, list | tuple):
        flushed = map(_flushed, array)
        return list(flushed) if isinstance(array, list) else tuple(flushed)  # a record of gradients, too
    if array.dtype.kind in "iub":
        return array
    tiny = array.dtype.type(FORMATS[array.dtype.name].smallest_normal)
    return np.where(np.abs(array) < tiny, array * array.dtype.type(0), array).astype(array.dtype)


def _swapped(vjp: Function, dy: Any, x: Any, *others: Any, **settings: Any) -> Any:
    return vjp(x, dy, *others, **settings)
