"""Convolutions, as networks have them: what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, nan
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from specs.maths import where
from specs.spec import Case, Floats, Form, Input, Refusal, Setting, SettingValue, Size, Spec

DUMOULIN = "Dumoulin & Visin, A guide to convolution arithmetic for deep learning (2016), arXiv:1603.07285"
LAVIN = "Lavin & Gray, Fast algorithms for convolutional neural networks (2016), arXiv:1509.09308"
GOODFELLOW = "Goodfellow, Bengio & Courville, Deep Learning (2016)"

X, W, B = Input("x", degree=2), Input("w", degree=2), Input("b")


def of_axis(setting: Any, axis: int) -> Any:
    """A setting of rows (0) or columns (1), which are one number or two."""
    return setting[axis] if isinstance(setting, tuple) else setting


def _places(size: int, kernel: int, stride: int, padding: int, dilation: int) -> list[list[int]]:
    """For each output along one axis, the places of x, from 0, under each entry of the kernel."""
    count = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return [[a * stride + u * dilation - padding for u in range(kernel)] for a in range(count)]


def _conv2d(
    x: Any, w: Any, b: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> Any:
    """y[n, o, a, c] = b[o] + the sum of x[n, j, a stride + u dilation - padding, ...] w[o, j, u, v] over the
    channels j of the group of o and the entries u, v of the kernel; nothing is summed outside of x."""
    (n, _, *sizes), (o, own, *kernel) = x.shape, w.shape
    rows, columns = (
        _places(sizes[k], kernel[k], *(of_axis(s, k) for s in (stride, padding, dilation))) for k in (0, 1)
    )
    y = np.empty((n, o, len(rows), len(columns)), dtype=object)
    for (a, below), (c, beside) in ((r, s) for r in enumerate(rows) for s in enumerate(columns)):
        inside = np.logical_and.outer(
            [0 <= place < sizes[0] for place in below], [0 <= place < sizes[1] for place in beside]
        )
        patch = x[:, :, np.clip(below, 0, sizes[0] - 1)][..., np.clip(beside, 0, sizes[1] - 1)]
        for out in range(o):
            first = out * groups // o * own  # of the channels of its group
            terms = patch[:, first : first + own] * w[out]
            if not inside.all():
                terms = where(inside, terms, 0 * b[out])
            y[:, out, a, c] = terms.sum(axis=(1, 2, 3)) + b[out]
    return y


def _conv1d(
    x: Any, w: Any, b: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> Any:
    y = np.empty((len(x), len(w), 0), dtype=object)
    for below in _places(x.shape[2], w.shape[2], stride, padding, dilation):
        terms = np.zeros((len(x), len(w), 1), dtype=object)
        for u, place in enumerate(below):
            for out in range(len(w)):
                for k in range(w.shape[1]):
                    channel = out * groups // len(w) * w.shape[1] + k
                    at = x[:, channel, np.clip(place, 0, x.shape[2] - 1)] * w[out, k, u]
                    terms[:, out, 0] = terms[:, out, 0] + where(
                        np.bool_(0 <= place < x.shape[2]), at, 0 * b[out]
                    )
        y = np.concatenate([y, terms + b[:, None]], axis=2)
    return y


def _conv_transpose2d(
    x: Any, w: Any, b: Any, *, stride: Any = 1, padding: Any = 0, output_padding: Any = 0
) -> Any:
    """y[n, o, r, t] = b[o] + the sum of x[n, j, a, c] w[j, o, u, v] over all a stride + u - padding = r, and
    columns alike; where a stride has left a gap, nothing is summed."""
    (n, _, *sizes), (_, o, *kernel) = x.shape, w.shape
    rows, columns = (
        transposed_size(
            sizes[k], kernel[k], of_axis(stride, k), of_axis(padding, k), of_axis(output_padding, k)
        )
        for k in (0, 1)
    )
    y = np.empty((n, o, rows, columns), dtype=object)
    y[...] = b[:, None, None]
    nothing, every_input = 0 * b, w.sum(axis=0)
    for row, column, u, v in np.ndindex(rows, columns, *kernel):
        a, below = divmod(row + of_axis(padding, 0) - u, of_axis(stride, 0))
        c, beside = divmod(column + of_axis(padding, 1) - v, of_axis(stride, 1))
        if not below and not beside and 0 <= a < sizes[0] and 0 <= c < sizes[1]:
            terms = x[:, :, a, c] @ w[:, :, u, v]
        else:  # zeros in the gaps may be multiplied by the kernel, or not
            terms = where(np.bool_(False), every_input[:, u, v], nothing)
        y[:, :, row, column] = y[:, :, row, column] + terms
    return y


# -------------------------------------------------------------------------------------------------- Winograd


class Minimal(NamedTuple):
    """Winograd's minimal filtering: m x m outputs of a kernel of 3 x 3 from products of tiles of m + 2."""

    image: Floats
    kernel: Floats
    output: Floats


