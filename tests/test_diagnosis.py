"""A failure is named after what it is; what is right, or merely rounded, is explained by no mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import refnet
from refnet import OPS
from specs import SPECS
from tests.candidates.mistaken import NAMED
from verify.arithmetic.bounds import ErrorBound, value_bound, value_bounds, vjp_bounds
from verify.arithmetic.certified import certify_each, certify_vjp
from verify.arithmetic.contracts import contract_of
from verify.arithmetic.formats import FLOAT16, FLOAT32, FLOAT64, FORMATS, Format, Truth, ulp
from verify.conformance import check
from verify.conformance.check import DTYPES
from verify.conformance.network import NETWORK_FUNCTIONS, expect_network, network_trial
from verify.conformance.plan import settings_of
from verify.laws.examples import REGIMES, Example, make_example, shape_at
from verify.laws.law import NotApplicable, Subject
from verify.laws.laws import LAWS
from verify.mistakes.catalogue import MISTAKES
from verify.mistakes.diagnosis import diagnose
from verify.mistakes.evidence import Evidence
from verify.reports import Verdict

CASES = 8
"""Each regime once."""

SIZES = {"batch": 3, "n": 3, "k": 2, "m": 4, "c": 3}

CATALOGUE = {mistake.name for mistake in MISTAKES}

JUDGED = ("value", "vjp", "step", "epoch")


@pytest.mark.parametrize("function", NAMED, ids=lambda function: function.__name__)
def test_a_mistake_as_people_write_it_is_named(function: Callable[..., Any]) -> None:
    name, mistake, text = NAMED[function]
    op = name.removesuffix("_vjp")
    candidate = SimpleNamespace(**{name: function, **({} if name == op else {op: OPS[op]})})
    with np.errstate(all="ignore"):
        report = check(candidate, ops=[op], level="smoke")
    failed = [o for o in report.outcomes if o.verdict is Verdict.FAIL and o.aspect in JUDGED]
    assert {o.dtype for o in failed} == set(DTYPES)
    for outcome in failed:
        found = {d.mistake: d.summary for d in outcome.diagnosis}
        assert mistake in found, (outcome.dtype, found)
        assert text in found[mistake]


# -------------------------------------------------------------------------------------- right, and nearly so


def _small(op: str, fmt: Format, number: int) -> Example:
    """Of few elements: the fewer there are, the easier they are explained."""
    spec = SPECS[op]
    return make_example(
        spec, fmt, shape_at(spec, SIZES), REGIMES[number % 8], settings_of(spec, number), (number,)
    )


def _operators(op: str, fmt: Format) -> Iterator[Evidence]:
    """The certified values and gradients, as if they had failed."""
    spec = SPECS[op]
    for number in range(CASES):
        example = _small(op, fmt, number)
        x, settings = example.inputs, example.settings
        truths = certify_each(spec.definition, x, fmt, settings)
        bounds = value_bounds(OPS[op], spec, x, settings, fmt)
        yield Evidence("value", example, tuple(t.nearest for t in truths), truths, bounds)
        truths = certify_vjp(spec.definition, x, spec.differentiable, example.dy, fmt, settings)
        bounds = vjp_bounds(OPS[op], spec, example.dy, x, settings, fmt)
        yield Evidence("vjp", example, tuple(t.nearest for t in truths), truths, bounds)


def _networks(name: str, fmt: Format) -> Iterator[Evidence]:
    for case in range(4):
        trial = network_trial(name, fmt, case, 0)
        due = expect_network(NETWORK_FUNCTIONS[name], contract_of(fmt), trial)
        example = Example(trial.arguments, trial.settings, np.zeros(()), "")
        truths = tuple(expected.truth for expected in due)
        yield Evidence(
            "value", example, tuple(t.nearest for t in truths), truths, tuple(e.bound for e in due)
        )


def _cases(op: str, fmt: Format) -> list[Evidence]:
    return list(_operators(op, fmt) if op in OPS else _networks(op, fmt))


def _nudged(evidence: Evidence, bounds: float, fmt: Format, rng: np.random.Generator) -> Evidence:
    """Every number off by so many times its bound and an ulp, up or down."""
    got = []
    for truth, bound in zip(evidence.truths, evidence.bounds, strict=True):
        far = np.where(np.isfinite(bound.deterministic), bound.deterministic, 0.0)
        with np.errstate(all="ignore"):
            off = bounds * (far + ulp(truth.nearest, fmt)) * rng.choice((-1.0, 1.0), far.shape)
            got.append(np.asarray((truth.nearest.astype(np.float64) + off).astype(fmt.dtype)))
    return replace(evidence, got=tuple(got))


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("op", [*OPS, *NETWORK_FUNCTIONS])
def test_what_is_right_is_not_diagnosed_and_what_is_rounded_has_no_name(op: str, fmt: Format) -> None:
    """Case by case, which is easier to explain than all of them together."""
    rng = np.random.default_rng(0)
    for evidence in _cases(op, fmt):
        assert diagnose(op, [evidence]) == ()
        for bounds in (1.25, 4.0):
            nudged = _nudged(evidence, bounds, fmt, rng)
            named = {d.mistake for d in diagnose(op, [nudged])}
            assert not named & CATALOGUE, (bounds, nudged)


def test_a_mistake_that_is_right_in_these_cases_explains_none_of_them() -> None:
    """logsumexp by float16 numbers that are a little off, where no row is minus infinity."""
    x = np.array([[-0.5, -0.25, -0.75]], np.float16)
    example = Example((x,), {"axis": -1}, np.ones(1, np.float16), "")
    y = refnet.logsumexp(x, axis=-1)
    bound = value_bound(OPS["logsumexp"], SPECS["logsumexp"], (x,), {"axis": -1}, FLOAT16)
    off = np.asarray(y + np.float16(4) * np.spacing(y))
    assert diagnose("logsumexp", [Evidence("value", example, (off,), (Truth.exactly(y),), (bound,))]) == ()


# ------------------------------------------------------------------------------------------------- patterns


def _made(got: list[float], due: list[float], fmt: Format = FLOAT64) -> Evidence:
    """Of the identity, which is exact."""
    results, truth = (np.array(values, fmt.dtype) for values in (got, due))
    nothing = np.zeros(truth.shape)
    example = Example((truth,), {}, np.zeros(()), "")
    return Evidence("value", example, (results,), (Truth.exactly(truth),), (ErrorBound(nothing, nothing),))


NAN, INF = np.nan, np.inf

PATTERNS: dict[str, tuple[list[float], list[float], Format, list[str]]] = {
    "a NaN for a number": ([NAN, 2.0], [1.0, 2.0], FLOAT64, ["not-finite"]),
    "a NaN that is due beside a wrong number": ([NAN, 2.5], [NAN, 2.0], FLOAT64, []),
    "a number for infinity": ([16.1, 2.0], [INF, 2.0], FLOAT64, ["finite-for-infinite"]),
    "a number for NaN": ([0.0, 2.0], [NAN, 2.0], FLOAT64, ["number-for-nan"]),
    "zeros": ([0.0, 0.0], [1.0, 2.0], FLOAT64, ["zero"]),
    "zeros where small numbers are due": ([0.0, 0.0], [1e-310, -1e-320], FLOAT64, ["flushed-to-zero"]),
    "zeros where 0 is due, but for one": ([0.0, 0.0], [0.0, 6e-8], FLOAT16, ["flushed-to-zero"]),
    "three times as much": ([3.0, 6.0, 7.5, 9.0], [1.0, 2.0, 2.5, 3.0], FLOAT64, ["3"]),
    "one number is always a multiple of another": ([3.0], [1.1], FLOAT64, []),
    "digits of float16": (
        [0.333251953125, 0.66650390625, 1.099609375],
        [1 / 3, 2 / 3, 1.1],
        FLOAT64,
        ["precision-of-float16"],
    ),
    "digits of float32": (
        [float(np.float32(x)) for x in (1 / 3, 2 / 3, 1.1)],
        [1 / 3, 2 / 3, 1.1],
        FLOAT64,
        ["precision-of-float32"],
    ),
    "half of the digits of float32": ([1 / 3 + 1e-12, 1.1 - 2e-12], [1 / 3, 1.1], FLOAT64, []),
    "nothing in common": ([1.5, -7.0, 0.3], [1.0, 2.0, 3.0], FLOAT32, []),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_an_error_without_a_name_is_described_by_its_shape(name: str) -> None:
    got, due, fmt, expected = PATTERNS[name]
    assert [d.mistake for d in diagnose("identity", [_made(got, due, fmt)])] == expected


# ----------------------------------------------------------------------------------------------- additivity


def _argument_for_output(dy: Any, x: Any) -> tuple[Any, ...]:
    return (dy * x * (1 - x),)


def _squares(dy: Any, x: Any) -> tuple[Any, ...]:
    return (dy * (1 - x**2),)


def _without_mean(dy: Any, p: Any, t: Any, *, reduction: str = "mean") -> tuple[Any, ...]:
    return (np.asarray(dy * ((p - t) / (p * (1 - p)))).astype(p.dtype),)


def _sum_of_everything(dy: Any, x: Any, *, axis: int = -1) -> tuple[Any, ...]:
    return (np.asarray(x * (dy * x).sum()),)


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32], ids=lambda fmt: str(fmt.name))
@pytest.mark.parametrize(
    ("op", "vjp"),
    [
        ("sigmoid", _argument_for_output),
        ("tanh", _squares),
        ("binary_cross_entropy", _without_mean),
        ("softmax", _sum_of_everything),
    ],
)
def test_a_wrong_gradient_that_is_linear_is_additive(op: str, vjp: Any, fmt: Format) -> None:
    subject = Subject(SPECS[op], OPS[op].__call__, vjp)
    applied = 0
    for number in range(40):
        try:
            with np.errstate(all="ignore"):
                LAWS["vjp-additive"].check(subject, _small(op, fmt, number), fmt)
        except NotApplicable:
            continue
        applied += 1
    assert applied > 20
