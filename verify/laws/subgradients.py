"""Gradients at a kink: what each slope that may be taken there gives, and what may be lost on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from specs import Kink, Slope, Spec
from verify.arithmetic.bounds import (
    Bounded,
    ErrorBound,
    RoundingModel,
    carried,
    granted_model,
    in_model,
    lift,
    stored,
)
from verify.arithmetic.certified import certify
from verify.arithmetic.contracts import Grant, contract_of
from verify.arithmetic.formats import Truth
from verify.laws.examples import output_shapes

Values = npt.NDArray[Any]


def on_kink(kink: Kink, inputs: Sequence[Values], grant: Grant) -> npt.NDArray[np.bool_]:
    """Which elements of the first input lie in the set where the derivative jumps.

    A subnormal distance may be none: the numbers may be read as 0.
    """
    flushed_below = granted_model(grant, statistical=False).flushed_in_memory
    unseen = flushed_below - contract_of(grant).output.smallest_subnormal if flushed_below else 0.0
    return np.asarray(np.less_equal(np.abs(kink.distance(*inputs)), unseen))


def subgradient(
    spec: Spec,
    kink: Kink,
    slope: Slope,
    dy: Values,
    inputs: Sequence[Values],
    settings: Mapping[str, Any],
    grant: Grant,
) -> tuple[Truth, ErrorBound]:
    """The gradient of the first input under one slope, everywhere; it counts only on the kink.

    That is slope * inner * share; in a mean the share of an example is dy / n, or dy times a rounded 1 / n.
    """
    examples, fmt = _examples(spec, inputs, settings), contract_of(grant).output

    def definition(cotangent: Any, *x: Any, **given: Any) -> Any:
        numerator, denominator = _exactly(spec, slope, x)
        return 0 * x[0] + cotangent * kink.inner(*x, **given) * numerator / (denominator * examples)

    def bound(statistical: bool) -> Any:
        model = granted_model(grant, statistical=statistical)
        given = carried(dy, model)
        forms = (given / examples, given * (lift(1.0, model) / examples))
        read = in_model(inputs, model)
        times = _as_computed(spec, slope, read, model) * kink.inner(*read, **settings)
        divided, multiplied = (share * times for share in forms)
        return np.broadcast_to(stored(divided.cover(multiplied), fmt).error, inputs[0].shape)

    with np.errstate(all="ignore"):
        granted = ErrorBound(*map(bound, (False, True)))
    return certify(definition, (dy, *inputs), fmt, settings), granted


def _exactly(spec: Spec, slope: Slope, inputs: Sequence[Any]) -> tuple[Any, int]:
    """A slope as a fraction."""
    if isinstance(slope, tuple):
        (a, below_a), (b, below_b) = (_exactly(spec, part, inputs) for part in slope)
        return a * below_b + b * below_a, 2 * below_a * below_b
    return (_along_the_first(spec, slope, inputs), 1) if isinstance(slope, str) else slope.as_integer_ratio()


def _as_computed(spec: Spec, slope: Slope, inputs: Sequence[Any], model: RoundingModel) -> Any:
    """A slope with its rounding: 1 / 6 is no number of any format."""
    if isinstance(slope, tuple):
        a, b = (_as_computed(spec, part, inputs, model) for part in slope)
        return 0.5 * a + 0.5 * b
    if isinstance(slope, str):
        return _along_the_first(spec, slope, inputs)
    mantissa, _ = math.frexp(abs(slope))
    return Bounded(slope, 0.0 if mantissa in (0.0, 0.5) else model.unit_roundoff * abs(slope), model)


def _along_the_first(spec: Spec, name: str, inputs: Sequence[Any]) -> Any:
    """An input, broadcastable against the first one by the axes that they share."""
    place = [item.name for item in spec.inputs].index(name)
    batch, sizes = spec.sizes_of([x.shape for x in inputs])
    shared = {axis: size if axis in spec.core_axes[place] else 1 for axis, size in sizes.items()}
    (shape, *_) = spec.laid_out(0, (1,) * len(batch), shared)
    return inputs[place].reshape(shape)


def _examples(spec: Spec, inputs: Sequence[Values], settings: Mapping[str, Any]) -> int:
    """Over how many examples the mean is taken; 1 if there is none."""
    if settings.get("reduction") != "mean":
        return 1
    return math.prod(output_shapes(spec, inputs, {**settings, "reduction": "none"})[0])
