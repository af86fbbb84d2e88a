"""Defects of real libraries, at exact inputs, and that the ordinary check finds them.

Each is an input at which a released library is wrong, or loses more than the problem asks for. A row that a
new release mends fails here, and goes.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import pytest

from specs import SPECS
from specs.spec import SettingValue
from verify import Report, Verdict, check
from verify.arithmetic.contracts import LADDERS
from verify.arithmetic.formats import FORMATS, error_in_ulp
from verify.conformance.candidate import load
from verify.conformance.sweeps import Question
from verify.reports import Outcome
from verify.reports.record import Accuracy


class Found(NamedTuple):
    """What the ordinary check says of it."""

    aspect: str
    verdict: Verdict = Verdict.FAIL
    says: str = ""
    """A part of the reason, the diagnosis or the name of the variant."""
    accuracy: Accuracy | None = None
    keeps: str = ""


class Defect(NamedTuple):
    """A number at which a library is off, by at least so many ulp; NaN for a number is infinitely far off."""

    library: str
    op: str
    dtype: str
    x: float
    least_ulp: float
    found: Found
    why: str
    derivative: bool = False
    settings: tuple[tuple[str, SettingValue], ...] = ()

    @property
    def id(self) -> str:
        which = "'" if self.derivative else ""
        return f"{self.library} {self.op}{which}({self.x:g}) {self.dtype}"


TANH = (("approximate", "tanh"),)
INF = float("inf")
OVERFLOW = "x^2 overflows, and infinity times 1 - tanh(u)^2 = 0 is NaN; the slope is 1"
SAVED = Found("vjp", Verdict.PASS, accuracy=Accuracy.BOUNDED)
DEFECTS = (
    Defect("jax", "gelu", "float16", 150.0, INF, Found("sweep:vjp", says="NaN"), OVERFLOW, True, TANH),
    Defect("jax", "gelu", "float32", 2e19, INF, Found("vjp", says="infinity"), OVERFLOW, True, TANH),
    Defect("torch", "gelu", "bfloat16", 2e19, INF, Found("sweep:vjp", says="NaN"), OVERFLOW, True, TANH),
    Defect("torch", "gelu", "float32", 2e19, INF, Found("vjp", says="infinity"), OVERFLOW, True, TANH),
    Defect(
        *("jax", "sigmoid", "float16", -11.09375, 250.0, Found("sweep:value")),
        "exp(11.1) overflows in float16: 0 for 1.52e-5, as of all numbers below",
    ),
    Defect(
        *("jax", "silu", "float16", -11.453125, 2000.0, Found("sweep:value")),
        "the sigmoid in float16: -0 for -1.2e-4",
    ),
    Defect(
        *("jax", "gelu", "float16", -3.8828125, 2000.0, Found("sweep:value")),
        "1 + tanh(u) in float16: -0 for -1.2e-4",
        False,
        TANH,
    ),
    Defect(
        *("jax", "gelu", "bfloat16", -3.1875, 250.0, Found("sweep:value")),
        "1 + tanh(u) in bfloat16: -0 for -0.00195",
        False,
        TANH,
    ),
    Defect(
        *("onnxruntime", "sigmoid", "float32", -18.5, 1e6, Found("value")),
        "clamped: 0 from -18 on (onnxruntime#22557)",
    ),
    Defect(
        *("onnxruntime", "silu", "float32", -17.015, 1e6, Found("value")),
        "by the same sigmoid: -2.0e-6 for -6.9e-7",
    ),
    Defect(
        *("onnxruntime", "elu", "float32", -2.4e-8, 1e6, Found("value")),
        "exp(x) - 1 has no digit left: 0 for -2.4e-8",
    ),
    Defect(
        *("torch", "silu", "float32", -INF, INF, Found("contract:special-values", says="silu-of-minus-inf")),
        "minus infinity times 0: NaN, where the limit is -0",
    ),
    Defect(
        *("jax", "silu", "float32", -INF, INF, Found("contract:special-values", says="silu-of-minus-inf")),
        "minus infinity times 0: NaN, where the limit is -0",
    ),
    Defect(
        *("torch", "softplus", "float64", 20.0067, 5e5),
        Found("value", Verdict.PASS, "linear-beyond-20"),
        "x itself beyond the documented threshold; a convention, recognised by name",
    ),
    Defect(
        *("torch", "gelu", "float32", -6.0, 1e6, Found("value", Verdict.PASS, accuracy=Accuracy.BOUNDED)),
        "1 + erf(x / sqrt(2)) has no digit left: the form is granted, and is less than the problem permits",
    ),
    Defect(
        *("torch", "sigmoid", "float32", 17.0, 1e6, SAVED),
        "y (1 - y) of the saved output, which is 1: the derivative is 0 for 4.1e-8",
        True,
    ),
    Defect(
        *("jax", "sigmoid", "float32", 17.0, 1e6, SAVED),
        "y (1 - y) of the saved output, which is 1: the derivative is 0 for 4.1e-8",
        True,
    ),
    Defect(
        *("jax", "softplus", "float32", 8.33538, 7.0, SAVED),
        "exp(x - softplus(x)): 8.5 ulp, for the division that it saves",
        True,
    ),
    Defect(
        *("jax", "sigmoid", "float32", -95.0, 1e3),
        Found("value", Verdict.PASS, keeps=LADDERS["float32"][2].text),
        "XLA takes subnormal numbers for 0 on the CPU",
    ),
)


def mark(library: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(library) is None, reason=f"{library} is not installed")


ROWS = [pytest.param(row, id=row.id, marks=mark(row.library)) for row in DEFECTS]


@pytest.mark.parametrize("row", ROWS)
def test_the_library_is_off_at_this_number(row: Defect) -> None:
    fmt = FORMATS[row.dtype]
    settings = {**SPECS[row.op].defaults, **dict(row.settings)}
    question = Question(row.op, row.derivative, tuple(settings.items()), LADDERS[row.dtype][0])
    x = np.array([row.x]).astype(fmt.dtype)
    got = returned(row, x)
    if not np.isfinite(x).all():
        assert np.isnan(got).all()
        return
    assert error_in_ulp(got, question.certified(x, fmt), fmt)[0] >= row.least_ulp


def returned(row: Defect, x: Any) -> Any:
    functions, settings = load(row.library).functions, dict(row.settings)
    if not row.derivative:
        return functions[row.op](x, **settings)
    (dx,) = functions[f"{row.op}_vjp"](np.ones_like(x), x, **settings)
    return dx


@lru_cache
def checked(library: str, op: str, dtype: str) -> Report:
    return check(library, ops=[op], dtypes=[dtype], level="ci")


def of_aspect(library: str, op: str, dtype: str, aspect: str) -> Outcome:
    return next(o for o in checked(library, op, dtype).outcomes if o.aspect == aspect)


@pytest.mark.parametrize("row", ROWS)
def test_the_ordinary_check_finds_it(row: Defect) -> None:
    found, due = of_aspect(row.library, row.op, row.dtype, row.found.aspect), row.found
    assert found.verdict is due.verdict
    told = " ".join([found.reason, found.variant, *(f"{d.mistake} {d.summary}" for d in found.diagnosis)])
    assert due.says in told
    assert due.accuracy in (None, found.accuracy)
    assert due.keeps in ("", found.keeps)


@mark("torch")
def test_a_layer_norm_that_is_not_centred_is_no_better_than_its_bound() -> None:
    """PyTorch's backward is inverse g + b x + c, which at mean / spread = 1000 loses ten times more than the
    centred form. It is granted all the same; that the problem permits better, the report says."""
    rng = np.random.default_rng(0)
    x = (1000.0 + rng.standard_normal((8, 64))).astype(np.float32)
    dy, gamma = rng.standard_normal((8, 64)).astype(np.float32), np.ones(64, np.float32)
    arguments = dy, x, gamma, np.zeros(64, np.float32)
    exact, *_ = reference_vjp(*(a.astype(np.float64) for a in arguments))
    theirs, *_ = load("torch").functions["layer_norm_vjp"](*arguments)
    ours, *_ = reference_vjp(*arguments)
    lost, kept = (float(np.abs(dx - exact).max()) for dx in (theirs, ours))
    assert lost > 4.0 * kept
    assert of_aspect("torch", "layer_norm", "float32", "vjp").accuracy is Accuracy.BOUNDED


def reference_vjp(*arguments: Any) -> Any:
    return load("refnet").functions["layer_norm_vjp"](*arguments)


@mark("torch")
def test_a_fused_attention_that_takes_probabilities_from_rounded_logarithms_is_found() -> None:
    """Scores of 1e8: exp(score - logsumexp) of the fused backward is no probability any more."""
    assert of_aspect("torch", "multi_head_attention", "float32", "vjp").verdict is Verdict.FAIL
