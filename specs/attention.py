"""Attention: what it is."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

import numpy as np

from specs.maths import as_computed, exp, kept, saved, sqrt, where
from specs.spec import Case, Domain, Form, Input, Refusal, Setting, Spec, Variant

VASWANI = "Vaswani et al., Attention is all you need, NeurIPS 2017, arXiv:1706.03762"
DAO = "Dao, FlashAttention-2, arXiv:2307.08691, 3.1: the online softmax and its gradient"

# ------------------------------------------------------------------------- scaled dot-product attention


def top_left(queries: int, keys: int) -> Any:
    """Query i sees the keys 0 to i."""
    return np.tri(queries, keys, dtype=bool)


def bottom_right(queries: int, keys: int) -> Any:
    """The last query sees all keys, the one before it all but the last: the queries are the newest."""
    return np.tri(queries, keys, keys - queries, dtype=bool)


def _attended(scores: Any, v: Any, allowed: Any) -> Any:
    """The mean of the values, weighted by exp(score), over the keys that are allowed; 0 where none is."""
    possible = allowed.any(axis=-1, keepdims=True)
    terms = where(allowed, exp(scores), 0)
    weights = where(possible, terms / where(possible, terms.sum(axis=-1, keepdims=True), 1), 0)
    return where(allowed[..., None], weights[..., None] * v[..., None, :, :], 0).sum(axis=-2)


def _scores(q: Any, k: Any, scale: Any) -> Any:
    products = q @ k.swapaxes(-1, -2)
    return products / sqrt(q.shape[-1] + 0 * products) if scale is None else products * scale


def _attention(q: Any, k: Any, v: Any, mask: Any, *, causal: bool = False, scale: Any = None) -> Any:
    allowed = mask & top_left(*mask.shape) if causal else mask
    return _attended(_scores(q, k, scale), v, allowed)


def _attention_bottom_right(
    q: Any, k: Any, v: Any, mask: Any, *, causal: bool = False, scale: Any = None
) -> Any:
    allowed = mask & bottom_right(*mask.shape) if causal else mask
    return _attended(_scores(q, k, scale), v, allowed)


def _attention_shared_equally(
    q: Any, k: Any, v: Any, mask: Any, *, causal: bool = False, scale: Any = None
) -> Any:
    allowed = mask & top_left(*mask.shape) if causal else mask
    possible = allowed.any(axis=-1, keepdims=True)
    return _attended(where(possible, _scores(q, k, scale), 0 * v[..., :1, :1]), v, allowed | ~possible)


# ------------------------------------------------------------------------------- attention, as computed


def _scale_of(q: Any, scale: Any) -> Any:
    """The scale with its own roundings: of a root and a quotient, or of a number that no format holds."""
    one = 1.0 + 0.0 * q[..., :1, :1]
    return one / np.sqrt(one * q.shape[-1]) if scale is None else one * scale


def _on_queries(q: Any, scale: Any) -> tuple[Any, Any, float]:
    return _scale_of(q, scale), 1.0, 1.0


def _on_both(q: Any, scale: Any) -> tuple[Any, Any, float]:
    root = np.sqrt(np.abs(_scale_of(q, scale)))
    return root, root, 1.0 if scale is None or scale > 0 else -1.0


def _weights(scores: Any, allowed: Any, *, by_logarithm: bool, shared: bool) -> Any:
    """The softmax over what is allowed. The largest entry less itself is 0, whatever its error.

    `by_logarithm`: exp(s - logsumexp(s)), whose logarithm is as large as the scores, and rounded as they are.
    """
    possible = allowed.any(axis=-1, keepdims=True)
    scores = np.where(possible, np.where(allowed, scores, -inf), 0.0)
    top = scores.max(axis=-1, keepdims=True)
    at_top = scores.argmax(-1)[..., None] == np.arange(scores.shape[-1])
    shifted = np.where(at_top, 0.0, scores - top)
    total = np.exp(shifted).sum(axis=-1, keepdims=True)
    weights = np.exp(shifted) / total
    if by_logarithm:
        logarithm = as_computed(top) + np.log(total)
        weights = np.exp(shifted - (logarithm - as_computed(top)))
    return np.where(allowed | ~possible if shared else allowed, weights, 0.0)


def _form(
    name: str,
    used_by: str,
    factors: Callable[[Any, Any], tuple[Any, Any, float]],
    *,
    by_logarithm: bool = False,
    from_output: bool = False,
    align: Callable[[int, int], Any] = top_left,
    shared: bool = False,
) -> Form:
    """Attention and its gradient, with the scale in the place of `factors` (queries, keys, scores); the
    weights and their gradients are kept in memory between two products.

    The gradient of a softmax with the weights p takes sum(p dp), or `from_output` sum(dy y), which is equal.
    """

    def weights_of(q: Any, k: Any, mask: Any, causal: bool, scale: Any) -> tuple[Any, Any]:
        allowed = mask & align(*mask.shape) if causal else mask
        of_q, of_k, of_scores = factors(q, scale)
        scores = (q * of_q) @ (k * of_k).swapaxes(-1, -2) * of_scores
        return allowed, _weights(scores, allowed, by_logarithm=by_logarithm, shared=shared)

    def value(q: Any, k: Any, v: Any, mask: Any, *, causal: bool = False, scale: Any = None) -> Any:
        _, weights = weights_of(q, k, mask, causal, scale)
        return kept(weights) @ v

    def vjp(
        dy: Any, y: Any, q: Any, k: Any, v: Any, mask: Any, *, causal: bool = False, scale: Any = None
    ) -> tuple[Any, ...]:
        allowed, weights = weights_of(q, k, mask, causal, scale)
        weights = weights if by_logarithm else saved(weights)
        of_q, of_k, of_scores = factors(q, scale)
        dp = kept(dy @ v.swapaxes(-1, -2))
        inner = (dy * y if from_output else weights * dp).sum(axis=-1, keepdims=True)
        ds = kept(np.where(allowed, weights * (dp - inner), 0.0)) * of_scores
        dq = (ds @ (k * of_k)) * of_q
        dk = (ds.swapaxes(-1, -2) @ (q * of_q)) * of_k
        return dq, dk, kept(weights).swapaxes(-1, -2) @ dy

    return Form(name, used_by, None if from_output else value, vjp)


def _forms(**convention: Any) -> tuple[Form, ...]:
    return (
        _form("the scale on the queries, before the product", "Keras", _on_queries, **convention),
        _form("the root of the scale on queries and keys", "PyTorch", _on_both, **convention),
        _form(
            "p = exp(s - logsumexp(s)); ds = p (dp - sum(dy y))",
            "FlashAttention, PyTorch",
            _on_queries,
            by_logarithm=True,
            from_output=True,
            **convention,
        ),
        _form("ds = p (dp - sum(dy y))", "by hand", _on_queries, from_output=True, **convention),
    )


# --------------------------------------------------------------------------------- multi-head attention

MULTI_HEAD_INPUTS = ("x", "w_q", "w_k", "w_v", "w_o", "b_q", "b_k", "b_v", "b_o")


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
) -> Any:
    d = x.shape[-1] // heads
    y: Any = b_o
    for first in range(0, x.shape[-1], d):
        own = slice(first, first + d)  # the columns of one head, and its rows of the last projection
        q, k, v = (x @ w[:, own] + b[own] for w, b in ((w_q, b_q), (w_k, b_k), (w_v, b_v)))
        y = y + _attention(q, k, v, mask, causal=causal) @ w_o[own]
    return y


def _by_head(x: Any, heads: int) -> Any:
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).swapaxes(-2, -3)


def _side_by_side(x: Any) -> Any:
    return x.swapaxes(-2, -3).reshape(*x.shape[:-3], x.shape[-2], x.shape[-3] * x.shape[-1])


def _summed(x: Any, dy: Any) -> tuple[Any, Any]:
    """The gradients of the weights and the bias of x w + b."""
    rows, slopes = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    return rows.T @ slopes, slopes.sum(axis=0)


def _multi_head_form(form: Form, alone: Form) -> Form:
    """What `form` computes for each head, with all that lies between two layers kept in memory; `alone` has
    the value, if it has none."""
    attend, slopes_of = form.value or alone.value, form.vjp
    assert attend is not None
    assert slopes_of is not None

    def projected(x: Any, weights: Any, biases: Any, heads: int) -> Any:
        return [_by_head(kept(x @ w + b), heads) for w, b in zip(weights, biases, strict=True)]

    def value(x: Any, *others: Any, heads: int, causal: bool = False) -> Any:
        *weights, w_o = others[:4]
        *biases, b_o, mask = others[4:]
        q, k, v = projected(x, weights, biases, heads)
        return kept(_side_by_side(attend(q, k, v, mask, causal=causal))) @ w_o + b_o

    def vjp(dy: Any, y: Any, x: Any, *others: Any, heads: int, causal: bool = False) -> tuple[Any, ...]:
        *weights, w_o = others[:4]
        *biases, _, mask = others[4:]
        q, k, v = projected(x, weights, biases, heads)
        context = kept(attend(q, k, v, mask, causal=causal))
        dw_o, db_o = _summed(_side_by_side(context), dy)
        dcontext = _by_head(kept(dy @ w_o.T), heads)
        slopes = [
            kept(_side_by_side(slope)) for slope in slopes_of(dcontext, context, q, k, v, mask, causal=causal)
        ]
        parts = [kept(slope @ w.T) for slope, w in zip(slopes, weights, strict=True)]
        gradients = [_summed(x, slope) for slope in slopes]
        dx = kept(parts[0] + parts[1]) + parts[2]
        return dx, *(dw for dw, _ in gradients), dw_o, *(db for _, db in gradients), db_o

    return Form(f"in each head: {form.name}", form.used_by, None if form.value is None else value, vjp)


def _multi_head_forms() -> tuple[Form, ...]:
    each = _forms()
    return tuple(_multi_head_form(form, each[0]) for form in each)


# ------------------------------------------------------------------------------------- rotary embedding


def _rotary(x: Any, cos: Any, sin: Any, *, layout: str = "half") -> Any:
    p, y = cos.shape[-1], 0 * x
    for i in range(p):
        a, b = (i, i + p) if layout == "half" else (2 * i, 2 * i + 1)
        y[..., a] = x[..., a] * cos[:, i] - x[..., b] * sin[:, i]
        y[..., b] = x[..., a] * sin[:, i] + x[..., b] * cos[:, i]
    return y


def _in_pairs(x: Any, layout: str) -> tuple[Any, Any]:
    half = x.shape[-1] // 2
    return (x[..., :half], x[..., half:]) if layout == "half" else (x[..., 0::2], x[..., 1::2])


def _of_pairs(a: Any, b: Any, layout: str) -> Any:
    if layout == "half":
        return np.concatenate([a, b], axis=-1)
    return np.stack([a, b], axis=-1).reshape(*a.shape[:-1], 2 * a.shape[-1])


def _rotary_kept(x: Any, cos: Any, sin: Any, *, layout: str = "half") -> Any:
    a, b = _in_pairs(x, layout)
    return _of_pairs(
        kept(a * cos) - kept(b * sin),
        kept(b * cos) + kept(a * sin),
        layout,
    )


def _rotary_kept_vjp(dy: Any, y: Any, x: Any, cos: Any, sin: Any, *, layout: str = "half") -> tuple[Any, ...]:
    (a, b), (da, db) = _in_pairs(x, layout), _in_pairs(dy, layout)
    dx = _of_pairs(kept(da * cos) + kept(db * sin), kept(db * cos) - kept(da * sin), layout)

    def summed(one: Any, other: Any) -> Any:
        parts = [kept(part).reshape(-1, *cos.shape) for part in (one, other)]
        return np.concatenate(parts, axis=0).sum(axis=0)

    return dx, summed(da * a, db * b), summed(db * a, -(da * b))


SCALED = "s = scale q k^T; scale = 1 / sqrt(d) unless it is given"
ATTENDED = "y_i = sum_j exp(s_ij) v_j / sum_j exp(s_ij), over the keys j that i sees"

SPECS = (
    Spec(
        name="scaled_dot_product_attention",
        summary="For each query the mean of the values, weighted by the softmax of its scores with the keys.",
        signature="(...,q,d),(...,k,d),(...,k,e),(q,k)->(...,q,e)",
        definition=_attention,
        inputs=(
            Input("q", degree=2),
            Input("k", degree=2),
            Input("v", degree=2),
            Input("mask", Domain.MASK, differentiable=False),
        ),
        equations=(
            SCALED,
            ATTENDED,
            "query i sees key j where mask_ij is True and, if causal, j <= i",
            "y_i = 0 where it sees none",
        ),
        settings=(Setting("causal", (False, True)), Setting("scale", (None, 0.3))),
        shapes=(
            {"q": 3, "d": 2, "k": 4, "e": 1},
            {"q": 1, "d": 3, "k": 19, "e": 2},
            {"q": 5, "d": 4, "k": 1, "e": 3},
            {"q": 2, "d": 17, "k": 3, "e": 5},
            {"q": 18, "d": 1, "k": 2, "e": 3},
            {"q": 4, "d": 5, "k": 7, "e": 2},
            {"q": 2, "d": 3, "k": 5, "e": 21},
        ),
        laws=("order-of-keys", "convex-combination", "causal", "masked-key", "nan-reaches-gradients"),
        cases=(
            Case(
                "equal scores share equally",
                ([[0.0, 0.0]], [[1.0, 2.0], [-3.0, 4.0]], [[1.0], [3.0]], [[True, True]]),
                [[2.0]],
            ),
            Case(
                "the largest score takes all; nothing overflows, and the scale is 1 / sqrt(4)",
                (
                    [[60.0, 0.0, 0.0, 0.0]],
                    [[600.0, 0.0, 0.0, 0.0], [-600.0, 0.0, 0.0, 0.0]],
                    [[2.0], [5.0]],
                    [[True, True]],
                ),
                [[2.0]],
            ),
            Case(
                "a scale of 0 is none of the usual: all share equally",
                ([[60.0]], [[600.0], [-600.0]], [[1.0], [3.0]], [[True, True]]),
                [[2.0]],
                {"scale": 0.0},
            ),
            Case("one key, whatever its score", ([[-9.0]], [[7.0]], [[2.5, -1.0]], [[True]]), [[2.5, -1.0]]),
            Case(
                "what is masked takes nothing, although its score is the largest",
                ([[1.0]], [[30000.0], [0.0], [0.0]], [[9.0], [1.0], [2.0]], [[False, True, True]]),
                [[1.5]],
            ),
            Case(
                "what is allowed takes all, although its score is far below every finite stand-in for a mask",
                ([[200.0]], [[-300.0], [0.0]], [[3.0], [1.0]], [[True, False]]),
                [[3.0]],
            ),
            Case(
                "a query that may attend to nothing",
                ([[1.0], [1.0]], [[2.0], [2.0]], [[1.0], [3.0]], [[False, False], [True, True]]),
                [[0.0], [2.0]],
            ),
            Case(
                "causal, with more keys than queries: the first query sees the first key only",
                (
                    [[0.0], [0.0]],
                    [[0.0], [0.0], [0.0]],
                    [[1.0], [3.0], [8.0]],
                    [[True, True, True], [True, True, True]],
                ),
                [[1.0], [2.0]],
                {"causal": True},
            ),
            Case(
                "causal, with fewer keys than queries",
                ([[0.0], [0.0], [0.0]], [[0.0], [0.0]], [[1.0], [3.0]], [[True, True]] * 3),
                [[1.0], [2.0], [2.0]],
                {"causal": True},
            ),
            Case(
                "the NaN of a query stays with it",
                ([[nan], [0.0]], [[1.0], [1.0]], [[1.0], [3.0]], [[True, True], [True, True]]),
                [[nan], [2.0]],
            ),
            Case(
                "an infinite score takes nothing below, and is no number above",
                ([[1.0], [-1.0]], [[-inf], [0.0]], [[5.0], [3.0]], [[True, True], [True, True]]),
                [[3.0], [nan]],
            ),
        ),
        refusals=(
            Refusal(
                "no key at all", ([[1.0]], np.zeros((0, 1)), np.zeros((0, 1)), np.zeros((1, 0), bool)), "key"
            ),
            Refusal("a mask of numbers", ([[1.0]], [[1.0]], [[1.0]], [[0.0]]), "bool"),
            Refusal(
                "a mask of the keys alone",
                ([[1.0]], [[1.0], [2.0]], [[1.0], [2.0]], [True, False]),
                "shape",
            ),
            Refusal(
                "keys of another length than the queries",
                ([[1.0]], [[1.0, 2.0]], [[1.0]], [[True]]),
                "d = 1",
            ),
            Refusal("values for other keys", ([[1.0]], [[1.0]], [[1.0], [2.0]], [[True]]), "k = 1"),
            Refusal("an infinite scale", ([[1.0]], [[1.0]], [[1.0]], [[True]]), "scale", {"scale": inf}),
        ),
        forms=_forms(),
        variants=(
            Variant(
                "causal-aligned-bottom-right",
                "causal: the last query sees all keys, the one before it all but the last",
                "FlashAttention from 2.1",
                definition=_attention_bottom_right,
                forms=_forms(align=bottom_right),
            ),
            Variant(
                "masked-queries-share-equally",
                "a query that may attend to nothing takes the mean of all values",
                "JAX, Keras, and all that mask with a large negative number",
                definition=_attention_shared_equally,
                forms=_forms(shared=True),
            ),
        ),
        references=(VASWANI, DAO),
    ),
    Spec(
        name="multi_head_attention",
        summary="Self-attention in several heads, each of its own projections of x, and one projection out.",
        signature="(...,t,m),(m,m),(m,m),(m,m),(m,m),(m),(m),(m),(m),(t,t)->(...,t,m)",
        definition=_multi_head,
        inputs=(
            *(Input(name, degree=7, cancels=name == "b_k") for name in MULTI_HEAD_INPUTS),
            Input("mask", Domain.MASK, differentiable=False),
        ),
        equations=(
            "q = x w_q + b_q,  k = x w_k + b_k,  v = x w_v + b_v",
            "head i: attention of the columns i d to (i + 1) d - 1, d = m / heads",
            "y = [head_0 head_1 ...] w_o + b_o",
        ),
        settings=(Setting("heads", (2, 1), required=True), Setting("causal", (False, True))),
        shapes=(
            {"t": 2, "m": 2},  # square: sympy takes four times as long where t = 3
            {"t": 1, "m": 4},
            {"t": 17, "m": 2},
            {"t": 3, "m": 6},
            {"t": 5, "m": 4},
        ),
        laws=("causal", "masked-key", "nan-reaches-gradients"),
        cases=(
            Case(
                "one head, identities: the mean of x",
                ([[0.0], [2.0]], [[0.0]], [[0.0]], [[1.0]], [[1.0]], *[[0.0]] * 4, [[True, True]] * 2),
                [[1.0], [1.0]],
                {"heads": 1},
            ),
            Case(
                "two heads of one column each: the first looks at the past alone, the second at all",
                (
                    [[1.0, 1.0], [3.0, 5.0]],
                    [[0.0, 0.0], [0.0, 0.0]],
                    [[0.0, 0.0], [0.0, 0.0]],
                    [[1.0, 0.0], [0.0, 1.0]],
                    [[1.0, 0.0], [0.0, 2.0]],
                    *[[0.0, 0.0]] * 3,
                    [0.5, 0.25],
                    [[True, True]] * 2,
                ),
                [[1.5, 2.25], [2.5, 6.25]],
                {"heads": 2, "causal": True},
            ),
            Case(
                "a position that may attend to nothing has the last bias",
                ([[4.0]], [[1.0]], [[1.0]], [[1.0]], [[1.0]], [1.0], [1.0], [1.0], [0.5], [[False]]),
                [[0.5]],
                {"heads": 1},
            ),
        ),
        refusals=(
            Refusal(
                "heads that do not divide the columns",
                ([[1.0, 2.0, 3.0]], *[np.eye(3)] * 4, *[np.zeros(3)] * 4, [[True]]),
                "divisor of m = 3",
                {"heads": 2},
            ),
        ),
        forms=_multi_head_forms(),
        references=(VASWANI,),
    ),
    Spec(
        name="rotary_embedding",
        summary="Pairs of features, rotated by the angle of their position.",
        signature="(...,t,d),(t,p),(t,p)->(...,t,d)",
        definition=_rotary,
        inputs=(Input("x", degree=2), Input("cos", degree=2), Input("sin", degree=2)),
        equations=(
            "y_a = x_a cos - x_b sin,  y_b = x_b cos + x_a sin, for each pair (a, b)",
            "half: a = i, b = i + p;  interleaved: a = 2 i, b = 2 i + 1;  i = 0 ... p - 1",
        ),
        settings=(Setting("layout", ("half", "interleaved")),),
        derived={"d": lambda sizes, settings: 2 * sizes["p"]},
        shapes=(
            {"t": 3, "p": 2},
            {"t": 1, "p": 3},
            {"t": 5, "p": 17},
            {"t": 4, "p": 1},
            {"t": 18, "p": 2},
        ),
        laws=("scales-pairs", "nan-reaches-gradients"),
        cases=(
            Case(
                "a quarter turn, in halves",
                ([[1.0, 2.0, 3.0, 4.0]], [[0.0, 1.0]], [[1.0, 0.0]]),
                [[-3.0, 2.0, 1.0, 4.0]],
            ),
            Case(
                "a quarter turn, interleaved",
                ([[1.0, 2.0, 3.0, 4.0]], [[0.0, 1.0]], [[1.0, 0.0]]),
                [[-2.0, 1.0, 3.0, 4.0]],
                {"layout": "interleaved"},
            ),
            Case(
                "each position has its own angles",
                ([[1.0, 2.0], [1.0, 2.0]], [[1.0], [-1.0]], [[0.0], [0.0]]),
                [[1.0, 2.0], [-1.0, -2.0]],
            ),
            Case(
                "NaN stays in its pair",
                ([[nan, 1.0, 2.0, 3.0]], [[1.0, 1.0]], [[0.0, 0.0]]),
                [[nan, 1.0, nan, 3.0]],
            ),
        ),
        refusals=(
            Refusal(
                "columns repeated for both of a pair", ([[1.0, 2.0]], [[1.0, 1.0]], [[0.0, 0.0]]), "d = 4"
            ),
            Refusal("tables of other positions", ([[1.0, 2.0]], [[1.0], [1.0]], [[0.0], [0.0]]), "t = 1"),
            Refusal("no such layout", ([[1.0, 2.0]], [[1.0]], [[0.0]]), "layout", {"layout": "quarter"}),
        ),
        forms=(
            Form(
                "each product kept; the gradients of the tables as sums of products",
                "Hugging Face Transformers",
                _rotary_kept,
                _rotary_kept_vjp,
            ),
        ),
        references=("Su et al., RoFormer, arXiv:2104.09864, 3.4.2",),
    ),
)
