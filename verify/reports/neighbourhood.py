"""What a failure shows of its inputs: the elements that the worst element of the result depends on most.

They are found by the names of the axes in the spec's signature: an axis that the result has as well is
held at the result's index, and the others run. In "(n,k),(k,m),(m)->(n,m)" the element y[i, j] is shown with
x[i, :] and w[:, j]. An input all of whose own axes the result has shows the line through the element: a row
of softmax along its axis, whichever that is. One that has none of the result's axes is left out, as is x in
the gradient of b.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod
from operator import ne

import ml_dtypes  # noqa: F401  (gives NumPy the name bfloat16)
import numpy as np

from specs import SPECS, Spec
from specs.spec import BATCH
from verify.reports.json_report import plain
from verify.reports.record import Worst

LINE, ELEMENTS = 6, 12
"""How many elements are shown of a line, around the worst, and of an input."""

HEX = re.compile(r"-?0x[0-9a-f.]+p[+-]\d+")
OF_LAYER = re.compile(r"d?([wb])(\d+)")

Index = tuple[int, ...]
Held = Sequence[int | None]
"""Where an axis is held; None: it runs."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A line of an input: `x[1, 4:12]`, its elements in print, and how many elements follow that are not
    shown."""

    name: str
    elements: tuple[str, ...]
    left_out: int = 0


def shapes_of(worst: Worst) -> str:
    """The shapes of all inputs: "x (4, 3), labels (4,)"."""
    shapes = [f"{name} {_shape(value)}" for name, value in _arrays(worst) if _shape(value)]
    return ", ".join(shapes)


def shown_of(op: str, dtype: str, worst: Worst) -> Iterator[Shown]:
    """The lines of the inputs to print with the worst element."""
    for name, value in _arrays(worst):
        shape = _shape(value)
        held, centre = _place(op, worst, name, shape)
        if held is not None:
            yield from _lines(name, value, shape, held, centre, dtype)


def decimal(value: str, dtype: str) -> str:
    """A hexadecimal float without idle zeros, and the shortest decimal that tells it apart in its dtype."""
    if not HEX.fullmatch(value):
        return value
    number = float.fromhex(value)
    try:
        with np.errstate(all="ignore"):
            rounded = np.dtype(dtype).type(number)
    except TypeError:  # a report that another program wrote may name any dtype
        return f"{_trimmed(value)} ({number!r})"
    return f"{_trimmed(value)} ({str(rounded) if float(rounded) == number else repr(number)})"


def _brief(value: object) -> str:
    """One of many elements: the hexadecimal has every digit, the decimal those that an eye takes in."""
    text = str(value)
    return f"{_trimmed(text)} ({float.fromhex(text):.6g})" if HEX.fullmatch(text) else text


def element(name: str, index: Sequence[int | str]) -> str:
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def _trimmed(value: str) -> str:
    return re.sub(r"\.?0+p", "p", value)


# --------------------------------------------------------------------------------------------- the inputs


def _arrays(worst: Worst) -> Iterator[tuple[str, object]]:
    """The inputs by name; those of a network layer by layer."""
    for name, value in worst.inputs.items():
        value = plain(value)
        if name != "params" or not isinstance(value, list):
            yield name, value
            continue
        for layer, pair in enumerate(value):
            for position, array in enumerate(pair):
                yield f"{name}[{layer}][{position}]", array


def _shape(value: object) -> tuple[int, ...]:
    shape: tuple[int, ...] = ()
    while isinstance(value, list):
        shape = (*shape, len(value))
        value = value[0] if value else None
    return shape


def _at(value: object, index: Index) -> object:
    for k in index:
        assert isinstance(value, list)
        value = value[k]
    return value


# ------------------------------------------------------------------------------------- what is of interest


def _place(op: str, worst: Worst, name: str, shape: tuple[int, ...]) -> tuple[Held | None, Held]:
    """Where the axes of an input are held, None if it is of no interest; and where its worst element is."""
    if "params" in worst.inputs:
        return _place_in_network(worst, name, shape)
    spec = SPECS.get(op)
    if spec is None:
        return (None,) * len(shape), _padded(worst.index, shape)
    result = _labels(spec, worst, worst.output, len(worst.index))
    own = _labels(spec, worst, name, len(shape))
    if result is None or own is None:
        return (None,) * len(shape), _padded(worst.index, shape)
    known = dict(zip(result, worst.index, strict=True))
    if own and known and not known.keys() & set(own):
        return None, ()
    centre = [known.get(label) for label in own]
    held = list(centre)
    core = [k for k, label in enumerate(own) if not label.startswith("batch")]
    if core and all(held[k] is not None for k in core):
        held[core[-1]] = None
    return held, centre


def _padded(index: Index, shape: tuple[int, ...]) -> Held:
    return index if len(index) == len(shape) else (None,) * len(shape)


def _labels(spec: Spec, worst: Worst, name: str, ndim: int) -> list[str] | None:
    """The names of the axes of an input, of its gradient, of the result or of the cotangent."""
    inputs = dict(zip((item.name for item in spec.inputs), spec.groups(0), strict=True))
    gradients = {f"d{item}": axes for item, axes in inputs.items()}
    outputs = dict(zip(spec.outputs, spec.groups(1), strict=True))
    cotangents = (
        {f"dy[{k}]": axes for k, axes in enumerate(spec.groups(1))}
        if len(outputs) > 1
        else {"dy": spec.groups(1)[0]}
    )
    axes = (gradients | cotangents | inputs | (outputs if name == worst.output else {})).get(name)
    named = [axis for axis in axes or () if axis != BATCH]
    if axes is None or len(named) > ndim:
        return None
    many = [f"{'batch' if axes[0] == BATCH else 'position'} {k}" for k in range(ndim - len(named))]
    axis = worst.settings.get("axis")
    if len(named) == 1 and isinstance(axis, int):
        many.insert(axis % ndim, named[0])
        return many
    if BATCH not in axes:
        return [*many, *named]
    start = axes.index(BATCH)
    return [*axes[:start], *many, *axes[start + 1 :]]


def _place_in_network(worst: Worst, name: str, shape: tuple[int, ...]) -> tuple[Held | None, Held]:
    """The row of the parameter itself, or those of the last layer that lead to a logit; and the samples."""
    running: Held = (None,) * len(shape)
    of_layer = OF_LAYER.fullmatch(worst.output)
    if of_layer:
        kind, layer = of_layer.groups()
        if name == f"params[{layer}][{'wb'.index(kind)}]":
            return (*worst.index[:-1], None), worst.index
        return (None if name.startswith("params") else running), running
    if len(worst.index) != 2:
        return running, running
    row, column = worst.index
    last = max(number for number, _ in enumerate(_params(worst)))
    places: dict[str, Held] = {
        "x": (row, None),
        f"params[{last}][0]": (None, column),
        f"params[{last}][1]": (column,),
    }
    return places.get(name), running


def _params(worst: Worst) -> list[object]:
    params = plain(worst.inputs["params"])
    return params if isinstance(params, list) else [params]


# ------------------------------------------------------------------------------------------------ in print


def _lines(
    name: str, value: object, shape: tuple[int, ...], held: Held, centre: Held, dtype: str
) -> Iterator[Shown]:
    """Lines along the last axis that runs, as many as are to be shown."""
    if 0 in shape:
        yield Shown(f"{name} is empty", ())
        return
    runs = [k for k, at in enumerate(held) if at is None]
    total = prod(shape[k] for k in runs)
    along = runs[-1] if runs else None
    others = [[at] if at is not None else [] for at in held]
    for k in runs[:-1]:  # the line of the worst element comes first
        others[k] = sorted(range(shape[k]), key=partial(ne, centre[k]))
    if along is None:
        index = tuple(k for k in held if k is not None)
        yield Shown(element(name, index), (decimal(str(_at(value, index)), dtype),))
        return
    width = min(shape[along], LINE)
    middle = centre[along] or 0
    start = max(0, min(middle - LINE // 2, shape[along] - width))
    others[along] = [start]
    lines = list(product(*others))[: max(1, ELEMENTS // width)]
    for number, line in enumerate(lines):
        places = [(*line[:along], k, *line[along + 1 :]) for k in range(start, start + width)]
        span = ":" if width == shape[along] else f"{start}:{start + width}"
        label = element(name, (*line[:along], span, *line[along + 1 :]))
        left_out = total - len(lines) * width if number == len(lines) - 1 else 0
        yield Shown(label, tuple(_brief(_at(value, place)) for place in places), left_out)
