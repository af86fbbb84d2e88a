"""The gradient checker: right gradients pass, wrong ones fail with the reason, and nothing makes it raise."""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from sklearn.neural_network import _base as sklearn_base

from refnet import OPS
from specs import SPECS
from tests.gradient_examples import EXAMPLES, MISTAKES, only_real, softmax, softmax_vjp
from verify.arithmetic.formats import FLOAT32, FLOAT64, Format
from verify.gradients import GradcheckReport, Kinks, assert_gradients, gradcheck
from verify.gradients.diagnosis import explain_shape
from verify.gradients.directions import random_cotangent
from verify.laws.examples import REGIMES, Shape, make_example
from verify.mistakes import catalogue

Array = npt.NDArray[Any]
Function = Callable[..., Any]

X = np.array([[0.5, -1.0, 2.0], [1.0, 0.25, -0.75]])
FLOAT32_X = X.astype(np.float32)


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


# ------------------------------------------------------------------------------- right and wrong gradients


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_right_gradient_never_fails_and_rarely_stays_undecided(name: str) -> None:
    example = EXAMPLES[name]
    reasons: Counter[str] = Counter()
    for scale, seed in itertools.product((1e-3, 1.0, 1e3), range(6)):
        report = gradcheck(example.f, example.vjp, example.inputs(_generator(seed), scale), seed=seed)
        assert report.verdict != "fail", report
        if report.verdict == "inconclusive":
            reasons[report.reason.partition(":")[0]] += 1
    # softmax at 1000 is one-hot: its gradient is 0, and a dead ReLU network has none
    assert sum(reasons.values()) <= (6 if name == "softmax" else 1), reasons


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_fails_and_is_named(name: str) -> None:
    example, vjp, diagnosis = MISTAKES[name]
    for seed in range(3):
        inputs = EXAMPLES[example].inputs(_generator(seed), 1.0)
        report = gradcheck(EXAMPLES[example].f, vjp, inputs, seed=seed)
        assert report.verdict == "fail", report
        assert diagnosis in " ".join(report.diagnosis), report


@pytest.mark.parametrize(
    ("shape", "due", "hint"),
    [
        ((1, 8), (8,), ("an axis of length 1 too many",)),
        ((8,), (1, 8), ("an axis of length 1 too few",)),
        ((1, 8, 1), (8,), ("2 axes of length 1 too many",)),
        ((1,), (), ("an axis of length 1 too many",)),
        ((1, 8), (8, 1), ("transposed",)),
        ((3, 8), (8,), ("missing sum over axes (0,)",)),
    ],
)
def test_a_wrong_shape_has_one_hint(
    shape: tuple[int, ...], due: tuple[int, ...], hint: tuple[str, ...]
) -> None:
    claimed = np.arange(1.0, 1.0 + math.prod(shape)).reshape(shape)
    numerical = claimed.sum(axis=0) if shape == (3, *due) else claimed.reshape(due)
    assert explain_shape(claimed, due, numerical) == hint


# ------------------------------------------------------------------------------------- refnet's operators


SIZES = {"c": 4, "n": 3, "k": 2, "m": 4}


def _problem(
    name: str,
    vjp: Function,
    reduction: str = "mean",
    seed: int = 0,
    regime: str = "normal",
    fmt: Format = FLOAT64,
) -> tuple[Function, Function, list[Array]]:
    """f, vjp and inputs; floating inputs without a gradient (targets) are held fixed."""
    spec = SPECS[name]
    shape = Shape((3,) if spec.batched else (), spec.shapes[0] if spec.shapes else SIZES)
    settings = spec.defaults | ({"reduction": reduction} if "reduction" in spec.defaults else {})
    example = make_example(spec, fmt, shape, regime, settings, [seed])
    free = [i for i, item in enumerate(spec.inputs) if item.differentiable or item.domain.is_integer]

    def complete(inputs: Sequence[Array]) -> list[Array]:
        given = dict(zip(free, inputs, strict=True))
        return [given.get(i, x) for i, x in enumerate(example.inputs)]

    return (
        lambda *inputs: OPS[name](*complete(inputs), **example.settings),
        lambda dy, *inputs: vjp(dy, *complete(inputs), **example.settings),
        [example.inputs[i] for i in free],
    )


WITH_GRADIENT = [name for name in OPS if SPECS[name].differentiable]


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_the_operators_of_refnet_pass(name: str) -> None:
    for reduction, seed in itertools.product(("mean", "sum", "none"), range(2)):
        report = gradcheck(*_problem(name, OPS[name].vjp, reduction, seed), seed=seed)
        assert report.verdict == "pass", report
        if "reduction" not in SPECS[name].defaults:
            break


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32], ids=lambda fmt: str(fmt.name))
@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_the_operators_of_refnet_never_fail_at_any_scale(name: str, fmt: Format) -> None:
    for seed, regime in enumerate(REGIMES):
        report = gradcheck(*_problem(name, OPS[name].vjp, seed=seed, regime=regime, fmt=fmt), seed=seed)
        assert report.verdict != "fail", (regime, report)


