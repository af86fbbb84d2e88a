"""The record of a check: what every report format prints, and what `verify.check` returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from refnet import __version__
from verify.arithmetic.bounds import FAILURE


class Verdict(Enum):
    """The five answers of a check, from best to worst for a reader in a hurry."""

    PASS = "pass"
    SUSPECT = "suspect"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not-run"


class Accuracy(Enum):
    """How good results are that are within their bounds, from best to worst."""

    CORRECTLY_ROUNDED = "correctly-rounded"
    CONDITIONED = "conditioned"
    """As good as the problem permits: no worse than a relative change of the inputs by the unit roundoff."""
    BOUNDED = "bounded"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A known mistake that explains what was seen."""

    mistake: str
    summary: str


@dataclass(frozen=True, slots=True)
class Worst:
    """The element that is furthest beyond its bound. Floats are written in hex, labels as integers."""

    settings: Mapping[str, str | int | float | bool | tuple[int, ...] | None]
    inputs: Mapping[str, object]
    output: str
    index: tuple[int, ...]
    expected: str
    got: str
    bound: float
    case: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one aspect of one operator in one dtype.

    `aspect` is value, vjp, step, epoch, sweep:value or sweep:vjp (all numbers of a format), law:NAME or
    contract:NAME, and in a check of the reference itself one of its witnesses: certified, symbolic,
    numerical, bounds; `ratio` is the largest error as a multiple of its bound, `ulp` the same error in units
    in the last place; `variant` names the convention that the candidate follows where it is not the
    reference's. `keeps` is the strictest contract that all results keep, in words, and `accuracy` the class
    of the least accurate of them, where that is known.
    """

    op: str
    aspect: str
    dtype: str
    verdict: Verdict
    cases: int
    failing_cases: int = 0
    ratio: float | None = None
    ulp: float | None = None
    reason: str = ""
    variant: str = ""
    worst: Worst | None = None
    diagnosis: tuple[Diagnosis, ...] = ()
    replay: str = ""
    keeps: str = ""
    accuracy: Accuracy | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one check found; printed, it is the report that the command prints.

    `environment` has the versions that the figures depend on, `refnet` the version that judged.
    `failure_probability` is that of anything right being suspect, in the whole check.
    """

    target: str
    version: str
    seed: int
    level: str
    environment: Mapping[str, str]
    outcomes: tuple[Outcome, ...] = ()
    notes: tuple[str, ...] = ()
    refnet: str = __version__
    failure_probability: float = FAILURE
    contract: tuple[str, ...] = ()
    """What was promised other than the default of each dtype, as it was given."""

    def __str__(self) -> str:
        from verify.reports.console import text_of  # which needs what stands here

        return text_of(self)

    def count(self, verdict: Verdict) -> int:
        return Counter(outcome.verdict for outcome in self.outcomes)[verdict]

    def exit_code(self, *, strict: bool = False) -> int:
        """0 if nothing fails (with `strict`: and nothing is suspect or inconclusive), else 1."""
        bad = [Verdict.FAIL, Verdict.SUSPECT, Verdict.INCONCLUSIVE] if strict else [Verdict.FAIL]
        return int(any(outcome.verdict in bad for outcome in self.outcomes))
