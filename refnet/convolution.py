"""Convolutions, as networks have them: cross-correlations, whose kernel is not flipped.

All of them are products of matrices: the patches under the kernel become columns. Settings are one number
for both axes, or a pair for rows and columns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from refnet.op import ArgumentError, Array, Op, Operator

__all__ = [
    "conv1d",
    "conv2d",
    "conv_transpose2d",
]

Pair = tuple[int, int]


FARTHEST = 2**24
"""Strides, paddings and dilations up to here leave the sizes of images within the integers of NumPy."""


def validate_pair(op: str, name: str, value: object, least: int) -> Pair:
    """A setting for rows and columns, from one number or two."""
    pair = value if isinstance(value, tuple) and len(value) == 2 else (value, value)
    numbers = [int(n) for n in pair if isinstance(n, int | np.integer) and not isinstance(n, bool)]
    if len(numbers) != 2 or min(numbers) < least or max(numbers) > FARTHEST:
        raise ArgumentError(
            op,
            name,
            repr(value),
            f"an integer of at least {least} and at most {FARTHEST}, or a pair of them",
            f"{name}=2 is (2, 2): rows, then columns.",
        )
    return numbers[0], numbers[1]


class Geometry(NamedTuple):
    """How a kernel moves over an image: pairs for rows and columns."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    @property
    def span(self) -> Pair:
        """The rows and columns that a kernel covers, with the gaps of the dilation."""
        (p, q), (r, s) = self.kernel, self.dilation
        return (p - 1) * r + 1, (q - 1) * s + 1

    def tap(self, row: int, column: int, outputs: Pair) -> tuple[slice, slice]:
        """Where, in the padded image, one entry of the kernel lies for each of the outputs."""
        rows, columns = (
            slice(at * gap, at * gap + (count - 1) * step + 1, step)
            for at, gap, count, step in zip((row, column), self.dilation, outputs, self.stride, strict=True)
        )
        return rows, columns


def pad_image(x: Array, padding: Pair, constant: float = 0.0) -> Array:
    """Rows and columns of a constant on every side of the last two axes."""
    rows, columns = padding
    if not rows and not columns:
        return x
    return np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)), constant_values=constant)


def _columns(x: Array, geometry: Geometry, groups: int) -> tuple[Array, Pair]:
    """The patches of x (n, i, h, w) as columns (groups, i / groups * kh * kw, n * oh * ow), and (oh, ow)."""
    n, i = x.shape[:2]
    (step, stride), (gap, dilation) = geometry.stride, geometry.dilation
    padded = pad_image(x, geometry.padding)
    patches = sliding_window_view(padded, geometry.span, axis=(2, 3))
    patches = patches[:, :, ::step, ::stride, ::gap, ::dilation].transpose(1, 4, 5, 0, 2, 3)
    outputs = patches.shape[-2:]
    rows = i // groups * geometry.kernel[0] * geometry.kernel[1]
    return patches.reshape(groups, rows, n * outputs[0] * outputs[1]), outputs


