"""A trial: one call that a candidate is asked for, what is due, and the findings that come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from verify.arithmetic.bounds import ErrorBound
from verify.arithmetic.certified import Undecided
from verify.arithmetic.formats import Format, Truth
from verify.conformance.contract import (
    Call,
    ContractViolation,
    Values,
    are_finite,
    call,
    flattened,
    settings_to_pass,
)
from verify.conformance.findings import SEVERITY, Finding, Measure
from verify.conformance.judge import Judgement, judge
from verify.laws.examples import Example
from verify.mistakes.diagnosis import Evidence
from verify.reports.json_report import plain
from verify.reports.record import Verdict, Worst

LAYOUTS = ("column-major", "strided", "reversed", "rolled")
"""The memory layouts of `verify.laws.examples.LAYOUTS` that a candidate meets, in turn. Not the read-only
one: compiled code may refuse a buffer that it cannot write to, and a modified input is seen anyway."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The arguments and all the settings of a call, and the names and shapes of the arrays that are due."""

    case: int
    aspect: str
    """Under which the results are reported."""
    arguments: tuple[Any, ...]
    settings: Mapping[str, Any]
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    inputs: Mapping[str, Any]
    """The arguments by the names that a report gives them."""
    about: str = ""
    """What a reader should know of the case."""
    rank: int = 2
    """The axes of the input that is computed with; a network takes matrices."""

    @property
    def is_finite(self) -> bool:
        """Whether numbers are all that it has."""
        return are_finite(flattened(self.arguments))


class Expected(NamedTuple):
    """What is due for one array; `variant` names the convention if it is not the reference's."""

    truth: Truth
    bound: ErrorBound
    variant: str = ""


Results = tuple[Values, ...]
Expectation = Callable[[Trial], Sequence[Expected]]
"""What is due in a trial; nothing, if it is not known."""


def _as_due(trial: Trial, due: Sequence[Expected], results: Results) -> Sequence[Expected]:
    """One answer is right, whatever the results are."""
    return due


@dataclass(frozen=True, slots=True)
class Task:
    """A function of the contract, whatever the trial: refnet's own, and how it may be called and answer."""

    name: str
    reference: Callable[..., Any]
    optional: Mapping[str, Any]
    """The settings that a call may leave out, and what they are then."""
    confirmed: bool
    """Whether refnet's own function, too, must not fail where the candidate does: it promises as much, and it
    is not the candidate itself."""
    allow: Callable[[Trial, Sequence[Expected], Results], Sequence[Expected]] = _as_due
    """What is due, seen in the light of the results: at a kink several answers are right."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A trial and what the candidate made of it: a call, or the reason why there is none."""

    trial: Trial
    call: Call | None = None
    violation: str = ""
    lacking: str = ""
    """The settings of the trial that the candidate does not take."""
    raised: bool = False
    """Whether the violation is an exception."""


def attempt(function: Callable[..., Any], task: Task, trial: Trial, fmt: Format) -> Attempt:
    """Call the candidate. In every other case the settings that are at their default are left out."""
    passed, lacking = settings_to_pass(function, trial.settings, task.optional, explicit=trial.case % 2 == 0)
    if lacking:
        return Attempt(trial, lacking=", ".join(lacking))
    layout = LAYOUTS[trial.case % len(LAYOUTS)]
    try:
        return Attempt(trial, _called(function, trial, passed, fmt, layout))
    except ContractViolation as violation:
        if passed and violation.refuses_a_setting:
            return Attempt(trial, lacking=", ".join(passed))
        return Attempt(trial, violation=str(violation), raised=violation.raised)


def _called(
    function: Callable[..., Any], trial: Trial, settings: Mapping[str, Any], fmt: Format, layout: str
) -> Call:
    names = tuple(trial.inputs)
    return call(function, trial.arguments, settings, trial.shapes, fmt.dtype, layout, names)


def refused_ranks(attempts: Sequence[Attempt]) -> frozenset[int]:
    """The ranks other than 2 of which a candidate raises at every array, while it never does at a matrix."""
    called = [each for each in attempts if not each.lacking]
    raising = {each.trial.rank for each in called if each.raised}
    returning = {each.trial.rank for each in called if not each.raised}
    return frozenset() if 2 in raising or 2 not in returning else frozenset(raising - returning)


def refusals(attempts: Sequence[Attempt], task: Task) -> list[Finding]:
    """That a candidate takes no arrays of some ranks, and so is not judged on them."""
    ranks = refused_ranks(attempts)
    refused = [each for each in attempts if each.raised and each.trial.rank in ranks]
    if not refused:
        return []
    checked = {each.trial.rank for each in attempts if each.call is not None}
    only = "only matrices were" if checked == {2} else f"only those of rank {_listed(checked)} were"
    why = refused[0].violation.removeprefix("it raises ")
    reason = f"{task.name} refuses arrays of rank {_listed(ranks)} ({why}): {only} checked"
    return [Finding("contract:rank", each.trial.case, Verdict.NOT_RUN, reason) for each in refused]


def _listed(ranks: Iterable[int]) -> str:
    return " and ".join(map(str, sorted(ranks)))


def findings_of(attempts: Sequence[Attempt], task: Task, expect: Expectation, fmt: Format) -> list[Finding]:
    """The findings of all attempts, on results and manners."""
    return [finding for each in attempts for finding in _findings(each, task, expect, fmt)]