@pytest.mark.parametrize(
    "mistake",
    [m for m in catalogue.MISTAKES if m.vjp and "numerical" in m.caught_by],
    ids=lambda mistake: mistake.name,
)
def test_the_known_mistakes_in_gradients_fail(mistake: catalogue.Mistake) -> None:
    """On one of four examples: beyond its delta, behind its kink, a wrong gradient shows on some of them."""
    assert mistake.vjp is not None
    reports = (gradcheck(*_problem(mistake.op, mistake.vjp, seed=seed), seed=seed) for seed in range(4))
    assert any(report.verdict == "fail" for report in reports)


WITHOUT_EFFECT = {("multi_head_attention", "b_k")}
"""Gradients that are 0: a bias of the keys moves all scores of a query alike."""


@pytest.mark.parametrize(
    ("name", "order"),
    [
        (name, order)
        for name in OPS
        for order, wrt in enumerate(SPECS[name].differentiable)
        if (name, SPECS[name].inputs[wrt].name) not in WITHOUT_EFFECT
    ],
)
def test_no_error_above_the_resolution_passes(name: str, order: int) -> None:
    def planted(relative: float) -> Function:
        def vjp(*args: Any, **settings: Any) -> list[Array]:
            gradients = [np.array(g) for g in OPS[name].vjp(*args, **settings)]
            wrong = gradients[order]
            wrong.flat[np.argmax(abs(wrong))] *= 1 + relative
            return gradients

        return vjp

    def has_effect(seed: int) -> bool:
        f, right, inputs = _problem(name, OPS[name].vjp, seed=seed)
        y = f(*inputs)
        draw = _generator(100 + seed).standard_normal  # not those of x; a softmax loses ones
        dy = tuple(draw(part.shape) for part in y) if isinstance(y, tuple) else np.asarray(draw(y.shape))
        return bool(np.any(right(dy, *inputs)[order]))

    seed = next(seed for seed in range(16) if has_effect(seed))  # of a gradient of 0 no error is relative
    resolution = gradcheck(*_problem(name, OPS[name].vjp, seed=seed)).resolution
    assert resolution <= 4 * math.sqrt(2.0**-53)
    verdicts = {
        10.0**-k: gradcheck(*_problem(name, planted(10.0**-k), seed=seed)).verdict
        for k in range(2 + order % 2, 13, 2)
    }
    missed = [error for error, verdict in verdicts.items() if verdict == "pass" and error > resolution]
    assert not missed, (resolution, verdicts)
    # a fail takes the margin of a second ladder as well: at most four bars, and one digit is enough
    doubted = [error for error, verdict in verdicts.items() if verdict != "fail" and error > 10 * resolution]
    assert not doubted, (resolution, verdicts)


# ------------------------------------------------------------------------------------ what comes back is bad


def _raises(*args: Any) -> Any:
    raise RuntimeError("out of memory")


def _exits(*args: Any) -> Any:
    sys.exit(3)


def _raises_in_lines(*args: Any) -> Any:
    raise RuntimeError("out\nof memory")


def _modifies(dy: Array, x: Array) -> Array:
    x *= 2
    return dy * 2 * x


class _Stateful:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *args: Array) -> Array:
        self.calls += 1
        return np.asarray(self.calls * args[-1])


BAD_VJPS: dict[str, tuple[Function, str]] = {
    "raises": (_raises, "vjp raises RuntimeError: out of memory"),
    "exits": (_exits, "vjp raises SystemExit: 3"),
    "raises in two lines": (_raises_in_lines, "vjp raises RuntimeError: out of memory"),
    "takes too few arguments": (lambda dy: dy, "vjp raises TypeError"),
    "None": (lambda dy, x: None, "the gradient of input 0 (x) is a NoneType"),
    "a string": (lambda dy, x: "gradient", "the gradient of input 0 (x) is a str"),
    "a scalar": (lambda dy, x: 1.0, "has shape (); required: (2, 3)"),
    "an int": (lambda dy, x: 1, "is a int"),
    "a list of numbers": (lambda dy, x: [[1.0] * 3] * 2, "returns 2 gradients; required: 1"),
    "nothing": (lambda dy, x: (), "returns 0 gradients; required: 1"),
    "too many": (lambda dy, x: (dy, dy), "returns 2 gradients; required: 1"),
    "objects": (lambda dy, x: (2 * x * dy).astype(object), "has dtype object; required: float64"),
    "float32": (lambda dy, x: (2 * x * dy).astype(np.float32), "has dtype float32; required: float64"),
    "integers": (lambda dy, x: (2 * x * dy).astype(np.int64), "has dtype int64; required: float64"),
    "complex": (lambda dy, x: 2 * x * dy + 0j, "has dtype complex128; required: float64"),
    "transposed": (lambda dy, x: (2 * x * dy).T, "has shape (3, 2); required: (2, 3)"),
    "summed": (lambda dy, x: (2 * x * dy).sum(axis=0), "has shape (3,); required: (2, 3)"),
    "the input": (lambda dy, x: x, "shares its memory with input 0"),
    "a view of the input": (lambda dy, x: x[::-1], "shares its memory with input 0"),
    "modifies its input": (_modifies, "vjp modifies input 0"),
    "modifies the cotangent": (lambda dy, x: np.multiply(dy, 2 * x, out=dy), "vjp modifies dy"),
    "random": (lambda dy, x: dy * np.random.default_rng().random(x.shape), "vjp returns different results"),
    "stateful": (_Stateful(), "vjp returns different results"),
    "NaN": (lambda dy, x: np.full_like(x, np.nan), "the gradient is wrong"),
    "infinite": (lambda dy, x: np.full_like(x, np.inf), "the gradient is wrong"),
    "NaN once": (lambda dy, x: np.where(x == 0.25, np.nan, 2 * x * dy), "the gradient is wrong"),
    "squares dy": (lambda dy, x: dy * dy * 2 * x, "vjp(2^-3 dy) is not 2^-3 vjp(dy)"),
    "the size of dy": (lambda dy, x: abs(dy) * 2 * x, "vjp(a + b) is not vjp(a) + vjp(b)"),
    "ignores dy": (lambda dy, x: 2 * x, "vjp of a zero cotangent is not 0"),
}
BAD_FUNCTIONS: dict[str, tuple[Function, str]] = {
    "raises": (_raises, "f raises RuntimeError: out of memory"),
    "exits": (_exits, "f raises SystemExit: 3"),
    "None": (lambda x: None, "f returns a NoneType; required: a floating array"),
    "an int": (lambda x: 3, "f returns a int"),
    "integers": (lambda x: x.astype(int), "f returns dtype int64"),
    "objects": (lambda x: x.astype(object), "f returns dtype object"),
    "complex": (lambda x: x + 0j, "f returns dtype complex128"),
    "an empty tuple": (lambda x: (), "f returns an empty tuple"),
    "modifies its input": (lambda x: np.multiply(x, 2, out=x), "f modifies input 0"),
    "stateful": (_Stateful(), "f returns different results"),
    "random": (lambda x: x * np.random.default_rng().random(), "f returns different results"),
}


