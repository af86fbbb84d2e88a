"""The judging of foreign implementations: how they are found, called, judged, and reported."""

from __future__ import annotations

import json
import math
import re
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest
from rich.console import Console

import refnet
from refnet import OPS
from specs import SPECS, Spec
from tests.candidates import networks, plain, shapes
from verify.arithmetic.bounds import ErrorBound
from verify.arithmetic.certified import Undecided
from verify.arithmetic.contracts import contract_of
from verify.arithmetic.formats import FLOAT32, FLOAT64, FORMATS, Truth
from verify.conformance import TargetError, UsageError, assert_conforms, check, operators, plan
from verify.conformance.check import DTYPES, select
from verify.conformance.judge import Judgement, judge
from verify.conformance.network import CASES, NETWORK_FUNCTIONS, expect_network, network_trial
from verify.conformance.network_laws import LAWS_OF
from verify.conformance.operators import LAW_CASES
from verify.conformance.plan import LEVELS, draw, settings_of
from verify.conformance.trial import Attempt, Expected, Task, Trial, attempt, findings_of
from verify.laws.examples import REGIMES, Example
from verify.laws.network_laws import NETWORK_LAWS
from verify.reports import Outcome, Report, Verdict, from_json, print_report, to_json
from verify.reports.json_report import load_schema

FAIL, PASS, SUSPECT = Verdict.FAIL, Verdict.PASS, Verdict.SUSPECT
INCONCLUSIVE, NOT_RUN = Verdict.INCONCLUSIVE, Verdict.NOT_RUN


def outcome(report: Report, op: str, aspect: str, dtype: str = "float64") -> Outcome:
    (found,) = [o for o in report.outcomes if (o.op, o.aspect, o.dtype) == (op, aspect, dtype)]
    return found


def quick(op: str, function: Any, vjp: Any = None, **more: Any) -> Report:
    functions = {op: function} | ({} if vjp is None else {f"{op}_vjp": vjp})
    return check(SimpleNamespace(**functions), ops=[op], level="smoke", **more)


# ---------------------------------------------------------------------------------------- the reference


def test_everything_is_checked_unless_it_is_restricted() -> None:
    assert {*select(None, None, "smoke", 0, None).ops} == {*SPECS, *NETWORK_FUNCTIONS}


def test_a_variant_is_recognised_in_bfloat16_too() -> None:
    """Float32 inside, and one rounding: NumPy's own reductions of bfloat16 round at every step."""

    def mse(p: Any, t: Any, *, reduction: str = "mean") -> Any:
        return half(p.astype(np.float32), t.astype(np.float32), reduction=reduction).astype(p.dtype)

    report = quick("mse", mse, dtypes=["bfloat16"])
    assert outcome(report, "mse", "value", "bfloat16").variant.startswith("half")
    report = quick("binary_cross_entropy", mse, dtypes=["bfloat16"])
    assert outcome(report, "binary_cross_entropy", "value", "bfloat16").verdict is FAIL


@pytest.fixture
def wrong_reference(monkeypatch: pytest.MonkeyPatch) -> Any:
    """refnet, as far as the check knows, if its tanh were wrong."""
    right = refnet.tanh
    wrong = replace(right, forward=lambda x: (right.forward(x)[0] * 1.5, right.forward(x)[1]))
    monkeypatch.setattr("verify.conformance.operators.OPS", {**OPS, "tanh": wrong})
    return wrong


def test_a_wrong_reference_fails_like_any_other(wrong_reference: Any) -> None:
    assert outcome(quick("tanh", wrong_reference), "tanh", "value").verdict is FAIL


def test_against_a_wrong_reference_the_oracle_disagrees_with_itself(wrong_reference: Any) -> None:
    """The candidate is off by a tenth; the certified value says so, but refnet does not agree with it."""
    found = outcome(quick("tanh", lambda x: np.tanh(x) * x.dtype.type(1.1)), "tanh", "value")
    assert found.verdict is INCONCLUSIVE
    assert found.reason.startswith("the oracle disagrees with itself")


def test_a_wrong_reference_does_no_harm_to_what_is_right(wrong_reference: Any) -> None:
    assert outcome(quick("tanh", plain.tanh), "tanh", "value").verdict is PASS


# ------------------------------------------------------------------------------------------- the judge


def judged(got: float, real: float, deterministic: float, statistical: float | None = None) -> Judgement:
    soft = deterministic if statistical is None else statistical
    bound = ErrorBound(np.array([deterministic]), np.array([soft]))
    return judge(np.array([got]), Truth.exactly(np.array([real])), bound, FLOAT64)


@pytest.mark.parametrize(
    ("got", "real", "bound", "expected"),
    [
        (1.0, 1.0, 0.0, PASS),
        (1.0 + 2**-51, 1.0, 2**-51, PASS),
        (1.0 + 2**-51, 1.0, 2**-52, FAIL),
        (np.nan, 1.0, 1e300, FAIL),
        (np.inf, 1.0, 1e300, FAIL),
        (-np.inf, np.inf, 1e300, FAIL),
        (1.0, np.nan, 1e300, FAIL),
        (1e308, np.inf, 1e300, FAIL),
        (np.nan, np.nan, 0.0, PASS),
        (np.inf, np.inf, 0.0, PASS),
        (np.inf, 1.7976931348623157e308, 1e295, PASS),  # the bound reaches overflow
        (np.inf, 1.7976931348623157e308, 1e291, FAIL),
        (2.0, 1.0, np.inf, INCONCLUSIVE),
        (2.0, 1.0, np.nan, INCONCLUSIVE),
        (np.nan, 1.0, np.inf, INCONCLUSIVE),
        (1.0, 1.0, np.nan, PASS),  # correctly rounded, whatever the bound
        (0.0, 0.0, 0.0, PASS),
        (5e-324, 0.0, 5e-324, PASS),
        (1e-323, 0.0, 5e-324, FAIL),
        (1.0, 5e-324, 2.0, PASS),  # bound / ulp overflows here
        (3.0, 5e-324, 2.0, FAIL),
    ],
)
def test_the_judge_on_one_element(got: float, real: float, bound: float, expected: Verdict) -> None:
    judgement = judged(got, real, bound)
    assert judgement.verdict is expected
    assert (judgement.ratio <= 1.0) == (expected is not FAIL)


def test_between_the_two_bounds_a_result_is_suspect() -> None:
    assert judged(1.0 + 2**-50, 1.0, 2**-50, 2**-51).verdict is SUSPECT


def test_the_rounding_of_the_truth_is_not_charged() -> None:
    """1/3 in float32 is off by a third of an ulp, and so exactly right."""
    third = np.array([1 / 3], np.float32)
    truth = Truth(third, np.array([(1 / 3 - float(third[0])) / 2.0**-25]))
    none = ErrorBound(np.zeros(1), np.zeros(1))
    assert judge(third, truth, none, FLOAT32).verdict is PASS
    assert judge(np.nextafter(third, np.float32(1)), truth, none, FLOAT32).verdict is FAIL


def test_the_worst_element_is_the_one_that_decides() -> None:
    """The element with the largest ratio is undecided; the one that fails is shown."""
    bound = ErrorBound(np.array([np.inf, 1e-9, 1e-3]), np.array([np.inf, 1e-9, 1e-3]))
    judgement = judge(np.array([9.0, 2.0, 2.0]), Truth.exactly(np.ones(3)), bound, FLOAT64)
    assert (judgement.verdict, judgement.index, judgement.concerned) == (FAIL, (1,), 2)


# -------------------------------------------------------------------------------------------- the plan


def test_a_case_is_its_number_and_its_seed() -> None:
    for spec in SPECS.values():
        a, b, other = (draw(spec, FLOAT32, 0, seed) for seed in (5, 5, 6))
        assert all(x.tobytes() == y.tobytes() for x, y in zip(a.inputs, b.inputs, strict=True))
        assert [d.tobytes() for d in a.cotangents] == [d.tobytes() for d in b.cotangents]
        assert any(x.tobytes() != y.tobytes() for x, y in zip(a.inputs, other.inputs, strict=True))


def test_every_regime_meets_as_many_settings_as_there_are_turns() -> None:
    turns = LEVELS["ci"] // len(REGIMES)
    for spec in SPECS.values():
        drawn = [draw(spec, FLOAT64, number, 0) for number in range(LEVELS["ci"])]
        met = {(e.regime, tuple(e.settings.values())) for e in drawn}
        count = len({tuple(settings_of(spec, number).values()) for number in range(240)})
        assert len(met) == min(count, turns) * len(REGIMES), spec.name
        assert len({settings for _, settings in met}) >= min(count, 4 * turns), spec.name