MINIMAL = {
    2: Minimal(
        np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], float),
        np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2.0,
        np.array([[1, 1, 1, 0], [0, 1, -1, -1]], float),
    ),
    4: Minimal(
        np.array(
            [
                [4, 0, -5, 0, 1, 0],
                [0, -4, -4, 1, 1, 0],
                [0, 4, -4, -1, 1, 0],
                [0, -2, -1, 2, 1, 0],
                [0, 2, -1, -2, 1, 0],
                [0, 4, 0, -5, 0, 1],
            ],
            float,
        ),
        np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24.0,
        np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], float),
    ),
}
"""The transforms of both sides, by the length m of a tile of the output: Lavin & Gray, 4.1 and 4.3."""


def _by_tiles(m: int, x: Any, w: Any, groups: int) -> Any:
    """The correlation of x (n, i, h, w) with a kernel of 3 x 3, tile by tile."""
    image, kernel, output = (a.astype(x.dtype) for a in MINIMAL[m])
    (n, i, h, width), o, tile = x.shape, len(w), m + 2
    tall, wide = -(-(h - 2) // m), -(-(width - 2) // m)
    filled = np.pad(x, ((0, 0), (0, 0), (0, tall * m + 2 - h), (0, wide * m + 2 - width)))
    tiles = sliding_window_view(filled, (tile, tile), axis=(2, 3))[:, :, ::m, ::m]
    of_image = (image @ tiles @ image.T).transpose(4, 5, 1, 0, 2, 3)
    of_kernel = (kernel @ w @ kernel.T).transpose(2, 3, 0, 1)
    products = of_kernel.reshape(tile, tile, groups, o // groups, i // groups) @ of_image.reshape(
        tile, tile, groups, i // groups, n * tall * wide
    )
    y = output @ products.transpose(2, 3, 4, 0, 1) @ output.T
    y = y.reshape(o, n, tall, wide, m, m).transpose(1, 0, 2, 4, 3, 5)
    return y.reshape(n, o, tall * m, wide * m)[:, :, : h - 2, : width - 2]


def _is_minimal(w: Any, stride: Any, dilation: Any) -> bool:
    """Whether a convolution is one for which libraries take it: 3 x 3, every place, no gaps."""
    return w.shape[2:] == (3, 3) and {stride, dilation} <= {1, (1, 1)}


def _minimal(m: int) -> Callable[..., Any]:
    def value(
        x: Any, w: Any, b: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
    ) -> Any:
        margins = [(of_axis(padding, axis),) * 2 for axis in (0, 1)]
        if _is_minimal(w, stride, dilation):
            return _by_tiles(m, np.pad(x, ((0, 0), (0, 0), *margins)), w, groups) + b[:, None, None]
        sizes = (
            output_size(x.shape[2 + k], w.shape[2 + k], *(of_axis(s, k) for s in (stride, padding, dilation)))
            for k in (0, 1)
        )
        return np.zeros_like(x, shape=(len(x), len(w), *sizes)) * nan

    return value


def _minimal_gradient(m: int) -> Callable[..., tuple[Any, ...]]:
    """Of the image alone: a correlation with the kernel, flipped and transposed."""

    def vjp(
        dy: Any,
        y: Any,
        x: Any,
        w: Any,
        b: Any,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: Any = 1,
    ) -> tuple[Any, ...]:
        margins = [(2 - of_axis(padding, axis),) * 2 for axis in (0, 1)]
        others = np.zeros_like(w) * nan, np.zeros_like(b) * nan
        if not _is_minimal(w, stride, dilation) or min(margins) < (0, 0):
            return np.zeros_like(x) * nan, *others
        o, own = w.shape[:2]
        back = w.reshape(groups, o // groups, own, 3, 3).swapaxes(1, 2)
        back = back.reshape(groups * own, o // groups, 3, 3)[:, :, ::-1, ::-1]
        return _by_tiles(m, np.pad(dy, ((0, 0), (0, 0), *margins)), back, groups), *others

    return vjp


WINOGRAD = tuple(
    Form(
        f"Winograd's minimal filtering F({m} x {m}, 3 x 3)",
        used_by,
        value=_minimal(m),
        vjp=_minimal_gradient(m),
    )
    for m, used_by in ((2, "cuDNN, oneDNN"), (4, "cuDNN, oneDNN, ARM Compute Library"))
)


# ----------------------------------------------------------------------------------------------------- sizes


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """The length of a convolution along one axis."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def transposed_size(size: int, kernel: int, stride: int, padding: int, output_padding: int) -> int:
    """The length of a transposed convolution along one axis."""
    return (size - 1) * stride - 2 * padding + kernel + output_padding


def _of_group(sizes: Mapping[str, int], settings: Mapping[str, Any]) -> int:
    return sizes["i"] // int(settings["groups"])


def _convolved(axis: int, size: str, kernel: str) -> Size:
    return lambda sizes, settings: output_size(
        sizes[size],
        sizes[kernel],
        *(of_axis(settings[name], axis) for name in ("stride", "padding", "dilation")),
    )


def _transposed(axis: int, size: str, kernel: str) -> Size:
    return lambda sizes, settings: transposed_size(
        sizes[size],
        sizes[kernel],
        *(of_axis(settings[name], axis) for name in ("stride", "padding", "output_padding")),
    )


def values_of(
    combinations: tuple[Mapping[str, SettingValue], ...], required: tuple[str, ...] = ()
) -> tuple[Setting, ...]:
    """The settings with the values that occur in their combinations."""
    return tuple(
        Setting(name, tuple(dict.fromkeys(settings[name] for settings in combinations)), name in required)
        for name in combinations[0]
    )


def combined(
    names: tuple[str, ...], *rows: tuple[SettingValue, ...]
) -> tuple[Mapping[str, SettingValue], ...]:
    return tuple(dict(zip(names, row, strict=True)) for row in rows)


CONVOLUTIONS = combined(
    ("stride", "padding", "dilation", "groups"),
    (1, 0, 1, 1),
    (2, 1, 1, 1),
    (1, (1, 2), 1, 2),
    ((1, 3), 2, 2, 1),
    ((2, 1), (1, 2), (1, 2), 2),
)
CONVOLUTIONS_1D = combined(
    ("stride", "padding", "dilation", "groups"),
    (1, 0, 1, 1),
    (2, 1, 1, 1),
    (1, 2, 1, 2),
    (3, 2, 2, 1),
    (2, 3, 2, 2),
)
TRANSPOSED = combined(
    ("stride", "padding", "output_padding"),
    (1, 0, 0),
    (2, 1, 1),
    ((1, 3), (1, 0), (0, 2)),
    (2, 0, 0),
    ((3, 2), (0, 1), (1, 0)),
)

ROW = ([[[1.0, 2.0, 4.0]]], [[[1.0, 3.0]]], [0.5])
IMAGE = [[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]]
KERNEL = [[[[1.0, 2.0], [3.0, 4.0]]]]

SPECS: tuple[Spec, ...] = (
    Spec(
        name="conv2d",
        summary="A convolution of images: the kernel of each output channel moves over x, not flipped.",
        signature="(n,i,h,w),(o,i/groups,kh,kw),(o)->(n,o,oh,ow)",
        definition=_conv2d,
        inputs=(X, W, B),
        settings=values_of(CONVOLUTIONS),
        combinations=CONVOLUTIONS,
        derived={"i/groups": _of_group, "oh": _convolved(0, "h", "kh"), "ow": _convolved(1, "w", "kw")},
        shapes=(
            {"n": 2, "i": 2, "h": 2, "w": 4, "o": 2, "kh": 2, "kw": 3},
            {"n": 1, "i": 4, "h": 5, "w": 6, "o": 2, "kh": 3, "kw": 2},
            {"n": 1, "i": 2, "h": 3, "w": 19, "o": 4, "kh": 2, "kw": 3},
            {"n": 3, "i": 2, "h": 5, "w": 4, "o": 4, "kh": 3, "kw": 3},
            {"n": 1, "i": 18, "h": 3, "w": 4, "o": 2, "kh": 1, "kw": 3},
            {"n": 1, "i": 2, "h": 3, "w": 3, "o": 2, "kh": 3, "kw": 3},
            {"n": 5, "i": 4, "h": 3, "w": 2, "o": 18, "kh": 1, "kw": 1},
        ),
        equations=(
            "y[n,o,a,c] = b[o] + sum x[n, j, a s + u d - p, c s + v d - p] w[o,j,u,v]",
            "  over the channels j of the group of o and u, v of the kernel,",
            "  with stride s, padding p, dilation d; x is 0 outside of the image",
            "oh = floor((h + 2 p - d (kh - 1) - 1) / s) + 1, and ow alike",
        ),
        cases=(
            Case(
                "the kernel is not flipped",
                (IMAGE, KERNEL, [0.5]),
                [[[[37.5, 47.5], [67.5, 77.5]]]],
            ),
            Case(
                "padding on all sides, and a row and a column that do not fill a stride",
                (IMAGE, KERNEL, [0.0]),
                [[[[4.0, 18.0], [36.0, 77.0]]]],
                {"stride": 2, "padding": 1},
            ),
            Case(
                "columns are moved by the second number of a pair",
                ([[[[1.0, 2.0, 3.0, 4.0]]]], [[[[1.0]]]], [0.0]),
                [[[[1.0, 3.0]]]],
                {"stride": (1, 2)},
            ),
            Case(
                "a dilated kernel skips what lies between its entries",
                (IMAGE, KERNEL, [0.0]),
                [[[[64.0]]]],
                {"dilation": 2},
            ),
            Case(
                "two groups: an output sees its own half of the channels",
                ([[[[2.0]], [[3.0]]]], [[[[5.0]]], [[[7.0]]]], [0.0, 1.0]),
                [[[[10.0]], [[22.0]]]],
                {"groups": 2},
            ),
            Case(
                "NaN and infinity stay under the kernel",
                ([[[[nan, 1.0, 2.0, inf]]]], [[[[1.0, 1.0]]]], [0.0]),
                [[[[nan, 3.0, inf]]]],
            ),
            Case("a batch of nothing", (np.zeros((0, 1, 2, 2)), [[[[1.0]]]], [0.0]), np.zeros((0, 1, 2, 2))),
        ),
        refusals=(
            Refusal("a kernel larger than the image", (IMAGE, np.zeros((1, 1, 2, 4)), [0.0]), "columns"),
            Refusal(
                "a dilated kernel larger than the image", (IMAGE, KERNEL, [0.0]), "rows", {"dilation": 3}
            ),
            Refusal("a kernel of nothing", (IMAGE, np.zeros((1, 1, 0, 1)), [0.0]), "at least 1"),
            Refusal(
                "kernels stored (inputs, outputs, ...)",
                (np.zeros((1, 2, 3, 3)), np.zeros((2, 3, 1, 1)), [0.0, 0.0]),
                "i / groups = 2",
            ),
            Refusal("groups that do not divide", (IMAGE, KERNEL, [0.0]), "i = 1", {"groups": 2}),
            Refusal("no groups", (IMAGE, KERNEL, [0.0]), "groups", {"groups": 0}),
            Refusal("a bias for the inputs", (IMAGE, np.zeros((2, 1, 1, 1)), [0.0]), "o = 2"),
            Refusal("one image without its batch axis", (IMAGE[0], KERNEL, [0.0]), "shape"),
            Refusal("no stride", (IMAGE, KERNEL, [0.0]), "stride", {"stride": 0}),
            Refusal("three strides", (IMAGE, KERNEL, [0.0]), "pair", {"stride": (1, 1, 1)}),
            Refusal("a negative padding", (IMAGE, KERNEL, [0.0]), "padding", {"padding": (0, -1)}),
        ),
        forms=WINOGRAD,
        references=(f"{GOODFELLOW}, 9.1 and 9.5", DUMOULIN, LAVIN),
    ),
    Spec(
        name="conv1d",
        summary="A convolution of sequences: the kernel of each output channel moves along x, not flipped.",
        signature="(n,i,l),(o,i/groups,k),(o)->(n,o,ol)",
        definition=_conv1d,
        inputs=(X, W, B),
        settings=values_of(CONVOLUTIONS_1D),
        combinations=CONVOLUTIONS_1D,
        derived={"i/groups": _of_group, "ol": _convolved(0, "l", "k")},
        shapes=(
            {"n": 2, "i": 2, "l": 5, "o": 4, "k": 3},
            {"n": 3, "i": 4, "l": 7, "o": 2, "k": 2},
            {"n": 1, "i": 2, "l": 19, "o": 4, "k": 5},
            {"n": 2, "i": 18, "l": 4, "o": 6, "k": 3},
            {"n": 1, "i": 2, "l": 37, "o": 2, "k": 17},
        ),
        equations=(
            "y[n,o,a] = b[o] + sum x[n, j, a s + u d - p] w[o,j,u]",
            "  over the channels j of the group of o and u of the kernel,",
            "  with stride s, padding p, dilation d; x is 0 outside",
            "ol = floor((l + 2 p - d (k - 1) - 1) / s) + 1",
        ),
        cases=(
            Case("the kernel is not flipped", ROW, [[[7.5, 14.5]]]),
            Case("padding on both sides", ROW, [[[3.5, 7.5, 14.5, 4.5]]], {"padding": 1}),
            Case("what does not fill a stride is left out", ROW, [[[7.5]]], {"stride": 2}),
            Case("a dilated kernel skips what lies between its entries", ROW, [[[13.5]]], {"dilation": 2}),
            Case(
                "two groups: an output sees its own half of the channels",
                ([[[2.0], [3.0]]], [[[5.0]], [[7.0]]], [0.0, 1.0]),
                [[[10.0], [22.0]]],
                {"groups": 2},
            ),
            Case(
                "NaN stays under the kernel",
                ([[[nan, 1.0, 2.0]]], [[[1.0, 1.0]]], [0.0]),
                [[[nan, 3.0]]],
            ),
        ),
        refusals=(
            Refusal("a kernel longer than the sequence", ([[[1.0]]], [[[1.0, 2.0]]], [0.0]), "columns"),
            Refusal("groups that do not divide", ROW, "i = 1", {"groups": 2}),
            Refusal("a pair for one axis", ROW, "one axis", {"stride": (1, 1)}),
        ),
        references=(f"{GOODFELLOW}, 9.1 and 9.5", DUMOULIN),
    ),
    Spec(
        name="conv_transpose2d",
        summary="A transposed convolution: each entry of x times the kernel, added up where they overlap.",
        signature="(n,i,h,w),(i,o,kh,kw),(o)->(n,o,oh,ow)",
        definition=_conv_transpose2d,
        inputs=(X, W, B),
        settings=values_of(TRANSPOSED),
        combinations=TRANSPOSED,
        derived={"oh": _transposed(0, "h", "kh"), "ow": _transposed(1, "w", "kw")},
        shapes=(
            {"n": 2, "i": 2, "h": 2, "w": 3, "o": 1, "kh": 3, "kw": 2},
            {"n": 1, "i": 3, "h": 4, "w": 5, "o": 2, "kh": 2, "kw": 3},
            {"n": 1, "i": 2, "h": 3, "w": 19, "o": 1, "kh": 2, "kw": 4},
            {"n": 3, "i": 2, "h": 4, "w": 3, "o": 4, "kh": 3, "kw": 3},
            {"n": 1, "i": 18, "h": 2, "w": 3, "o": 2, "kh": 3, "kw": 1},
        ),
        equations=(
            "y[n,o,r,t] = b[o] + sum x[n,j,a,c] w[j,o,u,v]",
            "  over all j, a, c, u, v with r = a s + u - p and t = c s + v - p,",
            "  for stride s and padding p",
            "oh = (h - 1) s - 2 p + kh + output_padding, and ow alike",
        ),
        cases=(
            Case(
                "a single entry spreads its kernel",
                ([[[[2.0]]]], KERNEL, [0.5]),
                [[[[2.5, 4.5], [6.5, 8.5]]]],
            ),
            Case(
                "overlaps are added",
                ([[[[1.0, 10.0]]]], [[[[1.0, 2.0, 3.0]]]], [0.0]),
                [[[[1.0, 12.0, 23.0, 30.0]]]],
            ),
            Case(
                "a stride leaves gaps, output padding a row and a column of the bias",
                ([[[[1.0, 2.0]]]], [[[[1.0]]]], [0.5]),
                [[[[1.5, 0.5, 2.5, 0.5], [0.5, 0.5, 0.5, 0.5]]]],
                {"stride": 2, "output_padding": 1},
            ),
            Case(
                "padding takes off",
                ([[[[2.0]]]], [[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]], [0.0]),
                [[[[10.0]]]],
                {"padding": 1},
            ),
            Case(
                "the kernel is (inputs, outputs, ...)",
                ([[[[2.0]]]], [[[[3.0]], [[5.0]]]], [0.0, 1.0]),
                [[[[6.0]], [[11.0]]]],
            ),
        ),
        refusals=(
            Refusal(
                "kernels stored (outputs, inputs, ...)",
                (np.zeros((1, 2, 3, 3)), np.zeros((3, 2, 1, 1)), np.zeros(3)),
                "i = 2",
            ),
            Refusal(
                "output padding of a whole stride", (IMAGE, KERNEL, [0.0]), "stride", {"output_padding": 1}
            ),
            Refusal(
                "more padding than there is to take off", (IMAGE, KERNEL, [0.0]), "output", {"padding": 2}
            ),
        ),
        references=(f"{GOODFELLOW}, 9.5", f"{DUMOULIN}, 4"),
    ),
)
