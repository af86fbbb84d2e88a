"""Hypothesis strategies, from a spec's signature, domains and special points.

What is drawn is a `Recipe`: shape, regime and seed of the builder that the plan of a conformance check uses,
and on top of it the elements and the layout that Hypothesis chose. A falsifying example prints as one line,
and that line builds it again without Hypothesis. Everything shrinks: to few elements, to the numbers
-1, 0 and 1, to no element set by hand, to contiguous arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from specs import Domain, Input, Spec
from verify.arithmetic.formats import Format
from verify.laws.examples import LAYOUTS, REGIMES, Example, Poke, Recipe, Shape, all_sizes, reach
from verify.laws.network import NetworkRecipe

LONGEST_AXIS = 9
MOST_ELEMENTS = 48
"""Of any one array: below the 64 terms for which `reach` promises that no sum overflows."""

MOST_POKES = 6

BATCHES: Sequence[tuple[int, ...]] = ((), (1,), (2,), (2, 3))
"""Of operators with shapes of their own; those of the others have all that fit."""

SIMPLEST_FIRST = ("ties", *(regime for regime in REGIMES if regime != "ties"))

# ------------------------------------------------------------------------------- numbers by their ordinals


def from_ordinal(ordinal: int, fmt: Format) -> float:
    """The number with so many non-negative numbers of the format below it: 0.0, the subnormals, ...

    Of each 2^(p-1) numbers, the first lot are the subnormals, and each other lot is one binade.
    """
    lot, rest = divmod(ordinal, 1 << (fmt.precision - 1))
    if lot == 0:
        return math.ldexp(rest, fmt.quantum)
    return math.ldexp((1 << (fmt.precision - 1)) + rest, lot - 1 + fmt.quantum)


def to_ordinal(value: float, fmt: Format) -> int:
    """How many non-negative numbers of the format are below |value|, or below what it is rounded up to."""
    size = abs(value)
    lot = 0 if size < fmt.smallest_normal else math.frexp(size)[1] - 1 - fmt.emin + 1
    in_quanta = math.ceil(math.ldexp(size, -(max(lot - 1, 0) + fmt.quantum)))
    return in_quanta + max(lot - 1, 0) * (1 << (fmt.precision - 1))


@st.composite
def magnitudes(draw: DrawFn, fmt: Format, largest: float) -> float:
    """Numbers in [0, largest], all binary orders of magnitude alike, the subnormals too; shrinks to 1.0.

    The lot and the place in it are drawn apart: one integer of 63 bits would come out near its ends.
    """
    top = to_ordinal(largest, fmt)
    per_lot = 1 << (fmt.precision - 1)
    one = to_ordinal(1.0, fmt) // per_lot
    lot = one + draw(st.integers(-one, top // per_lot - one))
    rest = draw(st.integers(0, per_lot - 1))
    if lot == 0:
        rest >>= draw(st.integers(0, fmt.precision - 1))
    return from_ordinal(min(lot * per_lot + rest, top), fmt)


def _special_reals(spec: Spec, position: int, fmt: Format) -> list[float]:
    """Where formats, exponentials and the operator itself change their ways; simple numbers first."""
    limit = reach(fmt, spec.inputs[position])
    ulp_of_one = 2.0 * fmt.unit_roundoff
    points = [
        *(0.0, 1.0, 0.5, 2.0, 1.0 + ulp_of_one, 1.0 - fmt.unit_roundoff, fmt.unit_roundoff),
        *(fmt.smallest_subnormal, fmt.smallest_normal, fmt.smallest_normal - fmt.smallest_subnormal),
        *(math.log(fmt.largest), -math.log(fmt.smallest_subnormal), -math.log(fmt.unit_roundoff), limit),
        *map(abs, spec.seams),
        *_points_of_cases(spec, position),
    ]
    within = (from_ordinal(to_ordinal(min(abs(point), limit), fmt), fmt) for point in points)
    return list(dict.fromkeys(within))


def _points_of_cases(spec: Spec, position: int) -> Iterator[float]:
    """The finite numbers that the known answers of the spec name for this input."""
    for case in spec.cases:
        for value in np.asarray(case.inputs[position], dtype=np.float64).ravel():
            if np.isfinite(value):
                yield float(value)


@cache
def elements(spec: Spec, position: int, fmt: Format) -> SearchStrategy[float]:
    """One number of the domain of an input."""
    item = spec.inputs[position]
    if item.domain is Domain.WEIGHT:
        return st.sampled_from((1.0, 0.0, 0.5, 2.0, 4.0))
    if item.domain is Domain.NONNEGATIVE:
        return st.one_of(
            st.sampled_from(_special_reals(spec, position, fmt)), magnitudes(fmt, reach(fmt, item))
        )
    if item.domain is Domain.REAL:
        special = st.sampled_from(_special_reals(spec, position, fmt))
        size = st.one_of(special, magnitudes(fmt, reach(fmt, item)))
        return st.builds(math.copysign, size, st.sampled_from((1.0, -1.0)))
    if item.domain is Domain.SIGN:
        return st.sampled_from((1.0, -1.0))
    if item.domain is Domain.LOG_PROBABILITY:
        return st.one_of(st.sampled_from((0.0, 1.0)), magnitudes(fmt, reach(fmt, item))).map(lambda x: -x)
    tiny = (fmt.smallest_subnormal, fmt.smallest_normal, 1.0 - fmt.unit_roundoff)
    return st.one_of(st.sampled_from((0.0, 1.0, 0.5, *tiny)), magnitudes(fmt, 1.0))


# ------------------------------------------------------------------------------------------------- shapes


def shapes(spec: Spec) -> SearchStrategy[Shape]:
    """Sizes for the batch axes and the named axes, no two alike: a transposition cannot hide.

    Arrays of rank 1 to 4, and of rank 0 for an elementwise operator; a batch of one among them.
    """
    return st.sampled_from(_shapes(spec)).flatmap(st.sampled_from)


@cache
def _shapes(spec: Spec) -> tuple[tuple[Shape, ...], ...]:
    """All shapes of each rank, small ones first; of an operator with shapes of its own, those."""
    if spec.shapes:
        batches = BATCHES if spec.open else ((),)
        return tuple(tuple(Shape(batch, sizes) for sizes in spec.shapes) for batch in batches)
    names = spec.free_axes
    ranks = range(len(names), 5) if spec.batched else (len(names),)
    every = []
    for rank in ranks:
        split = rank - len(names)
        candidates = (
            Shape(sizes[:split], {"c": 1, **dict(zip(names, sizes[split:], strict=True))})
            for sizes in permutations(range(1, LONGEST_AXIS + 1), rank)
        )
        fitting = (
            s
            for s in candidates
            if all(math.prod(x) <= MOST_ELEMENTS for x in s.inputs_of(spec, spec.defaults))
        )
        every.append(tuple(sorted(fitting, key=lambda s: math.prod((*s.batch, *s.sizes.values())))))
    return tuple(every)


# ---------------------------------------------------------------------------------------------- examples


@st.composite
def recipes(draw: DrawFn, spec: Spec, fmt: Format) -> Recipe:
    """An example of the operator's arguments, as the recipe that builds it."""
    shape = draw(shapes(spec))
    settings = draw(_settings(spec))
    pokes = draw(st.lists(st.deferred(lambda: _pokes(spec, fmt, shape, settings)), max_size=MOST_POKES))
    return Recipe(
        op=spec.name,
        format=fmt.name,
        batch=shape.batch,
        sizes=dict(shape.sizes),
        regime=draw(st.sampled_from(SIMPLEST_FIRST)),
        settings=settings,
        seed=draw(st.integers(0, 2**16)),
        pokes=tuple(pokes),
        layout=draw(st.sampled_from(tuple(LAYOUTS))),
    )


