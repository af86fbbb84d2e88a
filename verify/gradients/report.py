"""What a gradient check found: the record, and its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Element:
    """One element of one gradient: what was claimed, and the interval numerical +- bar it had to lie in.

    `ratio` is the error in bars: above 1 the claim lies outside. The claim is judged at `point`.
    """

    position: int
    index: tuple[int, ...]
    claimed: float
    numerical: float
    bar: float
    ratio: float
    point: float

    def __str__(self) -> str:
        index = ", ".join(map(str, self.index))
        return (
            f"input {self.position} [{index}] at {self.point!r} ({self.point.hex()}): "
            f"claimed {self.claimed!r}, numerical {self.numerical!r} ± {self.bar:.1e}, "
            f"error {self.ratio:.3g} bars"
        )


@dataclass(frozen=True, slots=True)
class GradcheckReport:
    """The verdict of `gradcheck`, see there.

    `resolution`: an error of any element larger than this, relative to the largest gradient of its input,
    would not have passed; infinite if nothing was compared. So much is certain of the gradients that were
    compared, and of a Jacobian with one wrong element in a column. The errors of more elements can cancel in
    the sum with a random cotangent: if the largest of them is e times the resolution, with a probability of
    at most 1/e + 2^-10 for each of two cotangents (each magnitude has 2^9 values or more, evenly spaced):
    below 4e-6 for e = 1000. All this is said of f as its steps see it: what is narrower than the finest of
    them and no higher than noise, such as the sines in x + 1e-10 sin(3e9 x), is smoothed away (see
    `gradcheck`). `failing` and `unresolved` count elements of
    inputs (an element that fails for several cotangents counts once) out of `elements`. `worst` is the
    element with the largest ratio, also in a pass.
    """

    verdict: Verdict
    reason: str
    seed: int
    resolution: float = float("inf")
    elements: int = 0
    failing: int = 0
    unresolved: int = 0
    worst: Element | None = None
    top: tuple[Element, ...] = ()
    diagnosis: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"gradcheck: {self.verdict}: {self.reason}"]
        if self.elements:
            lines.append(
                f"  {self.failing} of {self.elements} elements wrong, {self.unresolved} not decided; "
                f"relative errors above {self.resolution:.1e} would not have passed"
            )
        lines += [f"  looks like: {d}" for d in self.diagnosis]
        if self.verdict != "pass":
            lines += [f"  {element}" for element in self.top]
        lines.append(f"  replay: gradcheck(f, vjp, inputs, seed={self.seed})")
        return "\n".join(lines)
