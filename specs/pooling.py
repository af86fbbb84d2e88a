"""Pooling: the largest or the mean of a window: what they are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import product
from math import inf, nan
from typing import Any

import numpy as np

from specs.convolution import DUMOULIN, GOODFELLOW, combined, of_axis, values_of
from specs.maths import maximum
from specs.spec import Case, Form, Input, Refusal, Sharing, Size, Spec, Tie

X = (Input("x"),)


def pooled_size(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """The number of windows along one axis: all that end in the padding behind the input at most; rounded up,
    one more that ends beyond, unless it starts behind the input."""
    last = size - 1 if ceil_mode else size + padding - kernel
    reached = size + padding - kernel + (stride - 1 if ceil_mode else 0)
    return (min(last, reached) + padding) // stride + 1


def _spans(
    x: Any, axis: int, size: Any, stride: Any, padding: Any, ceil_mode: Any
) -> list[tuple[range, int]]:
    """Of each window along an axis: its places in x, and how many it has with those in the padding."""
    kernel, margin, length = of_axis(size, axis), of_axis(padding, axis), x.shape[2 + axis]
    step = kernel if stride is None else of_axis(stride, axis)
    starts = (a * step - margin for a in range(pooled_size(length, kernel, step, margin, ceil_mode)))
    return [
        (
            range(max(start, 0), min(start + kernel, length)),
            min(start + kernel, length + margin) - start,
        )
        for start in starts
    ]


def _windows(
    x: Any, *, size: Any, stride: Any = None, padding: Any = 0, ceil_mode: Any = False
) -> Iterator[tuple[tuple[int, int], list[tuple[int, int]], int]]:
    """The place of each output, the pixels in its window row by row, and how many those with padding are."""
    rows, columns = (_spans(x, axis, size, stride, padding, ceil_mode) for axis in (0, 1))
    for (a, (below, high)), (c, (beside, wide)) in product(enumerate(rows), enumerate(columns)):
        yield (a, c), list(product(below, beside)), high * wide


def _max_pool2d(x: Any, **settings: Any) -> Any:
    """The first of equal elements is taken."""
    found = {
        place: reduce(maximum, (x[:, :, r, c] for r, c in pixels))
        for place, pixels, _ in _windows(x, **settings)
    }
    return _image(found, x)


def _avg_pool2d(x: Any, *, count_include_pad: Any = True, **settings: Any) -> Any:
    found = {}
    for place, pixels, padded in _windows(x, **settings):
        total = sum((x[:, :, r, c] for r, c in pixels), 0 * x[:, :, 0, 0])
        found[place] = total / (padded if count_include_pad else len(pixels))
    return _image(found, x)


def _image(found: dict[tuple[int, int], Any], x: Any) -> Any:
    """An image from its pixels, each an array (n, i)."""
    rows, columns = (max(place[k] for place in found) + 1 for k in (0, 1))
    y = np.empty((*x.shape[:2], rows, columns), dtype=object)
    for (a, c), pixel in found.items():
        y[:, :, a, c] = pixel
    return y


def _global_max_pool2d(x: Any) -> Any:
    return reduce(maximum, (x[:, :, r, c] for r, c in np.ndindex(x.shape[2:])))


def _global_avg_pool2d(x: Any) -> Any:
    return x.sum(axis=(2, 3)) / (x.shape[2] * x.shape[3])


# ------------------------------------------------------------------------------------------------------- ties


def _largest(x: Any, **settings: Any) -> Any:
    """Which elements of x (last four axes) are the largest of the window of each output (first four)."""
    windows = list(_windows(x, **settings))
    rows, columns = (max(place[k] for place, _, _ in windows) + 1 for k in (0, 1))
    taken = np.zeros((*x.shape[:2], rows, columns, *x.shape), dtype=bool)
    for (a, c), pixels, _ in windows:
        cells = np.stack([x[:, :, r, k] for r, k in pixels])
        for (r, k), is_top in zip(pixels, cells == cells.max(axis=0), strict=True):
            for n, i in np.argwhere(is_top):
                taken[n, i, a, c, n, i, r, k] = True
    return taken


def _largest_of_image(x: Any) -> Any:
    taken = np.zeros((*x.shape[:2], *x.shape), dtype=bool)
    for n, i, r, c in np.argwhere(x == x.max(axis=(2, 3), keepdims=True)):
        taken[n, i, n, i, r, c] = True
    return taken


def _tie(largest: Any, of: str) -> Tie:
    return Tie(
        where=f"equal largest elements of {of}",
        convention=Sharing.FIRST,
        used_by="PyTorch, JAX and TensorFlow, row by row",
        taken=largest,
    )


# ------------------------------------------------------------------------------------------- sizes, settings


def _pooled(axis: int, name: str) -> Size:
    def size(sizes: Any, settings: Any) -> int:
        kernel = of_axis(settings["size"], axis)
        step = kernel if settings["stride"] is None else of_axis(settings["stride"], axis)
        return pooled_size(
            sizes[name], kernel, step, of_axis(settings["padding"], axis), settings["ceil_mode"]
        )

    return size


DERIVED = {"oh": _pooled(0, "h"), "ow": _pooled(1, "w")}
WINDOWS = combined(
    ("size", "stride", "padding", "ceil_mode"),
    (2, None, 0, False),
    (3, 2, 1, True),
    ((2, 3), 1, 1, False),
    (2, 3, 0, True),
    ((3, 2), (1, 2), (1, 0), False),
)
COUNTED = combined(
    ("size", "stride", "padding", "ceil_mode", "count_include_pad"),
    (2, None, 0, False, True),
    (3, 2, 1, True, True),
    ((2, 3), 1, 1, False, False),
    (2, 3, 0, True, True),
    ((3, 2), (1, 2), (1, 0), True, False),
)
SHAPES = (
    {"n": 2, "i": 3, "h": 2, "w": 2},
    {"n": 1, "i": 3, "h": 5, "w": 7},
    {"n": 1, "i": 2, "h": 4, "w": 19},
    {"n": 3, "i": 2, "h": 6, "w": 5},
    {"n": 1, "i": 18, "h": 3, "w": 4},
    {"n": 2, "i": 1, "h": 5, "w": 6},
    {"n": 1, "i": 1, "h": 7, "w": 3},
)
IMAGES = (
    {"n": 2, "i": 3, "h": 1, "w": 4},
    {"n": 1, "i": 3, "h": 5, "w": 7},
    {"n": 1, "i": 2, "h": 3, "w": 19},
    {"n": 4, "i": 2, "h": 5, "w": 3},
    {"n": 1, "i": 18, "h": 3, "w": 4},
)

THREE = ([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]],)
NEGATIVE = ([[[[-3.0, -2.0], [-1.0, -4.0]]]],)

REFUSALS = (
    Refusal("a window larger than the image", NEGATIVE, "at least 3", {"size": 3}),
    Refusal("padding of more than half a window", THREE, "half", {"size": 3, "padding": 2}),
    Refusal("no image", (np.zeros((1, 1, 0, 2)),), "at least", {"size": 1}),
    Refusal("no stride", THREE, "stride", {"size": 2, "stride": 0}),
    Refusal("three sizes", THREE, "pair", {"size": (1, 1, 1)}),
    Refusal("a word for a flag", THREE, "True or False", {"size": 2, "ceil_mode": "yes"}),
    Refusal("one image without its batch axis", (THREE[0][0],), "shape", {"size": 2}),
)
NO_IMAGE = Refusal("no pixels", (np.zeros((1, 2, 0, 3)),), "at least one")


def _by_reciprocals(x: Any, *, count_include_pad: Any = True, **settings: Any) -> Any:
    """Each sum times the rounded reciprocal of the number of its terms."""
    windows = list(_windows(x, **settings))
    pixels = []
    for _, cells, padded in windows:
        rows, columns = zip(*cells, strict=True)
        count = padded if count_include_pad else len(cells)
        pixels.append(x[:, :, rows, columns].sum(axis=-1) * (1.0 / count))
    (last_row, last_column), _, _ = windows[-1]
    return np.stack(pixels, axis=-1).reshape(*x.shape[:2], last_row + 1, last_column + 1)


def _shares_by_reciprocals(
    dy: Any, y: Any, x: Any, *, count_include_pad: Any = True, **settings: Any
) -> tuple[Any, ...]:
    parts: dict[tuple[int, int], list[Any]] = {at: [] for at in np.ndindex(x.shape[2:])}
    for (a, c), cells, padded in _windows(x, **settings):
        for at in cells:
            parts[at].append(dy[:, :, a, c] * (1.0 / (padded if count_include_pad else len(cells))))
    nothing = 0.0 * dy[:, :, 0, 0]
    sums = [np.stack([nothing, *terms], axis=-1).sum(axis=-1) for terms in parts.values()]
    return (np.stack(sums, axis=-1).reshape(*x.shape),)


def _reciprocal(dy: Any, y: Any, x: Any) -> Any:
    return (np.broadcast_to(dy[..., None, None], x.shape) * (1.0 / (x.shape[2] * x.shape[3])),)


SPECS: tuple[Spec, ...] = (
    Spec(
        name="max_pool2d",
        summary="The largest element of each window that moves over an image.",
        signature="(n,i,h,w)->(n,i,oh,ow)",
        definition=_max_pool2d,
        inputs=X,
        settings=values_of(WINDOWS, required=("size",)),
        combinations=WINDOWS,
        derived=DERIVED,
        shapes=SHAPES,
        equations=(
            "y[n,i,a,c] = max x[n, i, a s + u - p, c s + v - p]",
            "  over 0 <= u, v < size, where that is in the image,",
            "  with stride s (the size, if it is None) and padding p",
            "oh = floor((h + 2 p - size) / s) + 1, and ow alike;",
            "  with ceil_mode all windows that reach the last row or column",
            "  and start in the image or before it",
        ),
        tie=_tie(_largest, "a window"),
        cases=(
            Case("windows side by side", THREE, [[[[5.0]]]], {"size": 2}),
            Case("windows that overlap", THREE, [[[[5.0, 6.0], [8.0, 9.0]]]], {"size": 2, "stride": 1}),
            Case(
                "padding never wins",
                NEGATIVE,
                [[[[-3.0, -2.0], [-1.0, -4.0]]]],
                {"size": 2, "padding": 1},
            ),
            Case(
                "rounded up: windows that reach beyond the image",
                THREE,
                [[[[5.0, 6.0], [8.0, 9.0]]]],
                {"size": 2, "ceil_mode": True},
            ),
            Case(
                "rounded up: no window that starts beyond the image",
                THREE,
                [[[[5.0]]]],
                {"size": 2, "stride": 3, "ceil_mode": True},
            ),
            Case(
                "rows and columns apart",
                THREE,
                [[[[3.0], [6.0], [9.0]]]],
                {"size": (1, 3)},
            ),
            Case("NaN wins", ([[[[1.0, nan, 2.0, inf]]]],), [[[[nan, inf]]]], {"size": (1, 2)}),
            Case(
                "minus infinity in all of a window",
                ([[[[-inf, -inf, -inf, 1.0]]]],),
                [[[[-inf, 1.0]]]],
                {"size": (1, 2)},
            ),
        ),
        refusals=REFUSALS,
        references=(f"{GOODFELLOW}, 9.3", DUMOULIN),
    ),
    Spec(
        name="avg_pool2d",
        summary="The mean of each window that moves over an image.",
        signature="(n,i,h,w)->(n,i,oh,ow)",
        definition=_avg_pool2d,
        inputs=X,
        settings=values_of(COUNTED, required=("size",)),
        combinations=COUNTED,
        derived=DERIVED,
        shapes=SHAPES,
        equations=(
            "y[n,i,a,c] = sum x[n, i, a s + u - p, c s + v - p] / d",
            "  over 0 <= u, v < size, where that is in the image,",
            "  with stride s (the size, if it is None) and padding p;",
            "  d counts those in the image and, with count_include_pad, in the padding",
            "oh = floor((h + 2 p - size) / s) + 1, and ow alike;",
            "  with ceil_mode all windows that reach the last row or column",
            "  and start in the image or before it",
        ),
        cases=(
            Case("windows side by side", THREE, [[[[3.0]]]], {"size": 2}),
            Case("windows that overlap", THREE, [[[[3.0, 4.0], [6.0, 7.0]]]], {"size": 2, "stride": 1}),
            Case(
                "padding counts",
                NEGATIVE,
                [[[[-0.75, -0.5], [-0.25, -1.0]]]],
                {"size": 2, "padding": 1},
            ),
            Case(
                "padding does not count",
                NEGATIVE,
                [[[[-3.0, -2.0], [-1.0, -4.0]]]],
                {"size": 2, "padding": 1, "count_include_pad": False},
            ),
            Case(
                "what is beyond the image never counts",
                THREE,
                [[[[3.0, 4.5], [7.5, 9.0]]]],
                {"size": 2, "ceil_mode": True},
            ),
            Case(
                "beyond the padding nothing counts, the padding does",
                ([[[[2.0, 4.0, 8.0, 18.0]]]],),
                [[[[2.0, 10.0, 9.0]]]],
                {"size": (1, 3), "stride": (1, 2), "padding": (0, 1), "ceil_mode": True},
            ),
            Case(
                "NaN and infinity stay in their windows",
                ([[[[nan, 1.0, 2.0, 4.0, inf, 1.0]]]],),
                [[[[nan, 3.0, inf]]]],
                {"size": (1, 2)},
            ),
        ),
        forms=(
            Form(
                "times the reciprocal of the count",
                "XLA, hand-written kernels",
                value=_by_reciprocals,
                vjp=_shares_by_reciprocals,
            ),
        ),
        refusals=(
            *REFUSALS,
            Refusal("a number for a flag", THREE, "True", {"size": 2, "count_include_pad": 1}),
        ),
        references=(f"{GOODFELLOW}, 9.3", DUMOULIN),
    ),
    Spec(
        name="global_max_pool2d",
        summary="The largest element of each image.",
        signature="(n,i,h,w)->(n,i)",
        definition=_global_max_pool2d,
        inputs=X,
        shapes=IMAGES,
        equations=("y[n,i] = max x[n,i,r,c] over all r, c",),
        tie=_tie(_largest_of_image, "an image"),
        cases=(
            Case("all of them negative", NEGATIVE, [[-1.0]]),
            Case("NaN wins", ([[[[1.0, nan]], [[inf, -inf]]]],), [[nan, inf]]),
        ),
        refusals=(NO_IMAGE,),
        references=("Lin, Chen & Yan, Network In Network (2014), arXiv:1312.4400, 3.2",),
    ),
    Spec(
        name="global_avg_pool2d",
        summary="The mean of each image.",
        signature="(n,i,h,w)->(n,i)",
        definition=_global_avg_pool2d,
        inputs=X,
        shapes=IMAGES,
        equations=("y[n,i] = sum x[n,i,r,c] / (h w) over all r, c",),
        cases=(
            Case("a mean of four", ([[[[1.0, 2.0], [3.0, 6.0]]]],), [[3.0]]),
            Case("NaN and infinity stay in their image", ([[[[1.0, nan]], [[inf, 1.0]]]],), [[nan, inf]]),
        ),
        refusals=(NO_IMAGE,),
        forms=(
            Form(
                "times the reciprocal of the number of pixels",
                "hand-written kernels",
                value=lambda x: x.sum(axis=(2, 3)) * (1.0 / (x.shape[2] * x.shape[3])),
                vjp=_reciprocal,
            ),
        ),
        references=("Lin, Chen & Yan, Network In Network (2014), arXiv:1312.4400, 3.2",),
    ),
)
