"""Foreign implementations: right ones in many forms raise no alarm, wrong ones are all caught."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import refnet
from refnet import OPS
from tests.candidates import forms, networks, orders, plain, shapes
from tests.candidates.cheats import CHEATS, in_float32
from tests.candidates.widened import Widened
from verify.conformance import check, network, operators
from verify.conformance.check import DTYPES
from verify.conformance.network import NETWORK_FUNCTIONS
from verify.conformance.network_laws import LAWS_OF
from verify.mistakes.catalogue import MISTAKES, Mistake
from verify.reports import Report, Verdict

SEEDS = range({"smoke": 1, "ci": 2, "deep": 200}[os.environ.get("REFNET_LEVEL", "ci")])


RIGHT: dict[str, object] = {
    "plain": "tests.candidates.plain",
    "saved outputs": "tests.candidates.saved_outputs",
    "blocked": "tests.candidates.blocked",
    "scipy": "tests.candidates.by_scipy",
    "scikit-learn": "sklearn",
    "widened": Widened(),
    **{
        f"sums {total.__name__.replace('_', ' ')}": orders.Orders(total)
        for total in (
            orders.in_turn,
            orders.from_the_end,
            orders.in_pairs,
            orders.at_once,
            orders.compensated,
        )
    },
}


@pytest.fixture(autouse=True, scope="module")
def each_case_is_certified_once() -> Iterator[None]:
    """What is due in a case does not depend on who is judged, and here many are."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (operators, "expected"),
            (network, "expect_network"),
        ):
            patch.setattr(module, name, remembered(getattr(module, name)))
        yield


def remembered(expect: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of an operator, a format, a variant and a trial, computed once for each of them."""
    known: dict[Any, Any] = {}

    def recalled(*given: Any) -> Any:
        *about, trial = given
        key = (*about, pickle.dumps((trial.case, trial.aspect, trial.arguments, dict(trial.settings))))
        if key not in known:
            known[key] = expect(*given)
        return known[key]

    return recalled


def alarms(report: Report) -> list[str]:
    """What is said against a candidate, or left undecided about it."""
    quiet = (Verdict.PASS, Verdict.NOT_RUN)
    return [
        f"{o.verdict.value} {o.op} {o.aspect} {o.dtype}: {o.reason}; {o.replay}"
        for o in report.outcomes
        if o.verdict not in quiet
    ]


def failing(report: Report) -> set[str]:
    """The dtypes in which something fails."""
    return {o.dtype for o in report.outcomes if o.verdict is Verdict.FAIL}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_right_candidate_raises_no_alarm(name: str, seed: int) -> None:
    report = check(RIGHT[name], level="smoke", seed=seed)
    assert alarms(report) == []
    assert report.count(Verdict.PASS) > 0


@pytest.mark.parametrize("name", forms.FORMS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_right_form_of_one_function_raises_no_alarm(name: str, seed: int) -> None:
    op, function = forms.FORMS[name]
    report = check(SimpleNamespace(**{op: function}), ops=[op.removesuffix("_vjp")], seed=seed)
    assert alarms(report) == []


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_caught(name: str) -> None:
    report = check(SimpleNamespace(softmax=CHEATS[name]()), ops=["softmax"], level="smoke")
    assert failing(report) == set(DTYPES)
    assert report.exit_code() == 1


def test_float32_inside_is_a_cheat_in_float64_only() -> None:
    candidate = SimpleNamespace(softmax=in_float32)
    assert failing(check(candidate, ops=["softmax"], level="smoke")) == {"float64"}


LAWS_PUT = {op: set(laws) - {"network-pure"} for op, laws in LAWS_OF.items()}


def with_mistake(mistake: Mistake) -> SimpleNamespace:
    """A candidate that is right but for the mistake."""
    right = OPS.get(mistake.op)
    value = mistake.function("value") or right
    vjp = mistake.function("vjp") or getattr(right, "vjp", None)
    return SimpleNamespace(**{mistake.op: value, f"{mistake.op}_vjp": vjp})


@pytest.mark.parametrize(
    "mistake",
    [m for m in MISTAKES if m.op in NETWORK_FUNCTIONS and set(m.caught_by) & LAWS_PUT[m.op]],
    ids=lambda mistake: mistake.name,
)
def test_a_wrong_network_breaks_a_law_that_is_said_to_catch_it(mistake: Mistake) -> None:
    """What is not wrong is refnet's, because laws of training need a step and gradients too."""
    names = (*NETWORK_FUNCTIONS, "sgd_step")
    candidate = {name: getattr(refnet, name) for name in names} | vars(with_mistake(mistake))
    report = check(SimpleNamespace(**candidate), ops=[mistake.op], level="smoke", dtypes=["float64"])
    broken = {o.aspect.removeprefix("law:") for o in report.outcomes if o.verdict is Verdict.FAIL}
    assert broken & LAWS_PUT[mistake.op] & set(mistake.caught_by)


@pytest.mark.parametrize(
    ("op", "function"), networks.MISTAKES, ids=lambda item: getattr(item, "__name__", item)
)
def test_a_mistake_of_composition_is_caught(op: str, function: Callable[..., Any]) -> None:
    report = check(SimpleNamespace(**{op: function}), ops=[op], level="smoke")
    assert failing(report) == set(DTYPES)


@pytest.mark.parametrize(
    ("op", "function"), shapes.MISTAKES, ids=lambda item: getattr(item, "__name__", item)
)
def test_what_is_right_only_for_small_shapes_or_matrices_is_caught(
    op: str, function: Callable[..., Any]
) -> None:
    report = check(SimpleNamespace(**{op: function}), ops=[op.removesuffix("_vjp")], level="smoke")
    assert failing(report) == set(DTYPES)


def test_sigmoid_by_tanh_loses_the_tail() -> None:
    """(1 + tanh(x / 2)) / 2 is 0 at x = -40, where the sigmoid is 4.2e-18."""

    def sigmoid(x: Any) -> Any:
        return (1 + np.tanh(x / 2)) / 2

    report = check(SimpleNamespace(sigmoid=sigmoid), ops=["sigmoid"], level="smoke")
    assert failing(report) == set(DTYPES)


def test_a_wrong_scale_of_one_part_in_a_thousand_is_caught_everywhere() -> None:
    """What a tolerance of 1e-3 or 1e-2 lets pass, in every function that is not exact."""
    names = [name for name in vars(plain) if name in OPS]

    def scaled(name: str) -> Callable[..., Any]:
        def function(*args: Any, **settings: Any) -> Any:
            y = getattr(plain, name)(*args, **settings)
            return y * y.dtype.type(1.001)

        return function

    report = check(SimpleNamespace(**{name: scaled(name) for name in names}), level="smoke")
    caught = {o.op for o in report.outcomes if o.verdict is Verdict.FAIL}
    assert caught == set(names)
