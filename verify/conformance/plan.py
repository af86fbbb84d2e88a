"""The plan of a check: which cases there are, determined by the level and the seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from specs import Spec
from verify.arithmetic.formats import Format
from verify.laws.examples import REGIMES, Example, Shape, make_example

LEVELS: Mapping[str, int] = {"smoke": 8, "ci": 40, "deep": 400}
"""Drawn cases for each operator and dtype."""

Sizes = tuple[int, ...]

ELEMENTWISE: Sequence[Sizes] = (
    (2, 17), (67,), (3, 5), (1031,), (3, 1, 17), (8,), (2, 3, 4), (), (64,), (4, 1), (1,),
)  # fmt: skip
ROWS: Sequence[Sizes] = (
    (2, 17), (67,), (3, 5), (2, 1000), (2, 1, 33), (5, 3), (3, 8), (2, 3, 4), (64,), (4, 1), (1, 6),
)  # fmt: skip
LOSSES: Sequence[Sizes] = (
    (17, 2), (67,), (3, 5), (257,), (2, 17), (5, 3), (2, 7), (5,), (133,), (4, 1), (1, 6),
)  # fmt: skip
LOSSES_OF_ROWS: Sequence[Sizes] = (
    (2, 17), (67, 2), (2, 3, 5), (3, 67, 2), (1, 33), (5, 3), (2, 7), (4, 1), (1, 127), (1, 2), (2, 3, 4),
)  # fmt: skip
PRODUCTS: Sequence[Sizes] = (
    (2, 67, 3), (3, 2, 67), (3, 5, 4), (5, 131, 33), (67, 3, 2), (5, 3, 7), (2, 4, 5), (4, 1, 2), (1, 130, 3),
    (1, 6, 3), (2, 9, 1),
)  # fmt: skip
"""The shapes of the first input in turn; of products (n, k, m).

Small ones show a mistake in few numbers: all axes differ, so that a transposition cannot hide; a batch of
one, a row of one, and every rank that the operator takes. The long ones, the five at 0, 1, 3, 4 and 8, reach
beyond the widths of vectors and blocks, into what is left over of them and exactly to their end: kernels are
wrong in their tails. Not longer than this, because exact sums of a thousand terms take a tenth of a second.
Targets in 128ths leave room for 127 classes.

Eleven is prime to the eight regimes, to the number of axes, reductions and rates, and to the twelve places by
which `draw` moves on from turn to turn: in five turns a regime meets long shapes, and in eleven every shape.
"""

SHAPES_A_TURN = 4
"""How far the shapes move on in a turn of the regimes. With 1, every fifth case, which is put to the laws,
would meet nothing but the shapes 0, 5, 6 and 9: no law would see a row longer than 17."""

BATCHES: Sequence[Sizes] = ((2,), (), (3, 2), (1,), (5,))
"""What "..." stands for in operators with shapes of their own: batch axes, or positions."""

SETTINGS_A_TURN = 11
"""How far the settings move on in a turn: sixteen combinations are met in five turns, and no small number of
combinations divides it."""

HUGE = (0, 5, 2, 9, 7)
"""The places of the shapes that huge numbers have in turn: those whose sums cannot overflow, see `reach`.
Longer ones may overflow in one order of the terms and not in another."""

MOST_WITH_GRADIENTS = 2048
"""Elements of the first input up to which a gradient is certified: that many take a fifth of a second."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. `case` replays a single one: the known answers of a spec come first, then drawn cases."""

    level: str
    seed: int
    case: int | None

    def cases(self, known: int = 0, *, every: int = 1) -> Sequence[int]:
        """All cases of an operator with so many known answers, and the one to be replayed."""
        drawn = LEVELS[self.level] // every
        return sorted({*range(known + drawn), *([] if self.case is None else [self.case])})

    def wants(self, case: int) -> bool:
        return self.case is None or case == self.case


def shape_of(spec: Spec, number: int, settings: Mapping[str, Any]) -> Shape:
    """The shape of a case. Along axis 0 a shape is turned round, so that its rows are as long there."""
    if spec.shapes:
        batch = BATCHES[number % len(BATCHES)] if spec.open else ()
        return Shape(batch, spec.shapes[number % len(spec.shapes)])
    sizes = _table(spec)[number % len(ELEMENTWISE)]
    if not spec.batched:
        return Shape((), dict(zip("nkm", sizes, strict=True)))
    if settings.get("axis") == 0:
        sizes = sizes[::-1]
    if not spec.free_axes:
        return Shape(sizes, {})
    return Shape(sizes[:-1], {"c": sizes[-1]})


def _table(spec: Spec) -> Sequence[Sizes]:
    if not spec.batched:
        return PRODUCTS
    reduced, of_rows = "reduction" in spec.defaults, bool(spec.free_axes)
    if reduced:
        return LOSSES_OF_ROWS if of_rows else LOSSES
    return ROWS if of_rows else ELEMENTWISE


def settings_of(spec: Spec, number: int) -> dict[str, Any]:
    """The settings of a case: all combinations in turn, the defaults first."""
    combinations = spec.all_settings
    return dict(combinations[_place(number % len(combinations), len(combinations))])


def _place(number: int, count: int) -> int:
    """The place of a number in an order of so many combinations: their own, where a turn of the regimes meets
    them all; else shuffled, always alike.

    In order, the first 8 of 80 would all have the same value of the settings that vary most slowly.
    """
    if count <= len(REGIMES) or number == 0:
        return number
    return int(np.random.default_rng(0).permutation(count - 1)[number - 1]) + 1


def draw(spec: Spec, fmt: Format, number: int, seed: int) -> Example:
    """The drawn case of this number, reproduced by the number and the seed alone.

    In each turn of the regimes, settings and shapes move on: no regime is bound to a setting or a shape.
    """
    turn, place = divmod(number, len(REGIMES))
    of_shape = HUGE[turn % len(HUGE)] if REGIMES[place] == "huge" else number + turn * SHAPES_A_TURN
    origin = (seed, crc32(spec.name.encode()), fmt.precision, number)
    settings = settings_of(spec, place + turn * SETTINGS_A_TURN)
    return make_example(spec, fmt, shape_of(spec, of_shape, settings), REGIMES[place], settings, origin)
