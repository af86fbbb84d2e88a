"""Known mistakes in attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

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

MISTAKES: tuple[Mistake, ...] = (*OF_ATTENTION,)
