"""Is a vjp the vjp of a function? Three answers, each with the error bars that it rests on."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from verify.gradients.arrays import Array, Function, as_points, coarsest, is_floating
from verify.gradients.contract import Candidate
from verify.gradients.directions import as_seed
from verify.gradients.escalation import decide
from verify.gradients.kinks import Kinks
from verify.gradients.report import GradcheckReport, Subject


def gradcheck(
    f: Function,
    vjp: Function,
    inputs: Sequence[npt.ArrayLike],
    *,
    seed: int = 0,
    settings: Mapping[str, object] | None = None,
    differentiable: Sequence[int] | None = None,
    kinks: Kinks | None = None,
) -> GradcheckReport:
    """Compare a claimed vjp with numerical derivatives of f, at one point.

    `f(*inputs, **settings)` returns a floating array or a tuple of them. `vjp(dy, *inputs, **settings)`
    returns the gradients of `sum(dy * f(*inputs))` for the differentiable inputs in order, one array if
    there is one, else a tuple; dy is a tuple when f returns one. An operator of refnet is such a pair:
    `gradcheck(softmax, softmax.vjp, [x])`. The point is `inputs` with the two lowest bits of every float
    cleared (see `snap`).

    Checked without any derivative: number, type, shape and dtype of the gradients, arguments left
    unmodified, no gradient in the memory of an input, the same bits from equal calls, 0 for dy = 0,
    `vjp(2^p dy) = 2^p vjp(dy)` and `vjp(a + b) = vjp(a) + vjp(b)`.

    Then the gradients along random directions (`agreement`), against a complex step if f takes complex
    numbers and differences prove that it takes them rightly, else against the change of f along a path.
    They take a few calls and end in a pass or in nothing. What they leave open is compared element by
    element, for two random cotangents, and one for each output if there are several, so that none is
    drowned: with complex steps that differences confirm, or with differences alone (`numerical_vjp`). No
    cotangent is constant, and none has an element near 0: softmax and layer norm have gradient 0 for a
    constant one, and an element of the Jacobian that is wrong by e shows in the gradient with at least e.
    A float32 or float16 pair that takes float64, and has the same values there, is held to its own
    gradients in float64.

    Verdicts:
        fail: a contract is broken, or a claim lies outside the numerical bars of two kinds of steps without
            a common one by more than both bars, their disagreement, twice the rounding error of the claim,
            and what terms that cancel may leave (`cancelled`); for a kink, outside the interval of the
            one-sided derivatives by as much; or the claims along two paths contradict f. A claim that is not
            finite where the derivative is fails.
        pass: the directions agree, or every element lies within its bar, and `resolution` <= 4 sqrt(u), u
            the unit roundoff of the least precise array. That is half of the digits but two bits: what the
            best forward difference could reach, and far below what an error of a formula does to the
            element that it hits. Elements on a kink (relu at 0) whose claims lie between the one-sided
            derivatives, or are what `kinks.convention` asks for, are allowed, if each input has more
            elements that are not.
        inconclusive: everything else, with the reason: noise, domain edge, mostly kinks, too low a
            resolution, or a check without content (no elements, or an input whose gradient is 0 within its
            error at this point, and claimed to be something).

    Not seen is what is narrower than the finest step, which is 2^-30 of the scale of the input (2^-20 in
    float32, 2^-7 in float16), and no higher than rounding noise may be: the sines in x + 1e-10 sin(3e9 x)
    count as noise, and its slope as 1 +- `resolution`, though it goes from 0.7 to 1.3. f is taken by its
    values: where it rounds to float16 inside it is a stair, and a smooth gradient of it wrong.

    Args:
        seed: of the cotangents and directions; the report repeats it.
        settings: keyword arguments of both functions.
        differentiable: positions of the inputs that have a gradient; all floating ones if None. Integer
            inputs never have one.
        kinks: where f is not smooth, if that is known; see `Kinks`.

    Raises:
        TypeError: an input has a dtype that cannot be differentiated, or `inputs` is no sequence of them.
        ValueError: seed is not an integer of at least 0, or `differentiable` names no floating input.
    """
    seed = as_seed(seed)
    known: object = kinks
    if not isinstance(known, Kinks | None):
        raise TypeError(f"kinks is {known!r}; required: verify.Kinks(...), such as Kinks(convention='left')")
    points = as_points(inputs)
    candidate = Candidate(
        partial(f, **settings) if settings else f,
        partial(vjp, **settings) if settings else vjp,
        points,
        _positions(points, differentiable),
        _names(f),
        dtype=coarsest(points),
    )
    options = {"settings": settings, "differentiable": differentiable, "kinks": kinks}
    about = Subject(
        _called(f),
        _called(vjp),
        seed,
        candidate.dtype.name,
        "".join(f", {name}={value!r}" for name, value in options.items() if value is not None),
    )
    with np.errstate(all="ignore"):  # huge numbers, and steps that leave a domain
        return decide(candidate, kinks, about)


def assert_gradients(
    f: Function,
    vjp: Function,
    inputs: Sequence[npt.ArrayLike],
    *,
    seed: int = 0,
    settings: Mapping[str, object] | None = None,
    differentiable: Sequence[int] | None = None,
    kinks: Kinks | None = None,
) -> None:
    """Raise unless `gradcheck` passes.

    Raises:
        AssertionError: the report, as text.
    """
    report = gradcheck(
        f, vjp, inputs, seed=seed, settings=settings, differentiable=differentiable, kinks=kinks
    )
    if report.verdict != "pass":
        raise AssertionError(str(report))


def _positions(points: Sequence[Array], wanted: Sequence[int] | None) -> tuple[int, ...]:
    floating = tuple(position for position, x in enumerate(points) if is_floating(x))
    if wanted is None:
        return floating
    given: object = wanted
    if not isinstance(given, Sequence):
        raise TypeError(f"differentiable is {given!r}; required: a sequence of positions, such as [0]")
    if not set(wanted) <= set(floating):
        raise ValueError(
            f"differentiable is {tuple(wanted)}; required: positions of floating inputs, some of {floating}"
        )
    return tuple(position for position in floating if position in wanted)


def _names(f: Function) -> tuple[str, ...]:
    """What f calls its positional arguments; nothing if it does not say, or takes any number."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except Exception:  # foreign code may have any __signature__
        return ()
    known = (p.name if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) else "" for p in parameters)
    return tuple(itertools.takewhile(bool, known))


def _called(function: Function) -> str:
    for attribute in ("__name__", "name"):
        try:
            name = getattr(function, attribute, None)
        except Exception:  # foreign code may have any __getattr__
            continue
        if isinstance(name, str):
            return name
    return type(function).__name__
