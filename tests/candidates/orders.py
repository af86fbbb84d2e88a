"""Right: sums in other orders, and products of matrices built on them; else plain."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.candidates import plain

Array = Any


def in_turn(terms: Array) -> Any:
    """One after the other, as a loop does."""
    total = terms.dtype.type(0)
    for term in terms:
        total = total + term
    return total


def from_the_end(terms: Array) -> Any:
    return in_turn(terms[::-1])


def in_pairs(terms: Array) -> Any:
    half = len(terms) // 2
    return in_pairs(terms[:half]) + in_pairs(terms[half:]) if half else terms.sum()


def at_once(terms: Array) -> Any:
    """Rounded once."""
    if not np.isfinite(terms).all():
        return terms.sum()
    return terms.dtype.type(math.fsum(terms.tolist()))


def compensated(terms: Array) -> Any:
    """Kahan's sum, which carries what each addition lost."""
    total = lost = terms.dtype.type(0)
    for term in terms:
        corrected = term - lost
        raised = total + corrected
        lost = (raised - total) - corrected if np.isfinite(raised) else lost * 0
        total = raised
    return total


class Orders:
    """The functions of the contract that sum, with every sum in the given order."""

    def __init__(self, total: Callable[[Array], Any]) -> None:
        self.total, self.__name__ = total, f"sums {total.__name__.replace('_', ' ')}"

    def sum(self, x: Array, axis: int = -1, keepdims: bool = False) -> Array:
        y = np.asarray(np.apply_along_axis(self.total, axis, x), dtype=x.dtype)
        return np.expand_dims(y, axis) if keepdims else y

    def product(self, a: Array, b: Array) -> Array:
        return self.sum(a[:, :, None] * b[None, :, :], axis=1)

    def reduced(self, losses: Array, reduction: str) -> Array:
        if reduction == "none":
            return losses
        total = self.sum(losses.ravel())
        return total / losses.dtype.type(losses.size) if reduction == "mean" else total

    def softmax(self, x: Array, *, axis: int = -1) -> Array:
        e = np.exp(x - x.max(axis=axis, keepdims=True))
        return e / self.sum(e, axis, keepdims=True)

    def softmax_vjp(self, dy: Array, x: Array, *, axis: int = -1) -> Array:
        y = self.softmax(x, axis=axis)
        return y * (dy - self.sum(dy * y, axis, keepdims=True))

    def log_softmax(self, x: Array, *, axis: int = -1) -> Array:
        z = x - x.max(axis=axis, keepdims=True)
        return z - np.log(self.sum(np.exp(z), axis, keepdims=True))

    def log_softmax_vjp(self, dy: Array, x: Array, *, axis: int = -1) -> Array:
        return dy - self.softmax(x, axis=axis) * self.sum(dy, axis, keepdims=True)

    def logsumexp(self, x: Array, *, axis: int = -1) -> Array:
        top = x.max(axis=axis, keepdims=True)
        top[~np.isfinite(top)] = 0
        return top.squeeze(axis) + np.log(self.sum(np.exp(x - top), axis))

    def linear(self, x: Array, w: Array, b: Array) -> Array:
        return self.product(x, w) + b

    def linear_vjp(self, dy: Array, x: Array, w: Array, b: Array) -> Any:
        return self.product(dy, w.T), self.product(x.T, dy), self.sum(dy, axis=0)

    def layer_norm(self, x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> Array:
        count = x.dtype.type(x.shape[-1])
        centred = x - self.sum(x, keepdims=True) / count
        variance = self.sum(centred * centred, keepdims=True) / count
        return centred / np.sqrt(variance + x.dtype.type(eps)) * gamma + beta

    def categorical_cross_entropy(self, p: Array, t: Array, *, reduction: str = "mean") -> Array:
        return self.reduced(-self.sum(np.where(t == 0, 0 * p, t * np.log(p))), reduction)

    def softmax_cross_entropy(self, z: Array, t: Array, *, reduction: str = "mean") -> Array:
        return self.reduced(
            -self.sum(np.where((t == 0) & np.isinf(z), 0, t * self.log_softmax(z))), reduction
        )

    def binary_cross_entropy(self, p: Array, t: Array, *, reduction: str = "mean") -> Array:
        return self.reduced(plain.binary_cross_entropy(p, t, reduction="none"), reduction)

    def binary_cross_entropy_with_logits(self, z: Array, t: Array, *, reduction: str = "mean") -> Array:
        return self.reduced(plain.binary_cross_entropy_with_logits(z, t, reduction="none"), reduction)

    def mse(self, p: Array, t: Array, *, reduction: str = "mean") -> Array:
        return self.reduced((p - t) * (p - t), reduction)
