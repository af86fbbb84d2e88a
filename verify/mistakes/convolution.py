"""Known mistakes in convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import Mistake

GRADIENT = ("vjp", "symbolic", "numerical")


def _pair(setting: Any) -> tuple[int, int]:
    return setting if isinstance(setting, tuple) else (setting, setting)


def _one_by_one(sample: Any, x: Any) -> Any:
    return np.concatenate([sample(x[n : n + 1]) for n in range(len(x))])


# -------------------------------------------------------------------------------------------------- values


def _flipped(x: Any, w: Any, b: Any, **settings: Any) -> Any:
    return refnet.conv2d(x, w[:, :, ::-1, ::-1], b, **settings)


def _rows_for_columns(x: Any, w: Any, b: Any, **settings: Any) -> Any:
    """The first number of a pair for both axes."""
    return refnet.conv2d(
        x, w, b, **{name: v[0] if isinstance(v, tuple) else v for name, v in settings.items()}
    )


def _by_fft(
    x: Any, w: Any, b: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """The product of the spectra, of which every output has the rounding of the largest one."""
    (rows, columns), (down, right), (gap, beside) = map(_pair, (stride, padding, dilation))
    computed = np.float64 if x.dtype == np.float64 else np.float32
    image = np.pad(x.astype(computed), ((0, 0), (0, 0), (down, down), (right, right)))
    (o, own, kh, kw), size = w.shape, image.shape[2:]
    spread = np.zeros((o, own, (kh - 1) * gap + 1, (kw - 1) * beside + 1), computed)
    spread[:, :, ::gap, ::beside] = w
    spectrum, kernel = np.fft.rfft2(image), np.conj(np.fft.rfft2(spread, size))
    first = [out * groups // o * own for out in range(o)]
    product = np.stack(
        [(spectrum[:, k : k + own] * kernel[out]).sum(axis=1) for out, k in enumerate(first)], axis=1
    )
    inside = [n - m + 1 for n, m in zip(size, spread.shape[2:], strict=True)]
    y = np.fft.irfft2(product, size)[:, :, : inside[0] : rows, : inside[1] : columns]
    return (y + b.astype(computed)[:, None, None]).astype(x.dtype)


def _without_bias(x: Any, w: Any, b: Any, **settings: Any) -> Any:
    return refnet.conv2d(x, w, np.zeros_like(b), **settings)


def _bias_of_each_term(x: Any, w: Any, b: Any, **settings: Any) -> Any:
    """Inside of the loop over the channels of a group."""
    y = refnet.conv2d(x, w, b, **settings)
    return y + (w.shape[1] - 1) * b[:, None, None]


def _padded_before(x: Any, w: Any, b: Any, *, padding: Any = 0, **settings: Any) -> Any:
    """All of the padding on the left and above."""
    rows, columns = _pair(padding)
    padded = np.pad(x, ((0, 0), (0, 0), (2 * rows, 0), (2 * columns, 0)))
    return refnet.conv2d(padded, w, b, **settings)


def _padded_by_the_edge(x: Any, w: Any, b: Any, *, padding: Any = 0, **settings: Any) -> Any:
    rows, columns = _pair(padding)
    padded = np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)), mode="edge")
    return refnet.conv2d(padded, w, b, **settings)


def _without_dilation(x: Any, w: Any, b: Any, *, dilation: Any = 1, **settings: Any) -> Any:
    """The size of a dilated convolution, and the entries of the kernel side by side."""
    if dilation == 1:
        return refnet.conv2d(x, w, b, **settings)
    (gap, gaps), (_, _, kh, kw) = _pair(dilation), w.shape
    wide = np.zeros((*w.shape[:2], (kh - 1) * gap + 1, (kw - 1) * gaps + 1), w.dtype)
    wide[:, :, :kh, :kw] = w
    return refnet.conv2d(x, wide, b, **settings)


def _interleaved_groups(x: Any, w: Any, b: Any, *, groups: Any = 1, **settings: Any) -> Any:
    """Every second output belongs to the second of two groups."""
    order = np.arange(len(w)).reshape(groups, -1).T.ravel()
    y = refnet.conv2d(x, w[np.argsort(order)], b[np.argsort(order)], groups=groups, **settings)
    return y[:, order]


def _rounded_up(x: Any, w: Any, b: Any, *, stride: Any = 1, padding: Any = 0, **settings: Any) -> Any:
    """The size is rounded up: one more row where the last one is not full."""
    more = [(0, 0), (0, 0)]
    for size, kernel, gap, step, margin in zip(
        x.shape[2:],
        w.shape[2:],
        _pair(settings.get("dilation", 1)),
        _pair(stride),
        _pair(padding),
        strict=True,
    ):
        rest = (size + 2 * margin - gap * (kernel - 1) - 1) % step
        more.append((margin, margin + (step - rest) % step))
    return refnet.conv2d(np.pad(x, more), w, b, stride=stride, **settings)


def _mixed_batch(x: Any, w: Any, b: Any, **settings: Any) -> Any:
    return refnet.conv2d(x - x.mean(axis=0), w, b, **settings)


def _half_precision(x: Any, w: Any, b: Any, **settings: Any) -> Any:
    """11 bits of the operands, as a tensor core reads them that is allowed to."""

    def short(a: Any) -> Any:
        mantissa, exponent = np.frexp(a)
        return np.ldexp(np.round(mantissa * 2048) / 2048, exponent).astype(a.dtype)

    return refnet.conv2d(short(x), short(w), b, **settings)


# ----------------------------------------------------------------------------------------------- gradients


def _vjp(dy: Any, x: Any, w: Any, b: Any, **settings: Any) -> tuple[Any, Any, Any]:
    dx, dw, db = refnet.conv2d.vjp(dy, x, w, b, **settings)
    return dx, dw, db


def _dx_of_the_flipped_kernel(dy: Any, x: Any, w: Any, b: Any, **settings: Any) -> Any:
    """A correlation with the kernel as it is, in the place of its transpose."""
    _, dw, db = _vjp(dy, x, w, b, **settings)
    return _vjp(dy, x, w[:, :, ::-1, ::-1], b, **settings)[0], dw, db


def _dw_flipped(dy: Any, x: Any, w: Any, b: Any, **settings: Any) -> Any:
    dx, dw, db = _vjp(dy, x, w, b, **settings)
    return dx, np.flip(dw, (2, 3)).copy(), db


def _dw_of_last_sample(dy: Any, x: Any, w: Any, b: Any, **settings: Any) -> Any:
    dx, _, db = _vjp(dy, x, w, b, **settings)
    return dx, _vjp(dy[-1:], x[-1:], w, b, **settings)[1], db


def _dw_mean(dy: Any, x: Any, w: Any, b: Any, **settings: Any) -> Any:
    dx, dw, db = _vjp(dy, x, w, b, **settings)
    return dx, dw / dw.dtype.type(len(x)), db


def _db_of_batch_only(dy: Any, x: Any, w: Any, b: Any, **settings: Any) -> Any:
    """Summed over the batch, and the mean over the places."""
    dx, dw, _ = _vjp(dy, x, w, b, **settings)
    return dx, dw, dy.sum(axis=0).mean(axis=(1, 2)).astype(b.dtype)


def _patches_assigned(dy: Any, x: Any, w: Any, b: Any, **settings: Any) -> Any:
    """Of overlapping patches the last one counts."""
    _, dw, db = _vjp(dy, x, w, b, **settings)
    dx = np.zeros_like(x)
    for a, c in np.ndindex(dy.shape[2:]):
        alone = np.zeros_like(dy)
        alone[:, :, a, c] = dy[:, :, a, c]
        under = _vjp(np.ones_like(alone) * (alone != 0), np.ones_like(x), np.ones_like(w), b, **settings)[0]
        dx = np.where(under != 0, _vjp(alone, x, w, b, **settings)[0], dx)
    return dx, dw, db


def _channel_mixed_up(dy: Any, x: Any, w: Any, b: Any, **settings: Any) -> Any:
    """The index of an output where that of an input belongs: right for one channel."""
    dx, dw, db = _vjp(dy, x, w, b, **settings)
    return np.flip(dx, 1).copy(), dw, db


def _stride_ignored(dy: Any, x: Any, w: Any, b: Any, *, stride: Any = 1, **settings: Any) -> Any:
    """The cotangent is spread as if the stride were 1."""
    _, dw, db = _vjp(dy, x, w, b, stride=stride, **settings)
    full = refnet.conv2d(x, w, b, **settings)
    spread = np.zeros_like(full)
    spread[:, :, : dy.shape[2], : dy.shape[3]] = dy
    return _vjp(spread, x, w, b, **settings)[0], dw, db


# --------------------------------------------------------------------------------------- the other operators


def _flipped_1d(x: Any, w: Any, b: Any, **settings: Any) -> Any:
    return refnet.conv1d(x, w[:, :, ::-1], b, **settings)


def _causal(x: Any, w: Any, b: Any, *, padding: Any = 0, **settings: Any) -> Any:
    return refnet.conv1d(np.pad(x, ((0, 0), (0, 0), (2 * padding, 0))), w, b, **settings)


def _dw_of_last_sequence(dy: Any, x: Any, w: Any, b: Any, **settings: Any) -> Any:
    dx, _, db = refnet.conv1d.vjp(dy, x, w, b, **settings)
    return dx, refnet.conv1d.vjp(dy[-1:], x[-1:], w, b, **settings)[1], db


def _transposed_flipped(x: Any, w: Any, b: Any, **settings: Any) -> Any:
    return refnet.conv_transpose2d(x, w[:, :, ::-1, ::-1], b, **settings)


def _output_padding_above(x: Any, w: Any, b: Any, *, output_padding: Any = 0, **settings: Any) -> Any:
    """The rows and columns that output padding adds are put before all others."""
    y = refnet.conv_transpose2d(x, w, b, output_padding=output_padding, **settings)
    return np.roll(y, _pair(output_padding), (2, 3))


def _overlaps_overwritten(
    x: Any, w: Any, b: Any, *, stride: Any = 1, padding: Any = 0, output_padding: Any = 0
) -> Any:
    """Each entry of x writes its kernel; where two overlap, the last one stays."""
    (step, steps), (top, left), (more, beside) = map(_pair, (stride, padding, output_padding))
    (n, _, h, width), (_, o, kh, kw) = x.shape, w.shape
    y = np.zeros((n, o, (h - 1) * step + kh + more, (width - 1) * steps + kw + beside), x.dtype)
    for a, c in np.ndindex(h, width):
        y[:, :, a * step : a * step + kh, c * steps : c * steps + kw] = np.tensordot(x[:, :, a, c], w, 1)
    return y[:, :, top : y.shape[2] - top, left : y.shape[3] - left] + b[:, None, None]


def _transposed_dw_flipped(dy: Any, x: Any, w: Any, b: Any, **settings: Any) -> Any:
    dx, dw, db = refnet.conv_transpose2d.vjp(dy, x, w, b, **settings)
    return dx, np.flip(dw, (2, 3)).copy(), db


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "conv2d-by-fft",
        "conv2d",
        "by way of the spectrum every output has the rounding of the largest: small ones keep no digit",
        ("value",),
        value=_by_fft,
    ),
    Mistake(
        "conv2d-kernel-flipped",
        "conv2d",
        "the kernel is flipped, as in the convolution of mathematics",
        ("value", "special-values"),
        value=_flipped,
        source="FluxML/NNlib.jl#208; tensorflow/tensorflow#11864",
    ),
    Mistake(
        "conv2d-rows-for-columns",
        "conv2d",
        "the stride, padding or dilation of rows is taken for the columns as well",
        ("value", "special-values"),
        value=_rows_for_columns,
        source="pytorch/pytorch#187760; Maratyszcza/NNPACK#16",
    ),
    Mistake("conv2d-without-bias", "conv2d", "the bias is not added", ("value",), value=_without_bias),
    Mistake(
        "conv2d-bias-for-each-channel",
        "conv2d",
        "the bias is added once for each input channel",
        ("value",),
        value=_bias_of_each_term,
    ),
    Mistake(
        "conv2d-padding-on-one-side",
        "conv2d",
        "all of the padding is put above and on the left",
        ("value", "special-values"),
        value=_padded_before,
        source="taehoonlee/tensornets#25; tensorflow/tensorflow#10747",
    ),
    Mistake(
        "conv2d-padded-by-the-edge",
        "conv2d",
        "the image is continued by its edge where zeros are due",
        ("value", "special-values"),
        value=_padded_by_the_edge,
    ),
    Mistake(
        "conv2d-dilation-ignored",
        "conv2d",
        "the entries of a dilated kernel lie side by side",
        ("value", "special-values"),
        value=_without_dilation,
    ),
    Mistake(
        "conv2d-groups-interleaved",
        "conv2d",
        "output channels are dealt out to the groups in turn, where each group has a block of them",
        ("value",),
        value=_interleaved_groups,
    ),
    Mistake(
        "conv2d-size-rounded-up",
        "conv2d",
        "the output has one more row or column, where the last one does not fill a stride",
        ("value", "special-values"),
        value=_rounded_up,
    ),
    Mistake(
        "conv2d-mixes-the-batch",
        "conv2d",
        "an image's output depends on the others",
        ("value", "batch-independent", "nan-propagates"),
        value=_mixed_batch,
    ),
    Mistake(
        "conv2d-operands-of-11-bits",
        "conv2d",
        "image and kernel are rounded to 11 bits before they are multiplied",
        ("value",),
        value=_half_precision,
        source="pytorch/pytorch#67384",
    ),
    Mistake(
        "conv2d-gradient-of-the-unflipped-kernel",
        "conv2d",
        "the gradient of x correlates with the kernel, where it has to convolve",
        GRADIENT,
        vjp=_dx_of_the_flipped_kernel,
        source="FluxML/NNlib.jl#208",
    ),
    Mistake(
        "conv2d-weight-gradient-flipped",
        "conv2d",
        "the gradient of the kernel is flipped",
        GRADIENT,
        vjp=_dw_flipped,
    ),
    Mistake(
        "conv2d-weight-gradient-of-last-sample",
        "conv2d",
        "the gradient of the kernel is not summed over the batch: the last image overwrites the others",
        GRADIENT,
        vjp=_dw_of_last_sample,
        source="LBANN/lbann#1022",
    ),
    Mistake(
        "conv2d-weight-gradient-divided-by-batch",
        "conv2d",
        "the gradient of the kernel is the mean over the batch instead of the sum",
        GRADIENT,
        vjp=_dw_mean,
    ),
    Mistake(
        "conv2d-bias-gradient-averaged-over-places",
        "conv2d",
        "the gradient of the bias is the mean over the places of an image instead of the sum",
        GRADIENT,
        vjp=_db_of_batch_only,
    ),
    Mistake(
        "conv2d-patches-assigned",
        "conv2d",
        "patches that overlap overwrite each other in the gradient of x, where they have to be added",
        GRADIENT,
        vjp=_patches_assigned,
        source="oreilly-japan/deep-learning-from-scratch#27",
    ),
    Mistake(
        "conv2d-gradient-channels-mixed-up",
        "conv2d",
        "the gradient of x has its channels in another order: right for one channel",
        GRADIENT,
        vjp=_channel_mixed_up,
        source="NervanaSystems/neon#111",
    ),
    Mistake(
        "conv2d-stride-ignored-in-gradient",
        "conv2d",
        "the cotangent is spread over the image without its stride",
        ("vjp",),
        vjp=_stride_ignored,
        source="Kulbear/deep-learning-coursera#34",
    ),
    Mistake(
        "conv1d-kernel-flipped",
        "conv1d",
        "the kernel is flipped, as in the convolution of mathematics",
        ("value", "special-values"),
        value=_flipped_1d,
    ),
    Mistake(
        "conv1d-causal-padding",
        "conv1d",
        "all of the padding is put before the sequence",
        ("value", "special-values"),
        value=_causal,
    ),
    Mistake(
        "conv1d-weight-gradient-of-last-sample",
        "conv1d",
        "the gradient of the kernel is not summed over the batch: the last sequence overwrites the others",
        GRADIENT,
        vjp=_dw_of_last_sequence,
    ),
    Mistake(
        "conv-transpose2d-kernel-flipped",
        "conv_transpose2d",
        "the kernel is flipped: a correlation with it, where its transpose is due",
        ("value", "special-values"),
        value=_transposed_flipped,
    ),
    Mistake(
        "conv-transpose2d-output-padding-before",
        "conv_transpose2d",
        "output padding adds its rows and columns above and on the left",
        ("value", "special-values"),
        value=_output_padding_above,
    ),
    Mistake(
        "conv-transpose2d-overlaps-overwritten",
        "conv_transpose2d",
        "kernels that overlap overwrite each other, where they have to be added",
        ("value", "special-values"),
        value=_overlaps_overwritten,
    ),
    Mistake(
        "conv-transpose2d-weight-gradient-flipped",
        "conv_transpose2d",
        "the gradient of the kernel is flipped",
        GRADIENT,
        vjp=_transposed_dw_flipped,
    ),
)
