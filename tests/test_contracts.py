"""Contracts: what each promises, that each is told from the next, and that a judgement follows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from refnet import OPS
from specs import SPECS
from tests.candidates import narrow_residuals
from tests.candidates.parts import in_bfloat16
from verify import Verdict, check
from verify.arithmetic.bounds import SLACK, ErrorBound, value_bounds, vjp_bounds
from verify.arithmetic.certified import in_order
from verify.arithmetic.contracts import DEFAULTS, LADDERS, TF32, Contract, promised
from verify.arithmetic.formats import FLOAT16, FLOAT32, FORMATS, Format, Truth
from verify.conformance import UsageError
from verify.conformance.contract import Call
from verify.conformance.grades import BEYOND_LUCK, strictest
from verify.conformance.plan import draw
from verify.conformance.trial import Attempt, Expected, Task, Trial
from verify.reports import Outcome

Array = Any

# ------------------------------------------------------------------------------------------------- ladders


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("op", ["sigmoid", "softmax", "linear", "layer_norm", "gelu", "mse", "adam_step"])
def test_what_a_contract_grants_a_looser_one_grants(op: str, dtype: str) -> None:
    """To within the final rounding, which a wider computation may need where the format itself rounds
    nothing, and what may be flushed. Of ordinary numbers: there are forms that overflow in a narrow format,
    and in a wide one lose all digits instead."""
    spec, grown = SPECS[op], 0
    for number in (0, 8, 16):
        example = draw(spec, FORMATS[dtype], number, seed=0)
        x, settings = example.inputs, example.settings
        assert example.regime == "normal"
        results = (*in_order(OPS[op](*x, **settings)), *OPS[op].vjp(example.dy, *x, **settings))
        bounds = [
            (
                *value_bounds(OPS[op], spec, x, settings, rung),
                *vjp_bounds(OPS[op], spec, example.dy, x, settings, rung),
            )
            for rung in LADDERS[dtype]
        ]
        for strict, loose in pairwise(bounds):
            for a, b, y in zip(strict, loose, results, strict=True):
                once = rounding(np.asarray(y), FORMATS[dtype])
                unknown = np.isnan(b.deterministic)  # 0 times infinity: of a variance that may be 0
                assert ((a.deterministic <= b.deterministic * SLACK + once) | unknown).all()
                grown += int((a.deterministic + once < b.deterministic).sum())
    assert grown > 0 or dtype == "float64"


def rounding(y: Array, fmt: Format) -> Array:
    return 1.01 * fmt.unit_roundoff * np.abs(y.astype(np.float64)) + 2.0 * fmt.smallest_normal


def test_the_default_is_a_rung_of_the_ladder() -> None:
    for dtype, default in DEFAULTS.items():
        assert default in LADDERS[dtype]


def test_the_words_say_what_is_promised() -> None:
    assert all(len({rung.text for rung in ladder}) == len(ladder) for ladder in LADDERS.values())
    assert LADDERS["float16"][0].text == "float32 inside, one final rounding; subnormal numbers kept"
    assert "operands of products in tf32" in LADDERS["float32"][3].text
    assert "the result that the backward keeps in bfloat16" in LADDERS["bfloat16"][2].text
    assert "what the backward keeps in bfloat16" in LADDERS["bfloat16"][3].text


# ----------------------------------------------------------------------------------- telling one from another


def flushed(function: Callable[..., Any]) -> Callable[..., Any]:
    """With subnormal numbers read and stored as 0, as XLA does."""

    def flush(x: Array) -> Array:
        return np.where(np.abs(x) < np.finfo(x.dtype).smallest_normal, x.dtype.type(0.0), x)

    def wrapped(*inputs: Array, **settings: Any) -> Any:
        results = function(*map(flush, inputs), **settings)
        return tuple(map(flush, results)) if isinstance(results, tuple) else flush(results)

    return wrapped


def widened(function: Callable[..., Array]) -> Callable[..., Array]:
    """Computed in float64, and rounded once."""
    return lambda *inputs, **settings: np.asarray(
        function(*(x.astype(np.float64) for x in inputs), **settings)
    ).astype(inputs[0].dtype)


def in_tf32(x: Array) -> Array:
    """The operand as a tensor core reads it: rounded to 11 bits."""
    bits = x.view(np.uint32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)).view(np.float32)


def sigmoid(x: Array) -> Array:
    """In the dtype of x throughout; ml_dtypes and NumPy's float16 round every operation."""
    one = x.dtype.type(1.0)
    decay = np.exp(-np.abs(x))
    return np.where(x < 0, decay, one) / (one + decay)


