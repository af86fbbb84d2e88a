"""From many judgements to one outcome: the worst element, the counts, and the line that replays it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verify.arithmetic.formats import Truth
from verify.conformance.judge import Judgement
from verify.reports.record import Diagnosis, Outcome, Verdict, Worst

_SEVERITY = (Verdict.NOT_RUN, Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.SUSPECT, Verdict.FAIL)


@dataclass(slots=True)
class Tally:
    """The judgements on one aspect of one operator in one dtype, as they come in."""

    op: str
    aspect: str
    dtype: str
    replay: str
    """The command that replays one case, without its number."""
    verdicts: list[Verdict] = field(default_factory=list)
    failing: list[int] = field(default_factory=list)
    ratio: float = 0.0
    ulp: float = 0.0
    measured: bool = False
    reason: str = ""
    variant: str = ""
    worst: Worst | None = None
    worst_case: int = 0

    def add(
        self,
        case: int,
        judgement: Judgement,
        output: str,
        got: Any,
        truth: Truth,
        inputs: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> None:
        """Count one judged array, and keep it if it is the worst so far."""
        self._count(case, judgement.verdict)
        worse = self._rank(judgement.verdict) > self._rank(self._worst_verdict)
        same = judgement.verdict is self._worst_verdict and judgement.ratio > self.ratio
        if worse or same or not self.measured:
            self.ratio, self.ulp, self.measured = judgement.ratio, judgement.ulp, True
            self._worst_verdict = judgement.verdict
            self.worst_case = case
            if judgement.verdict in (Verdict.FAIL, Verdict.SUSPECT, Verdict.INCONCLUSIVE):
                self.worst = Worst(
                    dict(settings),
                    {name: _written(value) for name, value in inputs.items()},
                    output,
                    judgement.index,
                    _hex(truth.nearest[judgement.index]),
                    _hex(np.asarray(got)[judgement.index]),
                    judgement.bound,
                    case,
                )
                self.reason = (
                    f"{judgement.failing} of {judgement.elements} elements of {output} are off in case {case}"
                    if judgement.verdict is Verdict.FAIL
                    else _WHY.get(judgement.verdict, "")
                )

    _worst_verdict: Verdict = Verdict.NOT_RUN

    def violation(self, case: int, reason: str) -> None:
        """Count a case that cannot be judged, because the call broke the contract or a law."""
        if Verdict.FAIL not in self.verdicts:
            self.reason, self.worst_case, self.worst = reason, case, None
            self.ratio, self.ulp, self.measured = 0.0, 0.0, False
        self._worst_verdict = Verdict.FAIL
        self._count(case, Verdict.FAIL)

    def passed(self, case: int) -> None:
        self._count(case, Verdict.PASS)

    def _count(self, case: int, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        if verdict is Verdict.FAIL and case not in self.failing:
            self.failing.append(case)

    @staticmethod
    def _rank(verdict: Verdict) -> int:
        return _SEVERITY.index(verdict)

    @property
    def verdict(self) -> Verdict:
        return max(self.verdicts, key=self._rank, default=Verdict.NOT_RUN)

    def outcome(self, cases: int, diagnosis: tuple[Diagnosis, ...] = ()) -> Outcome:
        verdict = self.verdict
        trouble = verdict not in (Verdict.PASS, Verdict.NOT_RUN)
        return Outcome(
            op=self.op,
            aspect=self.aspect,
            dtype=self.dtype,
            verdict=verdict,
            cases=cases,
            failing_cases=len(self.failing),
            ratio=self.ratio if self.measured else None,
            ulp=self.ulp if self.measured else None,
            reason=self.reason if trouble or self.variant or verdict is Verdict.NOT_RUN else "",
            variant=self.variant,
            worst=self.worst if trouble else None,
            diagnosis=diagnosis,
            replay=f"{self.replay} --case {self.worst_case}" if trouble else "",
        )


_WHY = {
    Verdict.SUSPECT: "beyond what random rounding explains, within what the worst rounding could do",
    Verdict.INCONCLUSIVE: "the bound is not finite here, so the oracle cannot decide",
}


def _hex(value: Any) -> str:
    return float(value).hex()


def _written(value: Any) -> object:
    """Arrays of floats as nested lists of hex, integers as they are."""
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    if isinstance(value, np.ndarray) and value.ndim:
        return [_written(item) for item in value]
    if isinstance(value, np.integer | int) or (isinstance(value, np.ndarray) and value.dtype.kind in "iu"):
        return int(value)
    return _hex(value)
