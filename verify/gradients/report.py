"""What a gradient check found: the record, and its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What was checked, in which dtype (the least precise), and the seed of its cotangents and directions."""

    f: str
    vjp: str
    seed: int
    dtype: str = ""
    options: str = ""
    """What else the call was given, as it is written in one."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element of one gradient: what was claimed, and the interval numerical +- bar it had to lie in.

    `ratio` is the error in bars: above 1 the claim lies outside. The claim is judged at `point`.
    """

    name: str
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
            f"{self.name} [{index}] at {self.point!r} ({self.point.hex()}): "
            f"claimed {self.claimed!r}, numerical {self.numerical!r} ± {self.bar:.1e}, "
            f"error {self.ratio:.3g} bars"
        )


@dataclass(frozen=True, slots=True)
class GradcheckReport:
    """The verdict of `gradcheck`, see there.

    `resolution`: an error of a gradient larger than this, relative to the largest gradient of its input,
    would not have passed, unless with the probability `miss_probability`; infinite if nothing was compared.

    Found along directions, that is said of the Jacobian: any error of it so large is missed with at most
    that probability (see `missable`), and an error of a single element with none if it is larger than
    `single`. A complex step is believed where real differences prove, along one direction, that f loses no
    more than 2^-26 of its derivative to complex arithmetic.

    Found element by element it is certain of the gradients that were compared, and of a Jacobian with one
    wrong element in a column. The errors of more elements can cancel in the sum with a random cotangent: if
    the largest of them is e times the resolution, with a probability of at most 1/e + 2^-9 for each of two
    cotangents (each magnitude has 2^9 values or more, evenly spaced): below 9e-6 for e = 1000. All this is
    said of f as its steps see it: what is narrower than the finest of them and no higher than noise, such
    as the sines in x + 1e-10 sin(3e9 x), is smoothed away (see `gradcheck`).

    `ratio` is the largest error seen, in bars or tolerances. `failing` and `unresolved` count elements of
    inputs (an element that fails for several cotangents counts once) out of `elements`. `worst` is the
    element with the largest ratio, also in a pass that was found element by element. `method` is the witness.
    """

    verdict: Verdict
    reason: str
    subject: Subject
    method: str = ""
    resolution: float = float("inf")
    single: float = float("inf")
    miss_probability: float = 0.0
    ratio: float = 0.0
    elements: int = 0
    failing: int = 0
    unresolved: int = 0
    worst: Element | None = None
    top: tuple[Element, ...] = ()
    diagnosis: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        return self.subject.seed

    def __str__(self) -> str:
        f, vjp = self.subject.f, self.subject.vjp
        lines = [f"gradcheck of {f}: {self.verdict}: {self.reason}"]
        if self.elements:
            lines.append(
                f"  {self.failing} of {self.elements} elements wrong, {self.unresolved} not decided; "
                f"{self.subject.dtype}, by {self.method}"
            )
            lines.append(f"  {self._power()}")
        lines += [f"  looks like: {d}" for d in self.diagnosis]
        if self.verdict != "pass":
            lines += [f"  {element}" for element in self.top]
        lines.append(f"  replay: gradcheck({f}, {vjp}, inputs{self.subject.options}, seed={self.seed})")
        return "\n".join(lines)

    def _power(self) -> str:
        if not self.miss_probability:
            return f"errors above {self.resolution:.1e} of the largest gradient of an input would not pass"
        return (
            f"any error of the Jacobian above {self.resolution:.1e} is missed with p <= "
            f"{self.miss_probability:.0e}, of a single element above {self.single:.1e} never"
        )