@pytest.mark.parametrize("name", BAD_VJPS)
def test_a_bad_vjp_is_a_fail_in_one_line(name: str) -> None:
    vjp, reason = BAD_VJPS[name]
    report = gradcheck(np.square, vjp, [X])
    assert report.verdict == "fail"
    assert reason in report.reason
    assert "\n" not in report.reason


@pytest.mark.parametrize("name", BAD_FUNCTIONS)
def test_a_bad_function_is_a_fail_in_one_line(name: str) -> None:
    f, reason = BAD_FUNCTIONS[name]
    report = gradcheck(f, lambda dy, x: dy * 2 * x, [X])
    assert report.verdict == "fail"
    assert reason in report.reason
    assert "\n" not in report.reason


@pytest.mark.parametrize(
    "inputs",
    [X, [X + 0j], [X.astype(object)], [X.astype(ml_dtypes.bfloat16)], [X.astype(np.longdouble)]],
    ids=["array", "complex", "objects", "bfloat16", "long double"],
)
def test_inputs_that_would_pass_unchecked_are_refused(inputs: Any) -> None:
    with pytest.raises(TypeError, match="required"):
        gradcheck(np.square, lambda dy, x: dy * 2 * x, inputs)


@pytest.mark.parametrize("seed", [-1, None, 1.5, "0", True])
def test_a_seed_that_is_none_is_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"seed is {seed!r}; required: an integer of at least 0")):
        gradcheck(np.square, lambda dy, x: dy * 2 * x, [X], seed=seed)


def test_an_interrupt_from_the_keyboard_is_not_swallowed() -> None:
    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    def interrupted_beside(x: Array) -> Array:
        return x * x if (x == X).all() else interrupted()

    for f, vjp in ((interrupted, _square_vjp), (interrupted_beside, _square_vjp), (np.square, interrupted)):
        with pytest.raises(KeyboardInterrupt):
            gradcheck(f, vjp, [X])


# ------------------------------------------------------------------------------ inputs of all kinds, verdicts


def _scaled_vjp(dy: Array, x: Array, s: Array) -> tuple[Array, ...]:
    return dy * s, np.asarray((dy * x).sum(), dtype=s.dtype)


def _read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def _square_vjp(dy: Array, x: Array) -> Array:
    return dy * 2 * x


def _in_unit(function: Function, ends: Function = _raises) -> Function:
    """The function, which refuses what lies outside of [-1, 1]."""

    def guarded(*args: Array) -> Any:
        return function(*args) if (abs(args[-1]) <= 1).all() else ends()

    return guarded


EDGES = np.array([1.0, 0.5, -1.0, 1.0, -1.0, 1.0, 0.25, 1.0])


def _moves_one_by_one(dy: Array, x: Array) -> Array:
    if (x != EDGES).sum() > 1:
        raise RuntimeError("these do not belong together")
    return dy * 2 * x


def _only_near(vjp: Function, *points: Array) -> Function:
    """vjp, which refuses all but the nearest neighbours of a point: no path can be taken."""

    def near(dy: Array, *inputs: Array) -> Any:
        if any(
            (abs(x - point) > 2.0**-20 * abs(point)).any() for x, point in zip(inputs, points, strict=True)
        ):
            raise ValueError("too far away")
        return vjp(dy, *inputs)

    return near


