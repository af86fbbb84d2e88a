"""What a known mistake is: a wrong function, and the checks that must catch it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refnet import Operator

Function = Callable[..., Any]

EPSILONS = (
    1e-7, 1e-8, 1e-12, 1e-10, 1e-15, 1e-6, 1e-9, 1e-5, 1e-16, 1e-20, 1e-4, 1e-3, 1e-2, 1e-30,
    2.0**-52, 2.0**-23, 2.0**-53, 2.0**-24, 2.0**-1022, 2.0**-126,
)  # fmt: skip
"""What people add to a logarithm's argument, or clip it to, the most usual first; then what the formats are
made of (`finfo(dtype).eps` and `tiny`)."""

WITNESSES = (
    "value",
    "vjp",
    "symbolic",
    "numerical",
    "bounds",
    "special-values",
    "contract:pure",
    "contract:repeatable",
    "contract:layout",
)
"""What can catch a mistake beside the laws: the certified value (of an operator, a step, an epoch), the
certified gradient, the derivatives by sympy and by differences, two formats whose results are further apart
than both bounds, the known answers of a spec, and the manners of a call."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A function that is wrong on purpose: `value` or `vjp` stands in the place of the right one.

    `op` is an operator or a function of the network. `caught_by` names laws and witnesses. A mistake that
    lives on what it remembers is `stateful`: its functions are then factories, called for each use, so that
    no use sees the memory of another. One that only the parts of an operator show has an `operator`.
    """

    name: str
    op: str
    summary: str
    caught_by: tuple[str, ...]
    value: Function | None = None
    vjp: Function | None = None
    source: str = ""
    stateful: bool = False
    operator: Operator | None = None
    constants: tuple[float, ...] = ()
    """The values that the `epsilon` of the functions is met with, if they take one."""

    def function(self, aspect: str) -> Function | None:
        """The wrong function of an aspect, fresh where it is stateful; None where this aspect is right."""
        function = self.vjp if aspect == "vjp" else self.value
        return function() if function is not None and self.stateful else function
