"""The operators at their doors: known answers in every format, and refusals that say how to mend the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from refnet import OPS, ArgumentError, Array, Operator, relu, sigmoid, softmax
from refnet.activations import ElementwiseGradients, ReluResiduals, SoftmaxResiduals
from specs import SPECS, Spec
from verify.arithmetic.certified import in_order
from verify.arithmetic.formats import FLOAT32, FLOAT64, FORMATS, Format
from verify.laws.examples import make_example, output_shapes, shape_at

Values = npt.NDArray[Any]


def arrays(spec: Spec, inputs: Sequence[Any], fmt: Format) -> tuple[Values, ...]:
    """The inputs of a case or a refusal in a format; integers and bools are what they are written as."""
    return tuple(
        np.asarray(x)
        if not item.domain.is_floating and np.asarray(x).dtype.kind in "iub"
        else np.asarray(x, fmt.dtype)
        for item, x in zip(spec.inputs, inputs, strict=True)
    )


# ------------------------------------------------------------------------------------------- known answers


def wrong_answers(spec: Spec, function: Callable[..., Any], fmt: Format) -> Iterator[str]:
    """The special cases of a specification that a function does not give exactly, up to the sign of zero."""
    for case in spec.cases:
        inputs = arrays(spec, case.inputs, fmt)
        settings = {**spec.defaults, **(case.settings or {})}
        results = in_order(function(*inputs, **settings))
        shapes = output_shapes(spec, inputs, settings)
        for got, answer, shape in zip(results, in_order(case.expected), shapes, strict=True):
            expected = np.broadcast_to(np.asarray(answer, fmt.dtype), shape).astype(np.float64)
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
        signature="(...)->(...)",
        forward=lambda x, *, axis=-1: (x, SoftmaxResiduals(x, axis)),
        backward=lambda residuals, dy: ElementwiseGradients(dy),
    )
    for wrong in (under_another_name, without_a_door):
        assert list(not_refused(SPECS["softmax"], wrong, FLOAT64))


HOSTILE: tuple[Any, ...] = (10**400, -(10**400), 2**63, 1e300, float("nan"), float("inf"), -1, 0, True, 0.5)
HOSTILE += ("word", b"", [], [2], (2, 2, 2), (10**400, 1), {}, object(), np.ones(2), np.float64(2.0), 1j)


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.settings])
def test_a_setting_is_taken_or_refused_by_name(name: str) -> None:
    """Whatever it is: no error of Python's or NumPy's, and no NaN from numbers."""
    spec = SPECS[name]
    settings = dict(spec.all_settings[0])
    shape = shape_at(spec, {"batch": 2, "n": 2, "k": 3, "m": 2, "c": 3})
    x = make_example(spec, FLOAT32, shape, "normal", settings, (0,)).inputs
    refused = []
    for setting, value in product(spec.settings, HOSTILE):
        try:
            results = in_order(OPS[name](*x, **(settings | {setting.name: value})))
        except ArgumentError as error:
            refused.append((setting.name, error.argument))
        else:
            assert all(np.isfinite(y).all() for y in results), (setting.name, value)
    assert all(at_fault == given for given, at_fault in refused)
    for setting in spec.settings:
        assert sum(given == setting.name for given, _ in refused) >= len(HOSTILE) // 2, setting.name


NO_CLASS = np.ones((3, 0))
LABELS = np.zeros(3, np.int64)


untyped: Any = relu
untyped_axis: Any = np.int64(0)
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
        (
            lambda: untyped.vjp(np.ma.masked_array([1.0], [True]), np.ones(1)),
            "relu: dy is a MaskedArray; required: float64 of shape (1,)",
        ),
        (
            lambda: relu(np.ma.masked_array([1.0, -1.0], [True, False])),
            "relu: x is a MaskedArray; required: a NumPy array, and no subclass of it. np.asarray takes the "
            "bare numbers: fill or drop masked entries before.",
        ),
        (lambda: relu(np.ones((2, 2)).view(np.matrix)), "relu: x is a matrix; required: a NumPy array"),
        (
            lambda: OPS["softmax_cross_entropy_with_integer_labels"](
                np.ones((3, 2)), np.ma.masked_array(LABELS, [True, False, False])
            ),
            "labels is a MaskedArray",
        ),
        (
            lambda: OPS["mse"](np.ones(2, ">f8"), np.ones(2)),
            "t is of dtype float64; required: >f8, the dtype of the arguments before it. Use "
            "t.astype(p.dtype).",
        ),
        (
            lambda: untyped(np.ones(2), axis=0),
            "relu: axis is a setting that it does not have; required: no setting at all",
        ),
        (
            lambda: untyped.vjp(np.ones(2), np.ones(2), slope=0.1),
            "relu: slope is a setting that it does not have; required: no setting at all",
        ),
        (
            lambda: OPS["softmax"](np.ones(2), dim=0),
            "softmax: dim is a setting that it does not have; required: one of axis",
        ),
        (lambda: OPS["mse"](np.ones(2), np.ones(2), t=1.0), "mse: t is a setting that it does not have"),
        (
            lambda: OPS["sgd_step"](np.ones(2), np.ones(2)),
            "sgd_step: learning_rate is missing; required: this setting. Pass it by keyword",
        ),
        *(
            (
                partial(OPS[name].__call__, np.ones((2, 3)), axis=axis),
                f"{name}: axis is {axis!r}; required: one",
            )
            for name in ("softmax", "log_softmax", "logsumexp")
            for axis in ("a", None, 1.0, True, (0,))
        ),
        *(
            (
                partial(OPS[name].__call__, NO_CLASS, target, reduction="sum"),
                f"{name}: {first} is of shape (3, 0); required: at least one class",
            )
            for name, first, target in (
                ("categorical_cross_entropy", "p", NO_CLASS),
                ("softmax_cross_entropy", "z", NO_CLASS),
                ("softmax_cross_entropy_with_integer_labels", "z", LABELS),
            )
        ),
        (
            lambda: OPS["softmax_cross_entropy_with_integer_labels"](NO_CLASS[:0], LABELS[:0]),
            "z is of shape (0, 0); required: at least one class",
        ),
        *(
            (
                partial(OPS[name].__call__, np.ones(2), np.ones(2), reduction=reduction),
                f'{name}: reduction is {reduction!r}; required: "mean", "sum" or "none"',
            )
            for name in ("mse", "binary_cross_entropy")
            for reduction in (np.ones(2), None, ["mean"])
        ),
    ],
)
def test_the_door_says_what_was_given_and_what_is_required(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert message in str(caught.value)


def test_numbers_in_a_file_and_integers_of_numpy_are_let_in(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "x", np.float64, "w+", shape=(2, 3))
    mapped[...] = np.arange(6.0).reshape(2, 3) - 2.0
    assert (relu(mapped) == relu(np.array(mapped))).all()
    assert (softmax(mapped, axis=untyped_axis) == softmax(np.array(mapped), axis=0)).all()


def test_an_operator_that_takes_any_setting_is_asked_no_questions() -> None:
    def forward(x: Array, **settings: float) -> tuple[Array, ReluResiduals]:
        return x * settings["slope"], ReluResiduals(x)

    scaled: Any = replace(relu, forward=forward)
    assert scaled(np.ones(2), slope=2.0).tolist() == [2.0, 2.0]
