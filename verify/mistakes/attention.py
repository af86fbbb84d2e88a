"""Known mistakes in attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import Function, Mistake

GRADIENT = ("vjp", "symbolic", "numerical")

# ------------------------------------------------------------------------- scaled dot-product attention


def _allowed(mask: Any, causal: bool, diagonal: int = 0) -> Any:
    return mask & np.tri(mask.shape[0], mask.shape[1], diagonal, dtype=bool) if causal else mask


def _scores(q: Any, k: Any, scale: Any, power: float = -0.5) -> Any:
    """The products, times d to some power where no scale is given."""
    return (q @ k.swapaxes(-1, -2)) * (float(q.shape[-1]) ** power if scale is None else scale)


def _softmax(scores: Any, axis: int = -1) -> Any:
    e = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _masked(scores: Any, allowed: Any, axis: int = -1) -> Any:
    """The softmax over what is allowed, 0 where nothing is."""
    possible = allowed.any(axis=axis, keepdims=True)
    scores = np.where(possible, np.where(allowed, scores, -np.inf), 0.0)
    return np.where(allowed, _softmax(scores, axis), 0.0)


def _as_weighted(weigh: Callable[..., Any]) -> Function:
    """Attention with the weights that `weigh(q, k, mask, causal, scale)` gives."""

    def value(q: Any, k: Any, v: Any, mask: Any, *, causal: bool = False, scale: Any = None) -> Any:
        return weigh(q, k, mask, causal, scale).astype(q.dtype) @ v

    return value


def _of_power(power: float, q: Any, k: Any, mask: Any, causal: bool, scale: Any) -> Any:
    return _masked(_scores(q, k, scale, power), _allowed(mask, causal))


def _of_any_scale_but_0(q: Any, k: Any, mask: Any, causal: bool, scale: Any) -> Any:
    return _masked(_scores(q, k, scale or None), _allowed(mask, causal))


def _over_queries(q: Any, k: Any, mask: Any, causal: bool, scale: Any) -> Any:
    return _masked(_scores(q, k, scale), _allowed(mask, causal), axis=-2)


def _inverted(q: Any, k: Any, mask: Any, causal: bool, scale: Any) -> Any:
    return _masked(_scores(q, k, scale), ~_allowed(mask, causal))


def _mask_ignored(q: Any, k: Any, mask: Any, causal: bool, scale: Any) -> Any:
    return _masked(_scores(q, k, scale), _allowed(np.ones_like(mask), causal))


def _mask_after_softmax(q: Any, k: Any, mask: Any, causal: bool, scale: Any) -> Any:
    return _softmax(_scores(q, k, scale)) * _allowed(mask, causal)


def _diagonal(diagonal: int, q: Any, k: Any, mask: Any, causal: bool, scale: Any) -> Any:
    return _masked(_scores(q, k, scale), _allowed(mask, causal, diagonal))


def _finite_mask(low: float, q: Any, k: Any, mask: Any, causal: bool, scale: Any) -> Any:
    scores = _scores(q, k, scale)
    return _softmax(np.where(_allowed(mask, causal), scores, scores.dtype.type(low)))


def _without_maximum(q: Any, k: Any, mask: Any, causal: bool, scale: Any) -> Any:
    e = np.where(_allowed(mask, causal), np.exp(_scores(q, k, scale)), 0.0)
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total == 0, 1.0, total)


def _infinite_mask(q: Any, k: Any, mask: Any, causal: bool, scale: Any) -> Any:
    """Infinity less infinity is NaN."""
    return _softmax(np.where(_allowed(mask, causal), _scores(q, k, scale), -np.inf))


BLOCK = 4


def _without_tail(q: Any, k: Any, mask: Any, causal: bool, scale: Any) -> Any:
    """Keys in whole blocks only, where there is one."""
    keys = k.shape[-2]
    seen = np.arange(keys) < max(keys // BLOCK, 1) * BLOCK
    return _masked(_scores(q, k, scale), _allowed(mask, causal) & seen)


def _padded_with_zeros(q: Any, k: Any, mask: Any, causal: bool, scale: Any) -> Any:
    """The last block of keys is filled up with scores of 0, which take their share."""
    scores, allowed = _scores(q, k, scale), _allowed(mask, causal)
    wide = [(0, 0)] * (scores.ndim - 1) + [(0, -scores.shape[-1] % BLOCK)]
    filled = np.pad(np.where(allowed, scores, -np.inf), wide)
    return np.where(allowed, np.nan_to_num(_softmax(filled))[..., : scores.shape[-1]], 0.0)


def _vjp(
    dy: Any,
    q: Any,
    k: Any,
    v: Any,
    mask: Any,
    *,
    causal: bool = False,
    scale: Any = None,
    rescaled: bool = True,
    inner: bool = True,
    masked: bool = True,
) -> Any:
    """The textbook gradient, from which something may be left out."""
    factor = (q.shape[-1] ** -0.5 if scale is None else scale) if rescaled else 1.0
    weights = _masked(_scores(q, k, scale), _allowed(mask, causal) if masked else np.ones_like(mask))
    dp = dy @ v.swapaxes(-1, -2)
    ds = weights * (dp - (weights * dp).sum(axis=-1, keepdims=True) if inner else dp)
    return (ds @ k) * factor, (ds.swapaxes(-1, -2) @ q) * factor, weights.swapaxes(-1, -2) @ dy


OP = "scaled_dot_product_attention"

OF_ATTENTION = (
    Mistake(
        "attention-without-scale",
        OP,
        "the products are not divided by sqrt(d)",
        ("value",),
        value=_as_weighted(partial(_of_power, 0.0)),
        source="esceptico/perceiver-io#9",
    ),
    Mistake(
        "attention-divided-by-d",
        OP,
        "the products are divided by d instead of sqrt(d)",
        ("value",),
        value=_as_weighted(partial(_of_power, -1.0)),
        source="mlc-ai/mlc-llm#3426; delzac/cntkx#10",
    ),
    Mistake(
        "attention-scale-inverted",
        OP,
        "the products are multiplied by sqrt(d)",
        ("value",),
        value=_as_weighted(partial(_of_power, 0.5)),
        source="esceptico/perceiver-io#9; mlc-ai/mlc-llm#3426; delzac/cntkx#10",
    ),
    Mistake(
        "attention-scale-0-is-none",
        OP,
        "a scale of 0 counts as none given: `scale or 1 / sqrt(d)`",
        ("special-values",),
        value=_as_weighted(_of_any_scale_but_0),
    ),
    Mistake(
        "attention-softmax-over-queries",
        OP,
        "the softmax goes over the queries instead of the keys",
        ("value", "special-values"),
        value=_as_weighted(_over_queries),
    ),
    Mistake(
        "attention-mask-inverted",
        OP,
        "True is taken for masked instead of for allowed",
        ("value", "special-values", "masked-key", "causal"),
        value=_as_weighted(_inverted),
        source="lucidrains/halonet-pytorch#6; pytorch/pytorch#92554",
    ),
    Mistake(
        "attention-mask-ignored",
        OP,
        "the mask is not applied",
        ("value", "special-values", "masked-key"),
        value=_as_weighted(_mask_ignored),
        source="mlverse/torch#1205; microsoft/onnxscript#656",
    ),
    Mistake(
        "attention-mask-after-softmax",
        OP,
        "the mask is applied to the weights, which then do not sum to 1",
        ("value", "special-values", "masked-key", "causal", "convex-combination"),
        value=_as_weighted(_mask_after_softmax),
    ),
    Mistake(
        "attention-causal-sees-the-next",
        OP,
        "causal: each query sees one key too many",
        ("value", "special-values", "causal"),
        value=_as_weighted(partial(_diagonal, 1)),
    ),
    Mistake(
        "attention-causal-without-itself",
        OP,
        "causal: each query sees one key too few",
        ("value", "special-values"),
        value=_as_weighted(partial(_diagonal, -1)),
    ),
    Mistake(
        "attention-masked-with-minus-1e4",
        OP,
        "what is masked has a score of -1e4: more than scores below it, and all of a row of nothing else",
        ("value", "special-values"),
        value=_as_weighted(partial(_finite_mask, -1e4)),
        source="facebookresearch/fairseq#3575; monatis/ggmlc#13",
    ),
    Mistake(
        "attention-masked-with-minus-1e9",
        OP,
        "what is masked has a score of -1e9: more than scores below it, and all of a row of nothing else",
        ("value",),
        value=_as_weighted(partial(_finite_mask, -1e9)),
        source="lsdefine/attention-is-all-you-need-keras#16",
    ),
    Mistake(
        "attention-no-max-subtraction",
        OP,
        "exp(score) overflows: the largest score of the row must be subtracted first",
        ("value", "special-values"),
        value=_as_weighted(_without_maximum),
    ),
    Mistake(
        "attention-nan-where-all-is-masked",
        OP,
        "a query that may attend to nothing gives NaN: infinity less infinity",
        ("value", "special-values"),
        value=_as_weighted(_infinite_mask),
        source="pytorch/pytorch#103963; iree-org/iree#24175; robertknight/rten#1321",
    ),
    Mistake(
        "attention-loses-the-last-keys",
        OP,
        "the keys beyond the last whole block are left out",
        ("value", "order-of-keys"),
        value=_as_weighted(_without_tail),
    ),
    Mistake(
        "attention-padded-with-zeros",
        OP,
        "the last block of keys is filled up with scores of 0, which count in the sum",
        ("value", "special-values", "convex-combination"),
        value=_as_weighted(_padded_with_zeros),
    ),
    Mistake(
        "attention-gradient-without-scale",
        OP,
        "the gradients of queries and keys lack the scale",
        GRADIENT,
        vjp=partial(_vjp, rescaled=False),
    ),
    Mistake(
        "attention-softmax-gradient-without-inner-product",
        OP,
        "ds = p dp instead of p (dp - sum(p dp))",
        GRADIENT,
        vjp=partial(_vjp, inner=False),
    ),
    Mistake(
        "attention-gradient-ignores-the-mask",
        OP,
        "the weights of the backward pass are those without a mask",
        GRADIENT,
        vjp=partial(_vjp, masked=False),
    ),
)

# --------------------------------------------------------------------------------- multi-head attention


def _heads_first(x: Any, heads: int) -> Any:
    """(..., t, m) to (..., h, t, d), each head with neighbouring columns."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).swapaxes(-2, -3)