def _correlate(columns: Array, w: Array, n: int, outputs: Pair) -> Array:
    """The products of the columns with a kernel w (o, i / groups, kh, kw): an image (n, o, oh, ow)."""
    groups, rows, _ = columns.shape
    o = len(w)
    y: Array = np.matmul(w.reshape(groups, o // groups, rows), columns)
    return y.reshape(o, n, *outputs).swapaxes(0, 1)


def _as_rows(dy: Array, groups: int) -> Array:
    """An image (n, o, oh, ow) as rows (groups, o / groups, n * oh * ow), one for each channel."""
    n, o, rows, columns = dy.shape
    return dy.swapaxes(0, 1).reshape(groups, o // groups, n * rows * columns)


def _scatter(dy: Array, w: Array, geometry: Geometry, shape: tuple[int, ...], groups: int) -> Array:
    """The transpose of the correlation with w: dy (n, o, oh, ow) spread over an image of shape (n, i, h, w).

    Each entry of the kernel is put where it was taken from, and patches that overlap are added up.
    """
    n, i, h, width = shape
    (kh, kw), (top, left) = geometry.kernel, geometry.padding
    kernel = w.reshape(groups, len(w) // groups, i // groups * kh * kw)
    patches = np.matmul(kernel.swapaxes(1, 2), _as_rows(dy, groups))
    outputs = dy.shape[2], dy.shape[3]
    taps = patches.reshape(i, kh, kw, n, *outputs)
    image = np.zeros_like(taps, shape=(i, n, h + 2 * top, width + 2 * left))
    for row in range(kh):
        for column in range(kw):
            rows, columns = geometry.tap(row, column, outputs)
            image[:, :, rows, columns] += taps[:, row, column]
    return image[:, :, top : top + h, left : left + width].swapaxes(0, 1)


# --------------------------------------------------------------------------------------- one image to another


class ConvolutionResiduals(NamedTuple):
    columns: Array
    """The patches of x."""
    w: Array
    shape: tuple[int, ...]
    """That of x."""
    geometry: Geometry
    groups: int


class ConvolutionGradients(NamedTuple):
    x: Array
    w: Array
    b: Array


def _convolve(
    op: str, x: Array, w: Array, b: Array, geometry: Geometry, groups: int
) -> tuple[Array, ConvolutionResiduals]:
    """The correlation and its residuals, of arguments that fit."""
    _validate_channels(op, x, w, groups)
    _validate_kernel(op, x, geometry)
    columns, outputs = _columns(x, geometry, groups)
    y = _correlate(columns, w, len(x), outputs)
    y += b[:, None, None]
    return y, ConvolutionResiduals(columns, w, x.shape, geometry, groups)


def _validate_channels(op: str, x: Array, w: Array, groups: int) -> None:
    i, o = x.shape[1], len(w)
    given: object = groups
    if (
        not isinstance(given, int | np.integer)
        or isinstance(given, bool)
        or groups < 1
        or i % groups
        or o % groups
    ):
        raise ArgumentError(
            op,
            "groups",
            repr(groups),
            f"a divisor of the channels, i = {i} of x and o = {o} of w",
            "Each group of input channels makes as large a part of the output channels.",
        )
    if w.shape[1] != i // groups:
        raise ArgumentError(
            op,
            "w",
            f"of shape {w.shape}",
            f"i / groups = {i // groups} input channels for each output, with i = {i} and groups = {groups}",
            "The kernel is (outputs, inputs of a group, rows, columns).",
        )


def _validate_kernel(op: str, x: Array, geometry: Geometry) -> None:
    sides = zip(
        ("rows", "columns"), x.shape[2:], geometry.padding, geometry.kernel, geometry.span, strict=True
    )
    for side, size, padding, kernel, span in sides:
        if not kernel >= 1 or span > size + 2 * padding:
            raise ArgumentError(
                op,
                "w",
                f"a kernel of {kernel} {side}, which covers {span}",
                f"at least 1, and at most the {size + 2 * padding} of x, {size} with a padding of {padding}",
                "Use a smaller kernel or dilation, or more padding.",
            )


def _conv2d(
    x: Array,
    w: Array,
    b: Array,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[Array, ConvolutionResiduals]:
    """y[n, o] = b[o] + sum over the channels c of the group of o of x[n, c] correlated with w[o, c].

    x (n, i, h, w), w (o, i / groups, kh, kw), b (o,), y (n, o, oh, ow) with
    oh = floor((h + 2 padding - dilation (kh - 1) - 1) / stride) + 1: rows that do not fill a stride are left
    out. The padding is of zeros, on both sides alike, and multiplied as other numbers are: an infinite weight
    gives NaN there.
    """
    name = "conv2d"
    geometry = Geometry(
        (w.shape[2], w.shape[3]),
        validate_pair(name, "stride", stride, 1),
        validate_pair(name, "padding", padding, 0),
        validate_pair(name, "dilation", dilation, 1),
    )
    return _convolve(name, x, w, b, geometry, groups)


def _conv2d_backward(residuals: ConvolutionResiduals, dy: Array) -> ConvolutionGradients:
    """dx is dy spread by the kernel, dw the products of dy with the patches, db the sum of dy: over the batch
    and all places.
    """
    columns, w, shape, geometry, groups = residuals
    dw = np.matmul(_as_rows(dy, groups), columns.swapaxes(1, 2)).reshape(w.shape)
    return ConvolutionGradients(
        _scatter(dy, w, geometry, shape, groups), dw, np.add.reduce(dy, axis=(0, 2, 3))
    )


conv2d = Op(
    "conv2d",
    "(n,i,h,w),(o,i/groups,kh,kw),(o)->(n,o,oh,ow)",
    ("x", "w", "b"),
    _conv2d,
    _conv2d_backward,
)


def _conv1d(
    x: Array,
    w: Array,
    b: Array,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> tuple[Array, ConvolutionResiduals]:
    """y[n, o] = b[o] + sum over the channels c of the group of o of x[n, c] correlated with w[o, c].

    x (n, i, l), w (o, i / groups, k), b (o,), y (n, o, ol): `conv2d` of one row.
    """
    name = "conv1d"
    geometry = Geometry(
        (1, w.shape[2]),
        (1, _validate_number(name, "stride", stride, 1)),
        (0, _validate_number(name, "padding", padding, 0)),
        (1, _validate_number(name, "dilation", dilation, 1)),
    )
    y, residuals = _convolve(name, x[:, :, None], w[:, :, None], b, geometry, groups)
    return y[:, :, 0], residuals


def _validate_number(op: str, name: str, value: object, least: int) -> int:
    if isinstance(value, tuple):
        raise ArgumentError(op, name, repr(value), f"an integer of at least {least}", "There is one axis.")
    return validate_pair(op, name, value, least)[0]


def _conv1d_backward(residuals: ConvolutionResiduals, dy: Array) -> ConvolutionGradients:
    """That of `conv2d`, of one row."""
    dx, dw, db = _conv2d_backward(residuals, dy[:, :, None])
    return ConvolutionGradients(dx[:, :, 0], dw[:, :, 0], db)


conv1d = Op(
    "conv1d",
    "(n,i,l),(o,i/groups,k),(o)->(n,o,ol)",
    ("x", "w", "b"),
    _conv1d,
    _conv1d_backward,
)

# --------------------------------------------------------------------------------------------- and back again


class TransposedResiduals(NamedTuple):
    x: Array
    w: Array
    geometry: Geometry


def _conv_transpose2d(
    x: Array,
    w: Array,
    b: Array,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
) -> tuple[Array, TransposedResiduals]:
    """y = b + the gradient of a `conv2d` by its input, for the cotangent x: each entry of x times the kernel,
    added up where they overlap.

    x (n, i, h, w), w (i, o, kh, kw), b (o,), y (n, o, oh, ow) with
    oh = (h - 1) stride - 2 padding + kh + output_padding. The layout of w is PyTorch's: as the convolution
    back from o to i channels has it. The padding is taken off; the output padding adds rows below and columns
    on the right, which a stride had left out.
    """
    name = "conv_transpose2d"
    steps = validate_pair(name, "stride", stride, 1)
    margin = validate_pair(name, "padding", padding, 0)
    extra = validate_pair(name, "output_padding", output_padding, 0)
    geometry = Geometry((w.shape[2], w.shape[3]), steps, margin, (1, 1))
    sizes = []
    for side, size, kernel, step, off, more in zip(
        ("rows", "columns"), x.shape[2:], geometry.kernel, steps, margin, extra, strict=True
    ):
        sizes.append((size - 1) * step - 2 * off + kernel + more)
        if more >= step:
            raise ArgumentError(
                name,
                "output_padding",
                str(extra),
                f"less than the stride {steps}",
                "As many rows of a convolution are left out at most.",
            )
        if not size or not kernel or sizes[-1] < 1:
            raise ArgumentError(
                name,
                "x",
                f"of {size} {side}, for a kernel of {kernel}",
                f"at least 1 each, and an output of at least 1, not {sizes[-1]}",
                "Use less padding, or a larger kernel.",
            )
    y = _scatter(x, w, geometry, (len(x), w.shape[1], *sizes), 1)
    return y + b[:, None, None], TransposedResiduals(x, w, geometry)


def _conv_transpose2d_backward(residuals: TransposedResiduals, dy: Array) -> ConvolutionGradients:
    """dx is dy correlated with the kernel, dw the products of x with the patches of dy, db the sum of dy."""
    x, w, geometry = residuals
    columns, _ = _columns(dy, geometry, 1)
    outputs = x.shape[2], x.shape[3]
    dx = _correlate(columns, w, len(x), outputs)
    dw = np.matmul(_as_rows(x, 1), columns.swapaxes(1, 2)).reshape(w.shape)
    return ConvolutionGradients(dx, dw, np.add.reduce(dy, axis=(0, 2, 3)))


conv_transpose2d = Op(
    "conv_transpose2d",
    "(n,i,h,w),(i,o,kh,kw),(o)->(n,o,oh,ow)",
    ("x", "w", "b"),
    _conv_transpose2d,
    _conv_transpose2d_backward,
)

OPS: tuple[Operator, ...] = (conv2d, conv1d, conv_transpose2d)
