"""Every check kills a mistake, every mistake is killed by the checks that it names, and is named itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import product
from pkgutil import iter_modules
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from refnet import OPS
from specs import SPECS
from verify import mistakes
from verify.arithmetic.bounds import ErrorBound, value_bounds, vjp_bounds
from verify.arithmetic.certified import in_order
from verify.arithmetic.formats import FLOAT32, FLOAT64, Format, Truth
from verify.arithmetic.symbolic import symbolic_vjp
from verify.conformance import check
from verify.conformance.judge import judge
from verify.conformance.network import NETWORK_FUNCTIONS
from verify.conformance.plan import draw
from verify.gradients import gradcheck
from verify.laws.examples import Example, make_example, shape_at
from verify.laws.law import LawViolation, NotApplicable, Subject
from verify.laws.laws import LAWS
from verify.laws.network import NetworkExample, NetworkRecipe, NetworkSubject
from verify.laws.network_laws import NETWORK_LAWS
from verify.mistakes.catalogue import MISTAKES, WITNESSES, Mistake
from verify.mistakes.diagnosis import Evidence, diagnose
from verify.reports import Report, Verdict

FORMATS = (FLOAT64, FLOAT32)
CASES = 40
NETWORK_SIZES = ((3, 4, 2), (4, 4, 4, 4), (5, 3), (2, 6, 3, 5))
"""Square layers among them: a forgotten transposition shows only there."""

BROKEN = (LawViolation, ValueError, TypeError, IndexError)
"""What a law raises for a wrong subject: it violates the law, or gives what the law cannot even look at."""


# -------------------------------------------------------------------------------------------------- laws


@cache
def _examples(op: str, fmt: Format) -> tuple[Example, ...]:
    return tuple(draw(SPECS[op], fmt, number, 0) for number in range(CASES))


@cache
def _networks(fmt: Format) -> tuple[NetworkExample, ...]:
    return tuple(
        NetworkRecipe(fmt.name, sizes, batch, seed, learning_rate=0.5).build()
        for seed, (sizes, batch) in enumerate(product(NETWORK_SIZES, (3, 1, 4)))
    )


def _wrong(mistake: Mistake, aspect: str) -> Callable[..., Any]:
    function = mistake.function(aspect)
    assert function is not None, f"{mistake.name} has no {aspect}"
    return function


def _subject(mistake: Mistake) -> Subject:
    if mistake.operator is not None:
        return Subject.of_operator(mistake.operator)
    right = OPS[mistake.op]
    value, vjp = mistake.function("value"), mistake.function("vjp")
    return Subject(SPECS[mistake.op], value or right.__call__, vjp or right.vjp)


def _network(mistake: Mistake) -> NetworkSubject:
    changed: dict[str, Any] = {mistake.op: _wrong(mistake, "value")}
    return replace(NetworkSubject.of_reference(), **changed)


def _violates(check: Callable[..., None], subject: object, example: object, fmt: Format) -> bool:
    try:
        with np.errstate(all="ignore"):
            check(subject, example, fmt)
    except NotApplicable:
        return False
    except BROKEN:
        return True
    return False


def _law_catches(mistake: Mistake, name: str) -> bool:
    """On one of the examples of a plan, drawn without Hypothesis; the subject is new for each of them."""
    if name in LAWS:
        return any(
            _violates(LAWS[name].check, _subject(mistake), _own(example), fmt)
            for fmt in FORMATS
            for example in _examples(mistake.op, fmt)
        )
    return any(
        _violates(NETWORK_LAWS[name].check, _network(mistake), _own_network(example), fmt)
        for fmt in FORMATS
        for example in _networks(fmt)
    )


def _own(example: Example) -> Example:
    """A copy: some mistakes write to what they are given."""
    return example.with_inputs(*(x.copy() for x in example.inputs)).with_cotangents(np.copy)


def _own_network(example: NetworkExample) -> NetworkExample:
    params = [(w.copy(), b.copy()) for w, b in example.params]
    return replace(example, params=params, x=example.x.copy(), labels=example.labels.copy())


# --------------------------------------------------------------------------------------------- witnesses


@cache
def _report(mistake: Mistake) -> Report:
    """The check of a candidate that is right but for the mistake."""
    functions: dict[str, Any] = {}
    if mistake.op in OPS:
        right = OPS[mistake.op]
        functions = {mistake.op: right, f"{mistake.op}_vjp": right.vjp}
    for aspect, name in (("value", mistake.op), ("vjp", f"{mistake.op}_vjp")):
        wrong = mistake.function(aspect)
        if wrong is not None:
            functions[name] = wrong
    target, case = SimpleNamespace(**functions), SUBTLE.get(mistake.name)
    return check(target, ops=[mistake.op], level="smoke" if case is None else "ci", case=case)


def _judged_by(*aspects: str) -> Callable[[Mistake], bool]:
    def catches(mistake: Mistake) -> bool:
        outcomes = _report(mistake).outcomes
        return any(o.aspect in aspects and o.verdict is Verdict.FAIL for o in outcomes)

    return catches


SIZES = {"batch": 2, "n": 2, "k": 3, "m": 4, "c": 3}
"""Small enough for sympy."""


@cache
def _derived(op: str, number: int) -> tuple[Example, tuple[Truth, ...]]:
    spec = SPECS[op]
    regime = ("normal", "saturating", "mixed")[number]
    example = make_example(spec, FLOAT64, shape_at(spec, SIZES), regime, spec.defaults, [3])
    return example, symbolic_vjp(spec, example.inputs, example.dy, FLOAT64, example.settings)


def _by_sympy(mistake: Mistake) -> bool:
    """The wrong gradient against the derivative of the definition, in one of three regimes."""
    spec = SPECS[mistake.op]
    for number in range(3):
        example, truths = _derived(mistake.op, number)
        x, dy, settings = example.inputs, example.dy, example.settings
        wrong = _wrong(mistake, "vjp")
        with np.errstate(all="ignore"):
            results = wrong(_own(example).dy, *(a.copy() for a in x), **settings)
        bounds = vjp_bounds(OPS[spec.name], spec, dy, x, settings, FLOAT64)
        for got, truth, bound in zip(results, truths, bounds, strict=True):
            if judge(np.asarray(got), truth, bound, FLOAT64).verdict is Verdict.FAIL:
                return True
    return False


def _by_differences(mistake: Mistake) -> bool:
    """The wrong gradient against differences of the right function; targets are held fixed."""
    spec, wrong = SPECS[mistake.op], _wrong(mistake, "vjp")
    example, _ = _derived(mistake.op, 0)
    free = [k for k, i in enumerate(spec.inputs) if i.differentiable or i.domain.is_integer]

    def complete(inputs: tuple[Any, ...]) -> list[Any]:
        given = dict(zip(free, inputs, strict=True))
        return [given.get(k, x) for k, x in enumerate(example.inputs)]

    report = gradcheck(
        lambda *inputs: OPS[spec.name](*complete(inputs), **example.settings),
        lambda dy, *inputs: wrong(dy, *complete(inputs), **example.settings),
        [example.inputs[k] for k in free],
    )
    return report.verdict == "fail"


def _by_two_formats(mistake: Mistake) -> bool:
    """The mistake in float32 and in float64 on the same numbers: further apart than both bounds."""
    spec, op = SPECS[mistake.op], OPS[mistake.op]
    for example in _examples(mistake.op, FLOAT32):
        wide = replace(
            example,
            inputs=tuple(a if a.dtype.kind in "iub" else a.astype(np.float64) for a in example.inputs),
        ).with_cotangents(lambda d: d.astype(np.float64))
        results, bounds = [], []
        for each, fmt in ((_own(example), FLOAT32), (wide, FLOAT64)):
            x, settings = each.inputs, each.settings
            with np.errstate(all="ignore"):
                if mistake.vjp is None:
                    results.append(list(in_order(_wrong(mistake, "value")(*x, **settings))))
                else:
                    results.append(list(_wrong(mistake, "vjp")(each.dy, *x, **settings)))
            bounds.append(
                value_bounds(op, spec, x, settings, fmt)
                if mistake.vjp is None
                else vjp_bounds(op, spec, each.dy, x, settings, fmt)
            )
        for got, due, narrow, exact in zip(*results, *bounds, strict=True):
            both = ErrorBound(
                narrow.deterministic + exact.deterministic, narrow.statistical + exact.statistical
            )
            truth = Truth.rounding(np.asarray(due, np.float64), FLOAT32)
            if judge(np.asarray(got), truth, both, FLOAT32).verdict is Verdict.FAIL:
                return True
    return False


RUN: Mapping[str, Callable[[Mistake], bool]] = {
    "value": _judged_by("value", "step", "epoch"),
    "vjp": _judged_by("vjp"),
    "symbolic": _by_sympy,
    "numerical": _by_differences,
    "bounds": _by_two_formats,
    "special-values": _judged_by("contract:special-values"),
    "contract:pure": _judged_by("contract:pure"),
    "contract:repeatable": _judged_by("contract:repeatable"),
    "contract:layout": _judged_by("contract:layout"),
}


# ------------------------------------------------------------------------------------------------- tests


def test_every_law_and_every_witness_is_said_to_catch_a_mistake() -> None:
    """The test below then shows that it does."""
    named = {name for mistake in MISTAKES for name in mistake.caught_by}
    assert named == {*LAWS, *NETWORK_LAWS, *WITNESSES}
    assert set(RUN) == set(WITNESSES)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_caught_by_all_checks_that_it_names_and_is_named_in_a_candidate(
    mistake: Mistake,
) -> None:
    caught = {
        name
        for name in mistake.caught_by
        if (RUN[name](mistake) if name in RUN else _law_catches(mistake, name))
    }
    assert caught == {*mistake.caught_by}
    if mistake in IN_A_CANDIDATE:
        _fails_and_is_named(mistake)


def test_every_mistake_is_caught_by_something_and_has_its_own_name() -> None:
    assert all(mistake.caught_by for mistake in MISTAKES)
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES)


def test_the_catalogue_has_every_family() -> None:
    families = (import_module(f"{mistakes.__name__}.{m.name}") for m in iter_modules(mistakes.__path__))
    rows = [mistake for family in families for mistake in getattr(family, "MISTAKES", ())]
    assert set(rows) == set(MISTAKES)


def test_a_stateful_mistake_forgets_between_its_uses() -> None:
    for mistake in MISTAKES:
        if mistake.stateful and mistake.op in OPS and mistake.value is not None:
            example = _examples(mistake.op, FLOAT64)[0]
            uses = [_wrong(mistake, "value") for _ in range(2)]
            results = [np.asarray(use(*_own(example).inputs, **example.settings)) for use in uses]
            assert results[0].tobytes() == results[1].tobytes()


# --------------------------------------------------------------------------------------------- diagnosis

SPARED = {
    "tanh-writes-to-its-input": "only a read-only array stops it, and compiled code may refuse these anyway",
}
"""Mistakes that a candidate may make, and why."""

IN_FLOAT64_ALONE = {
    "gelu-error-function-of-seven-digits": "seven digits are nearly all that float32 has",
}
"""Mistakes that are smaller than what a correct computation in float32 may lose, and why."""

SUBTLE = {
    "bce-logits-without-log1p": 28,  # the absolute error is that of a form, but where t = 1
    "mse-expanded": 5,  # only where p is close to t
    "heads-scaled-by-all-columns": 35,  # only of several heads, in rows that are not saturated
    "heads-gradients-of-queries-and-keys-swapped": 35,
}
"""Mistakes that show at so few inputs that the eight cases of a quick check may miss them, and a case of
level ci that does not."""

IN_A_CANDIDATE = [
    mistake for mistake in MISTAKES if mistake.op in (*OPS, *NETWORK_FUNCTIONS) and mistake.operator is None
]
"""All but those that only the parts of an operator of refnet's can have."""

