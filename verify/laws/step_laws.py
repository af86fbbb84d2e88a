"""Laws of optimizer steps: no gradient, no step; and what a state carries from one step to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from verify.arithmetic.bounds import Bounded, bounded_values, carried, granted_model
from verify.arithmetic.certified import in_order
from verify.arithmetic.formats import Format
from verify.laws.examples import Example
from verify.laws.law import Comparison, Floats, Law, NotApplicable, Subject, Values, require, require_each

GRADIENT_SIZES = (1.0, 1e-5, 1e-8, 0.0)
"""Of four steps: where eps is nothing, where it matters, where it is nearly all, and a step of the state
alone. A place of eps, a correction for the first steps or a power of a decay shows in one of them only."""


def _named(subject: Subject, example: Example) -> dict[str, Values]:
    return {item.name: x for item, x in zip(subject.spec.inputs, example.inputs, strict=True)}


def _zero_gradient(subject: Subject, example: Example, fmt: Format) -> None:
    """Without a gradient, a state and a decay of weights a step changes nothing, bit for bit; -0.0 is 0.0.

    What is subnormal may be flushed to 0, as XLA does.
    """
    given = _named(subject, example)
    still = {name: x if name in ("param", "step") else np.zeros_like(x) for name, x in given.items()}
    example = example.with_inputs(*still.values())
    if "weight_decay" in example.settings:
        example = example.with_settings(weight_decay=0.0)
    read = carried(still["param"], granted_model(subject.granted(fmt), statistical=False))
    require(subject.results(example)[0], read.value, read.error, "the parameter after a gradient of 0")


def _several_steps(subject: Subject, example: Example, fmt: Format) -> None:
    """Four steps from an empty state, each fed with the results of the one before: the parameter and the
    state are those of refnet, to within the rounding of all the steps."""
    spec = subject.spec
    given = _named(subject, example)
    state = [name for name in spec.outputs if name != "param"]
    if not state:
        raise NotApplicable("no state to carry")
    with np.errstate(invalid="ignore"):
        pattern = np.clip(given["grad"].astype(np.float64), -1.0, 1.0)
    found: dict[str, Any] = given | {name: np.zeros_like(given[name]) for name in state}
    due: dict[str, Any] = dict(found)
    for number, size in enumerate(GRADIENT_SIZES, start=1):
        now = {"grad": np.asarray((pattern * size).astype(fmt.dtype))}
        if "step" in given:
            now["step"] = np.asarray(number)
        found |= dict(zip(spec.outputs, _step(subject, example, found | now), strict=True))
        inputs = list((due | now).values())
        outputs = bounded_values(subject.reference, spec, inputs, example.settings, subject.granted(fmt))
        due |= dict(zip(spec.outputs, outputs, strict=True))
    require_each(
        Comparison(
            _wide(found[name]),
            due[name].value,
            _granted(due[name]),
            f"{name} after {len(GRADIENT_SIZES)} steps",
        )
        for name in spec.outputs
    )


def _step(subject: Subject, example: Example, arguments: Mapping[str, Values]) -> tuple[Values, ...]:
    """One step in the format, whose results are the arguments of the next."""
    results = subject.value(*(x.copy() for x in arguments.values()), **example.settings)
    return tuple(np.asarray(y) for y in in_order(results))


def _granted(due: Bounded) -> Floats:
    """Twice the bound, for two computations of one result; infinite where it is none."""
    known = np.isfinite(due.value) & (due.error < np.finfo(np.float64).max / 2.0)
    return np.where(known, 2.0 * np.where(known, due.error, 0.0), np.inf)


def _wide(array: Values) -> Floats:
    return array.astype(np.float64)


STEP_LAWS = (
    Law("zero-gradient", "a step along a gradient of 0 changes nothing", _zero_gradient),
    Law("several-steps", "the state of a step is what the next one needs", _several_steps),
)
