"""Gradients at a kink: what each slope that may be taken there gives, and what may be lost on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from specs import Kink, Spec
from verify.arithmetic.bounds import ErrorBound, carried, cover, granted_model, in_model, lift, stored
from verify.arithmetic.certified import certify
from verify.arithmetic.formats import Format, Truth
from verify.laws.examples import output_shape

Values = npt.NDArray[Any]


def on_kink(kink: Kink, inputs: Sequence[Values], settings: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Which elements of the first input lie in the set where the derivative jumps."""
    return np.asarray(np.equal(kink.distance(*inputs, **settings), 0))


def subgradient(
    spec: Spec,
    kink: Kink,
    slope: float,
    dy: Values,
    inputs: Sequence[Values],
    settings: Mapping[str, Any],
    fmt: Format,
) -> tuple[Truth, ErrorBound]:
    """The gradient of the first input under one slope, everywhere; it counts only on the kink.

    That is slope * inner * share; in a mean the share of an example is dy / n, or dy times a rounded 1 / n.
    """
    examples = _examples(spec, inputs, settings)
    numerator, denominator = slope.as_integer_ratio()

    def definition(cotangent: Any, *x: Any, **given: Any) -> Any:
        return 0 * x[0] + cotangent * kink.inner(*x, **given) * numerator / (denominator * examples)

    def bound(statistical: bool) -> Any:
        model = granted_model(fmt, statistical=statistical)
        given = carried(dy, model)
        forms = (given / examples, given * (lift(1.0, model) / examples))
        inner = kink.inner(*in_model(inputs, model), **settings)
        divided, multiplied = (share * (slope * inner) for share in forms)
        return np.broadcast_to(stored(cover(divided, multiplied), fmt).error, inputs[0].shape)

    with np.errstate(all="ignore"):
        granted = ErrorBound(*map(bound, (False, True)))
    return certify(definition, (dy, *inputs), fmt, settings), granted


def _examples(spec: Spec, inputs: Sequence[Values], settings: Mapping[str, Any]) -> int:
    """Over how many examples the mean is taken; 1 if there is none."""
    if settings.get("reduction") != "mean":
        return 1
    return math.prod(output_shape(spec, inputs, {**settings, "reduction": "none"}))
