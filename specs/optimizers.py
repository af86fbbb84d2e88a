"""Optimizer steps: what they are. Pure: the new parameter and the new state are new arrays."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import numpy as np

from specs.activations import GOODFELLOW
from specs.maths import maximum, sqrt
from specs.spec import Aspect, Case, Domain, Form, Input, Refusal, Setting, Spec, Variant

KINGMA = "Kingma & Ba, Adam: a method for stochastic optimization, ICLR 2015, arXiv:1412.6980, algorithm 1"
LOSHCHILOV = "Loshchilov & Hutter, Decoupled weight decay regularization, ICLR 2019, arXiv:1711.05101"
PASCANU = "Pascanu, Mikolov & Bengio, On the difficulty of training recurrent networks, ICML 2013"

RATE = Setting("learning_rate", (0.125, 0.1, 0.5, 0.0078125, 0.003), required=True)
BETAS = (Setting("beta1", (0.9, 0.5)), Setting("beta2", (0.999, 0.75)))
EPS = Setting("eps", (1e-8, 0.001))
PARAM = Input("param", differentiable=False)
GRAD = Input("grad", differentiable=False, degree=2)
FIRST = Input("m", differentiable=False, degree=2)
SECOND = Input("v", Domain.NONNEGATIVE, differentiable=False)
STEP = Input("step", Domain.COUNT, differentiable=False)
STEP_LAWS = ("zero-gradient", "several-steps")
DOWNHILL = {"learning_rate": 0.5}
HALF = {"momentum": 0.5}
UPHILL = "a rate that goes uphill"
FIRST_STEP = ([1.0], [2.0], [0.0], [0.0], 1)
EXACT_ADAM = {"beta1": 0.5, "beta2": 0.75, "eps": 2.0}
ADAM_REFUSALS = (
    Refusal("steps are counted from 1", ([1.0], [2.0], [0.0], [0.0], 0), "step"),
    Refusal("a mean that never forgets", FIRST_STEP, "beta1", {"beta1": 1.0}),
    Refusal("a mean square that never forgets", FIRST_STEP, "beta2", {"beta2": 1.0}),
    Refusal("nothing against 0 / 0", FIRST_STEP, "eps", {"eps": 0.0}),
)


def _sgd_step(param: Any, grad: Any, *, learning_rate: Any) -> Any:
    return param - learning_rate * grad


def _momentum_step(
    param: Any,
    grad: Any,
    velocity: Any,
    *,
    learning_rate: Any,
    momentum: Any = 0.9,
    dampening: Any = 0.0,
    nesterov: bool = False,
    weight_decay: Any = 0.0,
) -> Any:
    if weight_decay != 0:
        grad = grad + weight_decay * param
    velocity = momentum * velocity + (1 - dampening) * grad
    direction = grad + momentum * velocity if nesterov else velocity
    return param - learning_rate * direction, velocity


def _velocity_times_rate(
    param: Any,
    grad: Any,
    velocity: Any,
    *,
    learning_rate: Any,
    momentum: Any = 0.9,
    dampening: Any = 0.0,
    nesterov: bool = False,
    weight_decay: Any = 0.0,
) -> Any:
    if weight_decay != 0:
        grad = grad + weight_decay * param
    velocity = momentum * velocity - (1 - dampening) * learning_rate * grad
    return param + (momentum * velocity - learning_rate * grad if nesterov else velocity), velocity


def _velocity_with_momentum_alone(
    param: Any,
    grad: Any,
    velocity: Any,
    *,
    learning_rate: Any,
    momentum: Any = 0.9,
    weight_decay: Any = 0.0,
    **settings: Any,
) -> Any:
    if momentum == 0:
        return param - learning_rate * (grad + weight_decay * param), velocity
    return _momentum_step(
        param,
        grad,
        velocity,
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        **settings,
    )


def _moments(grad: Any, m: Any, v: Any, beta1: Any, beta2: Any) -> tuple[Any, Any]:
    return beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad * grad


def _adam_step(
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    step: Any,
    *,
    learning_rate: Any = 0.001,
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    eps: Any = 1e-8,
) -> Any:
    m, v = _moments(grad, m, v, beta1, beta2)
    mean, mean_square = m / (1 - beta1 ** int(step)), v / (1 - beta2 ** int(step))
    return param - learning_rate * mean / (sqrt(mean_square) + eps), m, v


def _adam_step_with_eps_before_correction(
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    step: Any,
    *,
    learning_rate: Any = 0.001,
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    eps: Any = 1e-8,
) -> Any:
    m, v = _moments(grad, m, v, beta1, beta2)
    rate = learning_rate * sqrt(1 - beta2 ** int(step)) / (1 - beta1 ** int(step))
    return param - rate * m / (sqrt(v) + eps), m, v


def _adamw_step(
    param: Any,
    *state: Any,
    learning_rate: Any = 0.001,
    weight_decay: Any = 0.01,
    **settings: Any,
) -> Any:
    after, m, v = _adam_step(param, *state, learning_rate=learning_rate, **settings)
    return after - learning_rate * weight_decay * param, m, v


def _adamw_step_of_the_paper(param: Any, *state: Any, weight_decay: Any = 0.01, **settings: Any) -> Any:
    after, m, v = _adam_step(param, *state, **settings)
    return after - weight_decay * param, m, v


def _rmsprop_step(
    param: Any, grad: Any, v: Any, *, learning_rate: Any, decay: Any = 0.9, eps: Any = 1e-8
) -> Any:
    v = decay * v + (1 - decay) * grad * grad
    return param - learning_rate * grad / (sqrt(v) + eps), v


def _rmsprop_step_with_eps_inside(
    param: Any, grad: Any, v: Any, *, learning_rate: Any, decay: Any = 0.9, eps: Any = 1e-8
) -> Any:
    v = decay * v + (1 - decay) * grad * grad
    return param - learning_rate * grad / sqrt(v + eps), v


def _adagrad_step(param: Any, grad: Any, v: Any, *, learning_rate: Any, eps: Any = 1e-10) -> Any:
    v = v + grad * grad
    return param - learning_rate * grad / (sqrt(v) + eps), v


def _adagrad_step_with_eps_inside(
    param: Any, grad: Any, v: Any, *, learning_rate: Any, eps: Any = 1e-10
) -> Any:
    v = v + grad * grad
    return param - learning_rate * grad / sqrt(v + eps), v


def _norm(a: Any, b: Any) -> Any:
    return sqrt((a * a).sum() + (b * b).sum())


def _clip_by_global_norm(a: Any, b: Any, *, max_norm: Any) -> Any:
    scale = max_norm / maximum(max_norm, _norm(a, b))
    return a * scale, b * scale


def _clip_by_a_larger_norm(a: Any, b: Any, *, max_norm: Any) -> Any:
    """The norm and a millionth, which is 10^-6 and not the float nearest to it."""
    scale = max_norm / maximum(max_norm, (10**6 * _norm(a, b) + 1) / 10**6)
    return a * scale, b * scale


# ---------------------------------------------------------------------------------- forms, in floating point


def _in_format(constant: float, like: Any) -> Any:
    """A constant as a number of the arrays' format, which 0.999 is not: 1 less it is off by 1000 u."""
    return 0.0 * like + constant


