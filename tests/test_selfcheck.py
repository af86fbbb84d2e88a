"""Every witness of the reference: it passes all of them, and each convicts a wrong reference."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from refnet import OPS, Op, Operator
from specs import SPECS
from verify import selfcheck
from verify.arithmetic.certified import certify_vjp
from verify.arithmetic.formats import FLOAT32, FLOAT64, FORMATS, Format, Truth
from verify.conformance.network import NETWORK_FUNCTIONS
from verify.reports.record import Verdict

CASES = 16


def verdicts(witness: Any, name: str, fmt: Format) -> set[Verdict]:
    return {finding.verdict for finding in witness(SPECS[name], fmt, CASES, 0)}


@pytest.mark.parametrize("op", [*SPECS, *NETWORK_FUNCTIONS])
def test_the_reference_passes_every_witness_and_conforms_to_itself_in_every_dtype(op: str) -> None:
    report = selfcheck.selfcheck(ops=[op], level="smoke")
    assert [outcome for outcome in report.outcomes if outcome.verdict is not Verdict.PASS] == []
    assert {outcome.dtype for outcome in report.outcomes} == set(FORMATS)
    aspects = {outcome.aspect for outcome in report.outcomes}
    if op in SPECS:
        of_gradients = {"vjp", "symbolic", "numerical"} if SPECS[op].differentiable else set()
        assert aspects >= {SPECS[op].aspect.value, *of_gradients, "bounds", "contract:pure"}
    else:
        assert aspects >= {"contract:pure"}


def test_processes_that_share_the_work_find_what_one_finds() -> None:
    ops = ["relu", "mse", "softmax"]
    alone, shared = (selfcheck.selfcheck(ops=ops, level="smoke", jobs=jobs) for jobs in (1, 2))
    assert alone.outcomes == shared.outcomes


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Operator], None]:
    def plant(name: str, op: Operator) -> None:
        monkeypatch.setattr(selfcheck, "OPS", MappingProxyType({**OPS, name: op}))

    return plant


def _slightly_wrong(op: Any) -> Operator:
    def backward(residuals: Any, dy: Any) -> Any:
        right = op.backward(residuals, dy)
        return right._replace(x=right.x * (1 + 1e-6))

    return Op(op.name, op.signature, op.arguments, op.forward, backward)


@pytest.mark.parametrize("witness", [selfcheck.symbolic, selfcheck.numerical])
def test_a_gradient_off_by_a_millionth_is_convicted(witness: Any, wrong: Any) -> None:
    assert verdicts(witness, "softmax", FLOAT64) == {Verdict.PASS}
    wrong("softmax", _slightly_wrong(OPS["softmax"]))
    assert Verdict.FAIL in verdicts(witness, "softmax", FLOAT64)


def test_a_format_that_computes_in_a_narrower_one_is_convicted(wrong: Any) -> None:
    op: Any = OPS["tanh"]

    def forward(x: Any) -> Any:
        y, residuals = op.forward(x)
        narrow = isinstance(y, np.ndarray) and y.dtype == np.float32
        return (y.astype(np.float16).astype(np.float32) if narrow else y), residuals

    assert verdicts(selfcheck.two_formats, "tanh", FLOAT32) == {Verdict.PASS}
    wrong("tanh", Op(op.name, op.signature, op.arguments, forward, op.backward))
    assert Verdict.FAIL in verdicts(selfcheck.two_formats, "tanh", FLOAT32)


def test_two_derivatives_that_differ_are_the_oracle_disagreeing_with_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def doubled(*args: Any) -> Any:
        return tuple(Truth(2 * t.nearest, t.fraction) for t in certify_vjp(*args))

    monkeypatch.setattr(selfcheck, "certify_vjp", doubled)
    findings = list(selfcheck.symbolic(SPECS["softmax"], FLOAT64, CASES, 0))
    assert any("the oracle disagrees with itself" in finding.reason for finding in findings)
