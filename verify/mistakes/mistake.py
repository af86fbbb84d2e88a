"""What a known mistake is: a wrong function, and the checks that must catch it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refnet import Operator

Function = Callable[..., Any]

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

    def function(self, aspect: str) -> Function | None:
        """The wrong function of an aspect, fresh where it is stateful; None where this aspect is right."""
        function = self.vjp if aspect == "vjp" else self.value
        return function() if function is not None and self.stateful else function
