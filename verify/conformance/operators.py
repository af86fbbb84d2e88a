"""The operators of the specs: their trials, what is due in them, and what a candidate makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refnet import OPS
from specs import SPECS, Aspect, Spec, Variant
from verify.arithmetic.certified import Undecided
from verify.arithmetic.contracts import LADDERS, REFERENCE, Contract, is_kept_by_reference
from verify.arithmetic.formats import Format
from verify.conformance.contract import ContractViolation, Values, flattened, invoke, settings_to_pass
from verify.conformance.due import GRADIENTS, VALUES, Side, allow_subgradients, conditions, expected
from verify.conformance.findings import Finding
from verify.conformance.grades import accuracy, strictest
from verify.conformance.judge import Judgement, judge
from verify.conformance.plan import MOST_WITH_GRADIENTS, Plan, draw
from verify.conformance.shares import allow_shares
from verify.conformance.sweeps.all_numbers import is_swept, sweep_all
from verify.conformance.trial import (
    Attempt,
    Expected,
    Task,
    Trial,
    attempt,
    findings_of,
    refusals,
    refused_ranks,
)
from verify.laws.examples import Example, dtype_of, output_shapes
from verify.laws.law import Law, LawViolation, NotApplicable, Subject
from verify.laws.laws import laws_of
from verify.reports.record import Verdict

LAW_CASES = 5
"""One drawn case in this many is put to the laws, which cost more than a judgement; prime to the number of
regimes, so that all of them are met."""

NOTHING_FOR_LAWS = "no call returned what a law could be put to"
NOTHING_FOR_GRADIENT_LAWS = "no call of the vjp returned what a law of gradients could be put to"

SEEN_BY_THE_CALL = ("pure", "layout-independent", "residuals-are-kept")
"""Laws that the contract of a call covers, or that only the reference can show."""

UNDER_ANY_CONVENTION = ("nan-propagates",)
"""Laws that do not ask for the reference's own values: no convention lets a NaN become a number."""

OF_SPECIAL_VALUES = ("nan-propagates",)
"""Laws of what only a contract with special values promises."""

Function = Callable[..., Any]
Functions = Mapping[str, Function]
Drawn = Sequence[tuple[int, Example]]


def judge_operator(functions: Functions, name: str, contract: Contract, plan: Plan) -> Iterator[Finding]:
    """All findings on one operator of a candidate in the dtype of its contract."""
    spec, value, vjp = SPECS[name], functions.get(name), functions.get(f"{name}_vjp")
    conventions = _conventions(spec, contract)
    drawn = _drawn(spec, contract.output, plan)
    no_laws, refused = "", frozenset[int]()
    variant: Variant | None = None
    if value is None:
        yield Finding(spec.aspect.value, 0, Verdict.NOT_RUN, "the candidate does not have it")
    else:
        judged = _judge_values(spec, value, conventions, drawn, contract, plan)
        variant, found, refused = judged.convention, judged.findings, judged.refused
        yield from found
        conventions = _of_gradients(variant)
        no_laws = _why_no_laws(variant, found)
    if vjp is not None and spec.differentiable:
        judged = _judge_gradients(spec, vjp, conventions, drawn, contract, plan)
        found = judged.findings
        yield from found
        refused |= judged.refused
        if found and not _returned(found):
            vjp = None
            yield Finding("law:all", 0, Verdict.NOT_RUN, NOTHING_FOR_GRADIENT_LAWS)
    elif value is not None and spec.differentiable and spec.aspect is Aspect.VALUE:
        yield Finding("vjp", 0, Verdict.NOT_RUN, f"the candidate has no {name}_vjp")
    if is_swept(spec, contract) and plan.case is None:
        if 1 in refused:
            yield Finding("sweep:all", 0, Verdict.NOT_RUN, "the candidate takes no arrays of one axis")
        else:
            yield from sweep_all(spec, value, vjp, variant, contract)
    if no_laws:
        yield Finding("law:all", 0, Verdict.NOT_RUN, no_laws)
    if not no_laws or variant is not None:
        taken = [(c, e) for c, e in drawn if plan.wants(c) and e.inputs[0].ndim not in refused]
        yield from _put_to_the_laws(spec, variant, value, vjp, taken[::LAW_CASES], contract)


def _conventions(spec: Spec, contract: Contract) -> tuple[Variant | None, ...]:
    """The conventions that a candidate may follow, the one that it is first held to in front."""
    promised = [variant for variant in spec.variants if variant.name == contract.variant]
    if promised:
        return tuple(promised)
    return (None,) if contract.variant == REFERENCE else (None, *spec.variants)


