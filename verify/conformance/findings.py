"""From many findings to one outcome: the worst of them, the counts, and the line that replays it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from specs.spec import SettingValue
from verify.mistakes.diagnosis import Evidence, diagnose
from verify.reports.record import Accuracy, Outcome, Verdict, Worst

SEVERITY = (Verdict.NOT_RUN, Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.SUSPECT, Verdict.FAIL)
"""Of the verdicts on the cases of one aspect, the last in this order is the verdict on the aspect."""


class Measure(NamedTuple):
    """An error: as a multiple of its bound, and in units in the last place."""

    ratio: float
    ulp: float


class Swept(NamedTuple):
    """All numbers of a format: of the derivative or the value, the settings that are not defaults, and the
    name of the convention that is not the reference's."""

    derivative: bool
    settings: tuple[tuple[str, SettingValue], ...]
    convention: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one case showed under one aspect."""

    aspect: str
    case: int
    verdict: Verdict
    reason: str = ""
    measure: Measure | None = None
    worst: Worst | None = None
    evidence: Evidence | None = None
    variant: str = ""
    """The convention that the candidate follows here, if it is not the reference's."""
    keeps: str = ""
    """The strictest contract that the results of all cases keep, in words; empty if that is not known."""
    accuracy: Accuracy | None = None
    """The class of the least accurate results of all cases."""
    swept: Swept | None = None
    """What was looked at, if it was all numbers of a format."""

    @property
    def rank(self) -> tuple[int, float]:
        """By verdict, then by error; what cannot be measured at all is worse than any error."""
        return SEVERITY.index(self.verdict), inf if self.measure is None else self.measure.ratio


def outcomes(
    op: str, dtype: str, findings: Iterable[Finding], replay: Callable[[Finding], str]
) -> Iterator[Outcome]:
    """One outcome for each aspect, in the order in which the aspects were met."""
    of_aspect: dict[str, list[Finding]] = {}
    for finding in findings:
        of_aspect.setdefault(finding.aspect, []).append(finding)
    for aspect, those in of_aspect.items():
        yield _outcome(op, aspect, dtype, those, replay)


def _outcome(
    op: str, aspect: str, dtype: str, findings: Sequence[Finding], replay: Callable[[Finding], str]
) -> Outcome:
    worst = max(findings, key=lambda finding: finding.rank)
    alike = [finding for finding in findings if finding.verdict is worst.verdict]
    trouble = worst.verdict in (Verdict.FAIL, Verdict.SUSPECT, Verdict.INCONCLUSIVE)
    failed = worst.verdict is Verdict.FAIL
    return Outcome(
        op=op,
        aspect=aspect,
        dtype=dtype,
        verdict=worst.verdict,
        cases=len({finding.case for finding in findings}),
        failing_cases=len({finding.case for finding in alike}) if failed else 0,
        ratio=worst.measure.ratio if worst.measure else None,
        ulp=worst.measure.ulp if worst.measure else None,
        reason=worst.reason,
        variant=", ".join(dict.fromkeys(finding.variant for finding in findings if finding.variant)),
        worst=worst.worst,
        diagnosis=diagnose(op, [f.evidence for f in alike if f.evidence], worst.keeps) if failed else (),
        replay=replay(worst) if trouble else "",
        keeps=worst.keeps,
        accuracy=worst.accuracy,
    )
