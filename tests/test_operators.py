"""The operators at their doors: known answers in every format, and refusals that say how to mend the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from refnet import OPS, ArgumentError, Operator, relu, sigmoid, softmax
from refnet.activations import ElementwiseGradients, SoftmaxResiduals
from specs import SPECS, Domain, Spec
from verify.arithmetic.formats import FLOAT32, FLOAT64, FORMATS, Format
from verify.laws.examples import output_shape

Values = npt.NDArray[Any]


def arrays(spec: Spec, inputs: Sequence[Any], fmt: Format) -> tuple[Values, ...]:
    """The inputs of a case or a refusal in a format; whole numbers for labels stay integers."""
    return tuple(
        np.asarray(x)
        if item.domain is Domain.LABEL and np.asarray(x).dtype.kind in "iu"
        else np.asarray(x, fmt.dtype)
        for item, x in zip(spec.inputs, inputs, strict=True)
    )


# ------------------------------------------------------------------------------------------- known answers


def wrong_answers(spec: Spec, function: Callable[..., Any], fmt: Format) -> Iterator[str]:
    """The special cases of a specification that a function does not give exactly, up to the sign of zero."""
    for case in spec.cases:
        inputs = arrays(spec, case.inputs, fmt)
        settings = {**spec.defaults, **(case.settings or {})}
        shape = output_shape(spec, inputs, settings)
        expected = np.broadcast_to(np.asarray(case.expected, fmt.dtype), shape).astype(np.float64)
        got = function(*inputs, **settings)
        if got.dtype != fmt.dtype or got.shape != shape:
            yield f"{case.why}: {got.dtype} of shape {got.shape}"
        elif not np.array_equal(got.astype(np.float64), expected, equal_nan=True):
            yield f"{case.why}: {got} for {expected}"


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("name", SPECS)
def test_operators_give_the_known_answers(name: str, fmt: Format) -> None:
    assert not list(wrong_answers(SPECS[name], OPS[name].__call__, fmt))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("relu", lambda x: np.where(x > 0, x, np.zeros_like(x))),  # NaN becomes 0
        ("softmax", lambda x, axis: np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)),  # overflows
        ("sigmoid", lambda x: sigmoid(x.astype(np.float64))),  # another dtype
        ("logsumexp", lambda x, axis: np.log(np.exp(x).sum(axis=axis, keepdims=True))),  # another shape
    ],
)
def test_a_wrong_answer_is_found(name: str, wrong: Callable[..., Any]) -> None:
    with np.errstate(all="ignore"):
        assert list(wrong_answers(SPECS[name], wrong, FLOAT32))


# ------------------------------------------------------------------------------------------------ refusals


def not_refused(spec: Spec, op: Operator, fmt: Format) -> Iterator[str]:
    """The refusals of a specification that an operator does not make, or does not explain."""
    for refusal in spec.refusals:
        inputs = arrays(spec, refusal.inputs, fmt)
        settings = {**spec.defaults, **(refusal.settings or {})}
        calls = (
            partial(op.__call__, *inputs, **settings),
            partial(op.vjp, np.zeros((), fmt.dtype), *inputs, **settings),
        )
        for call in calls:
            try:
                call()
            except ArgumentError as error:
                message = str(error)
                if (
                    not message.startswith(f"{op.name}: ")
                    or refusal.mentions not in message
                    or not error.remedy
                ):
                    yield f"{refusal.why}: does not say {refusal.mentions!r}: {message}"
            else:
                yield f"{refusal.why}: taken without a word"


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.refusals])
def test_operators_refuse_what_the_specification_refuses(name: str, fmt: Format) -> None:
    assert not list(not_refused(SPECS[name], OPS[name], fmt))


def test_a_missing_refusal_is_found() -> None:
    under_another_name = replace(softmax, name="softmin")
    without_a_door = replace(
        softmax,
        signature="()->()",
        forward=lambda x, *, axis=-1: (x, SoftmaxResiduals(x, axis)),
        backward=lambda residuals, dy: ElementwiseGradients(dy),
    )
    for wrong in (under_another_name, without_a_door):
        assert list(not_refused(SPECS["softmax"], wrong, FLOAT64))


untyped: Any = relu
"""For the calls that mypy refuses already."""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: untyped([1.0]), "relu: x is a list; required: a NumPy array. Convert it with np.asarray(x"),
        (lambda: relu(np.array([1])), "relu: x is of dtype int64; required: one of float64, float32"),
        (lambda: relu(np.array([1j])), "relu: x is of dtype complex128; required: one of float64"),
        (lambda: relu(np.array([None])), "relu: x is of dtype object; required: one of float64"),
        (lambda: untyped(), "relu: the argument list is 0 arrays; required: 1 (x)"),
        (lambda: untyped(np.ones(2), np.ones(2)), "relu: the argument list is 2 arrays; required: 1 (x)"),
        (
            lambda: OPS["mse"](np.ones(2), np.ones(2, np.float32)),
            "mse: t is of dtype float32; required: float64, the dtype of the arguments before it",
        ),
        (
            lambda: OPS["softmax_cross_entropy"](np.ones((4, 3)), np.ones((5, 3))),
            "t is of shape (5, 3); required: shape (..., c) with c = 3 and batch axes (4,)",
        ),
        (
            lambda: relu.vjp(np.ones(3), np.ones(2)),
            "relu: dy is float64 of shape (3,); required: float64 of shape (2,), like the output",
        ),
        (
            lambda: relu.vjp(np.ones(2, np.float32), np.ones(2)),
            "relu: dy is float32 of shape (2,); required: float64 of shape (2,), like the output",
        ),
        (lambda: untyped.vjp([1.0], np.ones(1)), "relu: dy is a list; required: float64 of shape (1,)"),
    ],
)
def test_the_door_says_what_was_given_and_what_is_required(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert message in str(caught.value)
