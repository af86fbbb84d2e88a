"""Wrong: what a hurried author of kernels writes. It passes a comparison with allclose on normal numbers.

Not other formulas, but the right ones with too few digits: operands of a tensor core, sums in a short
format, approximations of elementary functions, a constant with four digits, a tail that is cut off. Those
that `verify/mistakes` knows already are taken from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from scipy.special import erf

import refnet
from tests.candidates import plain
from tests.candidates.parts import in_bfloat16
from verify.mistakes.catalogue import MISTAKES

Array = Any
Function = Callable[..., Any]


class Sloppy(NamedTuple):
    """One sloppy implementation of the value or the vjp of an operator."""

    name: str
    op: str
    aspect: str
    says: str
    function: Function
    dtypes: tuple[str, ...] = ("float32",)

    @property
    def functions(self) -> dict[str, Function]:
        """The candidate, by the name of the contract."""
        return {f"{self.op}_vjp" if self.aspect == "vjp" else self.op: self.function}


# --------------------------------------------------------------------------------- numbers of fewer digits


def _digits(x: Array, bits: int) -> Array:
    """Rounded to so many bits, with the range of its own format: TF32 has 11."""
    with np.errstate(all="ignore"):
        significand, exponent = np.frexp(x.astype(np.float64))
        return np.ldexp(np.rint(np.ldexp(significand, bits)), exponent - bits).astype(x.dtype)


def _half(x: Array) -> Array:
    with np.errstate(all="ignore"):
        return x.astype(np.float16).astype(x.dtype)


def _sum_in(dtype: Any, terms: Array, axis: int) -> Array:
    """One after the other, with every partial sum in the format."""
    total = np.zeros(np.delete(terms.shape, axis), dtype)
    for term in np.moveaxis(terms, axis, 0):
        total = (total + term.astype(dtype)).astype(dtype)
    return total.astype(terms.dtype)


def _product_in(rounded: Callable[[Array], Array], a: Array, b: Array) -> Array:
    """A product of matrices whose accumulator is rounded after every term."""
    total = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for k in range(a.shape[1]):
        total = rounded(total + a[:, k, None] * b[None, k])
    return total


def _reduced(losses: Array, reduction: str, dtype: Any) -> Array:
    """The mean or the sum of losses in a short format."""
    if reduction == "none":
        return losses
    total = _sum_in(dtype, losses.reshape(-1), 0)
    return np.asarray(total / losses.dtype.type(losses.size) if reduction == "mean" else total)


# ------------------------------------------------------------------------------ elementary functions, cheap


def _schraudolph(x: Array) -> Array:
    """exp by the bits of a float32: a line between powers of two, off by 3 per cent."""
    bits = np.clip(x.astype(np.float64) * (2**23 / np.log(2.0)) + (127 * 2**23 - 366_393), 0, 2**31 - 2**24)
    return bits.astype(np.int32).view(np.float32).astype(x.dtype)


def _cubic_exp(x: Array) -> Array:
    """2^n times a cubic, as kernels of attention have it: off by 1e-4."""
    t = np.clip(x * x.dtype.type(np.log2(np.e)), -126, 127)
    n = np.floor(t)
    f = t - n
    cubic = 1 + f * (0.6951469 + f * (0.2275632 + f * 0.0771192))
    return np.ldexp(cubic, n.astype(np.int32)).astype(x.dtype)


def _approximate_reciprocal(x: Array) -> Array:
    """RCPPS without a step of Newton's: 12 bits."""
    return _digits(1 / x, 12)


def _approximate_root(x: Array) -> Array:
    """RSQRTPS without a step of Newton's: 12 bits."""
    return _digits(1 / np.sqrt(x), 12)


def _quake_root(x: Array) -> Array:
    """1 / sqrt(x) by the constant 0x5f3759df and one step of Newton's: off by 1.7e-3."""
    single = np.ascontiguousarray(x, np.float32)
    y = (np.int32(0x5F3759DF) - (single.view(np.int32) >> 1)).view(np.float32)
    return (y * (np.float32(1.5) - np.float32(0.5) * single * y * y)).astype(x.dtype)


# ---------------------------------------------------------------------------------------------- elementwise


def sigmoid_clamped(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x, -18, 18)))


def sigmoid_by_table(x: Array) -> Array:
    grid = np.linspace(-8, 8, 1025)
    return np.interp(x, grid, 1 / (1 + np.exp(-grid))).astype(x.dtype)


def sigmoid_in_half(x: Array) -> Array:
    """All in float16."""
    x = x.astype(np.float16)
    return np.float16(1) / (np.float16(1) + np.exp(-x))


def silu_in_half(x: Array) -> Array:
    return x * sigmoid_in_half(x)


