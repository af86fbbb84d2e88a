"""Claimed gradients against numerical ones, element by element, each with the error bars of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from verify.gradients.arrays import Array, Bools, Floats, Function, flatten, unit_roundoff
from verify.gradients.claims import cancelled, require_additive, require_homogeneous, rounding_error
from verify.gradients.contract import Candidate, ContractError, Cotangent, require_deterministic
from verify.gradients.directions import random_cotangent
from verify.gradients.numerical import Estimates
from verify.gradients.ties import require_ties

WORK = 1 << 31
"""Numbers that f may take and return for the derivatives of one input: some seconds. Of an input of 10^5
elements a few hundred are differentiated."""

LEAST = 64
"""Elements that are differentiated whatever it takes."""

EVALUATIONS = 45
"""Calls of f for the derivative of one element, about."""


class Comparison(NamedTuple):
    """One input under every cotangent; all arrays are (cotangents, *shape of the input)."""

    position: int
    claimed: Floats
    numerical: Floats
    bar: Floats
    ratio: Floats
    reason: npt.NDArray[np.str_]
    failing: Bools
    doubted: Bools
    scale: Floats
    zero: Bools
    """For each cotangent: no element is distinguishable from 0."""
    own: Floats
    """What of the bar is the rounding error of the claim."""
    lost: Floats
    """What rounding may leave of terms that cancel, and what f does not show."""
    dys: Sequence[Cotangent]

    @property
    def decided(self) -> Bools:
        return np.asarray((self.reason == "") & ~self.doubted)

    def any(self, elements: Bools) -> Bools:
        """Whether it holds for some cotangent."""
        return np.asarray(elements.any(axis=0))

    def passable(self) -> Floats:
        """The largest error, relative to the scale, with which each element could have passed.

        |claimed - truth| <= |claimed - numerical| + |numerical - truth|: what is seen, up to a bar, and
        a bar.
        """
        scale = self.scale.reshape(-1, *[1] * (self.claimed.ndim - 1))
        with np.errstate(all="ignore"):
            seen = np.fmin(abs(self.claimed - self.numerical), self.bar)
            return np.asarray(np.where(self.decided, (seen + self.bar) / scale, 0.0))

    @property
    def resolution(self) -> float:
        """The largest relative error with which a decided element could have passed."""
        if not self.decided.any() and self.decided.size:
            return math.inf
        return float(np.nan_to_num(self.passable(), nan=math.inf).max(initial=0.0))


class Evidence(NamedTuple):
    """The comparison of every differentiable input, and a broken law of all vjps."""

    comparisons: list[Comparison]
    broken_law: ContractError | None = None


class Differentiate(Protocol):
    """`numerical_vjps`, with what is known of kinks, or `complex_vjps`."""

    def __call__(
        self,
        f: Function,
        points: Sequence[Array],
        position: int,
        dys: Floats,
        *,
        stretch: float = 1.0,
        elements: Sequence[int] | None = None,
    ) -> Estimates: ...


@dataclass(frozen=True, slots=True)
class Float64Gradients:
    """A vjp in float64, whose gradients agree with f up to a resolution, as the truth of one in float32."""

    candidate: Candidate
    resolution: float

    def __call__(
        self,
        f: Function,
        points: Sequence[Array],
        position: int,
        dys: Floats,
        *,
        stretch: float = 1.0,
        elements: Sequence[int] | None = None,
    ) -> Estimates:
        order = self.candidate.positions.index(position)
        value = np.array([self.candidate.gradients(self.candidate.cotangent(dy))[order] for dy in dys])
        largest = abs(value).reshape(len(dys), -1).max(axis=1, initial=0.0)
        error = np.zeros_like(value) + self.resolution * largest.reshape(-1, *[1] * (value.ndim - 1))
        return Estimates(value, error, np.full(value.shape, ""), np.empty((0, 2), dtype=np.intp))


def compare(candidate: Candidate, wide: Sequence[Array], by: Differentiate, seed: int) -> Evidence:
    """Compare all differentiable inputs; f is differentiated at `wide`, the candidate's point in any format.

    Raises:
        ContractError: f or vjp breaks its contract, in more than linearity.
    """
    if not candidate.positions:
        return Evidence([])
    points, outputs = candidate.points, candidate.outputs
    rng = np.random.default_rng(seed)
    a, b = (tuple(random_cotangent(rng, y) for y in outputs) for _ in range(2))
    cotangents = [a, b]
    if len(outputs) > 1:
        cotangents += [
            tuple(v if i == j else np.zeros_like(v) for j, v in enumerate(a)) for i in range(len(outputs))
        ]
    dys = np.stack([flatten(dy) for dy in cotangents])
    chosen = [_examined(candidate, position, rng) for position in candidate.positions]
    estimates = [
        by(candidate.f, wide, position, dys, elements=elements)
        for position, elements in zip(candidate.positions, chosen, strict=True)
    ]
    numerical = [estimate.value[0] for estimate in estimates]
    claims = [candidate.gradients(dy, numerical=numerical) for dy in cotangents]
    require_deterministic(candidate, a, claims[0])
    rounding = [
        rounding_error(candidate, dy, claim, rng) for dy, claim in zip(cotangents, claims, strict=True)
    ]
    lost = np.array([cancelled(candidate, dy) for dy in cotangents])
    unseen = [np.where(e.reason == "kink", 0.0, e.error)[:2].sum(axis=0) for e in estimates]
    broken_law: ContractError | None = None
    try:
        require_homogeneous(candidate, a, claims[0])
        require_additive(candidate, (a, b), claims, rounding, unseen, lost[:2].max(axis=0), rng)
        for position, estimate in zip(candidate.positions, estimates, strict=True):
            require_ties(candidate, wide, position, estimate.kinked, rng)
    except ContractError as broken:  # the numbers say more about it
        broken_law = broken

    natural = abs(dys) @ np.nan_to_num(abs(flatten(outputs)), posinf=0.0)
    comparisons = []
    for order, (position, estimate) in enumerate(zip(candidate.positions, estimates, strict=True)):
        claimed = np.stack([np.asarray(c[order], dtype=np.float64) for c in claims])
        scale, zero = _scale(points[position], estimate.value, estimate.error, natural)
        own = np.stack([r[order] for r in rounding])
        rows = (-1, *[1] * points[position].ndim)
        hidden = np.broadcast_to(lost[:, order].reshape(rows), claimed.shape)
        if zero.any():  # f does not change visibly: what it changes by below its last place is open
            below = np.maximum(hidden, _below_the_last_place(candidate, position))
            hidden = np.where(zero.reshape(rows), below, hidden)
        failing, doubted = _confirm(by, candidate.f, wide, position, dys, claimed, estimate, own, hidden)
        bar = estimate.error + own
        with np.errstate(all="ignore"):
            ratio = np.where(claimed == estimate.value, 0.0, abs(claimed - estimate.value) / bar)
        ratio = np.where(np.isfinite(claimed), ratio, np.inf)
        ratio = np.where(np.isfinite(estimate.error), ratio, 0.0)
        comparisons.append(
            Comparison(
                position,
                claimed,
                estimate.value,
                bar,
                ratio,
                estimate.reason,
                failing,
                doubted,
                scale,
                zero,
                own,
                hidden,
                cotangents,
            )
        )
    return Evidence(comparisons, broken_law)


def _examined(candidate: Candidate, position: int, rng: np.random.Generator) -> list[int] | None:
    """The elements of an input to differentiate: all (None), or a random choice of what WORK allows."""
    size = candidate.points[position].size
    each = EVALUATIONS * (size + sum(y.size for y in candidate.outputs))
    count = max(LEAST, WORK // max(1, each))
    return None if count >= size else sorted(rng.choice(size, count, replace=False).tolist())


def _below_the_last_place(candidate: Candidate, position: int) -> Floats:
    """The gradients with which f changes by a last place, of itself or of 1, where an element moves by its
    own size, or by 1 if that is less; by the size of the input, if it is 0.

    log(1 + exp(x)) is 0 at -40, where its gradient is 4e-18. Among biases from 1e-160 to 1e271, a step that
    shows in f is longer than the stretch in which a sigmoid of one of them changes at all.
    """
    size = abs(candidate.points[position].astype(np.float64))
    size = np.minimum(np.where(size > 0.0, size, float(size.max(initial=0.0)) or 1.0), 1.0)
    largest = max((float(abs(y).max(initial=0.0)) for y in candidate.outputs), default=0.0)
    if not math.isfinite(largest):
        return np.zeros_like(size)
    with np.errstate(over="ignore"):
        return np.asarray(unit_roundoff(candidate.dtype) * max(1.0, largest) / size)


def _scale(x: Array, value: Floats, error: Floats, natural: Floats) -> tuple[Floats, Bools]:
    """What the errors of one input are relative to, for each cotangent: its largest gradient.

    Where every element may be 0 there is none; then the gradient of a function that changes by itself over
    the size of its input, `sum |dy f| / max |x|`, and where even that is 0, the cotangent's 1.
    """
    rows = (len(value), -1)
    value, error = np.nan_to_num(value).reshape(rows), error.reshape(rows)
    zero: Bools = np.all(abs(value) <= error, axis=1)
    size = float(np.max(abs(x), initial=0.0, where=np.isfinite(x))) or 1.0
    with np.errstate(over="ignore"):
        fallback = np.where(natural > 0, natural / size, 1.0)
    return np.where(zero, fallback, abs(value).max(axis=1, initial=0.0)), zero


def _confirm(
    by: Differentiate,
    f: Function,
    points: Sequence[Array],
    position: int,
    dys: Floats,
    claimed: Floats,
    estimate: Estimates,
    own: Floats,
    lost: Floats,
) -> tuple[Bools, Bools]:
    """Claims outside their bars: those that other steps find wrong too, and those that stay in doubt."""
    value, error, reason, _ = estimate
    with np.errstate(all="ignore"):
        outside = np.isfinite(error) & ~(abs(claimed - value) <= error + own)
        suspects = np.flatnonzero(outside.any(axis=0))
        if not suspects.size:
            return outside, outside
        again, bar, _, _ = by(f, points, position, dys, stretch=1.5, elements=suspects.tolist())
        # the interval of a kink counts once: it is the same for both
        bars = np.where(reason == "kink", np.maximum(error, bar) + abs(error - bar), error + bar)
        margin = bars + abs(value - again) + np.where(np.isfinite(claimed), lost, 0.0)
        # an infinite change of a claim that is itself finite says nothing; a claim that is not finite does
        margin = np.where(np.isfinite(claimed) | ~np.isfinite(bar), margin + 2 * own, margin)
        wrong = ~(abs(claimed - value) <= margin) & ~(abs(claimed - again) <= margin)
    failing = outside & np.isfinite(bar) & wrong
    return failing, outside & ~failing