class Measured(NamedTuple):
    """One array that a candidate returned in a drawn case, what was due for it, and the judgement."""

    trial: Trial
    output: str
    got: Values
    due: Expected
    judgement: Judgement


def measure_operator(functions: Functions, name: str, contract: Contract, plan: Plan) -> Iterator[Measured]:
    """All arrays that an operator of a candidate returns in the drawn cases, under the convention that it
    follows: for who compares the judgements with those of another judge. Calls that raise have none.
    """
    spec, value, vjp = SPECS[name], functions.get(name), functions.get(f"{name}_vjp")
    conventions = _conventions(spec, contract)
    drawn = _drawn(spec, contract.output, plan)
    if value is not None:
        judged = _judge_values(spec, value, conventions, drawn, contract, plan)
        yield from _measured(judged, len(spec.cases), contract.output)
        conventions = _of_gradients(judged.convention)
    if vjp is not None and spec.differentiable:
        judged = _judge_gradients(spec, vjp, conventions, drawn, contract, plan)
        yield from _measured(judged, len(spec.cases), contract.output)


def _measured(judged: Judged, known: int, fmt: Format) -> Iterator[Measured]:
    """Of a gradient that is not judged under a convention nothing is due."""
    for tried in judged.attempts:
        trial, done = tried.trial, tried.call
        if done is None or trial.case < known:
            continue
        due: Sequence[Expected] = ()
        with suppress(Undecided):
            due = judged.expect(trial)
        if due:
            allowed = judged.task.allow(trial, due, done.results)
            for output, got, expected in zip(trial.outputs, done.results, allowed, strict=True):
                yield Measured(trial, output, got, expected, judge(got, expected.truth, expected.bound, fmt))


def _drawn(spec: Spec, fmt: Format, plan: Plan) -> Drawn:
    """The drawn cases, numbered after the known answers."""
    known = len(spec.cases)
    return [(case, draw(spec, fmt, case - known, plan.seed)) for case in plan.cases(known) if case >= known]


def _is_needed(spec: Spec, plan: Plan, case: int) -> bool:
    """All cases decide together which variant a candidate follows, so that a replay of one needs them all."""
    return bool(spec.variants) or plan.wants(case)


def _why_no_laws(variant: Variant | None, found: Sequence[Finding]) -> str:
    if variant is not None:
        return f"the laws are stated for the reference's convention, and this one is {variant.name}"
    return "" if _returned(found) or not found else NOTHING_FOR_LAWS


def _returned(findings: Sequence[Finding]) -> bool:
    """Whether any call returned what could be judged."""
    return any(finding.aspect == "contract:pure" for finding in findings)


# ---------------------------------------------------------------------------------------------- the calls


def _optional(spec: Spec) -> dict[str, Any]:
    """The settings that a call may leave out, and what they are then."""
    return {setting.name: setting.default for setting in spec.settings if not setting.required}


class Judged(NamedTuple):
    """The convention that a function follows, the findings, and the ranks of arrays that it does not take."""

    convention: Variant | None
    findings: list[Finding]
    refused: frozenset[int]
    task: Task
    attempts: Sequence[Attempt]
    """The calls that the findings are of."""
    expect: Callable[[Trial], Sequence[Expected]]
    """What is due under the convention."""


def _judged(
    spec: Spec,
    function: Function,
    task: Task,
    trials: Sequence[Trial],
    side: Side,
    conventions: Sequence[Variant | None],
    contract: Contract,
    plan: Plan,
) -> Judged:
    """The findings under the first convention under which all is well, or else all but what is asked at
    infinities and NaN; else under the first of all. Another convention than the first must make right what
    was off.

    What raises at an array of another rank than 2 is tried in all cases, a replay's too: they decide together
    which ranks a candidate refuses.
    """
    fmt = contract.output
    needed = [attempt(function, task, trial, fmt) for trial in trials if _is_needed(spec, plan, trial.case)]
    attempts = needed
    if any(tried.raised and tried.trial.rank != 2 for tried in needed):
        others = [trial for trial in trials if not _is_needed(spec, plan, trial.case)]
        attempts = [*needed, *(attempt(function, task, trial, fmt) for trial in others)]
    refused = refused_ranks(attempts)
    taken = [tried for tried in needed if not (tried.raised and tried.trial.rank in refused)]
    aspects = {tried.trial.aspect for tried in taken}

    def under(convention: Variant | None) -> tuple[Variant | None, list[Finding]]:
        return convention, findings_of(taken, task, partial(expected, side, spec, contract, convention), fmt)

    chosen, found = under(conventions[0])
    off = {(f.aspect, f.case) for f in _off(found, aspects)}
    if off:
        elsewhere = [under(convention) for convention in conventions[1:]]
        limits = {(t.trial.aspect, t.trial.case) for t in taken if not t.trial.is_finite}
        right = (
            (convention, findings)
            for excused in (set(), limits)
            for convention, findings in elsewhere
            if {(f.aspect, f.case) for f in _off(findings, aspects)} <= excused
            and (_passes_any(findings, off - excused) or _states_nan(convention, taken, off - excused))
        )
        chosen, found = next(right, (chosen, found))
    found = [*_graded(spec, taken, task, side, chosen, contract, found), *refusals(attempts, task)]
    expect = partial(expected, side, spec, contract, chosen)
    return Judged(chosen, found, refused, task, taken, expect)


