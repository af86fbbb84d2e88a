"""Stochastic arithmetic: its spreads are those of the formulas, right code keeps to them, sloppy code not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import refnet
from refnet import OPS
from specs import SPECS, Spec
from tests.candidates import blocked, forms, orders, plain, saved_outputs
from tests.test_bounds import small_examples
from verify.arithmetic.bounds import (
    ELEMENTARY_ULP,
    LAMBDA,
    ErrorBound,
    RoundingModel,
    granted_model,
    vjp_bounds,
)
from verify.arithmetic.certified import certify_each, certify_vjp, in_order
from verify.arithmetic.contracts import DEFAULTS
from verify.arithmetic.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FORMATS, Format, Truth, Values
from verify.arithmetic.stochastic import (
    SAMPLES,
    UNIFORM,
    Arithmetic,
    condition_spreads,
    tolerances,
    value_spreads,
    vjp_spreads,
)
from verify.conformance.due import narrowed
from verify.conformance.judge import judge
from verify.conformance.network import NETWORK_FUNCTIONS, network_spreads, network_trial
from verify.conformance.plan import draw
from verify.conformance.trial import Trial
from verify.laws.examples import Example
from verify.laws.network import flat

Floats = npt.NDArray[np.float64]

MANY = 16384
"""Runs where a spread is compared with a formula: its root mean square is off by 1 / sqrt(2 MANY)."""

SAMPLING_ERROR = LAMBDA / math.sqrt(2 * MANY)

U = FLOAT32.unit_roundoff


def many(seed: int = 0, fmt: Format = FLOAT32) -> Arithmetic:
    model = RoundingModel.of(fmt, statistical=True, flush_to_zero=False)
    return Arithmetic(model, np.random.default_rng(seed), MANY)


def deviation(result: Any) -> Floats:
    if len(result.samples) == 1:
        return np.zeros(result.shape)
    return np.asarray(np.sqrt(np.mean((result.samples[1:] - result.samples[0]) ** 2, axis=0)))


def agree(found: Floats, formula: Any, error: float = SAMPLING_ERROR) -> bool:
    return bool((np.abs(found / formula - 1.0) <= error).all())


# ------------------------------------------------------------------------------------------- known answers


def test_the_spread_of_a_chain_of_products_grows_with_its_root() -> None:
    x: Any = many().read(np.array([1.1, 1.3, 0.7, -2.3], np.float32))
    product = x
    for _ in range(9):
        product = product * x
    expected = U * UNIFORM * math.sqrt(9) * np.abs(product.samples[0])
    assert agree(deviation(product), expected)
    assert not agree(deviation(product), expected * math.sqrt(8 / 9))


@pytest.mark.parametrize("n", [2, 3, 17, 256])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_the_spread_of_a_dot_product(n: int, offset: float) -> None:
    rng = np.random.default_rng(n)
    a, b = (rng.standard_normal(shape) + offset for shape in ((1, n), (n, 1)))
    arithmetic = many(n)
    product: Any = arithmetic.read(a) @ arithmetic.read(b)
    t = a[0] * b[:, 0]
    partial = t.mean() ** 2 * n**3 / 3 + t.var() * n**2 / 2 if n > 2 else t.sum() ** 2
    assert agree(deviation(product), U * math.sqrt((partial + (t * t).sum()) / 3))
    bias = arithmetic.read(np.array([2.5]))
    t = np.append(t, 2.5)
    partial = t.mean() ** 2 * (n + 1) ** 3 / 3 + t.var() * (n + 1) ** 2 / 2
    squares = (t[:-1] ** 2).sum()
    assert agree(deviation(product + bias), U * math.sqrt((partial + squares) / 3))


@pytest.mark.parametrize("seed", range(4))
def test_what_sums_in_turn_are_off_by_is_granted_where_it_is_not_random(seed: int) -> None:
    """Of two numbers over and over, of which many runs would not show it."""
    rng = np.random.default_rng(seed)
    terms = rng.choice(rng.uniform(0.05, 1.0, 2), 16384).astype(np.float32)
    arithmetic = Arithmetic.of(FLOAT32)
    row, ones = arithmetic.read(terms[None]), arithmetic.read(np.ones((16384, 1)))
    exact = math.fsum(terms.astype(np.float64))
    error = max(abs(float(np.cumsum(t)[-1]) - exact) for t in (terms, terms[::-1], np.sort(terms)[::-1]))
    for total in (row.sum(axis=-1), row @ ones):
        (tolerance,) = tolerances([total], FLOAT32)
        assert error <= tolerance.max()


@pytest.mark.parametrize("exponent", [-600, 0, 600])
def test_one_more_term_loses_none_that_are_as_large(exponent: int) -> None:
    """Of whatever size they are: squares of 2^-600 are 0, and those of 2^600 infinite."""
    arithmetic = Arithmetic.of(FLOAT64)
    product: Any = arithmetic.read(np.full((1, 3), np.ldexp(1.0, exponent))) @ np.full((3, 1), 0.7)
    assert not (product + np.ldexp(1.0, exponent)).terms.bias.any()


def test_what_is_kept_and_saturated_loses_nothing_more() -> None:
    model = RoundingModel.of(FLOAT32, statistical=True, flush_to_zero=False, residuals=BFLOAT16)
    arithmetic = Arithmetic(model, np.random.default_rng(0), MANY)
    share: Any = 1.0 / (1.0 + np.exp(-arithmetic.read(np.array([16.0, 1.0]))))
    before, after = deviation(share), deviation(share.saved())
    assert after[0] == before[0]
    assert after[1] > 1000.0 * before[1]


def test_the_spread_of_a_log_sum_exp() -> None:
    """By the derivatives: of each exponential times its own error, of the sum, of the logarithm."""
    x = np.linspace(-1.0, 2.0, 7)
    carried: Any = many().read(x)
    result = np.log(np.add.reduce(np.exp(carried), axis=-1))
    e, k = np.exp(x), ELEMENTARY_ULP
    total, n = e.sum(), len(x)
    of_each = (np.hypot(k["exp"], x) * e / total) ** 2
    of_sum = (e.mean() ** 2 * n**3 / 3 + e.var() * n**2 / 2) / total**2
    of_log = (k["log"] * math.log(total)) ** 2
    assert agree(deviation(result), U * UNIFORM * math.sqrt(of_each.sum() + of_sum + of_log))


def test_what_is_computed_alike_has_the_same_error() -> None:
    """A bound has twice the error of x in a difference that is 0."""
    x: Any = many().read(np.array([1.1, 3.7]))
    once = np.exp(x)
    assert not deviation(once - once).any()
    assert (deviation(once - np.exp(x)) > 0.0).all()


EXACT: Mapping[str, Callable[[Any], Any]] = {
    "a power of two": lambda x: x * 0.25 / 8.0,
    "a choice": lambda x: np.where(x > 0.0, np.maximum(x, 0.5), np.abs(-x)),
    "the largest": lambda x: np.maximum.reduce(x, axis=-1),
    "a sum of one term": lambda x: np.add.reduce(x[..., None], axis=-1),
    "plus 0": lambda x: x + 0.0,
    "another order": lambda x: x.reshape(2, 2).T[::-1].swapaxes(0, 1),
    "a comparison": lambda x: np.where(x > 0.2, x, 0.0),
    "the exponential of 0": lambda x: np.exp(x - x),
    "one bit of a constant": lambda x: x * 2.0**-30,
}
INEXACT: Mapping[str, Callable[[Any], Any]] = {
    "three": lambda x: x * 3.0,
    "a tenth": lambda x: 0.1 + 0.0 * x,
    "a sum of two": lambda x: np.add.reduce(x[:2], axis=-1),
    "a quotient": lambda x: 1.0 / x,
    "an exponential": np.exp,
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_operations_are_exact(name: str) -> None:
    arithmetic = many()
    given = np.array([0.3, -1.7, 2.2, 0.9])
    result = EXACT[name](arithmetic.read(given))
    assert not deviation(result).any()
    assert np.array_equal(result.samples[0], EXACT[name](given))


@pytest.mark.parametrize("name", INEXACT)
def test_other_operations_are_not(name: str) -> None:
    assert (deviation(INEXACT[name](many().read(np.array([0.3, -1.7, 2.2, 0.9])))) > 0.0).all()


def test_half_of_the_runs_flush_subnormal_numbers() -> None:
    arithmetic = Arithmetic.of(FLOAT32)
    read = arithmetic.read(np.array([1e-40, 1.0]))
    assert np.count_nonzero(read.samples[1:, 0] == 0.0) == SAMPLES // 2
    assert (read.samples[:, 1] == 1.0).all()
    assert read.samples[0, 0] > 0.0
    assert len(Arithmetic.of(FLOAT16).read(np.array([1e-40])).samples) == 1


def test_an_underflow_is_absolute_and_leaves_the_sign() -> None:
    x: Any = many().read(np.array([3e-40]))
    half: Any = x * np.exp(many().read(np.array([-5.0])))
    assert (half.samples >= 0.0).all()
    assert deviation(half) >= FLOAT32.smallest_subnormal / 4


def test_what_overflows_the_format_is_infinite_and_undecided() -> None:
    x: Any = Arithmetic.of(FLOAT32).read(np.array([3e38, 1.0], np.float32))
    (tolerance,) = tolerances([x * 3.0], FLOAT32)
    assert np.isinf(tolerance[0])
    assert tolerance[1] < 1e-5


def test_runs_that_disagree_choose_each_for_itself() -> None:
    x: Any = many().read(np.array([0.1, 0.2]))
    near_0 = x * 3.0 - x * 3.0
    sides: Any = near_0 > 0.0
    assert not isinstance(sides, np.ndarray)
    chosen: Any = np.where(sides, 1.0, -1.0)
    assert (np.abs(chosen.samples[1:].mean(axis=0)) < LAMBDA / math.sqrt(MANY)).all()
    places: Any = np.stack([x * 3.0, x * 3.0]).argmax(0)
    assert not isinstance(places, np.ndarray)
    taken: Any = np.take_along_axis(np.stack([x, -x]), places[None], axis=0)
    assert (np.abs(taken.samples[:, 0]) == x.samples[0]).all()
    assert isinstance(x > 0.0, np.ndarray)


def test_a_bit_of_noise_on_either_side_of_a_kink_is_the_whole_jump() -> None:
    """One run of 32 on the other side is enough; well away from the kink there is none."""
    fmt, arithmetic = FLOAT32, Arithmetic.of(FLOAT32)
    third: Any = arithmetic.read(np.array([1.0], np.float32)) / 3.0
    for distance, jump in ((0.0, True), (0.5 * U, True), (64 * U, False)):
        z = third - (1.0 / 3.0 - distance)
        _, residuals = OPS["relu"].forward(z)
        (slope,) = OPS["relu"].backward(residuals, arithmetic.read(np.ones(1, np.float32)))
        (tolerance,) = tolerances([slope], fmt)
        assert bool(tolerance[0] >= 1.0) is jump
    assert LAMBDA / math.sqrt(SAMPLES) > 1.0


def test_a_seed_determines_the_tolerances() -> None:
    x = [np.linspace(-2, 2, 9, dtype=np.float32)]
    first, again, other = (
        value_spreads(OPS["softmax"], SPECS["softmax"], x, {}, FLOAT32, seed=seed)[0] for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_small_result_is_not_granted_the_errors_of_large_ones() -> None:
    x = [np.array([0.0, -0.5, -1.0, -45.0], np.float32)]
    (tolerance,) = value_spreads(OPS["softmax"], SPECS["softmax"], x, {}, FLOAT32)
    y = refnet.softmax(x[0].astype(np.float64))
    assert (tolerance < 2.0**-15 * y).all()


# ------------------------------------------------------------------------------------------- the operators


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_reference_run_is_the_plain_computation(spec: Spec) -> None:
    for number in range(8):
        example = draw(spec, FLOAT64, number, 3)
        carried = Arithmetic.of(FLOAT64).arguments(example.inputs)
        with np.errstate(all="ignore"):
            noisy = OPS[spec.name].forward(*carried, **example.settings)[0]
            plainly = OPS[spec.name].forward(*example.inputs, **example.settings)[0]
        for y, found in zip(in_order(plainly), in_order(noisy), strict=True):
            # sums of strided and of contiguous numbers, and of stacked matrices, are taken in other orders
            scale = np.abs(y[np.isfinite(y)]).max(initial=0.0)
            with np.errstate(all="ignore"):
                apart = np.where(found.samples[0] == y, 0.0, np.abs(found.samples[0] - y))
            assert (apart <= 2.0**-40 * scale).all() or np.isnan(y).any()


def excesses(results: Any, references: Any, granted: Any, fmt: Format) -> tuple[float, int]:
    """The largest error as a multiple of its tolerance, and how many elements are decided."""
    worst, decided = 0.0, 0
    for got, reference, tolerance in zip(in_order(results), references, granted, strict=True):
        with np.errstate(all="ignore"):
            stored = np.asarray(reference).astype(fmt.dtype)
            same = (got == stored) | (np.isnan(got) & np.isnan(stored))
            error = np.abs(np.asarray(got).astype(np.float64) - reference)
            ratio = np.where(same, 0.0, error / tolerance)
        known = np.isfinite(tolerance)
        ratio = np.where(known & np.isnan(ratio), np.inf, np.where(known, ratio, 0.0))
        worst, decided = max(worst, float(ratio.max(initial=0.0))), decided + int(known.sum())
    return worst, decided


def in_float64(x: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(map(in_float64, x))
    return x if x.dtype.kind in "iub" else x.astype(np.float64)


def due(spec: Spec, example: Example, fmt: Format) -> tuple[Any, Any]:
    """The values and the gradients: certified for float64, of a float64 run for the others."""
    x, dy, settings = example.inputs, example.dy, example.settings
    if fmt is not FLOAT64:
        op, wide = OPS[spec.name], in_float64(tuple(x))
        return in_order(op(*wide, **settings)), op.vjp(in_float64(dy), *wide, **settings)
    values = certify_each(spec.definition, x, fmt, settings)
    gradients = certify_vjp(spec.definition, x, spec.differentiable, dy, fmt, settings)
    return tuple(t.nearest for t in values), tuple(t.nearest for t in gradients)


def examples(spec: Spec, fmt: Format, count: int, seed: int) -> Iterator[Example]:
    if fmt is FLOAT64:
        return small_examples(spec, fmt, count, seed)
    return (draw(spec, fmt, number, seed) for number in range(count))


def granted(spec: Spec, example: Example, fmt: Format) -> tuple[Any, Any]:
    about = (example.inputs, example.settings, fmt)
    op = OPS[spec.name]
    return value_spreads(op, spec, *about), vjp_spreads(op, spec, example.dy, *about)


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_reference_lies_within_its_spreads(spec: Spec, fmt: Format) -> None:
    op, decided = OPS[spec.name], 0
    for example in examples(spec, fmt, 8, seed=0):
        x, dy, settings = example.inputs, example.dy, example.settings
        results = op(*x, **settings), op.vjp(dy, *x, **settings)
        for found in zip(results, due(spec, example, fmt), granted(spec, example, fmt), strict=True):
            worst, known = excesses(*found, fmt)
            assert worst <= 1.0
            decided += known
    assert decided > 10


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_an_error_of_a_thousandth_does_not(spec: Spec) -> None:
    """Of every operator some element is granted less than that."""
    convicted = False
    for example in examples(spec, FLOAT32, 4, seed=0):
        values, _ = due(spec, example, FLOAT32)
        for y, tolerance in zip(values, granted(spec, example, FLOAT32)[0], strict=True):
            wrong = np.asarray(y * (1.0 + 1e-3))
            convicted |= excesses(wrong, (y,), (tolerance,), FLOAT32)[0] > 1.0
    assert convicted


HONEST: dict[str, Any] = {
    "plain": plain,
    "saved outputs": saved_outputs,
    "blocked": blocked,
    **{
        f"sums {total.__name__}": orders.Orders(total)
        for total in (orders.in_turn, orders.from_the_end, orders.in_pairs, orders.at_once)
    },
}
CANDIDATES: dict[str, tuple[str, Callable[..., Any]]] = {
    **{
        f"{name}: {op}{suffix}": (op + suffix, getattr(module, op + suffix))
        for name, module in HONEST.items()
        for op in OPS
        for suffix in ("", "_vjp")
        if hasattr(module, op + suffix)
    },
    **forms.FORMS,
}


@pytest.mark.parametrize("name", CANDIDATES)
def test_honest_code_of_others_lies_within_the_spreads(name: str) -> None:
    place, function = CANDIDATES[name]
    spec, is_vjp = SPECS[place.removesuffix("_vjp")], place.endswith("_vjp")
    judged = 0
    for example in examples(spec, FLOAT32, 24, seed=1):
        x, settings = [a.copy() for a in example.inputs], example.settings
        if x[0].size > 1024:
            continue  # of so many terms one given order may be worse than the average of all
        if name in forms.FORMS and (settings != spec.defaults or x[0].ndim != 2):
            continue  # of rows, and of the defaults alone
        with np.errstate(all="ignore"):
            got = (
                function(example.dy, *x, **_known(name, settings))
                if is_vjp
                else function(*x, **_known(name, settings))
            )
        worst, known = excesses(
            got, due(spec, example, FLOAT32)[is_vjp], granted(spec, example, FLOAT32)[is_vjp], FLOAT32
        )
        assert worst <= 1.0
        judged += known
    assert judged > 3


def _known(name: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    return {} if name in forms.FORMS else settings


def test_a_form_is_covered_and_would_not_be_without() -> None:
    """log(1 - p) in place of log1p(-p) loses digits that refnet keeps."""
    spec, x = SPECS["binary_cross_entropy"], [np.full(4, 1e-6, np.float32), np.zeros(4, np.float32)]
    settings = {"reduction": "none"}
    with_form = value_spreads(OPS[spec.name], spec, x, settings, FLOAT32)[0]
    without = value_spreads(OPS[spec.name], _without_forms(spec), x, settings, FLOAT32)[0]
    got = -np.log(np.float32(1) - x[0])
    truth = -np.log1p(-x[0].astype(np.float64))
    assert (np.abs(got - truth) < with_form).all()
    assert (np.abs(got - truth) > without).all()


def _without_forms(spec: Spec) -> Spec:
    return replace(spec, forms=())


def test_a_half_format_keeps_what_it_stores() -> None:
    """A derivative from an output that was kept in 16 bits is granted the rounding of it."""
    x, dy = [np.array([0.5, -2.0], np.float16)], np.ones(2, np.float16)
    spec = SPECS["tanh"]
    with_form = vjp_spreads(OPS["tanh"], spec, dy, x, {}, FLOAT16)[0]
    without = vjp_spreads(OPS["tanh"], _without_forms(spec), dy, x, {}, FLOAT16)[0]
    assert with_form[1] > 2.0 * without[1]


# ---------------------------------------------------------------------------------------------- layer norm


def normal_rows(ratio: float, seed: int) -> list[Values]:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((8, 64)) + ratio).astype(np.float32)
    gamma, beta = (rng.standard_normal(64).astype(np.float32) for _ in range(2))
    return [x, gamma, beta]


def _centred(x: Values, gamma: Values, beta: Values) -> Values:
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(
        gamma * (centred / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(1e-5))) + beta
    )


def _one_pass(x: Values, gamma: Values, beta: Values) -> Values:
    mean = x.mean(-1, keepdims=True)
    variance = np.maximum((x * x).mean(-1, keepdims=True) - mean * mean, 0)
    return np.asarray(gamma * ((x - mean) / np.sqrt(variance + np.float32(1e-5))) + beta)


@pytest.mark.parametrize("ratio", [10.0, 100.0, 1000.0])
def test_a_variance_in_one_pass_does_not_pass_where_the_mean_is_large(ratio: float) -> None:
    spec, op = SPECS["layer_norm"], OPS["layer_norm"]
    for seed in range(4):
        x = normal_rows(ratio, seed)
        truth, tolerance = op(*in_float64(tuple(x))), value_spreads(op, spec, x, {}, FLOAT32)
        assert excesses(_centred(*x), (truth,), tolerance, FLOAT32)[0] <= 1.0
        if ratio >= 100.0:
            assert excesses(_one_pass(*x), (truth,), tolerance, FLOAT32)[0] > 1.0


def _statistics(x: Values) -> tuple[Values, Values]:
    mean = x.mean(-1, keepdims=True)
    return mean, 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + np.float32(1e-5))


def _backward_centred(dy: Values, x: Values, gamma: Values) -> Values:
    mean, inverse = _statistics(x)
    z, g = (x - mean) * inverse, dy * gamma
    return np.asarray(inverse * (g - g.mean(-1, keepdims=True) - z * (g * z).mean(-1, keepdims=True)))


def _backward_uncentred(dy: Values, x: Values, gamma: Values) -> Values:
    """dx = inverse g + b x + c, as in PyTorch's kernel."""
    mean, inverse = _statistics(x)
    g, n = dy * gamma, np.float32(x.shape[-1])
    ds, db = (g * x).sum(-1, keepdims=True), g.sum(-1, keepdims=True)
    b = (db * mean - ds) * inverse * inverse * inverse / n
    return np.asarray(inverse * g + b * x + (-b * mean - db * inverse / n))


