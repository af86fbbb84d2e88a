"""Where a function is not smooth, as far as its author knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from verify.gradients.arrays import Array

Convention = Literal["between", "left", "right", "middle", "any"]


@dataclass(frozen=True, slots=True)
class Kinks:
    """What is known of the kinks and jumps of f; everything may be left out.

    `branches(*inputs)` returns which piece of f each input is on: signs, masks, the argmax, the order of a
    sort; an array or a tuple of them, of any dtype. Steps that change it are not taken, so that a derivative
    1e-9 from a kink is that of one side.

    `breakpoints(inputs, deltas)` returns the parameters t of [0, 1] at which `inputs + t * deltas` crosses a
    kink: `-x / dx` for relu. An integral along a path is split there, and exact again.

    `convention` says what a gradient is *at* a kink: the derivative to the left, to the right, the middle of
    both, or a value between them. relu with relu'(0) = 0 is "left", abs with abs'(0) = 0 is "middle". Where
    several kinks meet, as in a network of relus at the input 0, what each of them takes may add up to a
    claim outside of the one-sided derivatives: "any" leaves kinks unjudged.
    """

    branches: Callable[..., object] | None = None
    breakpoints: Callable[[Sequence[Array], Sequence[Array]], npt.ArrayLike] | None = None
    convention: Convention = "between"

    def __post_init__(self) -> None:
        if self.convention not in get_args(Convention):
            raise ValueError(f"convention is {self.convention!r}; required: one of {get_args(Convention)}")

    def breakpoints_of(self, inputs: Sequence[Array], deltas: Sequence[Array]) -> tuple[float, ...]:
        """The breakpoints as numbers.

        Raises:
            ValueError: `breakpoints` raises, or returns no numbers.
        """
        if self.breakpoints is None:
            return ()
        try:
            with np.errstate(all="ignore"):
                return tuple(np.asarray(self.breakpoints(inputs, deltas), np.float64).ravel().tolist())
        except Exception as error:
            raise ValueError(
                f"Kinks.breakpoints fails: {error}; required: parameters t of [0, 1], an array of any shape"
            ) from error

    def signature(self, inputs: Sequence[Array]) -> bytes:
        """The branches as bytes, to be compared; empty if there are none, or none is defined there."""
        if self.branches is None:
            return b""
        try:
            with np.errstate(all="ignore"):
                given = self.branches(*(x.copy() for x in inputs))
        except KeyboardInterrupt:
            raise
        except BaseException:  # beside the domain, as f
            return b"undefined"
        parts = given if isinstance(given, tuple | list) else (given,)
        return b"".join(np.asarray(part).tobytes() for part in parts)
