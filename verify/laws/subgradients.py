"""Gradients at a kink: what each slope that may be taken there gives, and what may be lost on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from specs import Kink, Spec
from verify.arithmetic.bounds import (
    Bounded,
    ErrorBound,
    carried,
    cover,
    granted_model,
    in_model,
    lift,
    stored,
)
from verify.arithmetic.certified import certify
from verify.arithmetic.formats import FORMATS, Format, Truth
from verify.laws.examples import output_shapes

Values = npt.NDArray[Any]


def on_kink(kink: Kink, inputs: Sequence[Values]) -> npt.NDArray[np.bool_]:
    """Which elements of the first input lie in the set where the derivative jumps.

    A subnormal distance may be none: the numbers may be read as 0.
    """
    fmt = FORMATS[inputs[0].dtype.name]
    flushed_below = granted_model(fmt, statistical=False).flushed_below
    unseen = flushed_below - fmt.smallest_subnormal if flushed_below else 0.0
    return np.asarray(np.less_equal(np.abs(kink.distance(*inputs)), unseen))


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
        # 1 / 6 is no number of any format
        mantissa, _ = math.frexp(abs(slope))
        rounding = 0.0 if mantissa in (0.0, 0.5) else model.unit_roundoff * abs(slope)
        divided, multiplied = (share * (Bounded(slope, rounding, model) * inner) for share in forms)
        return np.broadcast_to(stored(cover(divided, multiplied), fmt).error, inputs[0].shape)

    with np.errstate(all="ignore"):
        granted = ErrorBound(*map(bound, (False, True)))
    return certify(definition, (dy, *inputs), fmt, settings), granted


def _examples(spec: Spec, inputs: Sequence[Values], settings: Mapping[str, Any]) -> int:
    """Over how many examples the mean is taken; 1 if there is none."""
    if settings.get("reduction") != "mean":
        return 1
    return math.prod(output_shapes(spec, inputs, {**settings, "reduction": "none"})[0])