def _pick_vjp(dy: Array, x: Array, ids: Array) -> Array:
    dx = np.zeros_like(x)
    np.add.at(dx, ids, dy)
    return dx


def _two_vjp(dy: tuple[Array, Array], x: Array) -> Array:
    return np.asarray(dy[0] * 2 * x + dy[1] * np.cos(x))


PASSES: dict[str, tuple[Function, Function, Sequence[npt.ArrayLike]]] = {
    "0-d": (np.square, _square_vjp, [np.array(1.5)]),
    "a Python float": (np.square, _square_vjp, [1.5]),
    "a Python float in and out": (lambda x: float(x) ** 2, lambda dy, x: float(dy * 2 * x), [1.5]),
    "a list": (np.square, _square_vjp, [[1.5, 2.5]]),
    "float32": (np.square, _square_vjp, [FLOAT32_X]),
    "float16": (np.square, _square_vjp, [X.astype(np.float16)]),
    "read-only": (np.square, _square_vjp, [_read_only(X)]),
    "strided": (np.square, _square_vjp, [np.arange(1.0, 13.0).reshape(4, 3)[::2, ::-1].T]),
    "a batch": (softmax, softmax_vjp, [_generator(0).standard_normal((2, 3, 4))]),
    "broadcast": (lambda x, s: x * s, _scaled_vjp, [X, np.array(3.0)]),
    "float32 broadcast": (lambda x, s: x * s, _scaled_vjp, [FLOAT32_X, np.float32(3)]),
    "an integer input": (lambda x, ids: x[ids], _pick_vjp, [X, np.array([1, 0, 1])]),
    "a boolean input": (
        lambda x, keep: np.where(keep, x, 0),
        lambda dy, x, keep: np.where(keep, dy, 0),
        [X, X > 0],
    ),
    "bytes in another order": (np.square, lambda dy, x: (dy * 2 * x).astype("f8"), [X.astype(">f8")]),
    "a gradient with bytes in another order": (np.square, lambda dy, x: (dy * 2 * x).astype(">f8"), [X]),
    "a vjp that raises outside of [-1, 1]": (np.square, _in_unit(_square_vjp), [EDGES]),
    "a vjp that exits outside of [-1, 1]": (np.square, _in_unit(_square_vjp, _exits), [EDGES]),
    "two outputs": (lambda x: (x * x, np.sin(x)), _two_vjp, [X]),
    "an empty input beside another": (
        lambda x, e: x * x + e.sum(),
        lambda dy, x, e: (dy * 2 * x, np.full_like(e, dy.sum())),
        [X, np.empty(0)],
    ),
    "all scales at once": (np.square, _square_vjp, [10.0 ** np.arange(-3, 4)]),
    "a bias of 1e-12": (
        lambda x, b: np.tanh(x + b),
        lambda dy, x, b: _tanh_sum(dy, x, b),
        [X, np.full(3, 1e-12)],
    ),
    "relu, one element of six at its kink": (
        lambda x: np.maximum(x, 0),
        lambda dy, x: dy * (x > 0),
        [np.array([0.0, 1.0, -1.0, 2.0, 3.0, -2.0])],
    ),
}


def _tanh_sum(dy: Array, x: Array, b: Array) -> tuple[Array, Array]:
    slope = dy * (1 - np.tanh(x + b) ** 2)
    return slope, slope.sum(axis=0)


@pytest.mark.parametrize("name", PASSES)
def test_inputs_of_all_kinds_pass(name: str) -> None:
    f, vjp, inputs = PASSES[name]
    assert_gradients(f, vjp, inputs)


INCONCLUSIVE: dict[str, tuple[Function, Function, Sequence[npt.ArrayLike], str]] = {
    "no elements": (np.square, _square_vjp, [np.empty((0, 3))], "vacuous"),
    "no floats": (lambda n: n * 1.0, lambda dy, n: (), [np.arange(3)], "vacuous"),
    "no inputs": (lambda: np.ones(2), lambda dy: (), [], "vacuous"),
    "gradient 0": (lambda x: 0 * x, lambda dy, x: 0 * dy, [X], "vacuous"),
    "an empty output": (lambda x: x[:0], lambda dy, x: np.zeros_like(x), [X], "vacuous"),
    "all kinks": (abs, lambda dy, x: dy * np.sign(x), [np.zeros(3)], "kink at 3 of 3"),
    "a domain edge": (
        np.sqrt,
        lambda dy, x: dy / (2 * np.sqrt(x)),
        [np.array([0.0, 1.0])],
        "domain edge at 1 of 2",
    ),
    "an edge where f and vjp raise": (
        _in_unit(np.square),
        _in_unit(_square_vjp),
        [np.array([1.0, 0.5, 0.3])],
        "domain edge at 1 of 3",
    ),
    "an edge where f exits": (_in_unit(np.square, _exits), _square_vjp, [EDGES], "domain edge at 6 of 8"),
    "a vjp that takes no neighbour": (
        only_real(np.square),
        _moves_one_by_one,
        [EDGES],
        "domain edge beside the point, whose last bits were changed: vjp raises RuntimeError: these do not",
    ),
    "a jump": (np.floor, lambda dy, x: 0 * dy, [np.array([1.0, 1.5])], "noise at 1 of 2"),
    "NaN": (np.square, _square_vjp, [np.array([np.nan, 1.0])], "domain edge"),
    "infinity": (
        np.tanh,
        lambda dy, x: dy * (1 - np.tanh(x) ** 2),
        [np.array([np.inf, 1.0])],
        "domain edge at 1 of 2",
    ),
    "noise": (
        lambda x: x + 1e-6 * np.sin(1e17 * x),
        lambda dy, x: dy * 1.0,
        [np.array([0.3, 0.7])],
        "",
    ),
    "computed in float32": (
        lambda x: np.exp(x.astype(np.float32)).astype(np.float64),
        lambda dy, x: dy * np.exp(x),
        [X],
        "",
    ),
}