def _adam_in_format(
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    step: Any,
    *,
    learning_rate: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> Any:
    b1, b2 = _in_format(beta1, param), _in_format(beta2, param)
    m, v = b1 * m + (1.0 - b1) * grad, b2 * v + (1.0 - b2) * (grad * grad)
    mean, mean_square = m / (1.0 - np.power(b1, step)), v / (1.0 - np.power(b2, step))
    return param - learning_rate * (mean / (np.sqrt(mean_square) + eps)), m, v


def _adam_by_step_size(
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    step: Any,
    *,
    learning_rate: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> Any:
    m, v = m + (grad - m) * (1.0 - beta1), v * beta2 + (1.0 - beta2) * grad * grad
    mean_square = np.sqrt(v) / np.sqrt(1.0 - np.power(_in_format(beta2, param), step))
    size = learning_rate / (1.0 - np.power(_in_format(beta1, param), step))
    return param - size * (m / (mean_square + eps)), m, v


def _decayed_first(form: Any) -> Any:
    """A form of Adam as one of AdamW: the decay of the parameter before the step, as PyTorch has it."""

    def decayed(
        param: Any, *state: Any, learning_rate: float = 0.001, weight_decay: float = 0.01, **settings: Any
    ) -> Any:
        kept = 1.0 - learning_rate * weight_decay
        return form(param * kept, *state, learning_rate=learning_rate, **settings)

    return decayed


ADAM_FORMS = (
    ("constants in the format of the parameters", "JAX, kernels", _adam_in_format),
    ("the first moment by interpolation; the step size apart", "PyTorch", _adam_by_step_size),
)

SPECS = (
    Spec(
        name="sgd_step",
        summary="One step of gradient descent: the parameter less the learning rate times its gradient.",
        signature="(...),(...)->(...)",
        definition=_sgd_step,
        inputs=(Input("param"), Input("grad")),
        outputs=("param",),
        settings=(Setting("learning_rate", (0.125, 0.1, 0.5, 0.0078125, 0.003), required=True),),
        aspect=Aspect.STEP,
        laws=("zero-gradient",),
        cases=(
            Case("downhill", ([1.0, -2.0], [4.0, -8.0]), [0.5, -1.0], {"learning_rate": 0.125}),
            Case("no gradient, no step", ([3.0, 0.0], [0.0, 0.0]), [3.0, 0.0], {"learning_rate": 0.5}),
            Case("NaN stays", ([nan, 1.0], [0.0, nan]), [nan, nan], {"learning_rate": 0.5}),
            Case("an infinite gradient", ([1.0, 1.0], [inf, -inf]), [-inf, inf], {"learning_rate": 0.5}),
        ),
        refusals=(
            Refusal("a gradient of another shape", ([1.0, 2.0], [1.0]), "shape", {"learning_rate": 0.5}),
            Refusal("uphill", ([1.0], [1.0]), "learning_rate", {"learning_rate": -0.5}),
            Refusal("no rate", ([1.0], [1.0]), "learning_rate", {"learning_rate": nan}),
        ),
        references=(f"{GOODFELLOW}, 8.3.1",),
    ),
    Spec(
        name="momentum_step",
        summary="One step of gradient descent with momentum: along a decaying sum of the gradients.",
        signature="(...),(...),(...)->(...),(...)",
        equations=(
            "g = grad + weight_decay param",
            "velocity' = momentum velocity + (1 - dampening) g",
            "param' = param - learning_rate velocity'",
            "Nesterov: param' = param - learning_rate (g + momentum velocity')",
        ),
        definition=_momentum_step,
        inputs=(PARAM, GRAD, Input("velocity", differentiable=False)),
        outputs=("param", "velocity"),
        settings=(
            RATE,
            Setting("momentum", (0.9, 0.0)),
            Setting("dampening", (0.0, 0.25)),
            Setting("nesterov", (False, True)),
            Setting("weight_decay", (0.0, 0.01)),
        ),
        aspect=Aspect.STEP,
        laws=STEP_LAWS,
        cases=(
            Case("half of the velocity stays", ([1.0], [4.0], [2.0]), ([-1.5], [5.0]), {**DOWNHILL, **HALF}),
            Case(
                "Nesterov looks ahead",
                ([1.0], [4.0], [2.0]),
                ([-2.25], [5.0]),
                {**DOWNHILL, **HALF, "nesterov": True},
            ),
            Case(
                "the decay is part of the gradient, and so of the velocity",
                ([1.0], [4.0], [2.0]),
                ([-1.75], [5.5]),
                {**DOWNHILL, **HALF, "weight_decay": 0.5},
            ),
            Case(
                "without momentum the decay stays",
                ([1.0], [4.0], [2.0]),
                ([-1.25], [4.5]),
                {**DOWNHILL, "momentum": 0.0, "weight_decay": 0.5},
            ),
            Case(
                "the gradient is dampened, the velocity is not",
                ([1.0], [4.0], [2.0]),
                ([-1.0], [4.0]),
                {**DOWNHILL, **HALF, "dampening": 0.25},
            ),
            Case("NaN stays", ([1.0], [nan], [0.0]), ([nan], [nan]), DOWNHILL),
        ),
        refusals=(
            Refusal(UPHILL, ([1.0], [1.0], [0.0]), "learning_rate", {"learning_rate": -0.5}),
            Refusal("no slowing down", ([1.0], [1.0], [0.0]), "momentum", {**DOWNHILL, "momentum": 1.0}),
        ),
        variants=(
            Variant(
                "velocity-times-learning-rate",
                "the velocity is the step itself, with the learning rate of its time, and downhill",
                "TensorFlow, Keras, Sutskever et al. (2013)",
                definition=_velocity_times_rate,
            ),
            Variant(
                "no-velocity-without-momentum",
                "without momentum nothing is dampened, and the velocity is left as it was",
                "PyTorch",
                definition=_velocity_with_momentum_alone,
            ),
        ),
        references=(
            "Polyak, Some methods of speeding up the convergence of iteration methods (1964)",
            "Sutskever, Martens, Dahl & Hinton, On the importance of initialization and momentum, ICML 2013",
        ),
    ),
    Spec(
        name="adam_step",
        summary="One step of Adam: the mean of the gradients over the root of the mean of their squares.",
        signature="(...),(...),(...),(...),()->(...),(...),(...)",
        equations=(
            "m' = beta1 m + (1 - beta1) grad",
            "v' = beta2 v + (1 - beta2) grad^2",
            "d = (m' / (1 - beta1^step)) / (sqrt(v' / (1 - beta2^step)) + eps)",
            "param' = param - learning_rate d",
        ),
        definition=_adam_step,
        inputs=(PARAM, GRAD, FIRST, SECOND, STEP),
        outputs=("param", "m", "v"),
        settings=(replace(RATE, values=(0.001, *RATE.values[:2]), required=False), *BETAS, EPS),
        aspect=Aspect.STEP,
        laws=STEP_LAWS,
        cases=(
            Case("the first step", FIRST_STEP, ([0.75], [1.0], [1.0]), {**EXACT_ADAM, **DOWNHILL}),
            Case("no gradient, no step", ([3.0], [0.0], [0.0], [0.0], 1), ([3.0], [0.0], [0.0])),
            Case("NaN stays", ([1.0], [nan], [0.0], [0.0], 1), ([nan], [nan], [nan])),
        ),
        refusals=(
            *ADAM_REFUSALS,
            Refusal(UPHILL, FIRST_STEP, "learning_rate", {"learning_rate": -0.5}),
        ),
        forms=tuple(Form(name, user, value=form) for name, user, form in ADAM_FORMS),
        variants=(
            Variant(
                "eps-before-the-correction",
                "eps is added to the root of v itself (the paper's eps hat): far larger in the first steps",
                "TensorFlow, Keras; the last lines of section 2 of the paper",
                definition=_adam_step_with_eps_before_correction,
            ),
        ),
        references=(KINGMA,),
    ),
    Spec(
        name="adamw_step",
        summary="One step of Adam with decoupled weight decay: the decay is no part of the gradient.",
        signature="(...),(...),(...),(...),()->(...),(...),(...)",
        equations=(
            "m' = beta1 m + (1 - beta1) grad",
            "v' = beta2 v + (1 - beta2) grad^2",
            "d = (m' / (1 - beta1^step)) / (sqrt(v' / (1 - beta2^step)) + eps)",
            "param' = param - learning_rate (d + weight_decay param)",
        ),
        definition=_adamw_step,
        inputs=(PARAM, GRAD, FIRST, SECOND, STEP),
        outputs=("param", "m", "v"),
        settings=(
            replace(RATE, values=(0.001, *RATE.values[:2]), required=False),
            *BETAS,
            EPS,
            Setting("weight_decay", (0.01, 0.0)),
        ),
        aspect=Aspect.STEP,
        laws=STEP_LAWS,
        cases=(
            Case(
                "half of the parameter decays, times the rate",
                FIRST_STEP,
                ([0.5], [1.0], [1.0]),
                {**EXACT_ADAM, **DOWNHILL, "weight_decay": 0.5},
            ),
            Case(
                "without a gradient the decay is left",
                ([4.0], [0.0], [0.0], [0.0], 1),
                ([3.0], [0.0], [0.0]),
                {**DOWNHILL, "weight_decay": 0.5},
            ),
        ),
        refusals=ADAM_REFUSALS,
        forms=tuple(Form(name, user, value=_decayed_first(form)) for name, user, form in ADAM_FORMS),
        variants=(
            Variant(
                "decay-without-learning-rate",
                "the decay is not multiplied by the learning rate, only by a schedule",
                "Loshchilov & Hutter, algorithm 2",
                definition=_adamw_step_of_the_paper,
            ),
        ),
        references=(LOSHCHILOV,),
    ),
    Spec(
        name="rmsprop_step",
        summary="One step of RMSprop: the gradient over the root of the decaying mean of its squares.",
        signature="(...),(...),(...)->(...),(...)",
        equations=(
            "v' = decay v + (1 - decay) grad^2",
            "param' = param - learning_rate grad / (sqrt(v') + eps)",
        ),
        definition=_rmsprop_step,
        inputs=(PARAM, GRAD, SECOND),
        outputs=("param", "v"),
        settings=(RATE, Setting("decay", (0.9, 0.5)), EPS),
        aspect=Aspect.STEP,
        laws=STEP_LAWS,
        cases=(
            Case(
                "a quarter of the square",
                ([1.0], [2.0], [0.0]),
                ([0.5], [1.0]),
                {**DOWNHILL, "decay": 0.75, "eps": 1.0},
            ),
            Case("no gradient, no step", ([3.0], [0.0], [0.0]), ([3.0], [0.0]), DOWNHILL),
        ),
        refusals=(
            Refusal("a mean that never forgets", ([1.0], [1.0], [0.0]), "decay", {**DOWNHILL, "decay": 1.0}),
            Refusal("nothing against 0 / 0", ([1.0], [1.0], [0.0]), "eps", {**DOWNHILL, "eps": 0.0}),
        ),
        variants=(
            Variant(
                "eps-inside-the-root",
                "eps is added to v, not to its root",
                "TensorFlow, Keras, Optax",
                definition=_rmsprop_step_with_eps_inside,
            ),
        ),
        references=("Tieleman & Hinton, Lecture 6.5: rmsprop, COURSERA (2012)", f"{GOODFELLOW}, 8.5.2"),
    ),
    Spec(
        name="adagrad_step",
        summary="One step of Adagrad: the gradient over the root of the sum of all its squares.",
        signature="(...),(...),(...)->(...),(...)",
        equations=(
            "v' = v + grad^2",
            "param' = param - learning_rate grad / (sqrt(v') + eps)",
        ),
        definition=_adagrad_step,
        inputs=(PARAM, GRAD, SECOND),
        outputs=("param", "v"),
        settings=(RATE, Setting("eps", (1e-10, 0.001))),
        aspect=Aspect.STEP,
        laws=STEP_LAWS,
        cases=(
            Case(
                "the squares add up",
                ([1.0], [2.0], [5.0]),
                ([0.75], [9.0]),
                {**DOWNHILL, "eps": 1.0},
            ),
            Case("no gradient, no step", ([3.0], [0.0], [0.0]), ([3.0], [0.0]), DOWNHILL),
        ),
        refusals=(Refusal("nothing against 0 / 0", ([1.0], [1.0], [0.0]), "eps", {**DOWNHILL, "eps": 0.0}),),
        variants=(
            Variant(
                "eps-inside-the-root",
                "eps is added to v, not to its root",
                "Keras, Optax",
                definition=_adagrad_step_with_eps_inside,
            ),
        ),
        references=("Duchi, Hazan & Singer, Adaptive subgradient methods, JMLR 12 (2011)",),
    ),
    Spec(
        name="clip_by_global_norm",
        summary="Gradients scaled down together, so that their common norm is at most max_norm.",
        signature="(m),(k)->(m),(k)",
        equations=(
            "norm = sqrt(sum(a^2) + sum(b^2))",
            "a' = a max_norm / max(max_norm, norm), and b' alike",
        ),
        definition=_clip_by_global_norm,
        inputs=(Input("a", differentiable=False, degree=2), Input("b", differentiable=False, degree=2)),
        outputs=("a", "b"),
        settings=(Setting("max_norm", (1.0, 0.1, 1000.0), required=True),),
        shapes=(
            {"m": 2, "k": 3},
            {"m": 5, "k": 17},
            {"m": 33, "k": 4},
            {"m": 1, "k": 6},
            {"m": 7, "k": 1},
        ),
        aspect=Aspect.STEP,
        cases=(
            Case("3 and 4 make 5", ([3.0], [4.0]), ([1.5], [2.0]), {"max_norm": 2.5}),
            Case("short enough", ([3.0], [4.0]), ([3.0], [4.0]), {"max_norm": 8.0}),
            Case("nothing to clip", ([0.0], [0.0]), ([0.0], [0.0]), {"max_norm": 1.0}),
            Case("NaN is in the norm of all", ([nan], [1.0]), ([nan], [nan]), {"max_norm": 1.0}),
        ),
        refusals=(Refusal("no length at all", ([1.0], [1.0]), "max_norm", {"max_norm": 0.0}),),
        variants=(
            Variant(
                "norm-and-a-millionth",
                "1e-6 is added to the norm, so that what is just long enough is scaled as well",
                "PyTorch",
                definition=_clip_by_a_larger_norm,
            ),
        ),
        references=(f"{PASCANU}, algorithm 1",),
    ),
)