def _settings(spec: Spec) -> SearchStrategy[dict[str, Any]]:
    """Each setting for itself, so that it shrinks alone, unless not everything goes together."""
    if spec.combinations:
        return st.sampled_from(spec.combinations).map(dict)
    return st.fixed_dictionaries({setting.name: st.sampled_from(setting.values) for setting in spec.settings})


@st.composite
def _pokes(draw: DrawFn, spec: Spec, fmt: Format, shape: Shape, settings: Mapping[str, Any]) -> Poke:
    position = draw(st.sampled_from([k for k, item in enumerate(spec.inputs) if _may_be_poked(item)]))
    at = draw(st.integers(0, max(math.prod(shape.inputs_of(spec, settings)[position]) - 1, 0)))
    item = spec.inputs[position]
    if item.domain is Domain.INDEX:
        last = all_sizes(spec, shape.sizes, settings)[item.along] - 1
        return Poke(position, at, draw(st.integers(0, last)))
    return Poke(position, at, draw(elements(spec, position, fmt)))


def _may_be_poked(item: Input) -> bool:
    """Not a target distribution, whose rows sum to exactly 1, and not what has few values anyway."""
    if item.domain in (Domain.MASK, Domain.COUNT):
        return False
    return item.domain is not Domain.DISTRIBUTION or item.differentiable


def examples(spec: Spec, fmt: Format) -> SearchStrategy[Example]:
    """The examples that the recipes build."""
    return recipes(spec, fmt).map(Recipe.build)


# -------------------------------------------------------------------------------------------- the network


@st.composite
def network_recipes(draw: DrawFn, fmt: Format, *, outputs: int | None = None) -> NetworkRecipe:
    """A network of up to four layers with samples and labels; `outputs` fixes the size of the last layer.

    Widths may be equal: a square matrix lets a forgotten transposition pass without an error.
    """
    widths = st.integers(1, 6)
    hidden = draw(st.lists(widths, max_size=3))
    last = draw(st.integers(2, 5)) if outputs is None else outputs
    return NetworkRecipe(
        format=fmt.name,
        sizes=(draw(widths), *hidden, last),
        batch=draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 2**16)),
        scale=draw(st.sampled_from((1.0, 0.25, 2.0))),
        learning_rate=draw(st.sampled_from((0.125, 0.5, 0.0078125))),
        grid=draw(st.booleans()),
    )