@pytest.mark.parametrize(
    "table", [plan.ELEMENTWISE, plan.ROWS, plan.LOSSES, plan.LOSSES_OF_ROWS, plan.PRODUCTS]
)
def test_the_tables_of_shapes_are_what_they_say(table: Sequence[tuple[int, ...]]) -> None:
    assert len(table) == 11
    assert [place for place, sizes in enumerate(table) if max(sizes, default=0) > 16] == [0, 1, 3, 4, 8]
    whole = {64, 1000}  # to the end of a vector; all others leave a rest
    assert all(size <= 9 or size in whole or math.gcd(size, 64) <= 2 for sizes in table for size in sizes)
    # The 64 terms of `reach` hold for differences of inputs; a product of two is four times smaller.
    terms, most = (max, 256) if table is plan.PRODUCTS else (math.prod, 64)
    assert all(terms(table[place]) <= most for place in plan.HUGE)
    assert all(len(set(sizes)) == len(sizes) for sizes in table)


def is_long(example: Example) -> bool:
    return any(size > 16 for x in example.inputs for size in x.shape)


@pytest.mark.parametrize("spec", [s for s in SPECS.values() if not s.shapes], ids=lambda s: s.name)
def test_a_quick_check_meets_long_shapes_along_every_axis_and_all_ranks(spec: Spec) -> None:
    quick = [draw(spec, FLOAT64, number, 0) for number in range(LEVELS["smoke"])]
    assert [number for number, example in enumerate(quick) if is_long(example)] == [0, 1, 3, 4, 6]
    assert {e.axis for e in quick if is_long(e)} == {e.axis for e in quick}
    ranks = RANKS[bool(spec.free_axes), "reduction" in spec.defaults] if spec.batched else {2}
    assert {e.inputs[0].ndim for e in quick} == ranks
    more = [draw(spec, FLOAT64, number, 0) for number in range(LEVELS["ci"])]
    assert {e.regime for e in more if is_long(e)} == set(REGIMES)


RANKS = {
    (False, False): {0, 1, 2, 3},
    (False, True): {1, 2},
    (True, False): {1, 2, 3},
    (True, True): {2, 3},
}
"""The ranks of the first input, by whether an operator has rows and whether it is a loss."""


@pytest.mark.parametrize("spec", [s for s in SPECS.values() if not s.shapes], ids=lambda s: s.name)
def test_the_laws_meet_shapes_beyond_vectors_and_blocks_along_every_axis(spec: Spec) -> None:
    put = [draw(spec, FLOAT64, number, 0) for number in range(0, LEVELS["ci"], LAW_CASES)]
    beyond = [e for e in put if any(size > 32 for x in e.inputs for size in x.shape)]
    assert len(beyond) >= 2
    assert {e.axis for e in beyond} == {e.axis for e in put}
    assert {e.regime for e in put} == set(REGIMES)


def test_a_law_catches_a_tail_that_only_long_rows_have() -> None:
    candidate = SimpleNamespace(softmax=shapes.softmax_wrong_beyond_a_vector_width)
    report = check(candidate, ops=["softmax"], dtypes=["float64"])
    assert outcome(report, "softmax", "law:sums-to-one").verdict is FAIL


def test_every_gradient_is_certified() -> None:
    for spec in SPECS.values():
        for number in range(LEVELS["ci"]):
            assert draw(spec, FLOAT64, number, 0).inputs[0].size <= plan.MOST_WITH_GRADIENTS


REPLAYED: dict[str, Callable[[], object]] = {
    "value": lambda: SimpleNamespace(tanh=lambda x: x * x.dtype.type(0.5)),
    "vjp": lambda: SimpleNamespace(tanh_vjp=lambda dy, x: dy),
    "special values": lambda: SimpleNamespace(relu=lambda x: np.where(x > 0, x, x.dtype.type(0))),
    "manners": lambda: SimpleNamespace(identity=lambda x: x),
    "laws": lambda: SimpleNamespace(softmax=lambda x, *, axis=-1: x + 1),
    "layout": lambda: SimpleNamespace(relu=lambda x: np.maximum(x, 0) if x.flags.c_contiguous else x * 0),
    "variants": lambda: SimpleNamespace(
        mse=lambda p, t, *, reduction="mean": plain.mse(p, t) * p.dtype.type(0.75)
    ),
    "ranks": lambda: SimpleNamespace(softmax=shapes.softmax_right_only_for_matrices),
    "a crash at some vectors": lambda: SimpleNamespace(tanh=tanh_that_cannot_take_long_vectors),
    "a crash at all": lambda: SimpleNamespace(softmax=lambda x, *, axis=-1: x.missing),
    "laws of a network": lambda: SimpleNamespace(mlp=networks.relu_after_the_last_layer),
    "network": lambda: SimpleNamespace(mlp_gradients=networks.sum_for_mean),
    "epoch": lambda: SimpleNamespace(sgd_epoch=networks.uphill),
}


def tanh_that_cannot_take_long_vectors(x: Any) -> Any:
    if x.ndim == 1 and x.size > 64:
        raise ValueError("too long")
    return np.tanh(x)


@pytest.mark.parametrize("what", REPLAYED)
def test_every_failure_is_replayed_by_its_line(what: str) -> None:
    """The same verdict on the same element, from nothing but what the line says."""
    failures = [o for o in check(REPLAYED[what](), level="smoke", seed=3).outcomes if o.verdict is FAIL]
    assert failures
    for failure in failures:
        arguments = re.search(r"ops=.*(?=\))", failure.replay)
        assert arguments is not None
        again = check(REPLAYED[what](), **eval(f"dict({arguments.group()})"))
        replayed = outcome(again, failure.op, failure.aspect, failure.dtype)
        assert (replayed.verdict, replayed.worst, replayed.ulp) == (FAIL, failure.worst, failure.ulp)
        assert replayed.cases == 1


def test_the_replay_of_a_module_is_a_command(tmp_path: Path) -> None:
    path = tmp_path / "with a space.py"
    path.write_text("def relu(x): return -x\n")
    failure = outcome(check(str(path), ops=["relu"], level="smoke"), "relu", "value")
    program, verb, target, *options = shlex.split(failure.replay)
    assert (program, verb, target) == ("refnet", "check", str(path))
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert failure.worst is not None
    assert given == {
        "--op": "relu", "--dtype": "float64", "--level": "smoke", "--seed": "0",
        "--case": str(failure.worst.case),
    }  # fmt: skip


def test_a_case_that_says_nothing_is_not_run() -> None:
    """Case 4 of binary_cross_entropy is the sum of nothing: an empty array, which is not asked for."""
    report = quick("binary_cross_entropy", plain.binary_cross_entropy, case=4)
    assert {o.verdict for o in report.outcomes} == {NOT_RUN}


# -------------------------------------------------------------------------------- settings and signatures


def softmax_of_rows(x: Any) -> Any:
    return plain.softmax(x)


def test_a_setting_that_is_lacking_is_said_and_the_default_is_judged() -> None:
    report = quick("softmax", softmax_of_rows)
    lacking = outcome(report, "softmax", "contract:settings")
    assert lacking.verdict is NOT_RUN
    assert lacking.reason == "the candidate takes no axis: only the default was checked"
    assert outcome(report, "softmax", "value").verdict is PASS


@pytest.mark.parametrize(
    "function",
    [
        lambda *args, **settings: plain.softmax(*args, **settings),
        lambda *args: plain.softmax(*args),
        lambda x, axis=-1: plain.softmax(x, axis=axis),
        lambda x, /, *, axis=-1, temperature=1.0: plain.softmax(x, axis=axis),
        partial(plain.softmax),
    ],
    ids=["anything", "positions only", "by position too", "more settings", "partial"],
)
def test_odd_signatures_that_can_be_called_are(function: Any) -> None:
    report = quick("softmax", function)
    assert outcome(report, "softmax", "value").verdict is PASS
    assert report.exit_code() == 0


def test_a_function_without_a_signature_is_passed_only_what_it_must_be_told() -> None:
    assert quick("tanh", np.tanh).exit_code() == 0  # a ufunc


def test_a_wrapper_that_turns_a_setting_down_lacks_it() -> None:
    def wrapper(*args: Any, **settings: Any) -> Any:
        return softmax_of_rows(*args, **settings)

    report = quick("softmax", wrapper)
    assert outcome(report, "softmax", "contract:settings").verdict is NOT_RUN
    assert report.exit_code() == 0


