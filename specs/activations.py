"""Activations: what they are."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np

from specs.maths import exp, is_positive, log, saved, where
from specs.spec import Case, Domain, Form, Input, Kink, Refusal, Setting, Spec, Variant

GOODFELLOW = "Goodfellow, Bengio & Courville, Deep Learning (2016)"
BLANCHARD = (
    "Blanchard, Higham & Higham, Accurately computing the log-sum-exp and softmax functions, "
    "IMA J. Numer. Anal. 41 (2021), doi:10.1093/imanum/draa038"
)

X = (Input("x"),)
AXIS = (Setting("axis", (-1, 0)),)
EMPTY_ROW = Refusal("a row of nothing has no distribution", ([[], []],), "at least one entry")
SCALAR_ROW = Refusal("a single number has no axis to normalise", (1.0,), "shape")
NO_SUCH_AXIS = Refusal("an axis that the array does not have", ([[1.0, 2.0]],), "axis", {"axis": 2})


def _identity(x: Any) -> Any:
    return x + 0


def _relu(x: Any) -> Any:
    return where(is_positive(x), x, 0 * x)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + exp(-x))


def _tanh(x: Any) -> Any:
    return (exp(x) - exp(-x)) / (exp(x) + exp(-x))


def _softmax(x: Any, *, axis: int = -1) -> Any:
    return exp(x) / exp(x).sum(axis=axis, keepdims=True)


def _log_softmax(x: Any, *, axis: int = -1) -> Any:
    return log(_softmax(x, axis=axis))


def _logsumexp(x: Any, *, axis: int = -1) -> Any:
    return log(np.asarray(exp(x).sum(axis=axis), dtype=object))


def shifted_log_softmax(x: Any, *, axis: int = -1) -> Any:
    """The form of log-softmax that most libraries use: the largest entry apart, the logarithm of the sum."""
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def shifted_softmax(x: Any, *, axis: int = -1) -> Any:
    """Softmax with the largest entry subtracted."""
    exponentials = np.exp(x - x.max(axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def unshifted_log_softmax(x: Any, *, axis: int = -1) -> Any:
    """Each entry less the log-sum-exp of its row: off by the rounding of the largest entry."""
    return x - np.expand_dims(shifted_logsumexp(x, axis=axis), axis)


def shifted_logsumexp(x: Any, *, axis: int = -1) -> Any:
    """Log-sum-exp with the largest entry apart."""
    top = x.max(axis=axis, keepdims=True)
    return (top + np.log(np.exp(x - top).sum(axis=axis, keepdims=True))).squeeze(axis)


def _halves(x: Any) -> Any:
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


def _glu(x: Any) -> Any:
    value, gated = _halves(x)
    return value / (1 + exp(-gated))


def _gate(x: Any) -> Any:
    """The sigmoid of the second half, for the forms."""
    return 1.0 / (1.0 + np.exp(-_halves(x)[1]))


def _glu_from_gate(dy: Any, y: Any, x: Any) -> tuple[Any]:
    s = saved(_gate(x))
    return (np.concatenate([dy * s, dy * _halves(x)[0] * (s * (1.0 - s))], -1),)


def _rescaled(x: Any, mask: Any, rate: Any) -> Any:
    """x (1 / (1 - rate)), for the forms: with two more roundings, because 1 - rate and its reciprocal are
    Python's numbers, whose errors a bound does not see."""
    return np.where(mask, x * 3.0 / 3.0 / (1.0 - rate), 0.0)


def _dropout(x: Any, mask: Any, *, rate: Any = 0.5) -> Any:
    return where(mask, x / (1 - rate), 0)


