"""What is due in a trial of an operator: the truth, under a convention; and the bound, under a contract.

Both are the same for every candidate, and are kept for the next one: to certify takes most of the time of a
check. The truth does not depend on the contract, so that another one costs its bounds alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from refnet import OPS
from specs import Slope, Spec, Variant
from verify.arithmetic.bounds import ErrorBound, stated_bounds, value_bounds, vjp_bounds
from verify.arithmetic.certified import certify, certify_each, certify_vjp, in_order
from verify.arithmetic.contracts import Contract
from verify.arithmetic.formats import Format, Truth
from verify.arithmetic.stochastic import condition_spreads, value_spreads, vjp_spreads
from verify.conformance.contract import Values, are_finite, flattened
from verify.conformance.trial import Expected, Results, Trial
from verify.laws.subgradients import on_kink, subgradient
from verify.mistakes.evidence import beyond

Function = Callable[..., Any]
Floats = npt.NDArray[np.float64]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Side:
    """The values of an operator, or its gradients: the truths that are due, none if they are not known; the
    bounds of the results; their spreads in stochastic arithmetic; and the errors that the problem permits,
    whoever solves it."""

    truths: Callable[[Spec, Format, Variant | None, Trial], Sequence[Truth]]
    bounds: Callable[[Spec, Contract, Variant | None, Trial], Sequence[ErrorBound]]
    spreads: Callable[[Spec, Contract, Variant | None, Trial], Sequence[Floats]]
    conditions: Callable[[Spec, Format, Variant | None, Trial], Sequence[Floats]]


def expected(
    side: Side, spec: Spec, contract: Contract, variant: Variant | None, trial: Trial
) -> Sequence[Expected]:
    """What is due for each result, or nothing where that is not known."""
    truths = _answered(side.truths, spec, contract.output, variant, trial)
    if not truths:
        return ()
    bounds = _answered(side.bounds, spec, contract, variant, trial)
    if any(_is_useless(bound, truth, contract) for bound, truth in zip(bounds, truths, strict=True)):
        spreads = _answered(side.spreads, spec, contract, variant, trial)
        bounds = [narrowed(bound, spread, contract) for bound, spread in zip(bounds, spreads, strict=True)]
    title = _title(variant)
    return [Expected(truth, bound, title) for truth, bound in zip(truths, bounds, strict=True)]


def _is_useless(bound: ErrorBound, truth: Truth, contract: Contract) -> bool:
    """Whether some bound leaves less than half of the digits of the largest result: errors that cancel one
    another have then been added up. Of what is not a number none is due."""
    size = np.abs(truth.nearest.astype(np.float64))
    finite = np.isfinite(size)
    largest = size[finite].max(initial=0.0)
    half = math.sqrt(contract.inside.unit_roundoff) * largest
    with np.errstate(invalid="ignore"):
        return bool((~(bound.statistical <= half) & finite & (largest > 0.0)).any())


def narrowed(bound: ErrorBound, spread: Floats, contract: Contract) -> ErrorBound:
    """A bound whose statistical part is no wider than a spread, where that is known; nor is the deterministic
    part infinite there. A spread below the normal numbers is not known: it has hardly a digit.

    Where no bound is finite, what n roundings can do if all work together is at most sqrt(n) times what they
    do at random, and no chain of them is longer than 1 / u.
    """
    with np.errstate(invalid="ignore"):
        known = np.isfinite(spread) & (spread >= contract.inside.smallest_normal)
        known &= ~(spread >= bound.statistical)
        together = spread / math.sqrt(contract.inside.unit_roundoff)
    unbounded = known & ~np.isfinite(bound.deterministic)
    return ErrorBound(
        np.where(unbounded, together, bound.deterministic),
        np.where(known, spread, bound.statistical),
    )


def conditions(side: Side, spec: Spec, fmt: Format, trial: Trial) -> Sequence[Floats]:
    """What a relative change of the inputs by the unit roundoff does to each result. It hardly depends on the
    convention, and that of the reference is taken."""
    return _answered(side.conditions, spec, fmt, None, trial)


@dataclass(frozen=True, slots=True)
class _Question:
    """A question about a trial, and how it is answered."""

    key: tuple[Any, ...]
    ask: Callable[[], Any] = field(compare=False)


@lru_cache(maxsize=4096)
def _answer(question: _Question) -> Any:
    return question.ask()


def _answered(
    ask: Callable[[Spec, Any, Variant | None, Trial], Answer],
    spec: Spec,
    given: Format | Contract,
    variant: Variant | None,
    trial: Trial,
) -> Answer:
    """The answer of `ask`, which is found once."""
    numbers = tuple((x.tobytes(), x.shape, x.dtype.name) for x in flattened(trial.arguments))
    settings = tuple(sorted((name, repr(value)) for name, value in trial.settings.items()))
    convention = "" if variant is None else (variant.name, variant.gradients is None)
    under = given.arithmetic() if isinstance(given, Contract) else given.name
    key = (ask, spec, OPS[spec.name], under, convention, trial.case, trial.aspect, numbers, settings)
    answer: Answer = _answer(_Question(key, partial(ask, spec, given, variant, trial)))
    return answer


# ------------------------------------------------------------------------------------------------ values


def _is_known(spec: Spec, trial: Trial) -> bool:
    """Whether a trial is one of the known answers."""
    return trial.case < len(spec.cases)


def _value_truths(spec: Spec, fmt: Format, variant: Variant | None, trial: Trial) -> Sequence[Truth]:
    """The certified value or the known answer. That of a variant at infinities and NaN is unknown, but for
    operators of one number: there all conventions have the limits of the reference."""
    if _is_known(spec, trial) and variant is None:
        answers = in_order(spec.cases[trial.case].expected)
        return [_as_stated(answer, shape, fmt) for answer, shape in zip(answers, trial.shapes, strict=True)]
    inputs, definition = _in_convention(spec, variant, trial.arguments)
    if _is_known(spec, trial) and not are_finite(inputs):
        if not spec.is_unary:
            return ()
        ((x,), (shape,)) = inputs, trial.shapes
        finite = np.isfinite(x.astype(np.float64))
        limit = _as_stated(spec.cases[trial.case].expected, shape, fmt)
        (truth,) = certify_each(definition, (np.where(finite, x, x.dtype.type(0.0)),), fmt, trial.settings)
        return [
            Truth(
                np.where(finite, truth.nearest, limit.nearest),
                np.where(finite, truth.fraction, limit.fraction),
            )
        ]
    if _is_nan(variant, inputs, trial):
        return [Truth.exactly(np.full(shape, np.nan, fmt.dtype)) for shape in trial.shapes]
    return certify_each(definition, inputs, fmt, trial.settings)


def _as_stated(answer: Any, shape: tuple[int, ...], fmt: Format) -> Truth:
    """An answer that is known, as the format has it."""
    return Truth.exactly(np.broadcast_to(np.asarray(answer, np.float64).astype(fmt.dtype), shape))


def _is_nan(variant: Variant | None, inputs: Sequence[Values], trial: Trial) -> bool:
    """Whether a variant has no number there."""
    return (
        variant is not None
        and variant.nan_where is not None
        and bool(variant.nan_where(*inputs, **trial.settings))
    )


def _value_bounds(
    spec: Spec, contract: Contract, variant: Variant | None, trial: Trial
) -> Sequence[ErrorBound]:
    """The bound of the loosest of the operator's forms. At infinities and NaN no bound is finite: the known
    answer is exact there."""
    inputs, _ = _in_convention(spec, variant, trial.arguments)
    if _is_nan(variant, inputs, trial):
        return [ErrorBound(np.zeros(()), np.zeros(()))] * len(trial.shapes)
    bounds = value_bounds(OPS[spec.name], _with_forms(spec, variant), inputs, trial.settings, contract)
    if _is_known(spec, trial) and (variant is None or spec.is_unary):
        return [ErrorBound(_finite(bound.deterministic), _finite(bound.statistical)) for bound in bounds]
    return [_scaled(bound, variant, inputs, trial.settings) for bound in bounds]


def _finite(bound: Values) -> Values:
    return np.where(np.isfinite(bound), bound, 0.0)


def _in_convention(
    spec: Spec, variant: Variant | None, inputs: tuple[Values, ...]
) -> tuple[tuple[Values, ...], Function]:
    """The inputs and the definition under a variant."""
    if variant is None:
        return inputs, spec.definition
    prepared = variant.prepare(*inputs) if variant.prepare else inputs
    definition = variant.definition or spec.definition
    divisor = variant.divisor
    if divisor is None:
        return prepared, definition
    return prepared, lambda *x, **settings: definition(*x, **settings) / divisor(*x, **settings)


def _with_forms(spec: Spec, variant: Variant | None) -> Spec:
    """The specification with the forms of a variant beside its own."""
    return spec if variant is None else replace(spec, forms=(*spec.forms, *variant.forms))


def _scaled(
    bound: ErrorBound, variant: Variant | None, inputs: Sequence[Values], settings: Mapping[str, Any]
) -> ErrorBound:
    if variant is None or variant.divisor is None:
        return bound
    divisor = float(variant.divisor(*inputs, **settings))
    return ErrorBound(bound.deterministic / divisor, bound.statistical / divisor)


def _title(variant: Variant | None) -> str:
    return "" if variant is None else f"{variant.name}: {variant.summary} ({variant.used_by})"


def _value_conditions(spec: Spec, fmt: Format, variant: Variant | None, trial: Trial) -> Sequence[Floats]:
    return condition_spreads(OPS[spec.name], spec, trial.arguments, trial.settings, fmt)


def _value_spreads(spec: Spec, contract: Contract, variant: Variant | None, trial: Trial) -> Sequence[Floats]:
    inputs, _ = _in_convention(spec, variant, trial.arguments)
    if _is_nan(variant, inputs, trial) or _is_another(variant):
        return [np.full((), np.inf)] * len(trial.shapes)
    return value_spreads(OPS[spec.name], _with_forms(spec, variant), inputs, trial.settings, contract)


def _is_another(variant: Variant | None) -> bool:
    """Whether a variant is another function than refnet's, whose code says nothing of its spread."""
    return variant is not None and (variant.definition is not None or variant.divisor is not None)


