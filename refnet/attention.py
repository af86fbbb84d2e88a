"""Attention: every query takes a weighted mean of the values, by how well its key matches."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from refnet.activations import SoftmaxResiduals, row_terms, softmax
from refnet.arguments import validate_choice, validate_count, validate_flag
from refnet.linear import LinearGradients, linear
from refnet.op import ArgumentError, Array, Op, Operator, validate_number

__all__ = [
    "multi_head_attention",
    "rotary_embedding",
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
    factor = _validated_scale(scale, q)
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


def _validated_scale(scale: object, q: Array) -> float:
    """The factor of the scores, as a Python float, which takes the dtype of the array that it multiplies."""
    if scale is None:
        return 1.0 / math.sqrt(q.shape[-1])
    remedy = "Leave it out for the usual scale, 1 / sqrt(d)."
    return validate_number("scaled_dot_product_attention", "scale", scale, q.dtype, remedy=remedy)


scaled_dot_product_attention = Op(
    "scaled_dot_product_attention",
    "(...,q,d),(...,k,d),(...,k,e),(q,k)->(...,q,e)",
    ("q", "k", "v", "mask"),
    _scaled_dot_product_attention,
    _scaled_dot_product_attention_backward,
    masks=("mask",),
)

# --------------------------------------------------------------------------------- multi-head attention


class MultiHeadResiduals(NamedTuple):
    x: Array
    w_q: Array
    w_k: Array
    w_v: Array
    w_o: Array
    attention: AttentionResiduals
    """Of all heads, (..., h, t, d)."""
    context: Array
    """The outputs of the heads side by side, (..., t, m)."""


class MultiHeadGradients(NamedTuple):
    x: Array
    w_q: Array
    w_k: Array
    w_v: Array
    w_o: Array
    b_q: Array
    b_k: Array
    b_v: Array
    b_o: Array


def _multi_head_attention(
    x: Array,
    w_q: Array,
    w_k: Array,
    w_v: Array,
    w_o: Array,
    b_q: Array,
    b_k: Array,
    b_v: Array,
    b_o: Array,
    mask: Mask,
    *,
    heads: int,
    causal: bool = False,
) -> tuple[Array, MultiHeadResiduals]:
    """Self-attention: y = [head_1 ... head_h] w_o + b_o, each head the attention of its own d = m / h columns
    of q = x w_q + b_q, k = x w_k + b_k and v = x w_v + b_v.

    x (..., t, m), weights (m, m) as in `linear`, biases (m), mask (t, t). Head i has the columns i d to
    (i + 1) d - 1, and the scale is 1 / sqrt(d).
    """
    _validate_heads(heads, x.shape[-1])
    projected = (_affine(x, w, b) for w, b in ((w_q, b_q), (w_k, b_k), (w_v, b_v)))
    q, k, v = (_split(a, heads) for a in projected)
    attended, residuals = scaled_dot_product_attention.forward(q, k, v, mask, causal=causal)
    context = _merge(attended)
    return _affine(context, w_o, b_o), MultiHeadResiduals(x, w_q, w_k, w_v, w_o, residuals, context)


def _affine(x: Array, w: Array, b: Array) -> Array:
    """x w + b along the last axis."""
    rows, _ = linear.forward(x.reshape(-1, x.shape[-1]), w, b)
    return rows.reshape(x.shape)


def _affine_backward(x: Array, w: Array, dy: Array) -> LinearGradients:
    rows = x.reshape(-1, x.shape[-1])
    _, residuals = linear.forward(rows, w, w[0])
    dx, dw, db = linear.backward(residuals, dy.reshape(-1, x.shape[-1]))
    return LinearGradients(dx.reshape(x.shape), dw, db)


def _split(x: Array, heads: int) -> Array:
    """(..., t, m) to (..., h, t, d): a head has neighbouring columns."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).swapaxes(-2, -3)


def _merge(x: Array) -> Array:
    """(..., h, t, d) to (..., t, m)."""
    rows = x.swapaxes(-2, -3)
    return rows.reshape(*rows.shape[:-2], rows.shape[-2] * rows.shape[-1])