@pytest.mark.parametrize("name", INCONCLUSIVE)
def test_what_cannot_be_decided_is_inconclusive_with_the_reason(name: str) -> None:
    f, vjp, inputs, reason = INCONCLUSIVE[name]
    report = gradcheck(f, vjp, inputs)
    assert report.verdict == "inconclusive", report
    assert reason in report.reason
    with pytest.raises(AssertionError, match=r"gradcheck of .*: inconclusive"):
        assert_gradients(f, vjp, inputs)


def test_a_wrong_gradient_fails_at_the_edge_of_its_domain_too() -> None:
    for f in (np.square, _in_unit(np.square)):
        report = gradcheck(f, _in_unit(lambda dy, x: dy * 2.001 * x), [EDGES])
        assert report.verdict == "fail", report
        assert "the gradient is wrong" in report.reason


def test_the_limit_of_the_resolution_is_the_one_that_is_written_down() -> None:
    for text in (gradcheck.__doc__, GradcheckReport.__doc__):
        assert text is not None
        assert "x + 1e-10 sin(3e9 x)" in " ".join(text.split())
    x = np.array([0.3, 0.7, 1.5])
    for size, verdict in ((1e-10, "pass"), (1e-8, "inconclusive"), (1e-5, "fail")):
        report = gradcheck(lambda x, e=size: x + e * np.sin(0.3 / e * x), lambda dy, x: dy * 1.0, [x])
        assert report.verdict == verdict, report


def test_a_claim_outside_the_one_sided_derivatives_of_a_kink_fails() -> None:
    x = np.array([0.0, 1.0, -1.0])
    for at_kink, verdict in ((0.0, "pass"), (0.5, "pass"), (1.0, "pass"), (1.5, "fail"), (-0.5, "fail")):
        slope = np.array([at_kink, 1.0, 0.0])
        report = gradcheck(lambda x: np.maximum(x, 0), lambda dy, x, slope=slope: dy * slope, [x])
        assert report.verdict == verdict, report


@pytest.mark.parametrize("gap", [30, 33, 36, 38, 40, 45, 60, 110, 400])
def test_the_textbook_softmax_is_not_blamed_for_its_rounding(gap: float) -> None:
    for seed in range(3):
        report = gradcheck(softmax, softmax_vjp, [np.array([[gap, 0.0, 1.0]])], seed=seed)
        assert report.verdict != "fail", report