VALUES = Side(_value_truths, _value_bounds, _value_spreads, _value_conditions)

# --------------------------------------------------------------------------------------------- gradients


def _gradient_truths(spec: Spec, fmt: Format, variant: Variant | None, trial: Trial) -> Sequence[Truth]:
    """The certified gradients: of the definition, or those that a convention states. Of a value that is no
    number no gradient is due."""
    dy, *given = trial.arguments
    if variant is not None and variant.gradients is not None:
        stated = variant.gradients
        return [
            certify(partial(_output, stated, k), trial.arguments, fmt, trial.settings)
            for k in range(len(trial.shapes))
        ]
    inputs, definition = _in_convention(spec, variant, tuple(given))
    if _is_nan(variant, inputs, trial):
        return ()
    truths = certify_vjp(definition, inputs, spec.differentiable, dy, fmt, trial.settings)
    # the gradient of a clipping is 0 where it changes something
    inside = [np.equal(inputs[k], given[k]) for k in spec.differentiable]
    return [
        Truth(np.where(at, truth.nearest, 0), np.where(at, truth.fraction, 0.0))
        for truth, at in zip(truths, inside, strict=True)
    ]


def _output(function: Function, k: int, *arguments: Any, **settings: Any) -> Any:
    return function(*arguments, **settings)[k]


