"""Known mistakes in pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import Mistake

GRADIENT = ("vjp", "symbolic", "numerical")


def _pair(setting: Any) -> tuple[int, int]:
    return setting if isinstance(setting, tuple) else (setting, setting)


# ------------------------------------------------------------------------------------------------ the largest


def _zero_padding_wins(x: Any, *, padding: Any = 0, **settings: Any) -> Any:
    y = refnet.max_pool2d(x, padding=padding, **settings)
    partly = refnet.avg_pool2d(np.ones_like(x), padding=padding, **settings) < 1
    return np.where(partly, np.maximum(y, x.dtype.type(0)), y)


def _from_smallest_positive(x: Any, **settings: Any) -> Any:
    """The maximum starts from the smallest positive number, which C calls FLT_MIN."""
    return np.maximum(refnet.max_pool2d(x, **settings), np.finfo(x.dtype).tiny)


def _stride_of_one(x: Any, *, stride: Any = None, **settings: Any) -> Any:
    """Without a stride, windows move by 1 instead of by their size."""
    return refnet.max_pool2d(x, stride=1 if stride is None else stride, **settings)


def _size_for_stride(x: Any, *, size: Any, stride: Any = None, **settings: Any) -> Any:
    return refnet.max_pool2d(x, size=size, stride=size, **settings)


def _rounded_down(x: Any, *, ceil_mode: Any = False, **settings: Any) -> Any:
    return refnet.max_pool2d(x, **settings)


def _nan_lost(x: Any, **settings: Any) -> Any:
    """A comparison with NaN is false, so that it is never taken."""
    lowest = np.where(np.isnan(x), x.dtype.type(-np.inf), x)
    return refnet.max_pool2d(lowest, **settings)


def _mixed_batch(x: Any, **settings: Any) -> Any:
    return refnet.max_pool2d(np.maximum(x, x.mean(axis=0)), **settings)


def _every_tie(dy: Any, x: Any, **settings: Any) -> Any:
    """Each of the equal largest elements of a window has all of its gradient."""
    dx = np.zeros_like(x)
    y = refnet.max_pool2d(x, **settings)
    for place in np.ndindex(dy.shape[2:]):
        under = _under(x, place, settings)
        at: Any = (slice(None), slice(None), *place)
        dx = dx + np.where(under & (x == y[at][..., None, None]), dy[at][..., None, None], dx.dtype.type(0))
    return (dx,)


def _under(x: Any, place: tuple[int, ...], settings: Any) -> Any:
    """The elements under the window of one output."""
    shape = refnet.max_pool2d(x, **settings).shape
    alone = np.zeros(shape, x.dtype)
    at: Any = (slice(None), slice(None), *place)
    alone[at] = 1
    return refnet.avg_pool2d.vjp(alone, x, **settings)[0] != 0


def _overlaps_assigned(dy: Any, x: Any, **settings: Any) -> Any:
    """An element that wins in several windows is given the gradient of the last one only."""
    dx = np.zeros_like(x)
    for a, c in np.ndindex(dy.shape[2:]):
        alone = np.zeros_like(dy)
        alone[:, :, a, c] = dy[:, :, a, c]
        (part,) = refnet.max_pool2d.vjp(alone, x, **settings)
        dx = np.where(part != 0, part, dx)
    return (dx,)


def _to_all_of_the_window(dy: Any, x: Any, **settings: Any) -> Any:
    """The gradient of the mean."""
    return refnet.avg_pool2d.vjp(dy, x, **settings)


def _near_the_largest(dy: Any, x: Any, **settings: Any) -> Any:
    """Elements within a hundredth of the largest are taken for it."""
    return _every_tie(dy, np.round(x * 64) / 64, **settings)


# --------------------------------------------------------------------------------------------------- the mean


def _padding_not_counted(x: Any, *, count_include_pad: Any = True, **settings: Any) -> Any:
    return refnet.avg_pool2d(x, count_include_pad=False, **settings)


def _padding_counted(x: Any, *, count_include_pad: Any = True, **settings: Any) -> Any:
    return refnet.avg_pool2d(x, count_include_pad=True, **settings)


def _by_full_window(
    x: Any, *, size: Any, padding: Any = 0, count_include_pad: Any = True, **settings: Any
) -> Any:
    """With zeros beyond the padding as well, and those counted."""
    given = {"size": size, "padding": padding, **settings}
    if not count_include_pad or not settings.get("ceil_mode", False):
        return refnet.avg_pool2d(x, count_include_pad=count_include_pad, **given)
    outputs = refnet.avg_pool2d(x, **given).shape[2:]
    steps = _pair(size if settings.get("stride") is None else settings["stride"])
    widths = [
        (margin, max((count - 1) * step + kernel - length - margin, 0))
        for count, step, kernel, length, margin in zip(
            outputs, steps, _pair(size), x.shape[2:], _pair(padding), strict=True
        )
    ]
    return refnet.avg_pool2d(np.pad(x, [(0, 0), (0, 0), *widths]), size=size, stride=steps)


def _sum(x: Any, *, size: Any, **settings: Any) -> Any:
    """Not divided at all."""
    rows, columns = _pair(size)
    return refnet.avg_pool2d(x, size=size, **settings) * x.dtype.type(rows * columns)


def _not_divided(dy: Any, x: Any, *, size: Any, **settings: Any) -> Any:
    """Each element has all of the gradient of its windows."""
    rows, columns = _pair(size)
    (dx,) = refnet.avg_pool2d.vjp(dy, x, size=size, **settings)
    return (dx * dx.dtype.type(rows * columns),)


def _of_inner_windows(dy: Any, x: Any, *, count_include_pad: Any = True, **settings: Any) -> Any:
    """The divisor of the value does not count the padding, that of the gradient does."""
    return refnet.avg_pool2d.vjp(dy, x, count_include_pad=not count_include_pad, **settings)


def _global_sum(x: Any) -> Any:
    return x.sum(axis=(2, 3))


def _global_over_columns(x: Any) -> Any:
    """The mean of the columns only, of the first row."""
    return x[:, :, 0].mean(axis=2)


def _global_dx_not_divided(dy: Any, x: Any) -> Any:
    return (np.broadcast_to(dy[..., None, None], x.shape).copy(),)


def _global_every_tie(dy: Any, x: Any) -> Any:
    top = x.max(axis=(2, 3), keepdims=True)
    return (np.where(x == top, dy[..., None, None], dy.dtype.type(0)),)


def _global_from_zero(x: Any) -> Any:
    return np.maximum(x.max(axis=(2, 3)), x.dtype.type(0))


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "max-pool2d-zero-padding-wins",
        "max_pool2d",
        "the padding is of zeros, which win over negative numbers",
        ("value", "special-values"),
        value=_zero_padding_wins,
        source="apache/mxnet#2753; pytorch/pytorch#33384; uxlfoundation/oneDNN#1094",
    ),
    Mistake(
        "max-pool2d-from-smallest-positive",
        "max_pool2d",
        "the maximum starts from the smallest positive number, so that no negative number wins",
        ("value", "special-values"),
        value=_from_smallest_positive,
        source="halide/Halide#298; root-project/root#1022",
    ),
    Mistake(
        "max-pool2d-stride-of-one",
        "max_pool2d",
        "windows move by 1 where no stride is given, instead of by their size",
        ("value", "special-values"),
        value=_stride_of_one,
    ),
    Mistake(
        "max-pool2d-size-for-stride",
        "max_pool2d",
        "windows move by their size, whatever the stride is",
        ("value", "special-values"),
        value=_size_for_stride,
    ),
    Mistake(
        "max-pool2d-rounded-down",
        "max_pool2d",
        "the last window is left out in ceil_mode as well",
        ("value", "special-values"),
        value=_rounded_down,
    ),
    Mistake(
        "max-pool2d-loses-nan",
        "max_pool2d",
        "NaN never wins, because it is not larger than anything",
        ("special-values", "nan-propagates"),
        value=_nan_lost,
    ),
    Mistake(
        "max-pool2d-mixes-the-batch",
        "max_pool2d",
        "an image's output depends on the others",
        ("value", "batch-independent", "nan-propagates"),
        value=_mixed_batch,
    ),
    Mistake(
        "max-pool2d-every-tie-has-all",
        "max_pool2d",
        "each of several equal largest elements has all of the gradient",
        ("vjp",),
        vjp=_every_tie,
        source="Theano/Theano#5248; tensorflow/tensorflow#4886",
    ),
    Mistake(
        "max-pool2d-overlaps-assigned",
        "max_pool2d",
        "an element that wins in several windows has the gradient of one of them only",
        ("vjp",),
        vjp=_overlaps_assigned,
        source="FluxML/Flux.jl#1197; pytorch/pytorch#80204",
    ),
    Mistake(
        "max-pool2d-gradient-of-the-mean",
        "max_pool2d",
        "the gradient is shared out over the window, as that of a mean is",
        GRADIENT,
        vjp=_to_all_of_the_window,
    ),
    Mistake(
        "max-pool2d-near-the-largest",
        "max_pool2d",
        "elements that are nearly the largest have its gradient as well",
        ("vjp",),
        vjp=_near_the_largest,
        source="mni-ml/framework#22",
    ),
    Mistake(
        "avg-pool2d-padding-not-counted",
        "avg_pool2d",
        "the padding is not counted, whatever count_include_pad says",
        ("value", "special-values"),
        value=_padding_not_counted,
        source="apache/tvm#1144; ROCm/AMDMIGraphX#5007",
    ),
    Mistake(
        "avg-pool2d-padding-counted",
        "avg_pool2d",
        "the padding is counted, whatever count_include_pad says",
        ("value", "special-values"),
        value=_padding_counted,
        source="apache/tvm#1144",
    ),
    Mistake(
        "avg-pool2d-divided-by-full-window",
        "avg_pool2d",
        "what a window has beyond the padding is counted, as it may be in ceil_mode",
        ("value", "special-values"),
        value=_by_full_window,
        source="microsoft/onnxruntime#16203; sonos/tract#2851; llvm/torch-mlir#4144",
    ),
    Mistake(
        "avg-pool2d-not-divided",
        "avg_pool2d",
        "the sum of a window in the place of its mean",
        ("value", "special-values"),
        value=_sum,
    ),
    Mistake(
        "avg-pool2d-gradient-not-divided",
        "avg_pool2d",
        "the gradient is not divided by the size of the window",
        GRADIENT,
        vjp=_not_divided,
        source="mlpack/mlpack#2865; deeplearning4j/deeplearning4j#1951",
    ),
    Mistake(
        "avg-pool2d-gradient-with-another-count",
        "avg_pool2d",
        "the gradient counts the padding where the value does not, and the other way round",
        ("vjp",),
        vjp=_of_inner_windows,
    ),
    Mistake(
        "global-avg-pool2d-sum",
        "global_avg_pool2d",
        "the sum of an image in the place of its mean",
        ("value", "special-values"),
        value=_global_sum,
    ),
    Mistake(
        "global-avg-pool2d-first-row",
        "global_avg_pool2d",
        "the mean of the first row in the place of that of the image",
        ("value", "special-values", "nan-propagates"),
        value=_global_over_columns,
    ),
    Mistake(
        "global-avg-pool2d-gradient-not-divided",
        "global_avg_pool2d",
        "the gradient is not divided by the number of pixels",
        GRADIENT,
        vjp=_global_dx_not_divided,
    ),
    Mistake(
        "global-max-pool2d-from-zero",
        "global_max_pool2d",
        "the maximum starts from 0, so that no negative number wins",
        ("value", "special-values"),
        value=_global_from_zero,
    ),
    Mistake(
        "global-max-pool2d-every-tie-has-all",
        "global_max_pool2d",
        "each of several equal largest elements has all of the gradient",
        ("vjp",),
        vjp=_global_every_tie,
        source="Theano/Theano#5404; tensorflow/tensorflow#51682",
    ),
)