def through_float32(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda x: np.asarray(function(x.astype(np.float32))).astype(x.dtype)


def layer_norm_vjp(dy: Array, x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> Any:
    """From the normalised x, which has been rounded to the format."""
    wide, dz = x.astype(np.float32), dy.astype(np.float32) * gamma.astype(np.float32)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    sigma = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(eps))
    kept = (centred / sigma).astype(x.dtype).astype(np.float32)
    dx = dz - dz.mean(axis=-1, keepdims=True) - kept * (dz * kept).mean(axis=-1, keepdims=True)
    rows = tuple(range(x.ndim - 1))
    gradients = (
        dx / sigma,
        (dy.astype(np.float32) * kept).sum(axis=rows),
        dy.astype(np.float32).sum(axis=rows),
    )
    return tuple(gradient.astype(x.dtype) for gradient in gradients)


def linear(x: Array, w: Array, b: Array) -> Array:
    return x @ w + b


def outcome(
    aspect: str, op: str, dtype: str, functions: dict[str, Any], contract: tuple[str, ...] = ()
) -> Outcome:
    report = check(SimpleNamespace(**functions), ops=[op], dtypes=[dtype], contract=contract, level="smoke")
    return next(o for o in report.outcomes if o.aspect == aspect)


RUNGS = (
    ("float32", "linear", widened(linear), LADDERS["float32"][0]),
    ("float32", "linear", linear, LADDERS["float32"][1]),
    ("float32", "linear", flushed(linear), LADDERS["float32"][2]),
    ("float32", "linear", lambda x, w, b: flushed(linear)(in_tf32(x), in_tf32(w), b), LADDERS["float32"][3]),
    (
        "float32",
        "linear",
        lambda x, w, b: linear(in_bfloat16(x), in_bfloat16(w), b),
        LADDERS["float32"][4],
    ),
    ("float64", "tanh", np.tanh, LADDERS["float64"][0]),
    ("float64", "tanh", flushed(np.tanh), LADDERS["float64"][1]),
    ("float16", "sigmoid", through_float32(sigmoid), LADDERS["float16"][1]),
    ("float16", "sigmoid", sigmoid, LADDERS["float16"][3]),
    ("bfloat16", "tanh", through_float32(np.tanh), LADDERS["bfloat16"][1]),
    ("bfloat16", "tanh", through_float32(flushed(np.tanh)), LADDERS["bfloat16"][2]),
    ("bfloat16", "sigmoid", sigmoid, LADDERS["bfloat16"][4]),
)


@pytest.mark.parametrize(("dtype", "op", "function", "rung"), RUNGS, ids=lambda value: None)
def test_the_strictest_contract_that_holds_is_reported(
    dtype: str, op: str, function: Callable[..., Array], rung: Contract
) -> None:
    value = outcome("value", op, dtype, {op: function})
    assert value.keeps == rung.text
    default = LADDERS[dtype].index(DEFAULTS[dtype])
    granted = LADDERS[dtype].index(rung) <= default
    assert value.verdict is (Verdict.PASS if granted else Verdict.FAIL)
    if not granted:
        (diagnosis,) = value.diagnosis
        assert diagnosis.mistake == "another-contract"
        assert rung.text in diagnosis.summary


@pytest.mark.parametrize("op", ["relu", "sigmoid", "gelu", "softmax", "mse", "layer_norm", "linear"])
def test_kept_is_never_said_of_what_is_flushed(op: str) -> None:
    """Where no case has a subnormal number, flushing does not show, and what does not show is not claimed."""
    functions = {op: flushed(OPS[op].__call__), f"{op}_vjp": flushed(OPS[op].vjp)}
    report = check(SimpleNamespace(**functions), ops=[op], dtypes=["float32"])
    promises = {o.aspect: o.keeps for o in report.outcomes if o.aspect in ("value", "vjp")}
    assert set(promises) == {"value", "vjp"}
    assert not any("subnormal numbers kept" in each for each in promises.values()), promises


def test_a_contract_is_claimed_only_where_some_case_tells_it_from_the_next() -> None:
    """Of one and the same result: an exact sum tells nothing of the arithmetic, a subnormal one does."""
    ladder = LADDERS["float32"][:4]
    task = Task("f", OPS["relu"], {}, confirmed=False)

    def kept_by(result: float, errors: Sequence[float], results: int = BEYOND_LUCK) -> Contract | None:
        """Results are right; `errors` is what each contract grants."""
        y = np.full(results, result, np.float32)
        bounds = {
            rung: ErrorBound(np.array([e]), np.array([e])) for rung, e in zip(ladder, errors, strict=True)
        }
        trial = Trial(0, "value", (y,), {}, ("y",), (y.shape,), {"x": y})
        attempts = [Attempt(trial, Call((y,), "", "", (), ""))]
        return strictest(attempts, task, lambda rung, _: [Expected(Truth.exactly(y), bounds[rung])], ladder)

    tiny = FLOAT32.smallest_normal
    assert kept_by(1.0, (0.0, 0.0, 0.0, 0.0)) == ladder[2]
    assert kept_by(1.0, (0.0, 1e-6, 1e-6 + tiny, 1e-3)) == ladder[0]
    assert kept_by(1.0, (0.0, 1e-6, 1e-6 + tiny, 1e-3), results=3) == ladder[2]  # by luck
    assert kept_by(1.0, (1e-6, 1e-6, 1e-6 + tiny, 1e-3)) == ladder[2]
    assert kept_by(2.0**-140, (0.0, 0.0, tiny, tiny)) == ladder[1]


def test_a_backward_may_promise_to_keep_less() -> None:
    functions = {"layer_norm_vjp": layer_norm_vjp}
    assert outcome("vjp", "layer_norm", "float16", functions).verdict is Verdict.FAIL
    granted = outcome("vjp", "layer_norm", "float16", functions, ("saved=float16",))
    assert granted.verdict is Verdict.PASS
    assert granted.keeps == LADDERS["float16"][2].text


def sigmoid_vjp(dy: Array, x: Array) -> Array:
    """In float32, from the result."""
    y = through_float32(sigmoid)(x).astype(np.float32)
    return (dy.astype(np.float32) * (y * (1 - y))).astype(x.dtype)


def tanh_vjp(dy: Array, x: Array) -> Array:
    y = through_float32(np.tanh)(x).astype(np.float32)
    return (dy.astype(np.float32) * (1 - y * y)).astype(x.dtype)


def softmax_vjp(dy: Array, x: Array, *, axis: int = -1) -> Array:
    exponentials = np.exp(x.astype(np.float32) - x.astype(np.float32).max(axis=axis, keepdims=True))
    p = (exponentials / exponentials.sum(axis=axis, keepdims=True)).astype(x.dtype).astype(np.float32)
    g = dy.astype(np.float32)
    return (p * (g - (g * p).sum(axis=axis, keepdims=True))).astype(x.dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("vjp", [sigmoid_vjp, tanh_vjp, softmax_vjp])
def test_by_default_a_half_format_keeps_the_result_as_it_is_stored_and_nothing_else(
    vjp: Callable[..., Array], dtype: str
) -> None:
    op = vjp.__name__.removesuffix("_vjp")
    default, promised = (
        outcome("vjp", op, dtype, {vjp.__name__: vjp}, contract) for contract in ((), ("saved=float32",))
    )
    assert (default.verdict, promised.verdict) == (Verdict.PASS, Verdict.FAIL)
    assert f"the result that the backward keeps in {dtype}" in default.keeps


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_who_promises_to_keep_float32_may_keep_it(dtype: str) -> None:
    def vjp(dy: Array, x: Array) -> Array:
        y = sigmoid(x.astype(np.float32))
        return (dy.astype(np.float32) * (y * (1 - y))).astype(x.dtype)

    kept = outcome("vjp", "sigmoid", dtype, {"sigmoid_vjp": vjp}, ("saved=float32",))
    assert kept.verdict is Verdict.PASS
    assert kept.keeps == LADDERS[dtype][0].text


def layer_norm_vjp_from_bfloat16(dy: Array, x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> Any:
    """From the normalised x and 1 / sigma in bfloat16; the mean of dz is not subtracted from it first."""

    centred, dz = x - x.mean(axis=-1, keepdims=True), dy * gamma
    sigma = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(eps))
    z, inverse = in_bfloat16(centred / sigma), in_bfloat16(1 / sigma)
    dx = inverse * (dz - dz.mean(axis=-1, keepdims=True) - z * (dz * z).mean(axis=-1, keepdims=True))
    rows = tuple(range(x.ndim - 1))
    return dx, (dy * z).sum(axis=rows), dy.sum(axis=rows)


@pytest.mark.parametrize("seed", [0, 3])
def test_what_is_saved_may_be_used_by_any_form(seed: int) -> None:
    target = SimpleNamespace(layer_norm_vjp=layer_norm_vjp_from_bfloat16)
    verdicts = []
    for contract in ([], ["saved=bfloat16"]):
        report = check(target, ops=["layer_norm"], dtypes=["float32"], seed=seed, contract=contract)
        verdicts += [o.verdict for o in report.outcomes if o.aspect == "vjp"]
    assert verdicts == [Verdict.FAIL, Verdict.PASS]


NARROW = sorted(name for name in vars(narrow_residuals) if name.endswith("_vjp"))


@pytest.mark.parametrize("name", NARROW)
def test_what_is_saved_is_the_result_too_and_whatever_a_form_keeps(name: str) -> None:
    op, functions = name.removesuffix("_vjp"), {name: vars(narrow_residuals)[name]}
    verdicts = {
        contract: outcome("vjp", op, "float32", functions, contract).verdict
        for contract in ((), ("saved=float16",), ("saved=bfloat16",))
    }
    assert list(verdicts.values()) == [Verdict.FAIL, Verdict.FAIL, Verdict.PASS]


@pytest.mark.parametrize("seed", [2, 5])
@pytest.mark.parametrize("name", NARROW)
def test_so_it_is_at_other_seeds(name: str, seed: int) -> None:
    op, target = name.removesuffix("_vjp"), SimpleNamespace(**{name: vars(narrow_residuals)[name]})
    contract = ["saved=bfloat16"]
    report = check(target, ops=[op], dtypes=["float32"], contract=contract, level="smoke", seed=seed)
    assert not report.exit_code()


@pytest.mark.parametrize(
    ("op", "slope"),
    [("silu", 0.0), ("mish", 0.0), ("gelu", 0.0), ("tanh", 1.0 / 256.0), ("sigmoid", 1.0 / 512.0)],
)
def test_what_is_saved_without_a_loss_excuses_nothing(op: str, slope: float) -> None:
    """A wrong slope where what is kept is saturated: 1 is a number of every format."""

    def vjp(dy: Array, x: Array, **settings: Any) -> Array:
        return np.where(x > 20.0, dy * x.dtype.type(slope), OPS[op].vjp(dy, x, **settings)[0])

    assert outcome("vjp", op, "float32", {f"{op}_vjp": vjp}, ("saved=bfloat16",)).verdict is Verdict.FAIL


# ------------------------------------------------------------------------------------------- what is promised


@pytest.mark.parametrize(
    ("dtype", "contract", "op", "function", "without", "under"),
    [
        ("float16", "inside=float16", "sigmoid", sigmoid, Verdict.FAIL, Verdict.PASS),
        ("float32", "subnormals=kept", "linear", flushed(linear), Verdict.PASS, Verdict.FAIL),
        ("float32", "inside=float64", "linear", linear, Verdict.PASS, Verdict.FAIL),
        (
            "float16",
            "subnormals=flushed",
            "tanh",
            flushed(through_float32(np.tanh)),
            Verdict.FAIL,
            Verdict.PASS,
        ),
        (
            "float32",
            "products=tf32",
            "linear",
            lambda x, w, b: linear(in_tf32(x), in_tf32(w), b),
            Verdict.FAIL,
            Verdict.PASS,
        ),
        (
            "float32",
            "variant=reference",
            "hard_sigmoid",
            lambda x: np.clip(x * np.float32(0.2) + np.float32(0.5), 0, 1),
            Verdict.PASS,
            Verdict.FAIL,
        ),
        (
            "float32",
            "variant=slope-one-fifth",
            "hard_sigmoid",
            OPS["hard_sigmoid"].__call__,
            Verdict.PASS,
            Verdict.FAIL,
        ),
    ],
)
def test_a_promise_is_what_is_judged(
    dtype: str, contract: str, op: str, function: Callable[..., Array], without: Verdict, under: Verdict
) -> None:
    assert outcome("value", op, dtype, {op: function}).verdict is without
    assert outcome("value", op, dtype, {op: function}, (contract,)).verdict is under


def test_special_values_may_be_left_out() -> None:
    """silu by x times sigmoid(x) is NaN at minus infinity, and right at every number."""

    def silu(x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(x * sigmoid(x))

    assert outcome("contract:special-values", "silu", "float32", {"silu": silu}).verdict is Verdict.FAIL
    report = check(SimpleNamespace(silu=silu), ops=["silu"], dtypes=["float32"], contract=["specials=any"])
    assert not report.exit_code()


def test_a_failure_is_replayed_under_its_contract() -> None:
    failed = outcome("value", "linear", "float32", {"linear": linear}, ("inside=float64",))
    assert "contract=['inside=float64']" in failed.replay


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("inside", "NAME=VALUE, with NAME one of inside, saved, products, subnormals, specials, variant"),
        ("outside=float32", "NAME=VALUE, with NAME one of"),
        ("inside=float8", "there is no such format. It is one of float64, float32, float16, bfloat16"),
        ("products=int8", "there is no such format. It is one of tf32, float64"),
        ("subnormals=maybe", "it is flushed or kept"),
        ("specials=", "it is required or any"),
        ("variant=", "it is the name of a convention"),
        ("variant=softplux", "none of the operators has such a variant"),
        ("variant=tanh-approximation", "none of the operators has such a variant"),
    ],
)
def test_what_cannot_be_promised_is_refused(option: str, text: str) -> None:
    with pytest.raises(UsageError, match=text.replace("(", r"\(")):
        check(SimpleNamespace(relu=OPS["relu"].__call__), ops=["relu"], contract=[option])


@pytest.mark.parametrize(
    ("promises", "text"),
    [
        (["inside=float16", "inside=float64"], "inside is promised twice: float16 and float64"),
        ("inside=float16", "promises are a list of strings"),
    ],
)
def test_promises_are_a_list_and_each_is_made_once(promises: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        check(SimpleNamespace(relu=OPS["relu"].__call__), ops=["relu"], contract=promises)


def test_the_last_rounding_is_granted_half_an_ulp_and_no_more() -> None:
    """The wrong one of two neighbours is up to 1 ulp off, and u |y| may be as much."""

    def wrong_neighbour(x: Array) -> Array:
        exact = 1.0 / (1.0 + np.exp(-x.astype(np.float64)))
        y = exact.astype(np.float16)
        other = np.nextafter(y, np.where(y < exact, np.float16(np.inf), np.float16(-np.inf)))
        return np.where(np.abs(other - exact) < 0.999 * FLOAT16.unit_roundoff * exact, other, y)

    assert outcome("value", "sigmoid", "float16", {"sigmoid": wrong_neighbour}).verdict is Verdict.FAIL


def test_the_order_of_promises_does_not_matter() -> None:
    one = promised(["saved=float16", "inside=float32"], FLOAT16)
    assert one == promised(["inside=float32", "saved=float16"], FLOAT16)
    assert one == Contract.within(FLOAT16, FLOAT32, flush=False).keeping(FLOAT16)


def test_tf32_has_the_range_of_float32_and_the_precision_of_float16() -> None:
    assert (TF32.precision, TF32.emin, TF32.emax) == (FLOAT16.precision, FLOAT32.emin, FLOAT32.emax)