def _gradient_bounds(
    spec: Spec, contract: Contract, variant: Variant | None, trial: Trial
) -> Sequence[ErrorBound]:
    """The bounds of the loosest of the operator's forms, or of the formula that a convention states."""
    dy, *given = trial.arguments
    if variant is not None and variant.gradients is not None:
        return stated_bounds(variant.gradients, dy, given, trial.settings, contract)
    inputs, _ = _in_convention(spec, variant, tuple(given))
    forms = _with_forms(spec, variant)
    bounds = vjp_bounds(OPS[spec.name], forms, dy, inputs, trial.settings, contract)
    return [_scaled(bound, variant, inputs, trial.settings) for bound in bounds]


def _gradient_conditions(spec: Spec, fmt: Format, variant: Variant | None, trial: Trial) -> Sequence[Floats]:
    dy, *inputs = trial.arguments
    return condition_spreads(OPS[spec.name], spec, inputs, trial.settings, fmt, dy)


def _gradient_spreads(
    spec: Spec, contract: Contract, variant: Variant | None, trial: Trial
) -> Sequence[Floats]:
    dy, *given = trial.arguments
    inputs, _ = _in_convention(spec, variant, tuple(given))
    stated = variant is not None and variant.gradients is not None
    if stated or _is_another(variant):
        return [np.full((), np.inf)] * len(trial.shapes)
    first, *others = vjp_spreads(
        OPS[spec.name], _with_forms(spec, variant), dy, inputs, trial.settings, contract
    )
    for kink in spec.kinks:  # where others take other derivatives than the code that is sampled
        first = np.where(on_kink(kink, inputs, contract), np.inf, first)
    return [first if spec.tie is None else np.full(first.shape, np.inf), *others]


GRADIENTS = Side(_gradient_truths, _gradient_bounds, _gradient_spreads, _gradient_conditions)


def allow_subgradients(
    spec: Spec, contract: Contract, trial: Trial, due: Sequence[Expected], results: Results
) -> list[Expected]:
    """At a kink the candidate's own derivative, where it takes one that is allowed; and the name of that."""
    dy, *inputs = trial.arguments
    (truth, bound, variant), *others = due
    for kink in spec.kinks:
        on_it = on_kink(kink, inputs, contract)
        convention = kink.convention_under(trial.settings)
        for slope in kink.allowed_under(trial.settings) if on_it.any() else ():
            if slope == convention:
                continue
            other, granted = subgradient(spec, kink, slope, dy, inputs, trial.settings, contract)
            taken = on_it & beyond(results[0], truth, bound) & ~beyond(results[0], other, granted)
            if taken.any():
                truth = Truth(
                    np.where(taken, other.nearest, truth.nearest),
                    np.where(taken, other.fraction, truth.fraction),
                )
                bound = ErrorBound(
                    np.where(taken, granted.deterministic, bound.deterministic),
                    np.where(taken, granted.statistical, bound.statistical),
                )
                where = kink.where.replace(" ", "")
                variant = f"derivative-{_named(slope)}-at-{where}: a subgradient other than the reference's"
    return [Expected(truth, bound, variant), *others]


def _named(slope: Slope) -> str:
    if isinstance(slope, tuple):
        return f"mean-of-{'-and-'.join(map(_named, slope))}"
    return slope if isinstance(slope, str) else f"{slope:g}"