def _graded(
    spec: Spec,
    attempts: Sequence[Attempt],
    task: Task,
    side: Side,
    convention: Variant | None,
    contract: Contract,
    found: Sequence[Finding],
) -> list[Finding]:
    """The findings with what the results of drawn cases are worth, beyond their verdicts."""
    drawn = [each for each in attempts if not each.trial.aspect.startswith("contract:")]
    aspects = {each.trial.aspect for each in drawn}

    def expect(under: Contract, trial: Trial) -> Sequence[Expected]:
        with suppress(Undecided):
            return expected(side, spec, under, convention, trial)
        return ()

    kept = strictest(drawn, task, expect, LADDERS[contract.output.name])
    wrong = any(f.verdict is Verdict.FAIL for f in found if f.aspect in aspects)
    permitted = partial(conditions, side, spec, contract.output)
    worth = None if wrong else accuracy(drawn, task, partial(expect, contract), permitted, contract.output)
    promise = "" if kept is None else kept.text
    return [replace(f, keeps=promise, accuracy=worth) if f.aspect in aspects else f for f in found]


def _off(findings: Sequence[Finding], aspects: Set[str]) -> list[Finding]:
    """The results that are off. What raises, or returns no array that could be measured, does so whatever the
    convention is: torch refuses a NaN among probabilities, and clamps their logarithms all the same."""
    return [
        f
        for f in findings
        if f.aspect in aspects and f.measure is not None and f.verdict in (Verdict.FAIL, Verdict.SUSPECT)
    ]


def _passes_any(findings: Sequence[Finding], cases: Set[tuple[str, int]]) -> bool:
    """Whether one of the cases passes. What a convention gives at NaN is not known, and so not judged: that
    what is off there is not off under it says nothing."""
    return any((f.aspect, f.case) in cases and f.verdict is Verdict.PASS for f in findings)


def _states_nan(convention: Variant | None, attempts: Sequence[Attempt], cases: Set[tuple[str, int]]) -> bool:
    """Whether one of the cases is of a value that is NaN under the convention: its gradient is not judged."""
    if convention is None or convention.nan_where is None:
        return False
    trials = [each.trial for each in attempts if (each.trial.aspect, each.trial.case) in cases]
    return any(
        convention.nan_where(*(x for name, x in trial.inputs.items() if name != "dy"), **trial.settings)
        for trial in trials
    )


# ------------------------------------------------------------------------------------------------ values


def _judge_values(
    spec: Spec,
    value: Function,
    conventions: Sequence[Variant | None],
    drawn: Drawn,
    contract: Contract,
    plan: Plan,
) -> Judged:
    own = OPS[spec.name]
    task = Task(spec.name, own.__call__, _optional(spec), value != own and is_kept_by_reference(contract))
    trials = [_value_trial(spec, case, spec.aspect.value, e.inputs, e.settings) for case, e in drawn]
    trials += [t for t in _known_answers(spec, contract.output) if contract.specials or t.is_finite]
    return _judged(spec, value, task, trials, VALUES, conventions, contract, plan)


def _value_trial(
    spec: Spec,
    case: int,
    aspect: str,
    inputs: Sequence[Values],
    settings: Mapping[str, Any],
    about: str = "",
) -> Trial:
    return Trial(
        case,
        aspect,
        tuple(inputs),
        settings,
        spec.outputs,
        output_shapes(spec, inputs, settings),
        {item.name: x for item, x in zip(spec.inputs, inputs, strict=True)},
        about,
        inputs[0].ndim,
    )