MANNERS = ("contract:pure", "contract:repeatable", "contract:layout")


def _fails_and_is_named(mistake: Mistake) -> None:
    """In both dtypes; by its own name, unless it leaves no results to compare: a law has none, nor has what
    depends on earlier calls or is not of the shape that is due."""
    report = _report(mistake)
    failed = [o for o in report.outcomes if o.verdict is Verdict.FAIL]
    due = {"float64"} if mistake.name in IN_FLOAT64_ALONE else {fmt.name for fmt in FORMATS}
    assert {o.dtype for o in failed} == (set() if mistake.name in SPARED else due)
    named = {diagnosis.mistake for o in failed for diagnosis in o.diagnosis}
    if {"value", "vjp", "special-values"} & set(mistake.caught_by):
        unseen = any(o.aspect in MANNERS or " is due" in o.reason for o in failed)
        assert mistake.name in named or unseen


def _evidence(op: str, fmt: Format) -> Iterator[Evidence]:
    """What refnet gives, as if it had failed."""
    spec = SPECS[op]
    for example in _examples(op, fmt)[:8]:
        x, settings = example.inputs, example.settings
        y = in_order(OPS[op](*x, **settings))
        bounds = value_bounds(OPS[op], spec, x, settings, fmt)
        yield Evidence("value", example, y, tuple(map(Truth.exactly, y)), bounds)


@pytest.mark.parametrize("op", OPS)
def test_right_results_are_never_diagnosed(op: str) -> None:
    for fmt in FORMATS:
        assert diagnose(op, list(_evidence(op, fmt))) == ()


def test_a_wrong_factor_is_described_where_no_mistake_is_known() -> None:
    def doubled(evidence: Evidence) -> Evidence:
        return replace(evidence, got=tuple(2.0 * y for y in evidence.got))

    (diagnosis,) = diagnose("sigmoid", [doubled(e) for e in _evidence("sigmoid", FLOAT64)])
    assert diagnosis.mistake == "2"
