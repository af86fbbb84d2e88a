"""Attention: every query takes a weighted mean of the values, by how well its key matches."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from refnet.activations import SoftmaxResiduals, row_terms, softmax
from refnet.arguments import validate_flag
from refnet.op import ArgumentError, Array, Op, Operator

__all__ = [
    "scaled_dot_product_attention",
]

Mask = npt.NDArray[np.bool_]

# ------------------------------------------------------------------------- scaled dot-product attention


class AttentionResiduals(NamedTuple):
    q: Array
    k: Array
    v: Array
    weights: Array
    """What each query takes of each value, (..., q, k): 0 where it may not attend."""
    scale: float


class AttentionGradients(NamedTuple):
    q: Array
    k: Array
    v: Array


def _scaled_dot_product_attention(
    q: Array, k: Array, v: Array, mask: Mask, *, causal: bool = False, scale: float | None = None
) -> tuple[Array, AttentionResiduals]:
    """y = softmax(scale q k^T) v, for queries q (..., q, d), keys k (..., k, d) and values v (..., k, e).

    `mask` (q, k) is True where a query may attend to a key; all True is no mask. With `causal`, query i
    attends to the keys 0 to i, whatever the number of keys. `scale` is 1 / sqrt(d) unless it is given. A
    query that may attend to nothing takes 0, and has no gradient. What is masked has the weight 0, which an
    infinite or NaN value turns into NaN.
    """
    _validate_sizes(q, k)
    factor = _validated_scale(scale, q.shape[-1])
    scores: Array = q @ k.swapaxes(-1, -2)
    scores *= factor
    weights = _weights(scores, _allowed(mask, causal))
    return weights @ v, AttentionResiduals(q, k, v, weights, factor)


def _allowed(mask: Mask, causal: object) -> Mask:
    """Which key each query may attend to, (q, k)."""
    validate_flag("scaled_dot_product_attention", "causal", causal)
    return mask & np.tri(*mask.shape, dtype=np.bool_) if causal else mask


def _weights(scores: Array, allowed: Mask) -> Array:
    """The softmax of each row over the entries that are allowed, and 0 elsewhere.

    What is ruled out is minus infinity, and not a large negative number: -1e9 beside scores of -1e10 would
    take everything, and a row of nothing else would be shared equally. Such a row is made 0 first, because
    infinity - infinity is NaN. The largest entry is taken apart, as exp(scores) overflows at 710. A
    largest score that is infinite or NaN gives NaN, as in softmax.
    """
    possible = allowed.any(axis=-1, keepdims=True)
    terms = row_terms(np.where(possible, np.where(allowed, scores, -np.inf), 0.0))
    shares: Array = np.where(terms.is_top, 1.0, terms.others) / (1.0 + terms.rest)
    return np.where(allowed, np.where(np.isfinite(terms.top), shares, np.nan), 0.0)


def _scaled_dot_product_attention_backward(residuals: AttentionResiduals, dy: Array) -> AttentionGradients:
    """With the weights p and dp = dy v^T: dv = p^T dy, ds = p (dp - sum(p dp)), dq = scale ds k,
    dk = scale ds^T q.

    The gradient of the softmax is taken by its own backward, which keeps the digits of ds where one weight
    is close to 1.
    """
    q, k, v, weights, scale = residuals
    (ds,) = softmax.backward(SoftmaxResiduals(weights, -1), dy @ v.swapaxes(-1, -2))
    dq: Array = ds @ k
    dq *= scale
    dk: Array = ds.swapaxes(-1, -2) @ q
    dk *= scale
    return AttentionGradients(dq, dk, weights.swapaxes(-1, -2) @ dy)


def _validate_sizes(q: Array, k: Array) -> None:
    """Refuse what has no softmax, and what has no scale."""
    name = "scaled_dot_product_attention"
    if not k.shape[-2]:
        raise ArgumentError(name, "k", f"of shape {k.shape}", "at least one key", "Mask the keys instead.")
    if not q.shape[-1]:
        raise ArgumentError(name, "q", f"of shape {q.shape}", "at least one feature", "Pass d of at least 1.")


def _validated_scale(scale: object, d: int) -> float:
    """The factor of the scores, as a Python float, which takes the dtype of the array that it multiplies."""
    if scale is None:
        return 1.0 / math.sqrt(d)
    number = scale if isinstance(scale, int | float | np.integer | np.floating) else math.nan
    if isinstance(scale, bool) or not math.isfinite(number):
        raise ArgumentError(
            "scaled_dot_product_attention",
            "scale",
            repr(scale),
            "a finite number, or None for 1 / sqrt(d)",
            "Leave it out for the usual scale.",
        )
    return float(number)


scaled_dot_product_attention = Op(
    "scaled_dot_product_attention",
    "(...,q,d),(...,k,d),(...,k,e),(q,k)->(...,q,e)",
    ("q", "k", "v", "mask"),
    _scaled_dot_product_attention,
    _scaled_dot_product_attention_backward,
    masks=("mask",),
)

OPS: tuple[Operator, ...] = (scaled_dot_product_attention,)