def _known_answers(spec: Spec, fmt: Format) -> Iterator[Trial]:
    """The special values of the spec. Empty arrays are left out: the contract does not ask for them."""
    for number, case in enumerate(spec.cases):
        inputs = [
            np.asarray(x, dtype=dtype_of(item.domain, fmt))
            for item, x in zip(spec.inputs, case.inputs, strict=True)
        ]
        if all(x.size for x in inputs):
            settings = {**spec.defaults, **(case.settings or {})}
            yield _value_trial(spec, number, "contract:special-values", inputs, settings, case.why)


# --------------------------------------------------------------------------------------------- gradients


def _of_gradients(variant: Variant | None) -> tuple[Variant | None, ...]:
    """The conventions that a gradient may follow: that of the value, with the gradients that it states or its
    derivatives; and where the value is only clipped, that of the reference too, because the gradient outside
    may be 0 or be left alone."""
    if variant is None or variant.divisor is not None:
        return (variant,)
    return (variant, None) if variant.gradients is None else (variant, replace(variant, gradients=None), None)


def _judge_gradients(
    spec: Spec,
    vjp: Function,
    conventions: Sequence[Variant | None],
    drawn: Drawn,
    contract: Contract,
    plan: Plan,
) -> Judged:
    own, allow = OPS[spec.name].vjp, partial(allow_subgradients, spec, contract)
    if spec.tie is not None:
        allow = partial(allow_shares, spec.tie, contract)
    confirmed = vjp != own and is_kept_by_reference(contract)
    task = Task(f"{spec.name}_vjp", own, _optional(spec), confirmed, allow)
    trials = [_gradient_trial(spec, c, e) for c, e in drawn if e.inputs[0].size <= MOST_WITH_GRADIENTS]
    return _judged(spec, vjp, task, trials, GRADIENTS, conventions, contract, plan)


def _gradient_trial(spec: Spec, case: int, example: Example) -> Trial:
    named = {item.name: x for item, x in zip(spec.inputs, example.inputs, strict=True)}
    return Trial(
        case,
        "vjp",
        (example.dy, *example.inputs),
        example.settings,
        tuple(f"d{spec.inputs[k].name}" for k in spec.differentiable),
        tuple(example.inputs[k].shape for k in spec.differentiable),
        {"dy": example.dy, **named},
        rank=example.inputs[0].ndim,
    )


# -------------------------------------------------------------------------------------------------- laws


def _put_to_the_laws(
    spec: Spec,
    variant: Variant | None,
    value: Function | None,
    vjp: Function | None,
    drawn: Drawn,
    contract: Contract,
) -> Iterator[Finding]:
    """All laws; of one that follows another convention, those that no convention touches."""
    if variant is not None and variant.definition is not None:
        spec = replace(spec, definition=variant.definition)
    gradient = None if vjp is None else _guarded(spec, vjp, gradient=True)
    subject = Subject(spec, _guarded(spec, value), gradient, contract=contract)
    for law in laws_of(spec):
        if law.name in SEEN_BY_THE_CALL or (vjp if law.gradient else value) is None:
            continue
        if variant is not None and law.name not in UNDER_ANY_CONVENTION:
            continue
        if not contract.specials and law.name in OF_SPECIAL_VALUES:
            continue
        for case, example in drawn:
            finding = _put_to(law, subject, case, example, contract.output)
            if finding is not None:
                yield finding


def _put_to(law: Law, subject: Subject, case: int, example: Example, fmt: Format) -> Finding | None:
    """The finding, or none where the example says nothing about the law."""
    aspect = f"law:{law.name}"
    try:
        law.check(subject, example, fmt)
    except NotApplicable:
        return None
    except (LawViolation, ContractViolation) as violation:
        return Finding(aspect, case, Verdict.FAIL, f"{law.statement}: {violation}")
    except (TypeError, ValueError, IndexError) as error:  # a result of another shape or type than is due
        return Finding(aspect, case, Verdict.FAIL, f"{law.statement}: {type(error).__name__}: {error}")
    return Finding(aspect, case, Verdict.PASS)


def _guarded(spec: Spec, function: Function | None, *, gradient: bool = False) -> Function:
    """A candidate's function for a law, which knows nothing of settings that are not taken."""

    def run(*arguments: Any, **settings: Any) -> Any:
        if function is None:
            raise NotApplicable("the candidate does not have it")
        passed, lacking = settings_to_pass(function, settings, _optional(spec), explicit=True)
        if lacking:
            raise NotApplicable("a setting that the candidate does not take")
        try:
            result = invoke(function, arguments, passed)
        except ContractViolation as violation:
            if passed and violation.refuses_a_setting:
                raise NotApplicable("a setting that the candidate turns down") from violation
            raise
        return tuple(flattened(result)) if gradient else result

    return run
