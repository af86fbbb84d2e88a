"""What a sweep has counted: sums that can be added up in any order, and the worst inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from heapq import nlargest
from itertools import chain
from math import inf
from typing import Any

import numpy as np

from verify.conformance.sweeps.question import Floats, Question
from verify.reports.json_report import figure
from verify.reports.record import Verdict

EDGES = (0.5, 1.0, 2.0, 4.0, 16.0, 256.0, 65536.0, inf)
"""Upper edges of the classes of errors, in ulp. In the first everything is correctly rounded."""

EACH = 4
"""How many of the worst inputs are kept by each measure."""


@dataclass(frozen=True, slots=True)
class Offender:
    """An input whose result is not correctly rounded, and how far off it is. Numbers are in hex."""

    x: str
    expected: str
    got: str
    ulp: float
    ratio: float
    """The error as a fraction of its bound: above 1 it fails, infinite also where no bound is finite."""
    bound: float
    """What is granted, in absolute terms."""
    normal: bool
    """Whether the exact result is no smaller than the normal numbers."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of inputs. Everything but the first four and the classes is about what is off by more than 1/2
    ulp, where a special class explains it: `flushed` to 0, `overflowed` to infinity, or `saturated` at the
    largest number where infinity is due; `nan` where a number is due, `nan_lost` where NaN is."""

    inputs: int = 0
    nans: int = 0
    """Inputs that are NaN themselves."""
    certified: int = 0
    """Inputs whose rounding only certified arithmetic could decide."""
    halfway: int = 0
    """Inputs whose exact result is the middle of two numbers, or so near to it that either is taken for
    right."""
    errors: tuple[int, ...] = (0,) * len(EDGES)
    """By the classes of `EDGES`; what is NaN or infinitely far off is in the last one."""
    beyond: int = 0
    """Beyond the bound: wrong."""
    flushed: int = 0
    overflowed: int = 0
    saturated: int = 0
    nan: int = 0
    nan_lost: int = 0
    limits_lost: int = 0
    """Infinities at which not the limit is returned."""
    offenders: tuple[Offender, ...] = ()
    infinities: tuple[tuple[str, str], ...] = ()
    """Infinity and minus infinity, each with what is returned there, in hex."""

    def __add__(self, other: Tally) -> Tally:
        counts = {name: getattr(self, name) + getattr(other, name) for name in COUNTS}
        return Tally(
            **counts,
            errors=tuple(a + b for a, b in zip(self.errors, other.errors, strict=True)),
            offenders=worst(chain(self.offenders, other.offenders)),
            infinities=self.infinities + other.infinities,
        )

    @property
    def verdict(self) -> Verdict:
        return Verdict.FAIL if self.beyond or self.nan_lost or self.limits_lost else Verdict.PASS

    def to_json(self) -> dict[str, Any]:
        """In a form that `from_json` reads back; figures that are not finite by their names."""
        counts = {name: getattr(self, name) for name in COUNTS}
        offenders = [
            {name: figure(v) if isinstance(v, float) else v for name, v in asdict(o).items()}
            for o in self.offenders
        ]
        infinities = [{"x": x, "got": got} for x, got in self.infinities]
        return {**counts, "errors": list(self.errors), "offenders": offenders, "infinities": infinities}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Tally:
        figures = ("ulp", "ratio", "bound")
        offenders = [
            Offender(**{**given, **{name: float(given[name]) for name in figures}})
            for given in document["offenders"]
        ]
        return cls(
            **{name: document[name] for name in COUNTS},
            errors=tuple(document["errors"]),
            offenders=tuple(offenders),
            infinities=tuple((each["x"], each["got"]) for each in document["infinities"]),
        )


COUNTS = (
    "inputs", "nans", "certified", "halfway", "beyond", "flushed", "overflowed", "saturated", "nan",
    "nan_lost", "limits_lost",
)  # fmt: skip
"""The counts of a tally that are added up."""


def worst(offenders: Iterable[Offender]) -> tuple[Offender, ...]:
    """Those that are nearest to their bounds or beyond, and those of normal size that are off by most ulp."""
    every = list(dict.fromkeys(offenders))
    chosen = (*nlargest(EACH, every, key=_by_bound), *nlargest(EACH, every, key=_by_ulp))
    return tuple(dict.fromkeys(chosen))


def _by_bound(offender: Offender) -> tuple[float, float]:
    return offender.ratio, offender.ulp


def _by_ulp(offender: Offender) -> float:
    return offender.ulp if offender.normal else 0.0


def classes(errors: Floats) -> tuple[int, ...]:
    """How many errors in ulp lie in each class; NaN is in the last."""
    place = np.searchsorted(EDGES, np.where(np.isnan(errors), inf, errors), side="left")
    return tuple(int(n) for n in np.bincount(place, minlength=len(EDGES)))


@dataclass(frozen=True, slots=True)
class SweepReport:
    """The outcome of a sweep."""

    target: str
    version: str
    question: Question
    tally: Tally
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def verdict(self) -> Verdict:
        return self.tally.verdict

    @property
    def fails(self) -> bool:
        return self.verdict is Verdict.FAIL