SPECS = (
    Spec(
        name="identity",
        summary="The activation of a layer without one.",
        signature="(...)->(...)",
        definition=_identity,
        inputs=X,
        laws=("odd",),
        cases=(
            Case("every value is its own image", ([nan, inf, -inf, -0.0, 2.5],), [nan, inf, -inf, -0.0, 2.5]),
        ),
    ),
    Spec(
        name="relu",
        summary="The rectified linear unit: the positive part of x.",
        signature="(...)->(...)",
        definition=_relu,
        inputs=X,
        kinks=(
            Kink(
                where="x = 0",
                distance=np.abs,
                convention=0.0,
                allowed=(0.0, 0.5, 1.0),
            ),
        ),
        laws=("nonnegative",),
        cases=(
            Case("both sides of the kink, and the kink", ([-2.0, -0.0, 0.0, 3.0],), [0.0, 0.0, 0.0, 3.0]),
            Case("the infinities", ([-inf, inf],), [0.0, inf]),
            Case("NaN is not replaced by 0", ([nan, 1.0],), [nan, 1.0]),
        ),
        references=(f"{GOODFELLOW}, 6.3.1",),
    ),
    Spec(
        name="sigmoid",
        summary="The logistic function: a probability from a logit.",
        signature="(...)->(...)",
        definition=_sigmoid,
        inputs=X,
        laws=("unit-interval", "reflection", "nan-reaches-gradients"),
        cases=(
            Case("the middle", ([0.0, -0.0],), [0.5, 0.5]),
            Case("the limits", ([-inf, inf],), [0.0, 1.0]),
            Case("NaN stays", ([nan],), [nan]),
        ),
        forms=(
            Form(
                "derivative from the output, y (1 - y)",
                "PyTorch, scikit-learn",
                vjp=lambda dy, y, x: (dy * (y * (1.0 - y)),),
            ),
        ),
        references=(f"{GOODFELLOW}, 3.10",),
    ),
    Spec(
        name="tanh",
        summary="The hyperbolic tangent.",
        signature="(...)->(...)",
        definition=_tanh,
        inputs=X,
        laws=("odd", "nan-reaches-gradients"),
        cases=(
            Case("the middle", ([0.0],), [0.0]),
            Case("the limits", ([-inf, inf],), [-1.0, 1.0]),
            Case("NaN stays", ([nan],), [nan]),
        ),
        forms=(
            Form(
                "derivative from the output, 1 - y^2",
                "PyTorch, scikit-learn",
                vjp=lambda dy, y, x: (dy * (1.0 - y * y),),
            ),
        ),
        references=(f"{GOODFELLOW}, 6.3.2",),
    ),
    Spec(
        name="softmax",
        summary="A distribution from a row of logits.",
        signature="(...,c)->(...,c)",
        definition=_softmax,
        inputs=X,
        settings=AXIS,
        laws=(
            "unit-interval",
            "sums-to-one",
            "shift-invariant",
            "gradient-sums-to-zero",
            "nan-reaches-gradients",
        ),
        cases=(
            Case("equal logits share equally", ([[7.0, 7.0], [-3.0, -3.0]],), [[0.5, 0.5], [0.5, 0.5]]),
            Case("one class is certain", ([[5.0]],), [[1.0]]),
            Case("a class ruled out", ([[-inf, 1.0, 1.0]],), [[0.0, 0.5, 0.5]]),
            Case("the NaN of a row stays in its row", ([[nan, 0.0], [1.0, 1.0]],), [[nan, nan], [0.5, 0.5]]),
            Case("nothing overflows", ([[30000.0, 30000.0, -30000.0]],), [[0.5, 0.5, 0.0]]),
        ),
        refusals=(EMPTY_ROW, SCALAR_ROW, NO_SUCH_AXIS),
        forms=(
            Form(
                "derivative from the output, y (dy - sum(y dy))",
                "PyTorch, JAX",
                vjp=lambda dy, y, x, *, axis=-1: (y * (dy - (y * dy).sum(axis=axis, keepdims=True)),),
            ),
            Form(
                "exponential of the log-softmax",
                "TensorFlow",
                value=lambda x, *, axis=-1: np.exp(shifted_log_softmax(x, axis=axis)),
            ),
            Form(
                "exp(x - logsumexp(x)), without a division",
                "PyTorch (torch.distributions.Categorical)",
                value=lambda x, *, axis=-1: np.exp(unshifted_log_softmax(x, axis=axis)),
            ),
        ),
        references=(BLANCHARD, f"{GOODFELLOW}, 6.2.2.3"),
    ),
    Spec(
        name="log_softmax",
        summary="The logarithm of softmax.",
        signature="(...,c)->(...,c)",
        definition=_log_softmax,
        inputs=X,
        settings=AXIS,
        laws=("nonpositive", "shift-invariant", "gradient-sums-to-zero", "nan-reaches-gradients"),
        cases=(
            Case("one class is certain", ([[5.0]],), [[0.0]]),
            Case("a class ruled out", ([[-inf, 3.0]],), [[-inf, 0.0]]),
            Case(
                "the NaN of a row stays in its row", ([[nan, 0.0], [2.0, -inf]],), [[nan, nan], [0.0, -inf]]
            ),
            Case("no smallest probability", ([[0.0, 60000.0]],), [[-60000.0, 0.0]]),
        ),
        refusals=(EMPTY_ROW, SCALAR_ROW, NO_SUCH_AXIS),
        forms=(
            Form("logarithm of the sum", "PyTorch, JAX", value=shifted_log_softmax),
            Form(
                "x - logsumexp(x)",
                "PyTorch (torch.distributions.Categorical)",
                value=unshifted_log_softmax,
            ),
            Form(
                "derivative from the output, dy - exp(y) sum(dy)",
                "PyTorch, JAX",
                vjp=lambda dy, y, x, *, axis=-1: (dy - np.exp(y) * dy.sum(axis=axis, keepdims=True),),
            ),
        ),
        references=(BLANCHARD,),
    ),
    Spec(
        name="logsumexp",
        summary="The logarithm of a sum of exponentials: a smooth maximum.",
        signature="(...,c)->(...)",
        definition=_logsumexp,
        inputs=X,
        settings=AXIS,
        laws=("shift-equivariant", "nan-reaches-gradients"),
        cases=(
            Case("one term", ([[5.0], [-3.0]],), [5.0, -3.0]),
            Case("nothing is left", ([[-inf, -inf]],), [-inf]),
            Case("an infinity wins", ([[inf, 0.0], [-inf, inf]],), [inf, inf]),
            Case("a term of nothing", ([[-inf, 2.0]],), [2.0]),
            Case("NaN stays in its row", ([[nan, inf], [4.0, -inf]],), [nan, 4.0]),
        ),
        refusals=(EMPTY_ROW, SCALAR_ROW, NO_SUCH_AXIS),
        forms=(
            Form("logarithm of the sum", "PyTorch, SciPy", value=shifted_logsumexp),
            Form(
                "one term after the other, without leaving the logarithms",
                "NumPy",
                value=lambda x, *, axis=-1: np.logaddexp.reduce(x, axis=axis),
            ),
            Form(
                "derivative from the output, exp(x - y) dy",
                "PyTorch",
                vjp=lambda dy, y, x, *, axis=-1: (
                    np.exp(x - np.expand_dims(y, axis)) * np.expand_dims(dy, axis),
                ),
            ),
        ),
        references=(BLANCHARD,),
    ),
    Spec(
        name="glu",
        summary="The gated linear unit: the first half of a row times the sigmoid of the second.",
        signature="(...,d)->(...,c)",
        definition=_glu,
        inputs=(Input("x", degree=2),),
        derived={"c": lambda sizes, settings: sizes["d"] // 2},
        shapes=({"d": 4}, {"d": 34}, {"d": 6}, {"d": 70}, {"d": 2}),
        equations=(
            "y = a s, s = 1 / (1 + exp(-b)), x = (a, b) in halves along the last axis",
            "dx = (dy s, dy a s (1 - s))",
        ),
        laws=("nan-reaches-gradients",),
        cases=(
            Case("an open gate lets half through", ([[3.0, -2.0, 0.0, 0.0]],), [[1.5, -1.0]]),
            Case("gates open and closed", ([[3.0, 5.0, inf, -inf]],), [[3.0, 0.0]]),
            Case("NaN stays in its place", ([[nan, 5.0, 0.0, 0.0], [1.0, 5.0, nan, 0.0]],), [[nan, 2.5]] * 2),
        ),
        refusals=(
            Refusal("a row that has no two halves", ([[1.0, 2.0, 3.0]],), "even"),
            Refusal("a row of nothing", ([[]],), "even"),
            SCALAR_ROW,
        ),
        forms=(
            Form(
                "a sigmoid that divides, and its derivative from its output",
                "PyTorch, JAX",
                value=lambda x: _halves(x)[0] * _gate(x),
                vjp=_glu_from_gate,
            ),
        ),
        references=(
            "Dauphin et al., Language Modeling with Gated Convolutional Networks (2017), arXiv:1612.08083",
        ),
    ),
    Spec(
        name="dropout",
        summary="Entries dropped by a mask, and the others scaled up to keep the mean.",
        signature="(...),(...)->(...)",
        definition=_dropout,
        inputs=(Input("x"), Input("mask", Domain.MASK, differentiable=False)),
        settings=(Setting("rate", (0.5, 0.1, 0.0)),),
        cases=(
            Case("dropped, and kept", ([3.0, 5.0], [False, True]), [0.0, 10.0]),
            Case("nothing is dropped", ([3.0, -0.0], [True, True]), [3.0, -0.0], {"rate": 0.0}),
            Case("what is kept stays NaN", ([nan, inf], [True, True]), [nan, inf]),
        ),
        refusals=(
            Refusal("everything is dropped", ([1.0], [True]), "rate", {"rate": 1.0}),
            Refusal("a mask of numbers", ([1.0], [1.0]), "bool"),
            Refusal("a mask for all examples", ([[1.0], [2.0]], [True]), "shape"),
        ),
        forms=(
            Form(
                "times the rounded 1 / (1 - rate)",
                "PyTorch, TensorFlow",
                value=lambda x, mask, *, rate=0.5: _rescaled(x, mask, rate),
                vjp=lambda dy, y, x, mask, *, rate=0.5: (_rescaled(dy, mask, rate),),
            ),
        ),
        variants=(
            Variant(
                "not-rescaled",
                "what is kept stays as it is; the weights are scaled down when all entries are there",
                "Srivastava et al. (2014)",
                definition=lambda x, mask, *, rate=0.5: where(mask, x, 0),
            ),
        ),
        references=("Srivastava et al., Dropout, J. Mach. Learn. Res. 15 (2014)",),
    ),
)
