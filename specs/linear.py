"""The affine layer: what it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from specs.spec import Case, Input, Refusal, Spec


def _linear(x: Any, w: Any, b: Any) -> Any:
    return x @ w + b


SPECS = (
    Spec(
        name="linear",
        summary="An affine map of each row of x: weights (inputs, outputs) and one bias for each output.",
        signature="(n,k),(k,m),(m)->(n,m)",
        definition=_linear,
        inputs=(Input("x", degree=2), Input("w", degree=2), Input("b")),
        cases=(
            Case(
                "rows times columns, and the bias of the column",
                ([[1.0, 2.0]], [[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]], [0.5, 0.25, 0.125]),
                [[15.5, 18.25, 21.125]],
            ),
            Case("a batch of nothing", (np.zeros((0, 2)), [[3.0], [6.0]], [0.5]), np.zeros((0, 1))),
        ),
        refusals=(
            Refusal(
                "weights stored (outputs, inputs)",
                ([[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0.0, 0.0, 0.0]),
                "k = 2",
            ),
            Refusal("a bias for the inputs", ([[1.0, 2.0]], [[1.0], [2.0]], [0.0, 0.0]), "m = 1"),
            Refusal("one sample without its batch axis", ([1.0, 2.0], [[1.0], [2.0]], [0.0]), "shape"),
        ),
        references=("Goodfellow, Bengio & Courville, Deep Learning (2016), 6.1",),
    ),
)
