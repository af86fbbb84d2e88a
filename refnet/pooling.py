"""Pooling: the largest or the mean of a window that moves over an image, or of the whole image."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from refnet.arguments import validate_flag
from refnet.convolution import Geometry, Pair, validate_pair
from refnet.op import ArgumentError, Array, Op, Operator

__all__ = [
    "avg_pool2d",
    "global_avg_pool2d",
    "global_max_pool2d",
    "max_pool2d",
]

Winners = npt.NDArray[np.intp]


class PoolGradients(NamedTuple):
    x: Array


class Windows(NamedTuple):
    """Where the windows over an image lie."""

    geometry: Geometry
    image: Pair
    """Rows and columns of the image."""
    outputs: Pair

    @property
    def covered(self) -> Pair:
        """Rows and columns of the padded image, with what windows reach beyond it."""
        (kh, kw), (step, stride), (top, left), _ = self.geometry
        (h, w), (oh, ow) = self.image, self.outputs
        return max(h + 2 * top, (oh - 1) * step + kh), max(w + 2 * left, (ow - 1) * stride + kw)

    def over(self, x: Array, constant: float) -> Array:
        """The windows (n, i, oh, ow, kh, kw) over x, with a constant outside of it."""
        (top, left), (step, stride), (rows, columns) = (
            self.geometry.padding,
            self.geometry.stride,
            self.covered,
        )
        if (rows, columns) != self.image:
            below, beside = rows - top - self.image[0], columns - left - self.image[1]
            x = np.pad(x, ((0, 0), (0, 0), (top, below), (left, beside)), constant_values=constant)
        windows = sliding_window_view(x, self.geometry.kernel, axis=(2, 3))[:, :, ::step, ::stride]
        return windows[:, :, : self.outputs[0], : self.outputs[1]]

    def spread(self, parts: list[Array]) -> Array:
        """An image (n, i, h, w) from what each entry of the windows, row by row, adds to it."""
        (top, left), (h, w) = self.geometry.padding, self.image
        _, columns_of_kernel = self.geometry.kernel
        image = np.zeros_like(parts[0], shape=(*parts[0].shape[:2], *self.covered))
        for k, part in enumerate(parts):
            rows, columns = self.geometry.tap(*divmod(k, columns_of_kernel), self.outputs)
            image[:, :, rows, columns] += part
        return image[:, :, top : top + h, left : left + w]


def _windows(
    op: str, x: Array, size: int | Pair, stride: int | Pair | None, padding: int | Pair, ceil_mode: bool
) -> Windows:
    """The windows of the settings, which are refused where a window could hold nothing but padding."""
    kernel = validate_pair(op, "size", size, 1)
    steps = kernel if stride is None else validate_pair(op, "stride", stride, 1)
    margins = validate_pair(op, "padding", padding, 0)
    validate_flag(op, "ceil_mode", ceil_mode)
    image = x.shape[2], x.shape[3]
    outputs = []
    for side, length, k, step, margin in zip(("rows", "columns"), image, kernel, steps, margins, strict=True):
        if 2 * margin > k:
            raise ArgumentError(
                op,
                "padding",
                f"{margin} {side}",
                f"at most half of the size, {k}",
                "A window of nothing but padding has no value.",
            )
        room = length + 2 * margin - k
        count = (-(-room // step) if ceil_mode else room // step) + 1
        if ceil_mode and (count - 1) * step >= length + margin:
            count -= 1  # it would start in the padding beyond the image
        if not length or count < 1:
            raise ArgumentError(
                op,
                "x",
                f"of {length} {side}",
                f"at least {max(k - 2 * margin, 1)}, for a size of {k} and a padding of {margin}",
                "Use a smaller window, or more padding.",
            )
        outputs.append(count)
    return Windows(Geometry(kernel, steps, margins, (1, 1)), image, (outputs[0], outputs[1]))


def _validate_image(op: str, x: Array) -> None:
    if not x.shape[2] * x.shape[3]:
        raise ArgumentError(op, "x", f"of shape {x.shape}", "at least one pixel", "Drop the empty images.")


# ------------------------------------------------------------------------------------------------ the largest


class MaxPoolResiduals(NamedTuple):
    winners: Winners
    """The place of the largest element in each window, row by row."""
    windows: Windows


def _max_pool2d(
    x: Array,
    *,
    size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
) -> tuple[Array, MaxPoolResiduals]:
    """y = the largest element of each window. x (n, i, h, w), y (n, i, oh, ow) with
    oh = floor((h + 2 padding - size) / stride) + 1; the stride is the size, if it is not given.

    With `ceil_mode` the quotient is rounded up, and a last window reaches beyond the padding; unless it
    would start there, right of the image. Padding never wins, and NaN does.
    """
    windows = _windows("max_pool2d", x, size, stride, padding, ceil_mode)
    kh, kw = windows.geometry.kernel
    shape = (*x.shape[:2], *windows.outputs, kh * kw)
    cells = windows.over(x, -math.inf).reshape(*shape)
    winners: Winners = cells.argmax(axis=-1)
    y: Array = np.take_along_axis(cells, winners[..., None], axis=-1)[..., 0]
    if windows.covered != windows.image:
        # a window of minus infinities has its maximum in the padding as well
        inside = windows.over(np.ones((1, 1, *windows.image)), 0.0).reshape(1, 1, *shape[2:])
        winners = np.where(np.equal(y, -math.inf), inside.argmax(axis=-1), winners)
    return y, MaxPoolResiduals(winners, windows)


def _max_pool2d_backward(residuals: MaxPoolResiduals, dy: Array) -> PoolGradients:
    """dx is the sum of dy over the windows in which the element is the largest: of equal ones the first, row
    by row.
    """
    winners, windows = residuals
    kh, kw = windows.geometry.kernel
    return PoolGradients(windows.spread([np.where(np.equal(winners, k), dy, 0.0) for k in range(kh * kw)]))


max_pool2d = Op("max_pool2d", "(n,i,h,w)->(n,i,oh,ow)", ("x",), _max_pool2d, _max_pool2d_backward)


class GlobalMaxResiduals(NamedTuple):
    winners: Winners
    shape: tuple[int, ...]


def _global_max_pool2d(x: Array) -> tuple[Array, GlobalMaxResiduals]:
    """y = the largest element of each image. x (n, i, h, w), y (n, i); NaN wins."""
    _validate_image("global_max_pool2d", x)
    cells = x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])
    winners: Winners = cells.argmax(axis=-1)
    y: Array = np.take_along_axis(cells, winners[..., None], axis=-1)[..., 0]
    return y, GlobalMaxResiduals(winners, x.shape)


def _global_max_pool2d_backward(residuals: GlobalMaxResiduals, dy: Array) -> PoolGradients:
    """dx = dy at the largest element, of equal ones the first, row by row; 0 elsewhere."""
    winners, shape = residuals
    places = np.arange(shape[2] * shape[3])
    dx: Array = np.where(np.equal(winners[..., None], places), dy[..., None], 0.0)
    return PoolGradients(dx.reshape(*shape))


global_max_pool2d = Op(
    "global_max_pool2d", "(n,i,h,w)->(n,i)", ("x",), _global_max_pool2d, _global_max_pool2d_backward
)

# --------------------------------------------------------------------------------------------------- the mean


def _mean(terms: Array, axes: tuple[int, ...], count: int, divisor: Array) -> Array:
    """The sum of at most so many terms, divided.

    Where the sum overflows and the mean does not, a power of two is taken off first: four numbers of 2e38 in
    float32. Not elsewhere: a quarter of a subnormal number may be 0.
    """
    total: Array = np.add.reduce(terms, axis=axes)
    mean: Array = total / divisor
    overflows = ~np.isfinite(total)
    if overflows.any():
        scale = 0.5 ** math.ceil(math.log2(count))
        scaled: Array = np.add.reduce(terms * scale, axis=axes) / (divisor * scale)
        mean = np.where(overflows, scaled, mean)
    return mean


class AvgPoolResiduals(NamedTuple):
    divisor: Array
    windows: Windows


def _avg_pool2d(
    x: Array,
    *,
    size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, AvgPoolResiduals]:
    """y = the mean of each window, in which the padding is 0. x (n, i, h, w), y (n, i, oh, ow), with the
    windows of `max_pool2d`.

    The padding counts as elements if `count_include_pad`; what a window has beyond the padding, as it may in
    `ceil_mode`, never does.
    """
    windows = _windows("avg_pool2d", x, size, stride, padding, ceil_mode)
    validate_flag("avg_pool2d", "count_include_pad", count_include_pad)
    kh, kw = windows.geometry.kernel
    rows, columns = (_counted(windows, axis, count_include_pad) for axis in (0, 1))
    divisor = np.multiply.outer(rows, columns).astype(x.dtype)
    y = _mean(windows.over(x, 0.0), (4, 5), kh * kw, divisor)
    return y, AvgPoolResiduals(divisor, windows)


def _counted(windows: Windows, axis: int, count_include_pad: bool) -> Winners:
    """How many rows (0) or columns (1) of each window count."""
    (kernel, stride, padding, _), length = windows.geometry, windows.image[axis]
    starts = np.arange(windows.outputs[axis]) * stride[axis] - padding[axis]
    low, high = (-padding[axis], length + padding[axis]) if count_include_pad else (0, length)
    return np.minimum(starts + kernel[axis], high) - np.maximum(starts, low)


def _avg_pool2d_backward(residuals: AvgPoolResiduals, dy: Array) -> PoolGradients:
    """dx is the sum of dy / divisor over the windows that have the element."""
    divisor, windows = residuals
    kh, kw = windows.geometry.kernel
    return PoolGradients(windows.spread([dy / divisor] * (kh * kw)))


avg_pool2d = Op("avg_pool2d", "(n,i,h,w)->(n,i,oh,ow)", ("x",), _avg_pool2d, _avg_pool2d_backward)


class GlobalAvgResiduals(NamedTuple):
    shape: tuple[int, ...]


def _global_avg_pool2d(x: Array) -> tuple[Array, GlobalAvgResiduals]:
    """y = the mean of each image. x (n, i, h, w), y (n, i)."""
    _validate_image("global_avg_pool2d", x)
    pixels = x.shape[2] * x.shape[3]
    return _mean(x, (2, 3), pixels, np.asarray(pixels, dtype=x.dtype)), GlobalAvgResiduals(x.shape)


def _global_avg_pool2d_backward(residuals: GlobalAvgResiduals, dy: Array) -> PoolGradients:
    """dx = dy / (h w) for every element of an image."""
    (shape,) = residuals
    share: Array = dy / (shape[2] * shape[3])
    return PoolGradients(np.broadcast_to(share[..., None, None], shape).copy())


global_avg_pool2d = Op(
    "global_avg_pool2d", "(n,i,h,w)->(n,i)", ("x",), _global_avg_pool2d, _global_avg_pool2d_backward
)

OPS: tuple[Operator, ...] = (max_pool2d, avg_pool2d, global_max_pool2d, global_avg_pool2d)