def test_a_wrong_default_is_caught() -> None:
    """Half of the calls leave out what is at its default."""
    report = quick("softmax", lambda x, *, axis=0: plain.softmax(x, axis=axis))
    assert outcome(report, "softmax", "value").verdict is FAIL


def test_a_setting_that_is_ignored_is_caught() -> None:
    report = quick("softmax", lambda x, *, axis=-1: plain.softmax(x))
    assert outcome(report, "softmax", "value").verdict is FAIL


def test_an_argument_too_many_is_one_clear_line() -> None:
    report = quick("relu", lambda x, threshold: np.maximum(x, threshold))
    assert "missing 1 required positional argument: 'threshold'" in outcome(report, "relu", "value").reason
    assert outcome(report, "relu", "law:all").verdict is NOT_RUN
    assert report.exit_code() == 1


def test_a_required_setting_that_is_lacking_leaves_nothing_to_judge() -> None:
    report = quick("sgd_step", lambda param, grad: param - grad)
    assert outcome(report, "sgd_step", "contract:settings").verdict is NOT_RUN
    assert {o.verdict for o in report.outcomes if not o.aspect.startswith("law")} == {NOT_RUN}


def test_a_step_owes_no_gradient_and_a_value_without_one_is_said() -> None:
    assert "vjp" not in {o.aspect for o in quick("sgd_step", plain.sgd_step).outcomes}
    assert outcome(quick("relu", plain.relu), "relu", "vjp").reason == "the candidate has no relu_vjp"


def test_a_gradient_alone_is_judged() -> None:
    report = check(SimpleNamespace(tanh_vjp=plain.tanh_vjp), ops=["tanh"], level="smoke")
    assert outcome(report, "tanh", "value").verdict is NOT_RUN
    assert outcome(report, "tanh", "vjp").verdict is PASS


# ------------------------------------------------------------------------------------------------ ranks


def softmax_of_matrices(x: Any, *, axis: int = -1) -> Any:
    if x.ndim != 2:
        raise TypeError("matrices, please")
    return plain.softmax(x, axis=axis)


def softmax_of_matrices_vjp(dy: Any, x: Any, *, axis: int = -1) -> Any:
    _rows, _columns = x.shape
    return plain.softmax_vjp(dy, x, axis=axis)


def test_a_rank_that_is_refused_is_said_and_matrices_are_judged() -> None:
    report = quick("softmax", softmax_of_matrices)
    refused = outcome(report, "softmax", "contract:rank")
    assert refused.verdict is NOT_RUN
    line = softmax_of_matrices.__code__.co_firstlineno + 2
    assert re.fullmatch(
        r"softmax refuses arrays of rank 1 and 3 "
        rf"\(TypeError: matrices, please \(.*test_conformance.py:{line}\)\): only matrices were checked",
        refused.reason,
    )
    assert outcome(report, "softmax", "value").verdict is PASS
    assert outcome(report, "softmax", "law:sums-to-one").verdict is PASS
    assert report.exit_code() == 0


def test_a_gradient_may_refuse_ranks_that_the_value_takes() -> None:
    report = quick("softmax", plain.softmax, softmax_of_matrices_vjp)
    assert outcome(report, "softmax", "contract:rank").reason.startswith("softmax_vjp refuses arrays of rank")
    assert outcome(report, "softmax", "vjp").verdict is PASS
    assert report.exit_code() == 0


def test_what_raises_at_some_arrays_of_a_rank_does_not_refuse_the_rank() -> None:
    report = quick("tanh", tanh_that_cannot_take_long_vectors)
    assert outcome(report, "tanh", "value").verdict is FAIL
    assert "contract:rank" not in {o.aspect for o in report.outcomes}


def test_a_refusal_of_matrices_is_a_failure_whatever_else_is_taken() -> None:
    def tanh_of_a_vector(x: Any) -> Any:
        (_count,) = x.shape
        return np.tanh(x)

    assert outcome(quick("tanh", tanh_of_a_vector), "tanh", "value").verdict is FAIL


def test_a_replay_of_a_refused_rank_is_not_run_either() -> None:
    report = quick("softmax", softmax_of_matrices, case=len(SPECS["softmax"].cases) + 1)
    assert {o.verdict for o in report.outcomes} == {NOT_RUN}