def test_a_gradient_that_is_added_up_carelessly_is_not_blamed() -> None:
    """w sums to 1 from terms of 1e8, exactly in f and with an error of 1e-8 in the vjp."""
    big = 1e8 * _generator(0).standard_normal(20)
    w = np.concatenate([big, -big[::-1], [1.0]])

    def vjp(dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
        return dy * np.add.accumulate(w)[-1], (dy * x).sum() * np.ones_like(w)

    report = gradcheck(lambda x, w: x * math.fsum(w), vjp, [np.array([1.0, 1.5]), w])
    assert report.verdict != "fail", report


def test_what_one_ladder_finds_wrong_and_another_does_not_is_no_fail() -> None:
    example = EXAMPLES["layer_norm"]  # right; its bars miss by a little, as they do once in some thousands
    inputs = example.inputs(_generator(9), 1e-3)
    report = gradcheck(only_real(example.f), _only_near(example.vjp, *inputs), inputs, seed=9)
    assert report.verdict == "inconclusive", report
    assert "outside their error bars, but not by the margin of a fail" in report.reason


def test_a_last_place_where_0_is_due_is_not_blamed() -> None:
    x = np.array([1.5, 2.5])
    almost = np.array([1.0, 3 * 0.1 - 0.3])
    # f is 0 at x, so that its own last place is no excuse
    assert_gradients(lambda z: (z - x) * np.array([1.0, 0.0]), lambda dy, z: dy * almost, [x])


def test_an_output_is_not_drowned_by_a_larger_one() -> None:
    def vjp(dy: tuple[Array, Array], x: Array) -> Array:
        return np.asarray(dy[0] * 1e20 + dy[1] * x)  # 2 x is due

    assert gradcheck(lambda x: (1e20 * x, x * x), vjp, [X]).verdict == "fail"


# ---------------------------------------------------------------------------------- the report, scikit-learn


def test_the_report_says_what_where_how_sure_and_how_to_repeat_it() -> None:
    def vjp(dy: Array, x: Array) -> Array:
        return np.asarray(dy * x * np.array([[2, 2, 1], [2, 2, 2]]))

    report = gradcheck(np.square, vjp, [X], seed=5)
    assert isinstance(report, GradcheckReport)
    assert report.worst is not None
    assert (report.worst.position, report.worst.index, report.worst.point) == (0, (0, 2), 2.0)
    assert (report.failing, report.elements, report.unresolved) == (1, 6, 0)
    text = str(report)
    for part in (
        "gradcheck of square: fail",
        "1 of 6 elements wrong",
        "one element only: (0, 2)",
        "0x1.0",
        "seed=5",
    ):
        assert part in text
    assert str(gradcheck(np.square, vjp, [X], seed=5)) == text


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_sum_of_two_cotangents_is_exact_and_none_has_an_element_near_0(dtype: Any) -> None:
    a, b = (random_cotangent(_generator(seed), np.empty(1000, dtype)) for seed in (0, 1))
    assert a.dtype == dtype
    assert (abs(a) >= 1).all()
    assert (abs(a) < 2).all()
    assert ((a + b).astype(np.float64) == a.astype(np.float64) + b.astype(np.float64)).all()


@pytest.mark.parametrize("name", sklearn_base.DERIVATIVES)
def test_the_derivatives_of_scikit_learn_pass_and_those_of_another_fail(name: str) -> None:
    def f(x: Array, activation: str = name) -> Array:
        y = x.copy()
        sklearn_base.ACTIVATIONS[activation](y)  # in place
        return y

    def vjp(dy: Array, x: Array, derivative: str = name) -> Array:
        delta = dy.copy()
        sklearn_base.DERIVATIVES[derivative](f(x), delta)
        return delta

    assert gradcheck(f, vjp, [X]).verdict == "pass"
    other = "tanh" if name != "tanh" else "logistic"
    assert gradcheck(f, lambda dy, x: vjp(dy, x, other), [X]).verdict == "fail"


# --------------------------------------------------------------------- what the caller knows: kinks, settings


def _leaky(x: Array) -> Array:
    return np.asarray(np.where(x > 0, x, 0.1 * x))


def _leaky_vjp(at_kink: float) -> Function:
    return lambda dy, x: dy * np.where(x > 0, 1.0, np.where(x < 0, 0.1, at_kink))


@pytest.mark.parametrize(
    ("convention", "right", "wrong"),
    [("left", 0.1, 1.0), ("right", 1.0, 0.1), ("middle", 0.55, 0.5), ("between", 0.7, 1.1)],
)
def test_the_convention_at_a_kink_is_tested_exactly(convention: Any, right: float, wrong: float) -> None:
    x = np.array([0.0, 1.0, -1.0, 2.0])
    kinks = Kinks(branches=lambda x: x > 0, convention=convention)
    assert gradcheck(_leaky, _leaky_vjp(right), [x], kinks=kinks).verdict == "pass"
    assert gradcheck(_leaky, _leaky_vjp(wrong), [x], kinks=kinks).verdict == "fail"


def test_kinks_may_be_left_unjudged() -> None:
    x = np.array([0.0, 1.0, -1.0])
    report = gradcheck(_leaky, _leaky_vjp(7.0), [x], kinks=Kinks(convention="any"))
    assert (report.verdict, report.unresolved) == ("pass", 1), report
    assert "Kinks(convention='any')" in gradcheck(_leaky, _leaky_vjp(7.0), [x]).reason


Z = np.array([0.122360474, -0.00224074529, 2.45804184, -0.182283372, 0.930705911, 0.319244993])


def _weak_kinks(b: Array) -> Array:
    """Six kinks, the nearest 0.002 from b = 0.5, each of 1 % of the slope."""
    return np.asarray(np.logaddexp(0, 0.01 * np.maximum(Z + b - 0.5, 0)).sum() + (b - 0.5)[0])


def _weak_kinks_vjp(dy: Array, b: Array) -> Array:
    t = 0.01 * np.maximum(Z + b - 0.5, 0)
    return np.asarray(dy * ((0.01 / (1 + np.exp(-t)) * (Z + b > 0.5)).sum() + 1) * np.ones_like(b))


def test_declared_branches_keep_the_steps_on_one_side_of_a_kink() -> None:
    """With complex steps and paths out of the way."""
    b = np.array([0.5])
    f, vjp = only_real(_weak_kinks), _only_near(_weak_kinks_vjp, b)
    kinks = Kinks(branches=lambda b: Z + b > 0.5)
    assert gradcheck(f, vjp, [b]).verdict == "inconclusive"
    known = gradcheck(f, vjp, [b], kinks=kinks)
    assert known.verdict == "pass", known
    assert known.resolution < 1e-8
    assert gradcheck(f, lambda dy, b: vjp(dy, b) * (1 + 1e-7), [b], kinks=kinks).verdict == "fail"


def _tied(rule: str) -> Function:
    def vjp(dy: Array, x: Array) -> Array:
        largest = x == x.max(axis=1, keepdims=True)
        count = largest.sum(axis=1, keepdims=True)
        weights = {"all": largest, "split": largest / count, "first": np.eye(x.shape[1])[x.argmax(axis=1)]}
        return np.asarray(dy[:, None] * weights.get(rule, largest / count / np.where(count > 1, 2, 1)))

    return vjp


@pytest.mark.parametrize("rule", ["split", "first", "all", "half"])
def test_tied_elements_share_one_gradient(rule: str) -> None:
    x = np.array([[1.0, 3.0, 3.0, 0.5], [2.0, 1.0, 0.5, -1.0]])
    for seed in range(3):
        report = gradcheck(lambda x: x.max(axis=1), _tied(rule), [x], seed=seed)
        assert report.verdict == ("pass" if rule in ("split", "first") else "fail"), report
        assert report.diagnosis == (("every tied element gets the whole gradient",) if rule == "all" else ())


def test_settings_go_to_both_functions_and_an_operator_is_such_a_pair() -> None:
    assert_gradients(OPS["softmax"], OPS["softmax"].vjp, [X], settings={"axis": 0})
    report = gradcheck(
        OPS["softmax"], lambda dy, x, axis: OPS["softmax"].vjp(dy, x), [X], settings={"axis": 0}
    )
    assert report.verdict == "fail"


def test_only_the_differentiable_inputs_have_a_gradient() -> None:
    mse = OPS["mse"]
    assert_gradients(mse, mse.vjp, [X, X + 0.5], differentiable=[0])
    assert "one for each of input 0, input 1" in gradcheck(mse, mse.vjp, [X, X + 0.5]).reason
    with pytest.raises(ValueError, match=r"differentiable is \(1,\); required: .* some of \(0,\)"):
        gradcheck(np.square, _square_vjp, [X, np.arange(3)], differentiable=[1])


def test_a_convention_that_is_none_is_refused() -> None:
    convention: Any = "up"
    with pytest.raises(ValueError, match="convention is 'up'; required: one of"):
        Kinks(convention=convention)


# ------------------------------------------------------------------------------------ mistakes by their form


def _per_row(x: Array) -> Array:
    return np.asarray(x / np.sqrt((x * x).mean(axis=1, keepdims=True)))


FORMS: dict[str, tuple[Function, Function, Sequence[npt.ArrayLike], str]] = {
    "the slope of tanh": (np.tanh, lambda dy, x: dy * 1.0, [X], "the factor 1 - output^2 is missing"),
    "the input once more": (np.square, lambda dy, x: dy * 2 * x * x, [X], "a factor input 0 (x) too many"),
    "the input forgotten": (
        lambda x: x * x / 2,
        lambda dy, x: dy * 1.0,
        [X],
        "the factor input 0 (x) is missing",
    ),
    "kernel not flipped": (
        lambda w: np.stack([(w * X[:2, :2]).sum(), (w * X[:, 1:]).sum()]),
        lambda dy, w: (dy[0] * X[:2, :2] + dy[1] * X[:, 1:])[::-1, ::-1].copy(),
        [np.array([[0.5, 1.0], [-1.0, 2.0]])],
        "reversed along axes (0, 1)",
    ),
    "the axes of attention": (
        lambda x: x**3,
        lambda dy, x: (dy * 3 * x * x).transpose(0, 2, 1).copy(),
        [np.arange(1.0, 9.0).reshape(2, 2, 2)],
        "transposed: axes in the order (0, 2, 1)",
    ),
    "no scale": (
        lambda x: x * x / math.sqrt(x.size),
        lambda dy, x: dy * 2 * x,
        [X],
        "constant factor sqrt(6) (N)",
    ),
    "n - 1": (
        lambda x: np.asarray(((x - x.mean()) ** 2).sum() / (x.size - 1)),
        lambda dy, x: dy * 2 * (x - x.mean()) / x.size,
        [X],
        "divided by n where n - 1 is due",
    ),
    "a mean": (
        lambda x: np.asarray(x.sum()),
        lambda dy, x: np.full_like(x, dy / 6),
        [X],
        "a mean where a sum",
    ),
    "overwritten": (
        lambda x, ids: x[ids],
        lambda dy, x, ids: _assigned(dy, x, ids),
        [np.arange(1.0, 9.0).reshape(4, 2), np.array([0, 2, 2, 3])],
        "only rows that input 1 (ids) names more than once",
    ),
    "borders": (
        lambda x: x[:, 1:] * x[:, :-1],
        lambda dy, x: np.pad(dy, ((0, 0), (1, 0))) * np.roll(x, 1, 1) + np.pad(dy, ((0, 0), (0, 1))) * x,
        [np.array([[1.0, 1.0, 1.0, 1.0, 2.0, 3.0], [2.0, 2.0, 2.0, 2.0, 2.0, 1.0]])],
        "only at",
    ),
    "no mask": (
        lambda x: np.tril(x) ** 2,
        lambda dy, x: dy * 2 * np.tril(x) + np.triu(dy, 1),
        [np.arange(1.0, 10.0).reshape(3, 3)],
        "only above the diagonal, and everywhere there",
    ),
    "a symmetric gradient": (
        lambda x: np.tril(x) ** 2,
        lambda dy, x: dy * np.tril(x) + (dy * np.tril(x)).T,
        [np.arange(1.0, 10.0).reshape(3, 3)],
        "its symmetric part alone",
    ),
    "no projection": (
        _per_row,
        lambda dy, x: dy / np.sqrt((x * x).mean(axis=1, keepdims=True)),
        [X],
        "missing term: input 0 (x) times what is the same along axis 1",
    ),
}


def _assigned(dy: Array, x: Array, ids: Array) -> Array:
    dx = np.zeros_like(x)
    dx[ids] = dy
    return dx


@pytest.mark.parametrize("name", FORMS)
def test_the_form_of_a_mistake_is_named(name: str) -> None:
    f, vjp, inputs, named = FORMS[name]
    for seed in range(3):
        report = gradcheck(f, vjp, inputs, seed=seed)
        assert report.verdict == "fail", report
        assert named in " ".join(report.diagnosis), report


# -------------------------------------------------------------------------------- hostile arguments


class _Hostile:
    """A function whose attributes raise."""

    def __call__(self, x: Array) -> Array:
        return np.asarray(x * x)

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


HUGE: dict[str, tuple[Function, Function, Array]] = {
    "the ends of the range": (lambda x: x * 0.5, lambda dy, x: dy * 0.5, np.full(3, 1.79e308)),
    "a string for complex": (lambda x: "no" if np.iscomplexobj(x) else x * x, _square_vjp, X),
    "a string beside the point": (lambda x: x * x if (x == X).all() else "no", _square_vjp, X),
    "attributes that raise": (_Hostile(), _square_vjp, X),
    "exp near its end": (np.exp, lambda dy, x: dy * np.exp(x), np.array([700.0, 1.0, -3.0])),
    "a slope of 1e300": (lambda x: x * 1e300, lambda dy, x: dy * 1e300, X * 1e8),
    "steps that overflow": (lambda x: x * 2, lambda dy, x: dy * 2, X * 1e307),
    "squares that underflow": (np.square, _square_vjp, X * 1e-170),
}


@pytest.mark.parametrize("name", HUGE)
def test_nothing_makes_it_raise_or_warn(name: str) -> None:
    f, vjp, x = HUGE[name]
    report = gradcheck(f, vjp, [x])
    assert report.verdict in ("pass", "inconclusive"), report
    assert str(gradcheck(f, vjp, [x])) == str(report)


def test_bad_arguments_are_named() -> None:
    inputs: Any
    for inputs, keywords, message in (
        (1.0, {}, "inputs is 1.0; required: a sequence"),
        ([X], {"differentiable": 0}, "differentiable is 0; required: a sequence of positions"),
        ([X], {"kinks": "left"}, "kinks is 'left'; required: verify.Kinks"),
        ([np.ma.masked_less(X, 0)], {}, "input 0 is a MaskedArray; required: a plain array"),
    ):
        options: Any = keywords
        with pytest.raises(TypeError, match=re.escape(message)):
            gradcheck(np.square, _square_vjp, inputs, **options)
    with pytest.raises(ValueError, match=r"Kinks\.breakpoints fails: division by zero"):
        gradcheck(only_real(np.square), _square_vjp, [X], kinks=Kinks(breakpoints=lambda x, d: 1 / 0))


def test_a_mask_in_a_result_is_not_dropped() -> None:
    report = gradcheck(np.square, lambda dy, x: np.ma.masked_less(dy * 2 * x, 0), [X])
    assert report.verdict == "fail"
    assert "is a MaskedArray; required: an array like the input" in report.reason
    report = gradcheck(lambda x: np.ma.masked_less(x, 0), _square_vjp, [X])
    assert "f returns a MaskedArray; required: plain arrays" in report.reason


def test_clipping_above_the_cotangents_is_found() -> None:
    report = gradcheck(np.square, lambda dy, x: np.clip(dy, -3.9, 3.9) * 2 * x, [X])
    assert report.verdict == "fail"
    assert "is not 2^2 vjp(dy)" in report.reason


def test_a_mistake_beside_an_empty_input_is_found() -> None:
    def vjp(dy: Array, x: Array, e: Array) -> tuple[Array, Array]:
        return dy * 2 * x * (1 + 1e-10), np.full_like(e, dy.sum())

    report = gradcheck(lambda x, e: x * x + e.sum(), vjp, [X, np.empty(0)])
    assert report.verdict == "fail", report


def test_a_transposed_3_by_3_is_no_border() -> None:
    x, w = _generator(0).standard_normal((2, 3)), _generator(1).standard_normal((3, 3))
    report = gradcheck(lambda x, w: x @ w, lambda dy, x, w: (dy @ w.T, (x.T @ dy).T.copy()), [x, w])
    assert report.diagnosis == ("input 1 (w): transposed",)


def test_the_replay_line_has_all_arguments() -> None:
    kinks = Kinks(convention="left")
    report = gradcheck(np.square, _square_vjp, [X, X], differentiable=[0], kinks=kinks, seed=3)
    assert f"inputs, differentiable=[0], kinks={kinks!r}, seed=3)" in str(report)