def _findings(tried: Attempt, task: Task, expect: Expectation, fmt: Format) -> Iterator[Finding]:
    trial, done = tried.trial, tried.call
    if tried.lacking:
        reason = f"the candidate takes no {tried.lacking}: only the default was checked"
        yield Finding("contract:settings", trial.case, Verdict.NOT_RUN, reason)
        return
    if done is None:
        yield Finding(trial.aspect, trial.case, Verdict.FAIL, tried.violation)
        return
    for aspect, trouble in (("contract:pure", done.impurity), ("contract:repeatable", done.repeated)):
        verdict, reason = (Verdict.FAIL, f"{task.name} {trouble}") if trouble else (Verdict.PASS, "")
        yield Finding(aspect, trial.case, verdict, reason)
    try:
        due = expect(trial)
    except Undecided as error:
        yield Finding(trial.aspect, trial.case, Verdict.INCONCLUSIVE, f"no certified value: {error}")
        return
    if not due:
        return
    finding = _judged(task, trial, done.results, due, fmt)
    yield _confirmed(finding, task, trial, due, fmt) if finding.verdict is Verdict.FAIL else finding
    if finding.verdict is Verdict.PASS:
        yield _laid_out(task, trial, done, due, fmt)


def _confirmed(finding: Finding, task: Task, trial: Trial, due: Sequence[Expected], fmt: Format) -> Finding:
    """A failure, unless refnet itself fails in the same case: then two witnesses of the oracle disagree."""
    if not task.confirmed or any(expected.variant for expected in due):
        return finding
    reason = "the oracle disagrees with itself: refnet's own result is beyond the bound as well"
    try:
        own = _called(task.reference, trial, trial.settings, fmt, LAYOUTS[0])
        if _judged(task, trial, own.results, due, fmt).verdict is not Verdict.FAIL:
            return finding
    except ContractViolation as violation:
        reason = f"the oracle disagrees with itself: refnet's own function is called, and {violation}"
    return Finding(finding.aspect, trial.case, Verdict.INCONCLUSIVE, reason, finding.measure, finding.worst)


def _laid_out(task: Task, trial: Trial, done: Call, due: Sequence[Expected], fmt: Format) -> Finding:
    """Whether the memory is read rightly; another last digit is another order of a sum."""
    where = f"the arguments of {task.name} in another memory layout ({LAYOUTS[trial.case % len(LAYOUTS)]})"
    if done.misread:
        return Finding("contract:layout", trial.case, Verdict.FAIL, f"with {where}, {done.misread}")
    finding = _judged(task, trial, done.laid_out, due, fmt)
    if finding.verdict is not Verdict.FAIL:
        return Finding("contract:layout", trial.case, Verdict.PASS)
    reason = f"with {where}, {finding.reason}"
    return Finding("contract:layout", trial.case, Verdict.FAIL, reason, finding.measure, finding.worst)


def _judged(task: Task, trial: Trial, results: Results, due: Sequence[Expected], fmt: Format) -> Finding:
    """The finding on the worst of the results."""
    expected = task.allow(trial, due, results)
    each = [judge(got, e.truth, e.bound, fmt) for got, e in zip(results, expected, strict=True)]
    k = max(range(len(each)), key=lambda i: (SEVERITY.index(each[i].verdict), each[i].ratio))
    judgement, verdict = each[k], each[k].verdict
    variants = dict.fromkeys(e.variant for e in expected if e.variant)
    return Finding(
        trial.aspect,
        trial.case,
        verdict,
        _reason(trial, judgement, trial.outputs[k]),
        Measure(judgement.ratio, judgement.ulp),
        None if verdict is Verdict.PASS else _worst(trial, k, results[k], expected[k], judgement),
        _evidence(trial.aspect, trial, results, expected) if verdict is Verdict.FAIL else None,
        ", ".join(variants),
    )


_WHY = {
    Verdict.FAIL: "are beyond what any rounding explains",
    Verdict.SUSPECT: "are beyond what random rounding explains, within what the worst rounding could do",
    Verdict.INCONCLUSIVE: "have no finite bound, so that the oracle cannot decide",
}


def _reason(trial: Trial, judgement: Judgement, output: str) -> str:
    if judgement.verdict is Verdict.PASS:
        return ""
    about = f"{trial.about}: " if trial.about else ""
    count = f"{judgement.concerned} of {judgement.elements} elements of {output}"
    return f"{about}{count} {_WHY[judgement.verdict]}"


def _evidence(aspect: str, trial: Trial, results: Results, expected: Sequence[Expected]) -> Evidence:
    """The case as the diagnosis takes it: a gradient's first argument is the cotangent."""
    gradient = aspect == "vjp"
    inputs = trial.arguments[1:] if gradient else trial.arguments
    dy = trial.arguments[0] if gradient else np.zeros(())
    truths, bounds = tuple(e.truth for e in expected), tuple(e.bound for e in expected)
    example = Example(inputs, trial.settings, dy, "")
    return Evidence("vjp" if gradient else "value", example, results, truths, bounds)


def _worst(trial: Trial, k: int, got: Values, due: Expected, judgement: Judgement) -> Worst:
    return Worst(
        dict(trial.settings),
        {name: plain(value) for name, value in trial.inputs.items()},
        trial.outputs[k],
        judgement.index,
        _hex(due.truth.nearest[judgement.index]),
        _hex(got[judgement.index]),
        judgement.bound,
        trial.case,
    )


def _hex(value: Any) -> str:
    return float(value).hex()