NUMBERS: dict[str, tuple[Callable[[Any], Any], Verdict]] = {
    "a number of NumPy's": (lambda x: np.tanh(x)[()], PASS),
    "an array": (lambda x: np.asarray(np.tanh(x)), PASS),
    "a number of Python's": (lambda x: np.tanh(x) if x.ndim else float(np.tanh(x)), FAIL),
    "a wider number": (lambda x: np.tanh(x) if x.ndim else np.tanh(x).astype(np.longdouble), FAIL),
    "a vector of one": (lambda x: np.atleast_1d(np.tanh(x)), FAIL),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_for_an_array_without_axes_a_number_of_its_dtype_will_do(what: str) -> None:
    function, verdict = NUMBERS[what]
    assert outcome(quick("tanh", function), "tanh", "value").verdict is verdict


# -------------------------------------------------------------------------------------------- variants


def half(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return plain.mse(p, t, reduction=reduction) / p.dtype.type(2)


def half_vjp(dy: Any, p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return plain.mse_vjp(dy, p, t, reduction=reduction) / p.dtype.type(2)


def clipped(p: Any, t: Any, *, reduction: str = "mean", epsilon: float = 1e-7) -> Any:
    p = np.clip(p, p.dtype.type(epsilon), 1 - p.dtype.type(epsilon))
    return plain.binary_cross_entropy(p, t, reduction=reduction)


def clipped_vjp(dy: Any, p: Any, t: Any, *, reduction: str = "mean") -> Any:
    inside = np.clip(p, p.dtype.type(1e-7), 1 - p.dtype.type(1e-7))
    return plain.binary_cross_entropy_vjp(dy, inside, t, reduction=reduction) * (inside == p)


def smooth_l1(p: Any, t: Any, *, delta: float = 1.0, reduction: str = "mean") -> Any:
    return plain.huber(p, t, delta=delta, reduction=reduction) / p.dtype.type(delta)


def smooth_l1_vjp(dy: Any, p: Any, t: Any, *, delta: float = 1.0, reduction: str = "mean") -> Any:
    return plain.huber_vjp(dy, p, t, delta=delta, reduction=reduction) / p.dtype.type(delta)


def over_elements(log_p: Any, t: Any, *, reduction: str = "mean") -> Any:
    rows = plain.kl_divergence(log_p, t, reduction=reduction)
    return rows / rows.dtype.type(log_p.shape[-1] if reduction == "mean" else 1)


def over_elements_vjp(dy: Any, log_p: Any, t: Any, *, reduction: str = "mean") -> Any:
    slope = plain.kl_divergence_vjp(dy, log_p, t, reduction=reduction)
    return slope / slope.dtype.type(log_p.shape[-1] if reduction == "mean" else 1)


@pytest.mark.parametrize(
    ("op", "value", "vjp", "variant"),
    [
        ("mse", half, half_vjp, "half"),
        ("binary_cross_entropy", clipped, clipped_vjp, "clipped-to-1e-7"),
        ("binary_cross_entropy", clipped, plain.binary_cross_entropy_vjp, "clipped-to-1e-7"),
        ("huber", smooth_l1, smooth_l1_vjp, "smooth_l1"),
        ("kl_divergence", over_elements, over_elements_vjp, "mean-over-elements"),
    ],
)
@pytest.mark.parametrize("level", ["smoke", "ci"])
def test_a_variant_is_recognised_and_named(op: str, value: Any, vjp: Any, variant: str, level: str) -> None:
    report = check(SimpleNamespace(**{op: value, f"{op}_vjp": vjp}), ops=[op], level=level)
    assert {o.verdict for o in report.outcomes} == {PASS, NOT_RUN}
    assert outcome(report, op, "value").variant.startswith(f"{variant}: ")
    assert variant in outcome(report, op, "law:all").reason


attention: Any = refnet.scaled_dot_product_attention


def newest(mask: Any, causal: bool) -> Any:
    """Causal, the last query beside the last key."""
    return mask & np.tri(len(mask), mask.shape[1], mask.shape[1] - len(mask), dtype=bool) if causal else mask


def bottom_right(q: Any, k: Any, v: Any, mask: Any, *, causal: bool = False, scale: Any = None) -> Any:
    return attention(q, k, v, newest(mask, causal), scale=scale)


def bottom_right_vjp(dy: Any, *arrays: Any, causal: bool = False, scale: Any = None) -> Any:
    return attention.vjp(dy, *arrays[:3], newest(arrays[3], causal), scale=scale)


def lost(mask: Any, causal: bool) -> Any:
    """The queries that may attend to nothing, in a column."""
    return ~(mask & np.tri(len(mask), mask.shape[1], dtype=bool) if causal else mask).any(-1)[:, None]


def shared(q: Any, k: Any, v: Any, mask: Any, *, causal: bool = False, scale: Any = None) -> Any:
    y = attention(q, k, v, mask, causal=causal, scale=scale)
    return np.where(lost(mask, causal), v.mean(-2, keepdims=True), y)


def shared_vjp(dy: Any, *arrays: Any, causal: bool = False, scale: Any = None) -> Any:
    dq, dk, dv = attention.vjp(dy, *arrays, causal=causal, scale=scale)
    of_lost = np.where(lost(arrays[3], causal), dy, dy.dtype.type(0)).sum(-2, keepdims=True)
    return dq, dk, dv + of_lost / dy.dtype.type(dv.shape[-2])


@pytest.mark.parametrize(
    ("value", "vjp", "variant"),
    [
        (bottom_right, bottom_right_vjp, "causal-aligned-bottom-right"),
        (shared, shared_vjp, "masked-queries-share-equally"),
    ],
)
def test_a_variant_that_is_computed_otherwise_has_its_own_bound(value: Any, vjp: Any, variant: str) -> None:
    op = "scaled_dot_product_attention"
    functions = SimpleNamespace(**{op: value, f"{op}_vjp": vjp})
    report = check(functions, ops=[op], dtypes=["float32"], level="smoke")
    assert {o.verdict for o in report.outcomes} == {PASS, NOT_RUN}
    assert outcome(report, op, "value", "float32").variant.startswith(f"{variant}: ")


weighted: Any = refnet.weighted_softmax_cross_entropy_with_integer_labels


def without_weight(
    labels: Any, weights: Any, ignored_label: int = -100, reduction: str = "mean", **settings: Any
) -> bool:
    return reduction == "mean" and not weights[labels[labels != ignored_label]].any()


def mean_of_nothing(z: Any, labels: Any, weights: Any, **settings: Any) -> Any:
    y = weighted(z, labels, weights, **settings)
    return y * y.dtype.type(np.nan) if without_weight(labels, weights, **settings) else y


def mean_of_nothing_vjp(dy: Any, z: Any, labels: Any, weights: Any, **settings: Any) -> Any:
    (dz,) = weighted.vjp(dy, z, labels, weights, **settings)
    return dz * dz.dtype.type(np.nan) if without_weight(labels, weights, **settings) else dz


@pytest.mark.parametrize("vjp", [mean_of_nothing_vjp, weighted.vjp])
def test_of_a_variant_that_is_no_number_no_gradient_is_due(vjp: Any) -> None:
    """PyTorch's is NaN where the weights are 0, and 0 where all labels are ignored."""
    functions = SimpleNamespace(**{weighted.name: mean_of_nothing, f"{weighted.name}_vjp": vjp})
    report = check(functions, ops=[weighted.name], dtypes=["float32"], level="ci")
    assert {o.verdict for o in report.outcomes} == {PASS, NOT_RUN}
    assert outcome(report, weighted.name, "vjp", "float32").variant.startswith("nan-of-nothing: ")


def test_a_velocity_may_rest_where_there_is_no_momentum() -> None:
    def resting(param: Any, grad: Any, velocity: Any, **settings: Any) -> Any:
        if settings.get("momentum", 0.9):
            return refnet.momentum_step(param, grad, velocity, **settings)
        settings["dampening"] = 0.0
        unused = np.zeros_like(velocity)  # 0 times a NaN is one
        return refnet.momentum_step(param, grad, unused, **settings).param, velocity.copy()

    report = check(
        SimpleNamespace(momentum_step=resting), ops=["momentum_step"], dtypes=["float32"], level="ci"
    )
    assert {o.verdict for o in report.outcomes} == {PASS, NOT_RUN}
    assert outcome(report, "momentum_step", "step", "float32").variant.startswith(
        "no-velocity-without-momentum: "
    )


def clamped(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    """As PyTorch: no logarithm is below -100, and a NaN among the probabilities is refused."""
    if np.isnan(p).any():
        raise RuntimeError("not a probability")
    with np.errstate(divide="ignore"):
        logs = [np.maximum(log, -100) for log in (np.log(p), np.log1p(-p))]
    losses = -(t * logs[0] + (1 - t) * logs[1])
    return losses if reduction == "none" else getattr(losses, reduction)()


def clamped_vjp(
    dy: Any, p: Any, t: Any, *, reduction: str = "mean", smallest: float = float(np.float32(1e-12))
) -> Any:
    """As PyTorch: (p - t) / (p (1 - p)) with a smallest denominator, and not the derivative of `clamped`."""
    slopes = dy * (p - t) / np.maximum((1 - p) * p, p.dtype.type(smallest))
    return slopes / p.dtype.type(p.size) if reduction == "mean" else slopes


def derivative_of_clamped(dy: Any, p: Any, t: Any, *, reduction: str = "mean") -> Any:
    least = np.exp(np.longdouble(-100))
    inside = [np.where(x < least, 0, 1 / np.maximum(x, np.finfo(x.dtype).tiny)) for x in (p, 1 - p)]
    slopes = dy * ((1 - t) * inside[1] - t * inside[0])
    return (slopes / p.size if reduction == "mean" else slopes).astype(p.dtype)


def test_a_variant_that_refuses_an_input_is_named_and_fails_there_alone() -> None:
    report = quick("binary_cross_entropy", clamped)
    value = outcome(report, "binary_cross_entropy", "value")
    assert (value.verdict, value.variant.partition(":")[0]) == (PASS, "logarithm-clamped-at-minus-100")
    special = outcome(report, "binary_cross_entropy", "contract:special-values")
    assert (special.verdict, special.failing_cases) == (FAIL, 1)
    assert "not a probability" in special.reason


@pytest.mark.parametrize("vjp", [clamped_vjp, derivative_of_clamped])
def test_the_gradients_of_a_variant_are_its_own_or_the_derivatives_of_its_value(vjp: Any) -> None:
    found = outcome(quick("binary_cross_entropy", clamped, vjp), "binary_cross_entropy", "vjp")
    assert (found.verdict, found.variant.partition(":")[0]) == (PASS, "logarithm-clamped-at-minus-100")


def test_gradients_with_another_constant_than_the_variant_has_fail() -> None:
    report = quick("binary_cross_entropy", clamped, partial(clamped_vjp, smallest=1e-12 * (1 + 1e-6)))
    assert outcome(report, "binary_cross_entropy", "vjp").verdict is FAIL


@pytest.mark.parametrize(
    ("op", "value", "vjp", "aspect"),
    [
        ("mse", half, plain.mse_vjp, "vjp"),  # not the gradient of its own value
        ("mse", plain.mse, half_vjp, "vjp"),
        ("mse", lambda p, t, *, reduction="mean": half(p, t, reduction=reduction) / 2, half_vjp, "value"),
        ("binary_cross_entropy", partial(clipped, epsilon=1e-3), clipped_vjp, "value"),
        ("binary_cross_entropy", plain.binary_cross_entropy, clipped_vjp, "vjp"),
        ("huber", smooth_l1, plain.huber_vjp, "vjp"),
        ("huber", plain.huber, smooth_l1_vjp, "vjp"),
        ("kl_divergence", over_elements, plain.kl_divergence_vjp, "vjp"),
        ("kl_divergence", plain.kl_divergence, over_elements_vjp, "vjp"),
    ],
)
def test_what_is_no_variant_fails(op: str, value: Any, vjp: Any, aspect: str) -> None:
    report = check(SimpleNamespace(**{op: value, f"{op}_vjp": vjp}), ops=[op])
    assert outcome(report, op, aspect).verdict is FAIL


@pytest.mark.parametrize("keeps_nan", [True, False])
def test_a_variant_too_must_hand_on_nan(keeps_nan: bool) -> None:
    def of_one_fifth(x: Any) -> Any:
        y = np.clip(x / x.dtype.type(5) + x.dtype.type(0.5), 0, 1)
        return y if keeps_nan else np.nan_to_num(y)

    report = quick("hard_sigmoid", of_one_fifth)
    assert outcome(report, "hard_sigmoid", "value").variant.startswith("slope-one-fifth: ")
    found = outcome(report, "hard_sigmoid", "law:nan-propagates").verdict
    assert found is (PASS if keeps_nan else FAIL)


def test_a_variant_that_no_case_tells_from_the_reference_excuses_nothing() -> None:
    """With seed 2 no case of a quick check is far enough from its norm to show the eps of PyTorch."""

    def clip(a: Any, b: Any, *, max_norm: float) -> Any:
        return refnet.clip_by_global_norm(np.nan_to_num(a), np.nan_to_num(b), max_norm=max_norm)

    candidate = SimpleNamespace(clip_by_global_norm=clip)
    report = check(candidate, ops=["clip_by_global_norm"], dtypes=["float32"], level="smoke", seed=2)
    found = next(o for o in report.outcomes if o.aspect == "contract:special-values")
    assert (found.verdict, found.variant) == (FAIL, "")


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_a_subgradient_is_accepted_and_named_if_it_is_not_the_reference_s(slope: float) -> None:
    def relu_vjp(dy: Any, x: Any) -> Any:
        return dy * np.heaviside(x, x.dtype.type(slope))

    found = outcome(quick("relu", plain.relu, relu_vjp), "relu", "vjp")
    assert found.verdict is PASS
    assert found.variant.partition(":")[0] == (f"derivative-{slope:g}-at-x=0" if slope else "")


@pytest.mark.parametrize(
    ("op", "setting", "at_0", "named"),
    [
        ("leaky_relu", "slope", None, ""),
        ("leaky_relu", "slope", 1.0, "derivative-1-at-x=0"),
        ("leaky_relu", "slope", 0.5, "fail"),
        ("elu", "alpha", None, ""),
        ("elu", "alpha", 1.0, "derivative-1-at-x=0"),
        ("elu", "alpha", 0.25, "fail"),
    ],
)
def test_a_convention_may_depend_on_a_setting(op: str, setting: str, at_0: float | None, named: str) -> None:
    def vjp(dy: Any, x: Any, **settings: Any) -> Any:
        slope = dy.dtype.type(settings.get(setting, SPECS[op].defaults[setting]) if at_0 is None else at_0)
        (dx,) = OPS[op].vjp(dy, x, **settings)
        return np.where(x == 0, dy * slope, dx)

    found = outcome(quick(op, OPS[op].__call__, vjp), op, "vjp")
    assert found.verdict is (FAIL if named == "fail" else PASS)
    assert named == "fail" or found.variant.partition(":")[0] == named


@pytest.mark.parametrize(
    ("at_0", "named"),
    [
        (lambda slope: slope, ""),
        (lambda slope: 0 * slope + 1, "derivative-1-at-x=0"),
        (lambda slope: 0 * slope, "derivative-0-at-x=0"),
        (lambda slope: (slope + 1) / 2, "derivative-mean-of-slope-and-1-at-x=0"),
        (lambda slope: 0 * slope + 3, "fail"),
    ],
)
def test_a_convention_may_be_an_input(at_0: Callable[[Any], Any], named: str) -> None:
    def prelu_vjp(dy: Any, x: Any, slope: Any) -> Any:
        dx, dslope = refnet.prelu.vjp(dy, x, slope)
        return np.where(x == 0, dy * at_0(_of_channels(slope, x)), dx), dslope

    candidate = SimpleNamespace(prelu_vjp=prelu_vjp)
    found = outcome(check(candidate, ops=["prelu"], dtypes=["float64"]), "prelu", "vjp")
    assert found.verdict is (FAIL if named == "fail" else PASS)
    assert named == "fail" or found.variant.partition(":")[0] == named


def _of_channels(slope: Any, x: Any) -> Any:
    return slope.reshape(-1, *[1] * (x.ndim - 2))


@pytest.mark.parametrize(
    "prelu",
    [
        lambda x, slope: np.where(x < 0, _of_channels(slope, x) * x, x),
        lambda x, slope: np.maximum(x, 0) - _of_channels(slope, x) * np.maximum(-x, 0),
        lambda x, slope: np.maximum(x, 0) + _of_channels(slope, x) * np.minimum(x, 0),
    ],
    ids=["ONNX", "Keras", "two clippings"],
)
def test_a_nan_slope_may_reach_0_and_what_is_above_or_not(prelu: Any) -> None:
    report = check(SimpleNamespace(prelu=prelu), ops=["prelu"])
    assert not [o for o in report.outcomes if o.verdict is FAIL]


def test_a_gradient_alone_shows_that_the_mean_of_nothing_is_nan() -> None:
    op = "weighted_softmax_cross_entropy_with_integer_labels"

    def vjp(
        dy: Any,
        z: Any,
        labels: Any,
        weights: Any,
        ignored_label: int = -100,
        reduction: str = "mean",
        **more: Any,
    ) -> Any:
        (dz,) = OPS[op].vjp(dy, z, labels, weights, ignored_label=ignored_label, reduction=reduction, **more)
        nothing = reduction == "mean" and not weights[labels[labels != ignored_label]].any()
        return np.full_like(dz, np.nan) if nothing else dz

    found = outcome(check(SimpleNamespace(**{f"{op}_vjp": vjp}), ops=[op], dtypes=["float64"]), op, "vjp")
    assert found.verdict is PASS


def test_a_gradient_that_raises_breaks_no_laws() -> None:
    def mse_vjp(dy: Any, p: Any, t: Any, *, reduction: str = "mean") -> Any:
        raise RuntimeError("not yet")

    report = check(SimpleNamespace(mse=refnet.mse.__call__, mse_vjp=mse_vjp), ops=["mse"], dtypes=["float64"])
    assert {o.aspect for o in report.outcomes if o.verdict is FAIL} == {"vjp"}
    assert "no call of the vjp returned" in outcome(report, "mse", "law:all").reason


def test_a_replay_of_a_case_without_a_gradient_says_nothing_of_the_vjp(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operators, "MOST_WITH_GRADIENTS", 250)
    known = len(SPECS["relu"].cases)
    beyond = next(n for n in range(40) if draw(SPECS["relu"], FLOAT64, n, 0).inputs[0].size > 250)
    report = check("refnet", ops=["relu"], dtypes=["float64"], case=known + beyond)
    assert not [o for o in report.outcomes if o.aspect in ("vjp", "law:all")]


@pytest.mark.parametrize("reads_the_row", [True, False])
def test_the_row_of_padding_may_be_read_and_learns_nothing(reads_the_row: bool) -> None:
    """As torch.nn.functional.embedding has it, whose padding is a row of the table."""

    def embedding(table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
        if padding_id is None or padding_id < 0 or not reads_the_row:
            return refnet.embedding(table, ids, padding_id=padding_id)
        return table[ids]

    found = outcome(quick("embedding", embedding, refnet.embedding.vjp), "embedding", "value")
    assert found.verdict is PASS
    assert found.variant.partition(":")[0] == ("padding-row-is-read" if reads_the_row else "")


def test_a_subnormal_number_may_lie_on_a_kink() -> None:
    """JAX takes 1 at the kink of leaky ReLU, and reads subnormal numbers as 0."""

    def vjp(dy: Any, x: Any, *, slope: float = 0.01) -> Any:
        read = np.where(np.abs(x) < np.finfo(x.dtype).smallest_normal, 0, x)
        return np.where(read >= 0, dy, dy * dy.dtype.type(slope))

    found = outcome(check(SimpleNamespace(leaky_relu_vjp=vjp), ops=["leaky_relu"]), "leaky_relu", "vjp")
    assert found.verdict is PASS
    assert found.variant.startswith("derivative-1-at-x=0")


def test_what_is_no_subgradient_fails() -> None:
    found = outcome(quick("relu", plain.relu, lambda dy, x: dy * np.heaviside(x, 2 * dy / dy)), "relu", "vjp")
    assert found.verdict is FAIL


def mae_with_slope(slope: float) -> Callable[..., Any]:
    def mae_vjp(dy: Any, p: Any, t: Any, *, reduction: str = "mean") -> Any:
        right = plain.mae_vjp(np.ones_like(dy), p, t, reduction="sum" if dy.ndim == 0 else "none")
        at = np.where(p == t, p.dtype.type(slope), right)
        return dy * p.dtype.type(1 / p.size if reduction == "mean" else 1) * at

    return mae_vjp


def hinge_with_slope(slope: float) -> Callable[..., Any]:
    def hinge_vjp(dy: Any, p: Any, t: Any, *, reduction: str = "mean") -> Any:
        active = np.heaviside(1 - t * p, p.dtype.type(slope))
        return dy / p.dtype.type(p.size if reduction == "mean" else 1) * (active * -t)

    return hinge_vjp


@pytest.mark.parametrize(
    ("op", "vjp", "name"),
    [
        ("mae", mae_with_slope(0.0), ""),
        ("mae", mae_with_slope(1.0), "derivative-1-at-p=t"),
        ("mae", mae_with_slope(-1.0), "derivative--1-at-p=t"),
        ("hinge", hinge_with_slope(0.0), ""),
        ("hinge", hinge_with_slope(0.5), "derivative-0.5-at-tp=1"),
        ("hinge", hinge_with_slope(1.0), "derivative-1-at-tp=1"),
    ],
)
def test_a_subgradient_of_a_loss_is_known_under_the_share_of_the_example(
    op: str, vjp: Any, name: str
) -> None:
    """dy / n or dy times a rounded 1 / n, and the slope of what has the kink times that of its argument."""
    report = check(SimpleNamespace(**{op: getattr(plain, op), f"{op}_vjp": vjp}), ops=[op], level="ci")
    assert {o.verdict for o in report.outcomes} == {PASS}
    for dtype in DTYPES:
        assert outcome(report, op, "vjp", dtype).variant.partition(":")[0] == name


@pytest.mark.parametrize(
    ("op", "vjp"),
    [("mae", mae_with_slope(0.25)), ("hinge", hinge_with_slope(-1.0)), ("hinge", hinge_with_slope(2.0))],
)
def test_no_other_slope_of_a_loss_passes(op: str, vjp: Any) -> None:
    report = check(SimpleNamespace(**{op: getattr(plain, op), f"{op}_vjp": vjp}), ops=[op])
    assert outcome(report, op, "vjp").verdict is FAIL


def max_pool2d_vjp(share: Callable[[Any], Any]) -> Callable[..., Any]:
    """The gradient of max pooling in which `share` says what part each of the tied elements has."""

    def vjp(dy: Any, x: Any, **settings: Any) -> Any:
        tie = SPECS["max_pool2d"].tie
        assert tie is not None
        taken = tie.taken(x, **settings).reshape(dy.size, x.size)
        parts = np.array([share(row) for row in taken.astype(np.float64)])
        return (dy.astype(np.float64).ravel() @ parts).reshape(x.shape).astype(x.dtype)

    return vjp


def only(row: Any, which: int) -> Any:
    return np.eye(row.size)[np.flatnonzero(row)[which]]


SHARES: Mapping[str, Callable[[Any], Any]] = {
    "": lambda row: only(row, 0),
    "ties-last": lambda row: only(row, -1),
    "ties-equal": lambda row: row / row.sum(),
    "ties-other": lambda row: 0.75 * only(row, 0) + 0.25 * only(row, -1),
}


@pytest.mark.parametrize("variant", SHARES)
def test_tied_elements_may_share_their_gradient_in_any_way(variant: str) -> None:
    found = outcome(
        quick("max_pool2d", refnet.max_pool2d, max_pool2d_vjp(SHARES[variant])), "max_pool2d", "vjp"
    )
    assert found.verdict is PASS
    assert found.variant.partition(":")[0] == variant


@pytest.mark.parametrize(
    "share",
    [
        lambda row: row,  # all of it to each
        lambda row: row / row.size,  # a part of it lost
        lambda row: 1.5 * only(row, 0) - 0.5 * only(row, -1),  # adds up, and is no share
    ],
)
def test_what_is_no_share_of_a_tie_fails(share: Callable[[Any], Any]) -> None:
    found = outcome(quick("max_pool2d", refnet.max_pool2d, max_pool2d_vjp(share)), "max_pool2d", "vjp")
    assert found.verdict is FAIL


# ------------------------------------------------------------------------------------- bad candidates


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def raises_the_unspeakable(x: Any) -> Any:
    raise Unspeakable


BAD_RESULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "None": (lambda x: None, "it returns None where float64 of shape (2, 17) is due"),
    "a scalar": (lambda x: 1.0, "it returns a float where float64 of shape (2, 17) is due"),
    "a list": (lambda x: x.tolist(), "it returns 34 results instead of 1"),
    "a string": (lambda x: "y", "it returns a str where float64 of shape (2, 17) is due"),
    "another shape": (lambda x: x.T.copy(), "it returns float64 of shape (17, 2) where"),
    "a row too few": (lambda x: x[1:].copy(), "it returns float64 of shape (1, 17) where"),
    "another dtype": (lambda x: x.astype(np.float16), "it returns float16 of shape (2, 17) where"),
    "integers": (lambda x: np.zeros(x.shape, int), "it returns int64 of shape (2, 17) where"),
    "an object array": (lambda x: x.astype(object), "it returns object of shape (2, 17) where"),
    "a masked array": (
        lambda x: np.ma.masked_array(x),
        "it returns a MaskedArray, float64 of shape (2, 17),",
    ),
    "two arrays": (lambda x: (x.copy(), x.copy()), "it returns 2 results instead of 1"),
    "an exception": (lambda x: x.missing, "it raises AttributeError: "),
    "an exception without a text": (raises_the_unspeakable, "Unspeakable: its text cannot be had"),
    "exit": (lambda x: exec("raise SystemExit(4)"), "it raises SystemExit: 4"),
    "NaN everywhere": (lambda x: np.full_like(x, np.nan), "34 of 34 elements of y are beyond"),
}


@pytest.mark.parametrize("what", BAD_RESULTS)
def test_a_bad_result_is_a_clear_line_and_the_run_goes_on(what: str) -> None:
    function, line = BAD_RESULTS[what]
    report = check(SimpleNamespace(tanh=function, relu=plain.relu), ops=["tanh", "relu"], level="smoke")
    assert line in outcome(report, "tanh", "value").reason
    assert outcome(report, "relu", "value").verdict is PASS
    assert report.exit_code() == 1


def test_a_read_only_view_of_the_input_shares_its_memory() -> None:
    def identity(x: Any) -> Any:
        view = x[...]
        view.flags.writeable = False
        return view

    found = outcome(quick("identity", identity), "identity", "contract:pure")
    assert (found.verdict, found.reason) == (FAIL, "identity returns memory that it shares with its input x")


def relu_of_a_row(x: Any) -> Any:
    y = plain.relu(x)
    x.shape = (x.size,)
    return y


IN_PLACE: dict[str, tuple[str, Callable[..., Any], str]] = {
    "an element": ("relu", lambda x: np.multiply(x, x > 0, out=x) + 0, "relu modifies its input x"),
    "the shape": ("relu", relu_of_a_row, "relu modifies its input x"),
    "a list": (
        "mlp",
        lambda x, params: (plain.mlp(x, params), params.pop())[0],
        "mlp modifies its input params",
    ),
    "a layer": (
        "mlp",
        lambda x, params: (plain.mlp(x, params), params.insert(0, params.pop()))[0],
        "mlp modifies its input params",
    ),
    "a target": (
        "mse",
        lambda p, t, *, reduction="mean": (plain.mse(p, t, reduction=reduction), t.fill(0))[0],
        "mse modifies its input t",
    ),
}


@pytest.mark.parametrize("what", IN_PLACE)
@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
def test_a_modified_input_is_seen_and_named(what: str) -> None:
    op, function, reason = IN_PLACE[what]
    found = outcome(quick(op, function), op, "contract:pure")
    assert (found.verdict, found.reason) == (FAIL, reason)


def test_a_gradient_that_modifies_its_input_is_named() -> None:
    def tanh_vjp(dy: Any, x: Any) -> Any:
        dy *= plain.tanh_vjp(np.ones_like(dy), x)
        return dy + 0

    found = outcome(quick("tanh", plain.tanh, tanh_vjp), "tanh", "contract:pure")
    assert (found.verdict, found.reason) == (FAIL, "tanh_vjp modifies its input dy")


def deep(x: Any) -> Any:
    return np.concatenate([x, np.zeros((1, *x.shape))], axis=x.ndim + 1)


def test_an_exception_is_shown_with_its_place_in_the_candidate_not_in_numpy() -> None:
    reason = outcome(quick("relu", lambda x: deep(x)), "relu", "value").reason
    line = deep.__code__.co_firstlineno + 1
    assert re.search(rf"AxisError: .* \(.*test_conformance\.py:{line}\)$", reason)


def test_an_exception_of_a_file_is_shown_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kernels.py"
    path.write_text("def relu(x):\n    return x.missing\n")
    reason = outcome(check(str(path), ops=["relu"], level="smoke"), "relu", "value").reason
    assert reason.endswith(f"({path}:2)")
    monkeypatch.chdir(tmp_path)
    reason = outcome(check(str(path), ops=["relu"], level="smoke"), "relu", "value").reason
    assert reason.endswith("(kernels.py:2)")


def test_an_exception_that_is_numpys_alone_has_no_place() -> None:
    assert outcome(quick("relu", np.linalg.inv), "relu", "value").reason.endswith("square")


def test_an_exception_without_words_is_its_type() -> None:
    def relu(x: Any) -> Any:
        raise NotImplementedError

    assert outcome(quick("relu", relu), "relu", "value").reason.startswith("it raises NotImplementedError (")


def test_flags_that_a_candidate_sets_do_no_harm() -> None:
    def relu(x: Any) -> Any:
        x.flags.writeable = False
        return np.maximum(x, 0)

    assert quick("relu", relu).exit_code() == 0


def test_a_result_that_is_missing_among_many_is_counted() -> None:
    found = outcome(quick("linear", plain.linear, lambda dy, x, w, b: (dy @ w.T, x.T @ dy)), "linear", "vjp")
    assert found.reason == "it returns 2 results instead of 3"


def test_warnings_and_floating_point_errors_are_nobody_s() -> None:
    def relu(x: Any) -> Any:
        np.log(x - x)  # divides by zero
        return np.maximum(x, 0)

    assert quick("relu", relu).exit_code() == 0


def test_what_a_candidate_prints_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def relu(x: Any) -> Any:
        print("hello")
        return np.maximum(x, 0)

    quick("relu", relu)
    assert "hello" in capsys.readouterr().out


def test_ctrl_c_is_not_a_failure_of_the_candidate() -> None:
    def relu(x: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick("relu", relu)


# ------------------------------------------------------------------------------------- how they are found

MODULES: dict[str, tuple[str, str]] = {
    "no function": ("x = 1\n", "has no function of the contract"),
    "not functions": ("relu = 3\n", "has no function of the contract"),
    "a missing import": ("import no_such_module_at_all\n", "does not import: ModuleNotFoundError"),
    "a broken syntax": ("def relu(x:\n", "does not import: SyntaxError"),
    "an exit": ("raise SystemExit('bye')\n", "does not import: SystemExit: bye"),
    "an error on looking": (
        "def __getattr__(name): raise RuntimeError('not now')\n",
        "cannot be read: RuntimeError: not now",
    ),
}


@pytest.mark.parametrize("what", MODULES)
def test_a_module_that_cannot_be_checked_is_a_target_error(what: str, tmp_path: Path) -> None:
    text, message = MODULES[what]
    path = tmp_path / "candidate.py"
    path.write_text(text)
    with pytest.raises(TargetError, match=re.escape(message)):
        check(str(path))


def test_a_gradient_that_is_an_array_is_none() -> None:
    found = check(SimpleNamespace(relu=plain.relu, relu_vjp=np.ones(3)), ops=["relu"], level="smoke")
    assert outcome(found, "relu", "vjp").reason == "the candidate has no relu_vjp"


def test_a_package_that_breaks_while_it_is_looked_for_is_a_target_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "breaking"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('no licence')\n")
    (package / "kernels.py").write_text("def relu(x): return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TargetError, match="no licence"):
        check("breaking.kernels")


def test_an_import_changes_nothing_for_others(tmp_path: Path) -> None:
    path = tmp_path / "candidate.py"
    path.write_text(
        "import warnings\nimport numpy as np\nnp.seterr(all='raise')\nwarnings.simplefilter('error')\n"
        "warnings.warn('deprecated')\ndef relu(x): return np.maximum(x, 0)\n"
    )
    before, filters = np.geterr(), list(warnings.filters)
    with pytest.raises(TargetError, match="does not import: UserWarning: deprecated"):
        check(str(path))
    path.write_text(path.read_text().replace("warnings.warn('deprecated')\n", ""))
    assert check(str(path), ops=["relu"], level="smoke").exit_code() == 0
    assert (np.geterr(), list(warnings.filters)) == (before, filters)


def test_a_module_finds_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "my_kernels_neighbour.py").write_text(
        "import numpy as np\ndef relu(x): return np.maximum(x, 0)\n"
    )
    (tmp_path / "kernels.py").write_text("from my_kernels_neighbour import relu\n")
    assert check(tmp_path / "kernels.py", ops=["relu"], level="smoke").exit_code() == 0


def test_the_package_of_a_module_is_in_the_environment() -> None:
    assert check("scipy.special", ops=["softmax"], level="smoke").environment["scipy"] == version("scipy")
    import scipy.special

    assert "scipy" in check(scipy.special, ops=["softmax"], level="smoke").environment
    assert "scipy" not in check("tests.candidates.plain", ops=["relu"], level="smoke").environment


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "no_such_module_at_all"}, "no such module"),
        ({"target": "numpy.no_such_module"}, "no such module"),
        ({"target": ""}, "^an empty name: no such module. Give the path of a Python file, the dotted name"),
        ({"target": "no/such/file.py"}, "there is no such file"),
        ({"target": ".kernels"}, "^.kernels: there is no such file. Give the path of a Python file.$"),
        ({"target": "."}, "^.: this is no file. Give the path of a Python file.$"),
        ({"target": "/dev/null"}, "^/dev/null: this is no file"),
        ({"target": "x" * 300 + ".py"}, "there is no such file"),
        ({"target": "refnet", "ops": ["sofmax"]}, "sofmax: no such operator. Did you mean softmax"),
        ({"target": "refnet", "dtypes": ["float128"]}, "float128: no such dtype"),
        (
            {"target": "refnet", "ops": []},
            "the list of operators is empty. Name one, as 'identity'",
        ),
        ({"target": "refnet", "dtypes": ()}, "the list of dtypes is empty"),
        ({"target": "refnet", "ops": [""]}, "^an empty name: no such operator"),
        ({"target": "refnet", "level": "full"}, "full: no such level"),
        ({"target": "refnet", "seed": -1}, "counted from 0"),
        ({"target": "refnet", "case": -1}, "counted from 0"),
    ],
)
def test_what_does_not_exist_is_a_usage_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(**arguments)


def test_what_is_wrongly_asked_is_said_before_foreign_code_runs(tmp_path: Path) -> None:
    path = tmp_path / "candidate.py"
    path.write_text("raise RuntimeError\n")
    with pytest.raises(UsageError, match="no such operator"):
        check(path, ops=["sofmax"])


def test_an_operator_that_is_lacking_is_not_run() -> None:
    report = check(SimpleNamespace(relu=plain.relu), ops=["softmax", "mlp"], level="smoke")
    assert {(o.verdict, o.reason) for o in report.outcomes} == {(NOT_RUN, "the candidate does not have it")}
    assert report.exit_code() == 0


def test_progress_is_told_of_each_operator() -> None:
    told: list[str] = []
    check(SimpleNamespace(relu=plain.relu), ops=["relu", "tanh"], level="smoke", progress=told.append)
    assert told == ["relu", "tanh"]


# ----------------------------------------------------------------------------------------- the report


def misfit() -> SimpleNamespace:
    """One function for every kind of row that a report can have."""
    return SimpleNamespace(
        relu=plain.relu,
        tanh=lambda x: x.missing,
        sigmoid=lambda x: np.full_like(x, np.nan),
        softmax=softmax_of_rows,
        mse=half,
        identity=lambda x: x,
        softmax_cross_entropy_with_integer_labels=lambda z, labels, *, reduction="mean": z.sum(),
        mlp=networks.without_activations,
        mlp_gradients=networks.sum_for_mean,
        sgd_epoch=networks.uphill,
    )


def test_every_report_is_valid_and_survives_being_written() -> None:
    report = check(misfit(), level="smoke")
    assert {o.verdict for o in report.outcomes} >= {PASS, FAIL, NOT_RUN}
    document = json.loads(json.dumps(to_json(report), allow_nan=False))
    jsonschema.validate(document, load_schema())
    assert to_json(from_json(document)) == document


def test_every_report_can_be_printed() -> None:
    text = StringIO()
    print_report(check(misfit(), level="smoke"), Console(file=text, width=80))
    assert "FAIL mlp_gradients value float64" in text.getvalue()
    assert "it raises AttributeError" in text.getvalue()


# ------------------------------------------------------------------------------------- as an assertion


def test_assert_conforms_is_silent_on_what_is_right() -> None:
    assert_conforms(plain.softmax, "softmax", plain.softmax_vjp, level="smoke")


def test_assert_conforms_raises_the_report_with_the_call_of_one_case() -> None:
    tanh = plain.tanh

    def straight_through(dy: Any, x: Any) -> Any:
        return dy

    with pytest.raises(AssertionError) as raised:
        assert_conforms(tanh, "tanh", vjp=straight_through, dtypes=["float32"], level="smoke")
    text = str(raised.value)
    assert text.startswith("tanh does not conform to tanh")
    assert "FAIL tanh vjp float32" in text
    replay, *_ = re.findall(r"replay +(assert_conforms\(tanh, 'tanh', straight_through, .*\))", text)
    with pytest.raises(AssertionError, match="FAIL tanh vjp float32: 1 of 1 cases fail"):
        eval(replay, {}, {"assert_conforms": assert_conforms, **locals()})


@pytest.mark.parametrize(
    "given", [None, np.ones(3), ..., "kernels.py"], ids=lambda given: type(given).__name__
)
def test_assert_conforms_refuses_what_cannot_be_called(given: Any) -> None:
    kind = type(given).__name__
    with pytest.raises(TypeError, match=rf"^function is of type {kind}; required: a callable, function\("):
        assert_conforms(given, "softmax")
    if given is not None:
        with pytest.raises(TypeError, match=rf"^vjp is of type {kind}; required: a callable, vjp\(dy"):
            assert_conforms(plain.softmax, "softmax", given)


def test_assert_conforms_warns_of_another_convention_that_is_not_promised() -> None:
    def rms_norm(x: Any, gamma: Any, *, eps: float = 1e-6) -> Any:
        return x / (np.sqrt((x * x).mean(axis=-1, keepdims=True)) + eps) * gamma

    judged = partial(assert_conforms, op="rms_norm", dtypes=["float64"], level="smoke")
    with pytest.warns(UserWarning, match="rms_norm follows another convention") as told:
        assert_conforms(rms_norm, "rms_norm", dtypes=["float64"], level="smoke")  # the line that is named
    (warning,) = told
    assert warning.filename == __file__
    assert "eps-outside-the-root: eps is added to the root" in str(warning.message)
    assert 'contract=["variant=reference"]' in str(warning.message)
    judged(rms_norm, contract=["variant=eps-outside-the-root"])
    with pytest.raises(AssertionError, match="FAIL rms_norm value float64"):
        judged(rms_norm, contract=["variant=reference"])
    judged(refnet.rms_norm)
    assert_conforms(plain.relu, "relu", lambda dy, x: dy * (x >= 0), dtypes=["float64"], level="smoke")


def test_the_call_of_what_has_no_name_has_places_to_fill_in() -> None:
    vjp = partial(lambda slope, dy, x: slope * dy, 1)
    with pytest.raises(AssertionError) as raised:
        assert_conforms(lambda x: np.tanh(x), "tanh", vjp, dtypes=["float32"], level="smoke")
    replay, *_ = re.findall(r"replay +(assert_conforms\(.*\))", str(raised.value))
    assert replay.startswith("assert_conforms(<function>, 'tanh', <vjp>, dtypes=['float32'], ")
    with pytest.raises(SyntaxError):
        compile(replay, "replay", "eval")


def test_assert_conforms_is_not_silent_where_nothing_is_judged() -> None:
    def one_hot(ids: Any, values: Any) -> Any:
        return np.zeros(ids.shape)

    with pytest.raises(AssertionError, match="nothing of it could be judged as one_hot") as raised:
        assert_conforms(one_hot, "one_hot", level="smoke")
    assert "the candidate takes no classes" in str(raised.value)


# ---------------------------------------------------------------------------------- the oracle's own doubts


def _trial(case: int = 0) -> Trial:
    x = np.array([0.5, 1.0])
    return Trial(case, "value", (x,), {}, ("y",), ((2,),), {"x": x})


def _due(value: float) -> list[Expected]:
    return [Expected(Truth.exactly(np.full(2, value)), ErrorBound(np.zeros(2), np.zeros(2)))]


def _tried(function: Callable[..., Any], task: Task) -> Attempt:
    return attempt(function, task, _trial(), FLOAT64)


def test_when_the_reference_fails_too_the_oracle_disagrees_with_itself() -> None:
    task = Task("tanh", lambda x: x + 1, {}, confirmed=True)
    (found,) = [
        f for f in findings_of([_tried(lambda x: x + 2, task)], task, lambda trial: _due(9.0), FLOAT64)
        if f.aspect == "value"
    ]  # fmt: skip
    assert found.verdict is INCONCLUSIVE
    assert found.reason.startswith("the oracle disagrees with itself")


def test_when_the_reference_is_right_the_candidate_fails() -> None:
    task = Task("tanh", lambda x: x * 0 + 9, {}, confirmed=True)
    findings = findings_of([_tried(lambda x: x + 2, task)], task, lambda trial: _due(9.0), FLOAT64)
    assert {f.verdict for f in findings if f.aspect == "value"} == {FAIL}


def test_what_no_precision_decides_is_inconclusive() -> None:
    def undecided(trial: Trial) -> list[Expected]:
        raise Undecided("0 +- 1")

    task = Task("tanh", lambda x: x.copy(), {}, confirmed=True)
    findings = findings_of([_tried(lambda x: x.copy(), task)], task, undecided, FLOAT64)
    assert {f.verdict for f in findings if f.aspect == "value"} == {INCONCLUSIVE}


# -------------------------------------------------------------------------------------------- networks


def laws_met(report: Report) -> set[tuple[str, str]]:
    return {(o.op, o.aspect.removeprefix("law:")) for o in report.outcomes if o.aspect.startswith("law:")}


def test_every_law_of_networks_is_put_to_the_reference() -> None:
    report = check("refnet", ops=NETWORK_FUNCTIONS, level="smoke")
    assert laws_met(report) == {(op, law) for op, laws in LAWS_OF.items() for law in laws}
    assert {law for _, law in laws_met(report)} == set(NETWORK_LAWS)


def test_a_law_is_not_put_to_what_lacks_its_function() -> None:
    report = check(SimpleNamespace(sgd_epoch=plain.sgd_epoch), ops=NETWORK_FUNCTIONS, level="smoke")
    assert laws_met(report) == {("sgd_epoch", "proportional-to-rate"), ("sgd_epoch", "network-pure")}
    assert report.exit_code() == 0


def test_gradients_in_one_flat_list_obey_the_laws() -> None:
    def mlp_gradients(params: Any, x: Any, labels: Any) -> Any:
        return [array for layer in plain.mlp_gradients(params, x, labels) for array in layer]

    report = quick("mlp_gradients", mlp_gradients)
    assert ("mlp_gradients", "balance") in laws_met(report)
    assert report.exit_code() == 0


def test_no_law_is_put_to_what_returns_nothing() -> None:
    assert laws_met(quick("mlp", lambda x, params: None)) == {("mlp", "all")}


@pytest.mark.parametrize("name", NETWORK_FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bounds_of_a_network_are_below_what_tensorfloat32_loses(name: str, dtype: str) -> None:
    """Relative to the largest entry of an array, in half of the arrays: 11 bits lose 2^13 u of float32."""
    fmt, function = FORMATS[dtype], NETWORK_FUNCTIONS[name]
    widths = [
        float(bound.deterministic.max() / np.abs(truth.nearest.astype(np.float64)).max())
        for case in range(LEVELS["ci"] // CASES)
        for truth, bound, _ in expect_network(function, contract_of(fmt), network_trial(name, fmt, case, 0))
        if truth.nearest.any()  # not behind neurons that are off for all samples
    ]
    assert np.median(widths) < 2**10 * fmt.unit_roundoff


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_epoch_is_certified_like_its_steps(dtype: str) -> None:
    """One sample: the certified epoch is the step along the certified gradients, each rounded once."""
    fmt = FORMATS[dtype]
    trial = network_trial("sgd_epoch", fmt, 1, 0)
    params, xs, labels = trial.arguments
    assert len(xs) == 1
    rate = trial.settings["learning_rate"]
    epoch = NETWORK_FUNCTIONS["sgd_epoch"].certified(trial, fmt)
    gradients = NETWORK_FUNCTIONS["mlp_gradients"].certified(
        Trial(1, "value", (params, xs, labels), {}, (), (), {}), fmt
    )
    flat = [array for layer in params for array in layer]
    for old, new, gradient in zip(flat, epoch, gradients, strict=True):
        by_hand = old.astype(np.float64) - rate * gradient.nearest.astype(np.float64)
        granted = 2 * fmt.unit_roundoff * (np.abs(old) + np.abs(rate * gradient.nearest)).astype(np.float64)
        assert (np.abs(new.nearest.astype(np.float64) - by_hand) <= granted).all()