def softplus_in_half(x: Array) -> Array:
    return np.log(np.float16(1) + np.exp(x))


def silu_by_bits(x: Array) -> Array:
    return x / (1 + _schraudolph(-x))


def silu_by_tanh(x: Array) -> Array:
    return x * (1 + np.tanh(x / 2)) / 2


def glu_by_tanh(x: Array) -> Array:
    a, b = np.split(x, 2, axis=-1)
    return a * (1 + np.tanh(b / 2)) / 2


def tanh_by_quotient(x: Array) -> Array:
    return 1 - 2 / (np.exp(2 * x) + 1)


def tanh_pade(x: Array) -> Array:
    x = np.clip(x, -3, 3)
    return x * (27 + x * x) / (27 + 9 * x * x)


def tanh_lambert(x: Array) -> Array:
    """Four levels of Lambert's continued fraction, clamped where it leaves 1."""
    x = np.clip(x, -4.97, 4.97)
    s = x * x
    y = x * (135135 + s * (17325 + s * (378 + s))) / (135135 + s * (62370 + s * (3150 + 28 * s)))
    return np.clip(y, -1, 1)


def tanh_saturated(x: Array) -> Array:
    return np.where(np.abs(x) > 4, np.sign(x), np.tanh(x))


def gelu_by_tanh(x: Array) -> Array:
    return refnet.gelu(x, approximate="tanh")


def gelu_by_sigmoid(x: Array) -> Array:
    return x * plain.sigmoid(x.dtype.type(1.702) * x)


def gelu_short_constant(x: Array, *, approximate: str = "none") -> Array:
    if approximate == "none":
        return refnet.gelu(x)
    return 0.5 * x * (1 + np.tanh(x.dtype.type(0.79788) * (x + x.dtype.type(0.044715) * x * x * x)))


def gelu_in_bfloat16(x: Array) -> Array:
    """The distribution function is kept in bfloat16."""
    return x * in_bfloat16((0.5 * (1 + erf(x / np.sqrt(2.0)))).astype(x.dtype))


def softplus_threshold(x: Array, *, beta: float = 1.0) -> Array:
    return np.where(x.dtype.type(beta) * x > 8, x, refnet.softplus(x, beta=beta))


def softsign_by_reciprocal(x: Array) -> Array:
    return x * _approximate_reciprocal(1 + np.abs(x))


def mish_in_half(x: Array) -> Array:
    return x * _half(np.tanh(refnet.softplus(x)))


def leaky_relu_short_slope(x: Array, *, slope: float = 0.01) -> Array:
    return np.where(x > 0, x, x * in_bfloat16(x.dtype.type(slope)))


def relu_by_product(x: Array) -> Array:
    return x * (x > 0)


def hard_swish_by_tenths(x: Array) -> Array:
    return x * np.clip(x.dtype.type(0.1667) * x + x.dtype.type(0.5), 0, 1)


def dropout_short_scale(x: Array, mask: Array, *, rate: float = 0.5) -> Array:
    return np.where(mask, x * x.dtype.type(np.float16(1 / (1 - rate))), 0).astype(x.dtype)


def sigmoid_vjp_half_output(dy: Array, x: Array) -> Array:
    y = _half(plain.sigmoid(x))
    return dy * y * (1 - y)


def tanh_vjp_bfloat16_output(dy: Array, x: Array) -> Array:
    y = in_bfloat16(np.tanh(x))
    return dy * (1 - y * y)


def silu_vjp_half_gate(dy: Array, x: Array) -> Array:
    s = _half(plain.sigmoid(x))
    return dy * s * (1 + x * (1 - s))


def gelu_vjp_by_difference(dy: Array, x: Array) -> Array:
    h = x.dtype.type(1e-3)
    return dy * (refnet.gelu(x + h) - refnet.gelu(x - h)) / (2 * h)


# ----------------------------------------------------------------------------------------------------- rows


def _softmax(x: Array, axis: int, exp: Function, share: Function = np.divide) -> Array:
    e = exp(x - x.max(axis=axis, keepdims=True))
    return share(e, e.sum(axis=axis, keepdims=True))


def softmax_short_logarithm(x: Array, *, axis: int = -1) -> Array:
    return _softmax(x, axis, lambda z: np.exp2(z * x.dtype.type(1.4427)))


def softmax_bfloat16_logits(x: Array, *, axis: int = -1) -> Array:
    return plain.softmax(in_bfloat16(x), axis=axis)


def softmax_half_exponentials(x: Array, *, axis: int = -1) -> Array:
    return _softmax(x, axis, lambda z: _half(np.exp(z)))


def softmax_by_bits(x: Array, *, axis: int = -1) -> Array:
    return _softmax(x, axis, _schraudolph)


