"""All numbers of a 16-bit format, as a part of every check: 65,536 of them take as long as a few cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

from specs import Spec, Variant
from verify.arithmetic.contracts import Contract
from verify.arithmetic.formats import FLOAT32
from verify.conformance.contract import settings_to_pass
from verify.conformance.findings import Finding, Measure, Swept
from verify.conformance.sweeps.block import examine
from verify.conformance.sweeps.question import CandidateFails, Question
from verify.conformance.sweeps.run import blocks_of
from verify.conformance.sweeps.tally import Offender, Tally
from verify.reports.record import Verdict, Worst

Function = Callable[..., Any]


def is_swept(spec: Spec, contract: Contract) -> bool:
    """Whether all numbers are looked at: of elementwise operators in the formats of 16 bits."""
    return spec.is_unary and contract.output.precision < FLOAT32.precision


def sweep_all(
    spec: Spec, value: Function | None, vjp: Function | None, variant: Variant | None, contract: Contract
) -> Iterator[Finding]:
    """The findings on all numbers, for each combination of the settings."""
    promised = contract if variant is None else replace(contract, variant=variant.name)
    for function, derivative in ((value, False), (vjp, True)):
        if function is None:
            continue
        if variant is not None and not variant.is_formula:
            reason = f"a convention that is more than another formula is not swept: {variant.name}"
            yield Finding(_aspect(derivative), 0, Verdict.NOT_RUN, reason)
            continue
        for number, settings in enumerate(spec.all_settings):
            _, lacking = settings_to_pass(function, settings, spec.defaults, explicit=False)
            if not lacking:
                question = Question(spec.name, derivative, tuple(settings.items()), promised)
                yield _finding(question, function, number)


def _aspect(derivative: bool) -> str:
    return f"sweep:{'vjp' if derivative else 'value'}"


def _finding(question: Question, function: Function, number: int) -> Finding:
    defaults = question.spec.defaults
    settings = tuple((k, v) for k, v in question.settings if v != defaults[k])
    convention = "" if question.variant is None else question.variant.name
    swept = Swept(question.derivative, settings, convention)
    aspect = _aspect(question.derivative)
    try:
        tallies = (examine(question, function, *block) for block in blocks_of(question))
        tally = reduce(add, tallies, Tally())
    except CandidateFails as error:
        return Finding(aspect, number, Verdict.FAIL, str(error), swept=swept)
    failed = tally.verdict is Verdict.FAIL
    if failed and not tally.beyond:  # wrong at infinities or NaN alone, and the worst of the numbers is right
        return Finding(aspect, number, Verdict.FAIL, _reason(tally), swept=swept)
    worst = max(tally.offenders, key=lambda o: o.ratio, default=None)
    return Finding(
        aspect,
        number,
        tally.verdict,
        _reason(tally) if failed else "",
        Measure(worst.ratio, worst.ulp) if worst else Measure(0.0, 0.0),
        _worst(question, worst, number) if failed and worst else None,
        swept=swept,
    )


def _reason(tally: Tally) -> str:
    parts = []
    if tally.beyond:
        parts.append(
            f"{tally.beyond} of all {tally.inputs} numbers give a result beyond what any rounding explains"
        )
    if tally.nan:
        parts.append(f"{tally.nan} of these are NaN")
    if tally.nan_lost:
        parts.append(f"{tally.nan_lost} of {tally.nans} NaN become numbers")
    if tally.limits_lost:
        found = ", ".join(f"{got} at {x}" for x, got in tally.infinities)
        parts.append(f"not the limit at {tally.limits_lost} of 2 infinities: {found}")
    return ", ".join(parts)


def _worst(question: Question, offender: Offender, number: int) -> Worst:
    return Worst(
        question.keywords,
        {"x": offender.x},
        "dx" if question.derivative else "y",
        (),
        offender.expected,
        offender.got,
        offender.bound,
        number,
    )
