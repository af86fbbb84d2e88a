"""The plan of a check: which cases there are, determined by the level and the seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any
from zlib import crc32

from specs import Spec
from verify.arithmetic.formats import Format
from verify.laws.examples import REGIMES, Example, Shape, make_example

LEVELS: Mapping[str, int] = {"smoke": 8, "ci": 40, "deep": 400}
"""Drawn cases for each operator and dtype."""

SHAPES = (
    {"batch": 3, "n": 3, "k": 5, "m": 4, "c": 5},
    {"batch": 1, "n": 1, "k": 6, "m": 3, "c": 2},
    {"batch": 4, "n": 4, "k": 1, "m": 2, "c": 1},
    {"batch": 2, "n": 2, "k": 9, "m": 1, "c": 7},
    {"batch": 5, "n": 5, "k": 3, "m": 7, "c": 3},
)
"""All axes of a shape differ, so that a transposition cannot hide; a batch of one; a row of one."""


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


def shape_of(spec: Spec, number: int) -> Shape:
    """The shape of a case. An elementwise operator is given matrices: its rows are batch axes too."""
    sizes = SHAPES[number % len(SHAPES)]
    if not spec.batched:
        return Shape((), sizes)
    elementwise = not any(spec.core_axes)
    return Shape((sizes["batch"], sizes["c"]) if elementwise else (sizes["batch"],), sizes)


def settings_of(spec: Spec, number: int) -> dict[str, Any]:
    """The settings of a case: all combinations in turn, the defaults first."""
    combinations = list(product(*(setting.values for setting in spec.settings)))
    names = [setting.name for setting in spec.settings]
    return dict(zip(names, combinations[number % len(combinations)], strict=True))


def draw(spec: Spec, fmt: Format, number: int, seed: int) -> Example:
    """The drawn case of this number, reproduced by the number and the seed alone.

    In each turn of the regimes, settings and shapes move on by one: no regime is bound to a setting.
    """
    turn, place = divmod(number, len(REGIMES))
    origin = (seed, crc32(spec.name.encode()), fmt.precision, number)
    shape, settings = shape_of(spec, number + turn), settings_of(spec, place + turn)
    return make_example(spec, fmt, shape, REGIMES[place], settings, origin)
