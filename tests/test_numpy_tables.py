"""The elementary functions of the specs on balls, against the tables that NumPy tests its own with.

`umath-validation-set-NAME.csv` comes with NumPy: the bits of inputs, and of the correctly rounded outputs.
Every function of `specs.maths` that has a table is held to it, bit by bit. The three rows of the tables that
are not rounded correctly are held to mpmath.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest

from specs import SPECS, maths
from verify.arithmetic.certified import Undecided, certify
from verify.arithmetic.formats import FORMATS, Format, Truth, error_in_ulp

TABLES = {
    path.stem.rpartition("-")[2]: path
    for path in sorted((Path(np.__file__).parent / "_core/tests/data").glob("umath-validation-set-*.csv"))
}
BITS: Mapping[str, np.dtype[Any]] = {"float32": np.dtype(np.uint32), "float64": np.dtype(np.uint64)}

Function = Callable[[Any], Any]

COVERED: dict[str, tuple[str, Function]] = {
    **{f"specs.maths.{name}": (name, getattr(maths, name)) for name in TABLES if hasattr(maths, name)},
    **{f"the definition of {name}": (name, SPECS[name].definition) for name in TABLES if name in SPECS},
}
"""The functions that have a table, and its name; a function that is new is found by its name."""

MISROUNDED = (
    ("exp", float.fromhex("-0x1.6234fp+9")),
    ("log", float.fromhex("0x1.fffffcp-1")),
    ("log", float.fromhex("0x1.960ad2p-1")),
)
"""Arguments at which the table has the other neighbour of the real number; NumPy allows itself an ulp."""


class Row(NamedTuple):
    x: np.floating
    y: np.floating
    fmt: Format

    @property
    def truth(self) -> Truth:
        """What the row says, as a truth."""
        return Truth.exactly(np.asarray(self.y))


def rows(name: str) -> Iterator[Row]:
    """The rows of a table with a finite argument: at the others nothing is left to certify."""
    for line in TABLES[name].read_text(encoding="ascii").splitlines():
        dtype, _, numbers = line.partition(",")
        if dtype.removeprefix("np.") in BITS:
            fmt = FORMATS[dtype.removeprefix("np.")]
            bits = [int(number, 16) for number in numbers.split(",")[:2]]
            x, y = np.array(bits, dtype=BITS[fmt.name]).view(fmt.dtype)
            if np.isfinite(x):
                yield Row(x, y, fmt)


def certified(function: Function, row: Row) -> Truth | None:
    """The certified value at the argument of a row; None where there is none, as of log(-1)."""
    try:
        return certify(function, [np.asarray(row.x)], row.fmt, {})
    except Undecided:
        return None


def agrees(function: Function, row: Row) -> bool:
    found = certified(function, row)
    if found is None:
        return bool(np.isnan(row.y))
    return bool(found.nearest == row.y)


def test_the_tables_are_found() -> None:
    assert {"exp", "log", "log1p", "tanh"} <= {name for name, _ in COVERED.values()}


@pytest.mark.parametrize("covered", COVERED)
def test_a_certified_value_has_the_bits_of_the_table(covered: str) -> None:
    name, function = COVERED[covered]
    off = {(name, float(row.x)) for row in rows(name) if not agrees(function, row)}
    assert off == {place for place in MISROUNDED if place[0] == name}


@pytest.mark.parametrize(("name", "x"), MISROUNDED)
def test_where_the_table_is_misrounded_mpmath_is_with_the_certified_value(name: str, x: float) -> None:
    (row,) = (row for row in rows(name) if row.x == x)
    found = certified(getattr(maths, name), row)
    assert found is not None
    with mpmath.workprec(200):
        real = getattr(mpmath, name)(mpmath.mpf(x))
        theirs, ours = (abs(mpmath.mpf(float(y)) - real) for y in (row.y, found.nearest))
    assert ours < theirs
    assert float(error_in_ulp(np.asarray(row.y), found, row.fmt)) < 1.0


@pytest.mark.parametrize("covered", COVERED)
def test_a_function_that_is_off_by_the_last_place_is_seen(covered: str) -> None:
    name, function = COVERED[covered]
    wrong = sum(not agrees(lambda x: function(x) * (1 + 2.0**-24), row) for row in rows(name))
    assert wrong > sum(place[0] == name for place in MISROUNDED)