def _multi_head_attention_backward(residuals: MultiHeadResiduals, dy: Array) -> MultiHeadGradients:
    """The gradients of the four affine maps, with that of attention between them; x feeds three of them."""
    x, w_q, w_k, w_v, w_o, attention, context = residuals
    dcontext, dw_o, db_o = _affine_backward(context, w_o, dy)
    slopes = scaled_dot_product_attention.backward(attention, _split(dcontext, attention.q.shape[-3]))
    of_q, of_k, of_v = (
        _affine_backward(x, w, _merge(slope)) for w, slope in zip((w_q, w_k, w_v), slopes, strict=True)
    )
    dx: Array = of_q.x + of_k.x + of_v.x
    return MultiHeadGradients(dx, of_q.w, of_k.w, of_v.w, dw_o, of_q.b, of_k.b, of_v.b, db_o)


def _validate_heads(heads: object, m: int) -> None:
    """Refuse what does not divide the columns among the heads."""
    validate_count("multi_head_attention", "heads", heads)
    if isinstance(heads, int | np.integer) and (not m or m % heads):
        raise ArgumentError(
            "multi_head_attention",
            "heads",
            str(heads),
            f"a divisor of m = {m}",
            "Each head has m / heads columns.",
        )


multi_head_attention = Op(
    "multi_head_attention",
    "(...,t,m),(m,m),(m,m),(m,m),(m,m),(m),(m),(m),(m),(t,t)->(...,t,m)",
    ("x", "w_q", "w_k", "w_v", "w_o", "b_q", "b_k", "b_v", "b_o", "mask"),
    _multi_head_attention,
    _multi_head_attention_backward,
    masks=("mask",),
)

# ------------------------------------------------------------------------------------- rotary embedding

Layout = Literal["half", "interleaved"]


class RotaryResiduals(NamedTuple):
    x: Array
    cos: Array
    sin: Array
    layout: Layout


class RotaryGradients(NamedTuple):
    x: Array
    cos: Array
    sin: Array


def _rotary_embedding(
    x: Array, cos: Array, sin: Array, *, layout: Layout = "half"
) -> tuple[Array, RotaryResiduals]:
    """y = each pair (a, b) of x rotated by the angle of its place: (a cos - b sin, b cos + a sin).

    x (..., t, d), and tables cos and sin (t, p) with p = d / 2, one row for each position. The pairs are
    (x_i, x_(i + p)) in the layout "half", (x_2i, x_(2i + 1)) in the layout "interleaved".
    """
    name = "rotary_embedding"
    remedy = (
        '"half" is rotate_half (GPT-NeoX, Llama in Hugging Face), "interleaved" that of the paper (GPT-J).'
    )
    validate_choice(name, "layout", layout, get_args(Layout), remedy)
    if x.shape[-1] != 2 * cos.shape[-1]:
        raise ArgumentError(
            name,
            "x",
            f"of shape {x.shape}",
            f"d = {2 * cos.shape[-1]}, two for each of the p = {cos.shape[-1]} columns of cos",
            "Rotate a part of the features by slicing them first; do not repeat the columns of cos.",
        )
    a, b = _pairs(x, layout)
    return _joined(a * cos - b * sin, b * cos + a * sin, layout), RotaryResiduals(x, cos, sin, layout)


def _pairs(x: Array, layout: Layout) -> tuple[Array, Array]:
    """The first and the second entries of the pairs."""
    if layout == "interleaved":
        return x[..., 0::2], x[..., 1::2]
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


def _joined(a: Array, b: Array, layout: Layout) -> Array:
    if layout == "interleaved":
        return np.stack((a, b), axis=-1).reshape(*a.shape[:-1], 2 * a.shape[-1])
    return np.concatenate((a, b), axis=-1)


def _rotary_embedding_backward(residuals: RotaryResiduals, dy: Array) -> RotaryGradients:
    """dx is dy rotated back; dcos and dsin are sums over the batch of da a + db b and db a - da b."""
    x, cos, sin, layout = residuals
    (a, b), (da, db) = _pairs(x, layout), _pairs(dy, layout)
    dx = _joined(da * cos + db * sin, db * cos - da * sin, layout)
    dcos, dsin = (
        np.add.reduce(slope.reshape(-1, *cos.shape), axis=0) for slope in (da * a + db * b, db * a - da * b)
    )
    return RotaryGradients(dx, dcos, dsin)


rotary_embedding = Op(
    "rotary_embedding",
    "(...,t,d),(t,p),(t,p)->(...,t,d)",
    ("x", "cos", "sin"),
    _rotary_embedding,
    _rotary_embedding_backward,
)

OPS: tuple[Operator, ...] = (scaled_dot_product_attention, multi_head_attention, rotary_embedding)