def softmax_by_cubic(x: Array, *, axis: int = -1) -> Array:
    return _softmax(x, axis, _cubic_exp)


def softmax_short_reciprocal(x: Array, *, axis: int = -1) -> Array:
    return _softmax(x, axis, np.exp, lambda e, total: e * _approximate_reciprocal(total))


def softmax_clamped(x: Array, *, axis: int = -1) -> Array:
    return _softmax(x, axis, lambda z: np.exp(np.maximum(z, -10)))


def softmax_shifted_by_the_first(x: Array, *, axis: int = -1) -> Array:
    e = np.exp(x - np.take(x, [0], axis))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_shifted_by_the_mean(x: Array, *, axis: int = -1) -> Array:
    e = np.exp(x - x.mean(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_in_half(x: Array, *, axis: int = -1) -> Array:
    """All in float16, the sum too."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / np.expand_dims(_sum_in(np.float16, e, axis), axis)


def log_softmax_epsilon(x: Array, *, axis: int = -1) -> Array:
    return np.log(plain.softmax(x, axis=axis) + x.dtype.type(1e-7))


def log_softmax_floored(x: Array, *, axis: int = -1) -> Array:
    return np.log(np.maximum(plain.softmax(x, axis=axis), x.dtype.type(1e-30)))


def log_softmax_bfloat16_sum(x: Array, *, axis: int = -1) -> Array:
    z = x - x.max(axis=axis, keepdims=True)
    return z - np.log(in_bfloat16(np.exp(z).sum(axis=axis, keepdims=True)))


def logsumexp_epsilon(x: Array, *, axis: int = -1) -> Array:
    top = x.max(axis=axis, keepdims=True)
    return np.log(np.exp(x - top).sum(axis=axis) + x.dtype.type(1e-6)) + top.squeeze(axis)


def logsumexp_pruned(x: Array, *, axis: int = -1) -> Array:
    """Leaves out what is 8 below the largest."""
    top = x.max(axis=axis, keepdims=True)
    return np.log(np.where(x - top < -8, 0, np.exp(x - top)).sum(axis=axis)) + top.squeeze(axis)


def softmax_vjp_bfloat16_output(dy: Array, x: Array, *, axis: int = -1) -> Array:
    y = in_bfloat16(plain.softmax(x, axis=axis))
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def log_softmax_vjp_bfloat16_output(dy: Array, x: Array, *, axis: int = -1) -> Array:
    y = in_bfloat16(plain.softmax(x, axis=axis))
    return dy - y * dy.sum(axis=axis, keepdims=True)


# -------------------------------------------------------------------------------------------- normalisation


def _normalised(x: Array, eps: Array, root: Function) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred * root((centred * centred).mean(axis=-1, keepdims=True) + eps)


def _root(x: Array) -> Array:
    return 1 / np.sqrt(x)


def layer_norm_another_eps(x: Array, gamma: Array, beta: Array) -> Array:
    return _normalised(x, x.dtype.type(1e-6), _root) * gamma + beta


def layer_norm_short_root(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> Array:
    return _normalised(x, x.dtype.type(eps), _approximate_root) * gamma + beta


def layer_norm_quake(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> Array:
    return _normalised(x, x.dtype.type(eps), _quake_root) * gamma + beta


def layer_norm_bfloat16_variance(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> Array:
    return _normalised(x, x.dtype.type(eps), lambda v: _root(in_bfloat16(v))) * gamma + beta


def layer_norm_bfloat16_scale(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> Array:
    return _normalised(x, x.dtype.type(eps), _root) * in_bfloat16(gamma) + beta


def layer_norm_in_half(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> Array:
    """All in float16, the sums too."""
    n = x.dtype.type(x.shape[-1])
    centred = x - (_sum_in(np.float16, x, -1) / n)[..., None]
    variance = (_sum_in(np.float16, centred * centred, -1) / n)[..., None]
    return centred / np.sqrt(variance + x.dtype.type(eps)) * gamma + beta


def layer_norm_vjp_bfloat16_saved(
    dy: Array, x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5
) -> Any:
    """What was normalised is kept in bfloat16 for the backward pass."""
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = _root((centred * centred).mean(axis=-1, keepdims=True) + x.dtype.type(eps))
    y, dz = in_bfloat16(centred * scale), dy * gamma
    inner = dz - dz.mean(axis=-1, keepdims=True) - y * (dz * y).mean(axis=-1, keepdims=True)
    rows = tuple(range(x.ndim - 1))
    return scale * inner, (dy * y).sum(axis=rows), dy.sum(axis=rows)


def rms_norm_short_root(x: Array, gamma: Array, *, eps: float = 1e-6) -> Array:
    return x * _approximate_root((x * x).mean(axis=-1, keepdims=True) + x.dtype.type(eps)) * gamma


def rms_norm_half_squares(x: Array, gamma: Array, *, eps: float = 1e-6) -> Array:
    """The squares overflow at 256."""
    return x / np.sqrt(_half(_half(x * x).mean(axis=-1, keepdims=True)) + x.dtype.type(eps)) * gamma


def rms_norm_another_eps(x: Array, gamma: Array) -> Array:
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + x.dtype.type(1e-5)) * gamma


def _along_channels(x: Array, parameter: Array) -> Array:
    return parameter.reshape(-1, *[1] * (x.ndim - 2))


def batch_norm_folded_in_bfloat16(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, *, eps: float = 1e-5
) -> Array:
    """Scale and shift are kept in bfloat16."""
    scale = gamma / np.sqrt(var + x.dtype.type(eps))
    shift = beta - mean * scale
    return x * _along_channels(x, in_bfloat16(scale)) + _along_channels(x, in_bfloat16(shift))


def _one_pass(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    mean = x.mean(axis=axes, keepdims=True)
    variance = (x * x).mean(axis=axes, keepdims=True) - mean * mean
    return (x - mean) / np.sqrt(np.maximum(variance, 0) + x.dtype.type(eps))


def instance_norm_one_pass(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> Array:
    y = _one_pass(x, tuple(range(2, x.ndim)), eps)
    return y * _along_channels(x, gamma) + _along_channels(x, beta)


def group_norm_one_pass(x: Array, gamma: Array, beta: Array, *, groups: int, eps: float = 1e-5) -> Array:
    y = _one_pass(x.reshape(x.shape[0], groups, -1), (2,), eps).reshape(x.shape)
    return y * _along_channels(x, gamma) + _along_channels(x, beta)


# ------------------------------------------------------------------------------------- products of matrices


def linear_tf32(x: Array, w: Array, b: Array) -> Array:
    return _digits(x, 11) @ _digits(w, 11) + b


def linear_bfloat16(x: Array, w: Array, b: Array) -> Array:
    return in_bfloat16(x) @ in_bfloat16(w) + b


def linear_bfloat16_twice(x: Array, w: Array, b: Array) -> Array:
    """Each operand is the sum of two numbers of bfloat16; the product of the small ones is left out."""
    (x_high, x_low), (w_high, w_low) = ((in_bfloat16(a), in_bfloat16(a - in_bfloat16(a))) for a in (x, w))
    return x_high @ w_high + x_high @ w_low + x_low @ w_high + b


def linear_short_accumulator(x: Array, w: Array, b: Array) -> Array:
    return _product_in(lambda total: _digits(total, 12), x, w) + b


def linear_bfloat16_result(x: Array, w: Array, b: Array) -> Array:
    return in_bfloat16(x @ w + b)


def linear_without_the_last_term(x: Array, w: Array, b: Array) -> Array:
    return x[:, :-1] @ w[:-1] + b


def linear_in_fours(x: Array, w: Array, b: Array) -> Array:
    """Leaves out what is no whole vector of four."""
    k = x.shape[1] - x.shape[1] % 4
    return x[:, :k] @ w[:k] + b


def linear_in_half(x: Array, w: Array, b: Array) -> Array:
    """The accumulator has 11 bits."""
    return _product_in(_half, x, w) + b


def linear_vjp_tf32_weights(dy: Array, x: Array, w: Array, b: Array) -> Any:
    return dy @ w.T, _digits(x, 11).T @ _digits(dy, 11), dy.sum(axis=0)


def linear_vjp_bfloat16_cotangent(dy: Array, x: Array, w: Array, b: Array) -> Any:
    """As it is handed down from a layer in bfloat16."""
    return plain.linear_vjp(in_bfloat16(dy), x, w, b)


def linear_vjp_bfloat16_bias(dy: Array, x: Array, w: Array, b: Array) -> Any:
    return dy @ w.T, x.T @ dy, _sum_in(ml_dtypes.bfloat16, dy, 0)


def conv2d_half_weights(x: Array, w: Array, b: Array, **settings: Any) -> Array:
    return refnet.conv2d(x, _half(w), b, **settings)


def conv1d_bfloat16(x: Array, w: Array, b: Array, **settings: Any) -> Array:
    return refnet.conv1d(in_bfloat16(x), in_bfloat16(w), b, **settings)


def conv_transpose2d_tf32(x: Array, w: Array, b: Array, **settings: Any) -> Array:
    return refnet.conv_transpose2d(_digits(x, 11), _digits(w, 11), b, **settings)


def global_avg_pool2d_bfloat16(x: Array) -> Array:
    places = x.reshape(*x.shape[:2], -1)
    return _sum_in(ml_dtypes.bfloat16, places, -1) / x.dtype.type(places.shape[-1])


def avg_pool2d_short_share(x: Array, *, size: Any, **settings: Any) -> Array:
    """The share of a place has four digits."""
    count = size * size if isinstance(size, int) else size[0] * size[1]
    total = refnet.avg_pool2d(x, size=size, **settings) * x.dtype.type(count)
    return total * x.dtype.type(round(1 / count, 4))


# -------------------------------------------------------------------------- attention, tables and sequences


def _attention(q: Array, k: Array, v: Array, mask: Array, scores: Function, share: Function) -> Array:
    s = scores(q @ np.swapaxes(k, -1, -2))
    s = np.where(mask, s, -np.inf)
    top = s.max(axis=-1, keepdims=True)
    e = np.exp(s - np.where(np.isfinite(top), top, 0))
    total = e.sum(axis=-1, keepdims=True)
    return share(e / np.where(total == 0, 1, total)) @ v


def attention_bfloat16_scores(q: Array, k: Array, v: Array, mask: Array) -> Array:
    scale = q.dtype.type(q.shape[-1] ** -0.5)
    return _attention(q, k, v, mask, lambda s: in_bfloat16(s * scale), lambda p: p)


def attention_bfloat16_shares(q: Array, k: Array, v: Array, mask: Array) -> Array:
    scale = q.dtype.type(q.shape[-1] ** -0.5)
    return _attention(q, k, v, mask, lambda s: s * scale, in_bfloat16)


def attention_short_scale(q: Array, k: Array, v: Array, mask: Array) -> Array:
    scale = q.dtype.type(round(q.shape[-1] ** -0.5, 4))
    return _attention(q, k, v, mask, lambda s: s * scale, lambda p: p)


def rotary_bfloat16_tables(x: Array, cos: Array, sin: Array, **settings: Any) -> Array:
    return refnet.rotary_embedding(x, in_bfloat16(cos), in_bfloat16(sin), **settings)


def embedding_half_table(table: Array, ids: Array) -> Array:
    return _half(table)[ids]


def embedding_vjp_bfloat16(dy: Array, table: Array, ids: Array, *, padding_id: int | None = None) -> Array:
    total = np.zeros(table.shape, table.dtype)
    for row, d in zip(ids.ravel(), dy.reshape(-1, table.shape[-1]), strict=True):
        if row != padding_id:
            total[row] = in_bfloat16(total[row] + d)
    return total


def rnn_pade(x: Array, h: Array, w_x: Array, w_h: Array, b: Array) -> Array:
    return tanh_pade(x @ w_x + h @ w_h + b)


def lstm_half_gates(x: Array, h: Array, c: Array, w_x: Array, w_h: Array, b: Array) -> Any:
    i, f, g, o = np.split(x @ w_x + h @ w_h + b, 4, axis=-1)
    after = _half(plain.sigmoid(f)) * c + _half(plain.sigmoid(i)) * np.tanh(g)
    return _half(plain.sigmoid(o)) * np.tanh(after), after


def gru_clamped(x: Array, h: Array, w_x: Array, w_h: Array, b_x: Array, b_h: Array) -> Array:
    of_x, of_h = (np.split(a @ w + b, 3, axis=-1) for a, w, b in ((x, w_x, b_x), (h, w_h, b_h)))
    r, z = (sigmoid_clamped(of_x[k] + of_h[k]) for k in (0, 1))
    return (1 - z) * np.tanh(of_x[2] + r * of_h[2]) + z * h


# --------------------------------------------------------------------------------------------------- losses


def mse_half_mean(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _reduced((p - t) ** 2, reduction, np.float16)


def mae_bfloat16_mean(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _reduced(np.abs(p - t), reduction, ml_dtypes.bfloat16)


def nll_half_mean(log_p: Array, labels: Array, *, reduction: str = "mean") -> Array:
    losses = -np.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]
    return _reduced(losses, reduction, np.float16)


def label_ce_half_mean(z: Array, labels: Array, *, reduction: str = "mean") -> Array:
    losses = plain.softmax_cross_entropy_with_integer_labels(z, labels, reduction="none")
    return _reduced(losses, reduction, np.float16)


def label_ce_bfloat16_logits(z: Array, labels: Array, *, reduction: str = "mean") -> Array:
    return plain.softmax_cross_entropy_with_integer_labels(in_bfloat16(z), labels, reduction=reduction)


def label_ce_vjp_bfloat16(dy: Array, z: Array, labels: Array, *, reduction: str = "mean") -> Array:
    one_hot = np.eye(z.shape[-1], dtype=z.dtype)[labels]
    share = dy / z.dtype.type(labels.size) if reduction == "mean" else dy
    return np.expand_dims(share, -1) * (in_bfloat16(plain.softmax(z)) - one_hot)


def huber_half_difference(p: Array, t: Array, *, delta: float = 1.0, reduction: str = "mean") -> Array:
    return plain.huber(_half(p - t), np.zeros_like(t), delta=delta, reduction=reduction)


def log_cosh_short_constant(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    size = np.abs(p - t)
    return plain._reduced(size + np.log1p(np.exp(-2 * size)) - p.dtype.type(0.6931), reduction)


# ---------------------------------------------------------------------------------------------------- steps


def sgd_bfloat16_rate(param: Array, grad: Array, *, learning_rate: float) -> Array:
    return param - in_bfloat16(param.dtype.type(learning_rate)) * grad


def momentum_bfloat16_state(param: Array, grad: Array, velocity: Array, **settings: Any) -> Any:
    return refnet.momentum_step(param, grad, in_bfloat16(velocity), **settings)


def adam_bfloat16_moments(param: Array, grad: Array, m: Array, v: Array, step: Array, **settings: Any) -> Any:
    return refnet.adam_step(param, grad, in_bfloat16(m), in_bfloat16(v), step, **settings)


def adam_another_eps(param: Array, grad: Array, m: Array, v: Array, step: Array, **settings: Any) -> Any:
    return refnet.adam_step(param, grad, m, v, step, **{**settings, "eps": 1e-7})


def rmsprop_short_root(
    param: Array, grad: Array, v: Array, *, learning_rate: float, decay: float = 0.9, eps: float = 1e-8
) -> Any:
    real = param.dtype.type
    after = real(decay) * v + real(1 - decay) * grad * grad
    root = _digits(np.sqrt(after), 12)
    return param - real(learning_rate) * grad / (root + real(eps)), after


def clip_in_half(a: Array, b: Array, *, max_norm: float) -> Any:
    """The norm overflows at 65504."""
    norm = np.sqrt(_half((a * a).sum() + (b * b).sum()))
    factor = a.dtype.type(1) if norm <= max_norm else a.dtype.type(max_norm) / norm
    return a * factor, b * factor


# ----------------------------------------------------------------------------------------------- the table


def _known(name: str) -> Sloppy:
    """A mistake that the catalogue has."""
    mistake = next(m for m in MISTAKES if m.name == name)
    aspect = "vjp" if mistake.value is None else "value"
    function = mistake.function(aspect)
    assert function is not None
    return Sloppy(name, mistake.op, aspect, mistake.summary, function)


def _own(op: str, rows: Sequence[tuple[Function, str]], aspect: str = "value") -> list[Sloppy]:
    return [Sloppy(f.__name__.replace("_", "-"), op, aspect, says, f) for f, says in rows]


def _of_half(op: str, function: Function, says: str) -> Sloppy:
    return Sloppy(f"{function.__name__.replace('_', '-')}-16", op, "value", says, function, ("float16",))


KNOWN = (
    "sigmoid-by-tanh",
    "sigmoid-exp-ratio",
    "tanh-in-half-precision",
    "tanh-cancels-near-zero",
    "softplus-overflows",
    "softplus-without-log1p",
    "log-sigmoid-as-log-of-sigmoid",
    "log-sigmoid-without-log1p",
    "elu-exp-minus-one",
    "selu-truncated-constants",
    "hard-sigmoid-truncated-sixth",
    "hard-swish-truncated-sixth",
    "mish-exp-ratio",
    "gelu-error-function-of-seven-digits",
    "gelu-gradient-of-the-tanh-form",
    "softmax-no-max-subtraction",
    "softmax-epsilon-in-denominator",
    "log-softmax-as-log-of-softmax",
    "logsumexp-no-max-subtraction",
    "linear-sums-in-half-precision",
    "conv2d-operands-of-11-bits",
    "conv2d-by-fft",
    "layer-norm-one-pass-variance",
    "layer-norm-eps-outside-the-root",
    "layer-norm-unbiased-variance",
    "batch-norm-one-pass-variance",
    "rms-norm-without-eps",
    "label-ce-log-of-softmax",
    "label-ce-epsilon-in-the-logarithm",
    "bce-logits-clipped",
    "bce-logits-without-log1p",
    "kl-epsilon-in-the-logarithm",
    "mse-expanded",
    "log-cosh-by-naive-softplus",
    "attention-masked-with-minus-1e4",
    "adam-eps-inside-the-root",
)
"""Sloppy, and in `verify/mistakes` already."""

SLOPPY: tuple[Sloppy, ...] = (
    *map(_known, KNOWN),
    *_own(
        "sigmoid",
        [
            (sigmoid_clamped, "the argument is clamped to 18: 1.5e-8 at -40 for 4.2e-18"),
            (sigmoid_by_table, "1024 straight pieces, and 3.4e-4 below -8"),
        ],
    ),
    *_own("sigmoid", [(sigmoid_vjp_half_output, "y (1 - y) of an output saved in float16")], "vjp"),
    *_own(
        "tanh",
        [
            (tanh_by_quotient, "1 - 2 / (exp(2x) + 1) has no digit left near 0"),
            (tanh_pade, "x (27 + x^2) / (27 + 9 x^2) is off by 2 per cent"),
            (tanh_lambert, "a continued fraction that is clamped at 4.97"),
            (tanh_saturated, "1 beyond 4, for 0.9993"),
        ],
    ),
    *_own("tanh", [(tanh_vjp_bfloat16_output, "1 - y^2 of an output saved in bfloat16")], "vjp"),
    *_own(
        "silu",
        [
            (silu_by_bits, "the exponential is a straight line between powers of two"),
            (silu_by_tanh, "the sigmoid is (1 + tanh(x / 2)) / 2, which has no tail"),
        ],
    ),
    *_own("silu", [(silu_vjp_half_gate, "the gate is saved in float16")], "vjp"),
    *_own("glu", [(glu_by_tanh, "the sigmoid is (1 + tanh(x / 2)) / 2, which has no tail")]),
    *_own(
        "gelu",
        [
            (gelu_by_tanh, "the tanh form for the error function"),
            (gelu_by_sigmoid, "x sigmoid(1.702 x) for the error function"),
            (gelu_short_constant, "0.79788 for the square root of 2 / pi, in the tanh form"),
            (gelu_in_bfloat16, "the distribution function in bfloat16"),
        ],
    ),
    *_own("gelu", [(gelu_vjp_by_difference, "the slope by a difference with h = 1e-3")], "vjp"),
    *_own("softplus", [(softplus_threshold, "x beyond 8, off by 3.4e-4")]),
    *_own("softsign", [(softsign_by_reciprocal, "a reciprocal of 12 bits")]),
    *_own("mish", [(mish_in_half, "the gate in float16")]),
    *_own("leaky_relu", [(leaky_relu_short_slope, "the slope in bfloat16: 0.01001 for 0.01")]),
    *_own("relu", [(relu_by_product, "x times a mask: minus infinity times 0 is NaN")]),
    *_own("hard_swish", [(hard_swish_by_tenths, "0.1667 for 1 / 6")]),
    *_own("dropout", [(dropout_short_scale, "the scale in float16: 1.111 for 1 / 0.9")]),
    *_own(
        "softmax",
        [
            (softmax_short_logarithm, "1.4427 for log2(e)"),
            (softmax_bfloat16_logits, "logits in bfloat16"),
            (softmax_half_exponentials, "exponentials in float16, which ends at 6e-8"),
            (softmax_by_bits, "the exponential is a straight line between powers of two"),
            (softmax_by_cubic, "the exponential by a cubic, off by 1e-4"),
            (softmax_short_reciprocal, "a reciprocal of 12 bits"),
            (softmax_clamped, "what is 10 below the largest is taken for 10 below it"),
            (softmax_shifted_by_the_first, "the first entry is subtracted, not the largest"),
            (softmax_shifted_by_the_mean, "the mean is subtracted, not the largest"),
        ],
    ),
    *_own("softmax", [(softmax_vjp_bfloat16_output, "of an output saved in bfloat16")], "vjp"),
    *_own(
        "log_softmax",
        [
            (log_softmax_epsilon, "log(p + 1e-7)"),
            (log_softmax_floored, "log(max(p, 1e-30)): -69 at the least"),
            (log_softmax_bfloat16_sum, "the sum in bfloat16"),
        ],
    ),
    *_own("log_softmax", [(log_softmax_vjp_bfloat16_output, "of an output saved in bfloat16")], "vjp"),
    *_own(
        "logsumexp",
        [
            (logsumexp_epsilon, "1e-6 is added to the sum"),
            (logsumexp_pruned, "leaves out what is 8 below the largest"),
        ],
    ),
    *_own(
        "layer_norm",
        [
            (layer_norm_another_eps, "eps is 1e-6, and no setting"),
            (layer_norm_short_root, "a reciprocal square root of 12 bits"),
            (layer_norm_quake, "0x5f3759df and one step of Newton's"),
            (layer_norm_bfloat16_variance, "the variance in bfloat16"),
            (layer_norm_bfloat16_scale, "gamma in bfloat16"),
        ],
    ),
    *_own("layer_norm", [(layer_norm_vjp_bfloat16_saved, "of what was normalised, in bfloat16")], "vjp"),
    *_own(
        "rms_norm",
        [
            (rms_norm_short_root, "a reciprocal square root of 12 bits"),
            (rms_norm_half_squares, "squares in float16, which overflow at 256"),
            (rms_norm_another_eps, "eps is 1e-5, and no setting"),
        ],
    ),
    *_own("batch_norm_inference", [(batch_norm_folded_in_bfloat16, "scale and shift in bfloat16")]),
    *_own("instance_norm", [(instance_norm_one_pass, "mean of squares less square of the mean")]),
    *_own("group_norm", [(group_norm_one_pass, "mean of squares less square of the mean")]),
    *_own(
        "linear",
        [
            (linear_tf32, "operands of 11 bits"),
            (linear_bfloat16, "operands in bfloat16"),
            (linear_bfloat16_twice, "operands of two numbers of bfloat16"),
            (linear_short_accumulator, "an accumulator of 12 bits"),
            (linear_bfloat16_result, "the result in bfloat16"),
            (linear_without_the_last_term, "one term less"),
            (linear_in_fours, "leaves out what is no whole vector of four"),
        ],
    ),
    *_own(
        "linear",
        [
            (linear_vjp_tf32_weights, "the gradient of w from operands of 11 bits"),
            (linear_vjp_bfloat16_bias, "the gradient of b summed in bfloat16"),
            (linear_vjp_bfloat16_cotangent, "the cotangent in bfloat16"),
        ],
        "vjp",
    ),
    *_own("conv2d", [(conv2d_half_weights, "weights in float16")]),
    *_own("conv1d", [(conv1d_bfloat16, "operands in bfloat16")]),
    *_own("conv_transpose2d", [(conv_transpose2d_tf32, "operands of 11 bits")]),
    *_own("global_avg_pool2d", [(global_avg_pool2d_bfloat16, "the sum in bfloat16")]),
    *_own("avg_pool2d", [(avg_pool2d_short_share, "0.1111 for 1 / 9")]),
    *_own(
        "scaled_dot_product_attention",
        [
            (attention_bfloat16_scores, "scores in bfloat16"),
            (attention_bfloat16_shares, "probabilities in bfloat16"),
            (attention_short_scale, "a scale of four digits"),
        ],
    ),
    *_own("rotary_embedding", [(rotary_bfloat16_tables, "angles in bfloat16")]),
    *_own("embedding", [(embedding_half_table, "the table in float16")]),
    *_own("embedding", [(embedding_vjp_bfloat16, "sums in bfloat16")], "vjp"),
    *_own("rnn_cell", [(rnn_pade, "tanh by x (27 + x^2) / (27 + 9 x^2)")]),
    *_own("lstm_cell", [(lstm_half_gates, "gates in float16")]),
    *_own("gru_cell", [(gru_clamped, "the argument of a gate is clamped to 18")]),
    *_own("mse", [(mse_half_mean, "the sum in float16")]),
    *_own("mae", [(mae_bfloat16_mean, "the sum in bfloat16")]),
    *_own("nll", [(nll_half_mean, "the sum in float16")]),
    *_own(
        "softmax_cross_entropy_with_integer_labels",
        [(label_ce_half_mean, "the sum in float16"), (label_ce_bfloat16_logits, "logits in bfloat16")],
    ),
    *_own(
        "softmax_cross_entropy_with_integer_labels",
        [(label_ce_vjp_bfloat16, "probabilities in bfloat16")],
        "vjp",
    ),
    *_own("huber", [(huber_half_difference, "the difference in float16")]),
    *_own("log_cosh", [(log_cosh_short_constant, "0.6931 for log(2)")]),
    *_own("sgd_step", [(sgd_bfloat16_rate, "the rate in bfloat16")]),
    *_own("momentum_step", [(momentum_bfloat16_state, "the velocity in bfloat16")]),
    *_own(
        "adam_step",
        [
            (adam_bfloat16_moments, "moments in bfloat16"),
            (adam_another_eps, "eps is 1e-7, whatever is given"),
        ],
    ),
    *_own("rmsprop_step", [(rmsprop_short_root, "a square root of 12 bits")]),
    *_own("clip_by_global_norm", [(clip_in_half, "the norm in float16")]),
    _of_half("sigmoid", sigmoid_in_half, "all in float16"),
    _of_half("silu", silu_in_half, "all in float16"),
    _of_half("softplus", softplus_in_half, "all in float16, and the exponential overflows at 11.09"),
    _of_half("softmax", softmax_in_half, "all in float16"),
    _of_half("layer_norm", layer_norm_in_half, "all in float16"),
    _of_half("linear", linear_in_half, "an accumulator of 11 bits"),
    _of_half("mse", mse_half_mean, "the sum in float16"),
)
"""All of them, by operator."""