def _heads_last(x: Any, heads: int) -> Any:
    """Each head with every h-th column."""
    return np.moveaxis(x.reshape(*x.shape[:-1], x.shape[-1] // heads, heads), -1, -3)


def _heads_reshaped(x: Any, heads: int) -> Any:
    """The shape that is wanted, without a transposition: rows of different positions become one head."""
    return x.reshape(*x.shape[:-2], heads, x.shape[-2], x.shape[-1] // heads)


def _columns(x: Any) -> Any:
    """(..., h, t, d) to (..., t, m)."""
    rows = x.swapaxes(-2, -3)
    return rows.reshape(*rows.shape[:-2], rows.shape[-2] * rows.shape[-1])


def _columns_reshaped(x: Any) -> Any:
    return x.reshape(*x.shape[:-3], x.shape[-2], x.shape[-3] * x.shape[-1])


def _multi_head(
    x: Any,
    w_q: Any,
    w_k: Any,
    w_v: Any,
    w_o: Any,
    b_q: Any,
    b_k: Any,
    b_v: Any,
    b_o: Any,
    mask: Any,
    *,
    heads: int,
    causal: bool = False,
    split: Callable[[Any, int], Any] = _heads_first,
    merge: Callable[[Any], Any] = _columns,
    scaled_by_m: bool = False,
    projected: bool = True,
) -> Any:
    q, k, v = (split(x @ w + b, heads) for w, b in ((w_q, b_q), (w_k, b_k), (w_v, b_v)))
    scale = float(x.shape[-1]) ** -0.5 if scaled_by_m else None
    context = merge(refnet.scaled_dot_product_attention(q, k, v, mask, causal=causal, scale=scale))
    return context @ w_o + b_o if projected else context


def _transposed_weights(x: Any, w_q: Any, w_k: Any, w_v: Any, w_o: Any, *others: Any, **settings: Any) -> Any:
    """Weights stored (outputs, inputs), as PyTorch has them: all of them are square."""
    return _multi_head(x, w_q.T, w_k.T, w_v.T, w_o.T, *others, **settings)


def _slopes_swapped(dy: Any, *inputs: Any, **settings: Any) -> Any:
    slopes = refnet.multi_head_attention.vjp(dy, *inputs, **settings)
    return slopes._replace(w_q=slopes.w_k, w_k=slopes.w_q, b_q=slopes.b_k, b_k=slopes.b_q)


def _weights_not_transposed(dy: Any, *inputs: Any, **settings: Any) -> Any:
    """The gradient of the last weights as dy^T x, which has their shape as well."""
    slopes = refnet.multi_head_attention.vjp(dy, *inputs, **settings)
    return slopes._replace(w_o=slopes.w_o.T.copy())


def _values_forgotten(dy: Any, *inputs: Any, **settings: Any) -> Any:
    """x is reached through queries and keys only: what a gradient that is assigned, not added, leaves."""
    slopes = refnet.multi_head_attention.vjp(dy, *inputs, **settings)
    through_values = _dv(dy, *inputs, **settings) @ inputs[3].T
    return slopes._replace(x=slopes.x - through_values)


def _dv(dy: Any, *inputs: Any, heads: int, causal: bool = False) -> Any:
    """The gradient of the projected values."""
    x, w_q, w_k, w_v, w_o, b_q, b_k, b_v, _, mask = inputs
    q, k, v = (_heads_first(x @ w + b, heads) for w, b in ((w_q, b_q), (w_k, b_k), (w_v, b_v)))
    slope = _heads_first(dy @ w_o.T, heads)
    return _columns(refnet.scaled_dot_product_attention.vjp(slope, q, k, v, mask, causal=causal).v)


HEADS = "multi_head_attention"

OF_HEADS = (
    Mistake(
        "heads-interleaved",
        HEADS,
        "a head has every h-th column instead of neighbouring ones",
        ("value",),
        value=partial(_multi_head, split=_heads_last),
    ),
    Mistake(
        "heads-split-without-transposing",
        HEADS,
        "reshaped to (h, t, d) without exchanging axes: a head mixes positions",
        ("value", "causal", "masked-key"),
        value=partial(_multi_head, split=_heads_reshaped),
    ),
    Mistake(
        "heads-merged-without-transposing",
        HEADS,
        "reshaped from (h, t, d) to (t, m) without exchanging axes",
        ("value", "special-values", "causal"),
        value=partial(_multi_head, merge=_columns_reshaped),
    ),
    Mistake(
        "heads-scaled-by-all-columns",
        HEADS,
        "scores divided by sqrt(m) instead of sqrt(m / heads)",
        ("value",),
        value=partial(_multi_head, scaled_by_m=True),
        source="omihub777/ViT-CIFAR#11; chelsea0x3b/dfdx#171; FrancescoSaverioZuppichini/ViT#1",
    ),
    Mistake(
        "heads-without-output-projection",
        HEADS,
        "the heads side by side are the output: the last projection is left out",
        ("value", "special-values"),
        value=partial(_multi_head, projected=False),
    ),
    Mistake(
        "heads-weights-transposed",
        HEADS,
        "weights (outputs, inputs) instead of (inputs, outputs)",
        ("value",),
        value=_transposed_weights,
    ),
    Mistake(
        "heads-gradients-of-queries-and-keys-swapped",
        HEADS,
        "the gradients of the queries' and the keys' parameters are in each other's place",
        GRADIENT,
        vjp=_slopes_swapped,
    ),
    Mistake(
        "heads-gradient-of-output-weights-transposed",
        HEADS,
        "the gradient of the last weights is transposed",
        GRADIENT,
        vjp=_weights_not_transposed,
    ),
    Mistake(
        "heads-gradient-without-values",
        HEADS,
        "x reaches the output through queries and keys, and through values: the last part is missing",
        GRADIENT,
        vjp=_values_forgotten,
    ),
)

# ------------------------------------------------------------------------------------- rotary embedding


def _rotary_backwards(x: Any, cos: Any, sin: Any, *, layout: Any = "half") -> Any:
    return refnet.rotary_embedding(x, cos, -sin, layout=layout)


def _rotary_other_layout(x: Any, cos: Any, sin: Any, *, layout: Any = "half") -> Any:
    return refnet.rotary_embedding(x, cos, sin, layout="interleaved" if layout == "half" else "half")


def _rotary_shifted(x: Any, cos: Any, sin: Any, *, layout: Any = "half") -> Any:
    """Positions counted from 1; the last one begins again."""
    return refnet.rotary_embedding(x, np.roll(cos, -1, axis=0), np.roll(sin, -1, axis=0), layout=layout)


def _rotary_pairs(x: Any, layout: str) -> Any:
    half = x.shape[-1] // 2
    return (x[..., :half], x[..., half:]) if layout == "half" else (x[..., 0::2], x[..., 1::2])


def _rotary_joined(a: Any, b: Any, layout: str) -> Any:
    if layout == "half":
        return np.concatenate((a, b), axis=-1)
    return np.stack((a, b), axis=-1).reshape(*a.shape[:-1], 2 * a.shape[-1])


def _rotary_in_place(x: Any, cos: Any, sin: Any, *, layout: Any = "half") -> Any:
    """The second of a pair is computed from the first as it is already rotated."""
    a, b = _rotary_pairs(x, layout)
    a = a * cos - b * sin
    return _rotary_joined(a, b * cos + a * sin, layout)


def _rotary_without_sign(x: Any, cos: Any, sin: Any, *, layout: Any = "half") -> Any:
    a, b = _rotary_pairs(x, layout)
    return _rotary_joined(a * cos + b * sin, b * cos + a * sin, layout)


def _rotary_gradient_forwards(dy: Any, x: Any, cos: Any, sin: Any, *, layout: Any = "half") -> Any:
    slopes = refnet.rotary_embedding.vjp(dy, x, cos, sin, layout=layout)
    return slopes._replace(x=refnet.rotary_embedding(dy, cos, sin, layout=layout))


def _rotary_table_gradient_of_halves(dy: Any, x: Any, cos: Any, sin: Any, *, layout: Any = "half") -> Any:
    """The tables get the gradient of the first of each pair only."""
    (a, b), (da, _) = _rotary_pairs(x, layout), _rotary_pairs(dy, layout)
    dcos, dsin = ((part.reshape(-1, *cos.shape)).sum(axis=0).astype(x.dtype) for part in (da * a, -(da * b)))
    return refnet.rotary_embedding.vjp(dy, x, cos, sin, layout=layout)._replace(cos=dcos, sin=dsin)


ROTARY = "rotary_embedding"

OF_ROTATIONS = (
    Mistake(
        "rotary-backwards",
        ROTARY,
        "the pairs are rotated in the other direction",
        ("value", "special-values"),
        value=_rotary_backwards,
    ),
    Mistake(
        "rotary-other-layout",
        ROTARY,
        "halves and interleaved pairs are mixed up",
        ("value", "special-values"),
        value=_rotary_other_layout,
    ),
    Mistake(
        "rotary-shifted-by-one",
        ROTARY,
        "each position has the angles of the next one",
        ("value", "special-values"),
        value=_rotary_shifted,
    ),
    Mistake(
        "rotary-in-place",
        ROTARY,
        "the second of each pair is computed from the first after its rotation",
        ("value", "special-values", "scales-pairs"),
        value=_rotary_in_place,
    ),
    Mistake(
        "rotary-without-sign",
        ROTARY,
        "the halves are exchanged without the minus of the second one",
        ("value", "special-values", "scales-pairs"),
        value=_rotary_without_sign,
    ),
    Mistake(
        "rotary-gradient-rotated-forwards",
        ROTARY,
        "the gradient is rotated as the output is, and not back",
        GRADIENT,
        vjp=_rotary_gradient_forwards,
    ),
    Mistake(
        "rotary-table-gradient-of-first-of-pair",
        ROTARY,
        "the gradients of cos and sin lack what the second of each pair gives",
        GRADIENT,
        vjp=_rotary_table_gradient_of_halves,
    ),
)

MISTAKES: tuple[Mistake, ...] = (*OF_ATTENTION, *OF_HEADS, *OF_ROTATIONS)