def layer_norm_backward_excess(backward: Callable[..., Values], spec: Spec, seed: int) -> float:
    x, op = normal_rows(100.0, seed), OPS["layer_norm"]
    dy = np.random.default_rng(seed + 100).standard_normal((8, 64)).astype(np.float32)
    truth = op.vjp(in_float64(dy), *in_float64(tuple(x)))[:1]
    tolerance = vjp_spreads(op, spec, dy, x, {}, FLOAT32)[:1]
    return excesses(backward(dy, x[0], x[1]), truth, tolerance, FLOAT32)[0]


def test_an_uncentred_backward_is_told_from_a_centred_one() -> None:
    """From those that subtract the mean first. The form of the spec that does not is just as far off, and
    where that is granted the other is; a bound cannot tell them even without it."""
    spec, op = SPECS["layer_norm"], OPS["layer_norm"]
    (centred,) = (form for form in spec.forms if form.used_by == "JAX")
    strict, seeds = replace(spec, forms=(centred,)), range(4)
    assert max(layer_norm_backward_excess(_backward_centred, strict, seed) for seed in seeds) <= 1.0
    assert max(layer_norm_backward_excess(_backward_uncentred, strict, seed) for seed in seeds) > 1.0
    assert max(layer_norm_backward_excess(_backward_uncentred, spec, seed) for seed in seeds) <= 1.0
    x, dy = normal_rows(100.0, 0), np.ones((8, 64), np.float32)
    bound = vjp_bounds(op, strict, dy, x, {}, FLOAT32)[0].statistical
    assert np.median(bound / vjp_spreads(op, strict, dy, x, {}, FLOAT32)[0]) > 8.0


