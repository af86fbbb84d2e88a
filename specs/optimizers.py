"""Optimizer steps: what they are. Pure: the new parameter is a new array."""

from __future__ import annotations

from math import inf, nan
from typing import Any

from specs.activations import GOODFELLOW
from specs.spec import Aspect, Case, Input, Refusal, Setting, Spec


def _sgd_step(param: Any, grad: Any, *, learning_rate: Any) -> Any:
    return param - learning_rate * grad


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
)