# ------------------------------------------------------------------------------------------------ networks

SIZES, BATCH = (64, 128, 128, 10), 32


def network(seed: int) -> Trial:
    rng = np.random.default_rng(seed)
    params = [
        (
            (rng.standard_normal((k, m)) * math.sqrt(2.0 / k)).astype(np.float32),
            (rng.standard_normal(m) / 8.0).astype(np.float32),
        )
        for k, m in pairwise(SIZES)
    ]
    x = rng.standard_normal((BATCH, SIZES[0])).astype(np.float32)
    return Trial(0, "value", (params, x, rng.integers(SIZES[-1], size=BATCH)), {}, (), (), {})


def same(x: Values) -> Values:
    return x


def to_tf32(x: Values) -> Values:
    """Ten bits of the mantissa: thirteen are rounded off."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    return np.asarray(((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32))


def plain_gradients(
    params: Any, x: Values, labels: Values, operand: Callable[[Values], Values]
) -> list[Values]:
    """w, b of each layer; the operands of the products of the backward as they are read."""
    entering, z = [x], x
    for k, (w, b) in enumerate(params):
        z = entering[-1] @ w + b
        if k + 1 < len(params):
            entering.append(np.maximum(z, np.float32(0)))
    e = np.exp(z - z.max(axis=1, keepdims=True))
    slope = e / e.sum(axis=1, keepdims=True)
    slope[np.arange(len(x)), labels] -= np.float32(1)
    slope /= np.float32(len(x))
    found: list[Values] = []
    for k in range(len(params) - 1, -1, -1):
        found = [operand(entering[k].T) @ operand(slope), slope.sum(axis=0), *found]
        slope = (operand(slope) @ operand(params[k][0].T)) * (entering[k] > 0)
    return found


def exact_gradients(trial: Trial) -> list[Values]:
    params, x, labels = trial.arguments
    wide = [(w.astype(np.float64), b.astype(np.float64)) for w, b in params]
    return flat(refnet.mlp_gradients(wide, x.astype(np.float64), labels))


@pytest.mark.parametrize("seed", range(3))
def test_the_gradients_of_a_deep_network_are_judged_narrowly(seed: int) -> None:
    trial = network(seed)
    granted = network_spreads(NETWORK_FUNCTIONS["mlp_gradients"], trial, FLOAT32)
    truth = exact_gradients(trial)

    def worst(operand: Callable[[Values], Values]) -> list[float]:
        params, x, labels = trial.arguments
        got = plain_gradients(params, x, labels, operand)
        return [
            excesses(g, (due,), (tolerance,), FLOAT32)[0]
            for g, due, tolerance in zip(got, truth, granted, strict=True)
        ]

    assert all(0.005 <= ratio <= 0.7 for ratio in worst(same))
    *of_products, of_the_last_bias = worst(to_tf32)
    assert min(of_products) > 100.0
    assert of_the_last_bias <= 0.7  # the sum of the slopes of the loss: no product is in it


@pytest.mark.parametrize("fmt", [FLOAT32, FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize("name", NETWORK_FUNCTIONS)
def test_the_reference_network_lies_within_its_spreads(name: str, fmt: Format) -> None:
    wanted = NETWORK_FUNCTIONS[name]
    for case in range(10):
        trial = network_trial(name, fmt, case, 0)
        with np.errstate(all="ignore"):
            truth = [y.samples[0] for y in wanted.bounded(trial, Arithmetic.of(fmt).read)]
        got: Any = wanted.reference(*trial.arguments, **trial.settings)
        results = (got,) if isinstance(got, np.ndarray) else tuple(flat(got))
        worst, decided = excesses(results, truth, network_spreads(wanted, trial, fmt), fmt)
        assert worst <= 1.0
        assert decided == sum(y.size for y in results)


# ------------------------------------------------------------------------------- what the problem permits


def test_what_the_problem_permits_is_the_condition_of_a_function() -> None:
    """|x f'(x)| u of one input, the ulps of an exponential, and the rounding of the result."""
    x = np.array([0.5, -3.0, 20.0], np.float32)
    (found,) = condition_spreads(OPS["sigmoid"], SPECS["sigmoid"], [x], {}, FLOAT32)
    wide = x.astype(np.float64)
    s = 1.0 / (1.0 + np.exp(-wide))
    expected = U * np.abs(wide) * s * (1.0 - s) + (2.0 * ELEMENTARY_ULP["exp"] + 1.0) * U * s
    assert agree(found, expected, 2.0**-16)


def test_a_difference_of_a_saved_output_is_not_as_accurate_as_the_problem_permits() -> None:
    """1 - tanh(x)^2 at x = 6 has four digits left; both gradients are within what a verdict grants."""
    spec, op, x, dy = SPECS["tanh"], OPS["tanh"], [np.full(4, 6.0, np.float32)], np.ones(4, np.float32)
    truth = op.vjp(in_float64(dy), *in_float64(tuple(x)))
    permitted = condition_spreads(op, spec, x, {}, FLOAT32, dy)
    usual = vjp_spreads(op, spec, dy, x, {}, FLOAT32)
    from_output = saved_outputs.tanh_vjp(dy, *x)
    assert excesses(op.vjp(dy, *x), truth, permitted, FLOAT32)[0] <= 1.0
    assert excesses(from_output, truth, permitted, FLOAT32)[0] > 1.0
    assert excesses(from_output, truth, usual, FLOAT32)[0] <= 1.0


def test_a_model_without_roundings_has_no_spread() -> None:
    x = [np.linspace(-2, 2, 9, dtype=np.float32)]
    model = RoundingModel(0.0, 0.0, statistical=True, fmt=FLOAT32)
    y = refnet.softmax(x[0].astype(np.float64))
    (tolerance,) = value_spreads(OPS["softmax"], SPECS["softmax"], x, {}, FLOAT32, model=model)
    assert agree(tolerance, U * y, 2.0**-20)
    usual = value_spreads(
        OPS["softmax"], SPECS["softmax"], x, {}, FLOAT32, model=granted_model(FLOAT32, statistical=True)
    )
    assert (usual[0] > tolerance).all()


def test_a_spread_among_subnormal_numbers_narrows_nothing() -> None:
    """What flushes is granted as much as the bound says, in float64 too, which has no smaller numbers."""
    wide, spread = np.array([8e-307]), np.array([5e-324])
    bound = narrowed(ErrorBound(wide, wide), spread, DEFAULTS["float64"])
    assert judge(np.array([0.0]), Truth.exactly(np.array([1e-323])), bound, FLOAT64).verdict.value == "pass"


@pytest.mark.parametrize(
    ("error", "verdict"), [(1e-5, "pass"), (1e-2, "suspect"), (1.0, "fail"), (math.nan, "fail")]
)
def test_where_no_bound_is_finite_what_roundings_do_together_is_the_limit(error: float, verdict: str) -> None:
    """sqrt(n) times what they do at random, for n up to 2^24: 4096 times 1e-4."""
    unknown, spread = np.array([np.nan]), np.array([1e-4])
    bound = narrowed(ErrorBound(unknown, unknown), spread, DEFAULTS["float32"])
    due = np.array([7.5], np.float32)
    found = judge(due + np.float32(error), Truth.exactly(due), bound, FLOAT32)
    assert found.verdict.value == verdict
