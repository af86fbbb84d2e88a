"""Calling foreign functions: what is wrong with a result before any of its numbers is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from refnet.op import is_plain
from verify.gradients.arrays import Array, Function, as_output, as_tuple, coarsest, is_floating
from verify.gradients.diagnosis import explain_shape

Cotangent = tuple[Array, ...]
FLOAT64: np.dtype[np.floating] = np.dtype(np.float64)


class ContractError(Exception):
    """The function does not do what any function of its kind must; the message is the reason to report."""

    def __init__(self, reason: str, diagnosis: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.diagnosis = diagnosis


class Refusal(ContractError):
    """The function raises: a broken contract at the point itself, the edge of its domain beside it."""


class DomainEdge(Exception):
    """The function raises beside the point, so that nothing is known of it; the message is the reason."""


LINE = 300
"""Characters of a foreign exception that a reason repeats."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """f and vjp at one point, behind the checks of their contract. Every call gets fresh copies."""

    f: Function
    vjp: Function
    points: tuple[Array, ...]
    positions: tuple[int, ...]
    """The inputs that have a gradient."""
    names: tuple[str, ...] = ()
    """What f calls its inputs; fewer than there are if it does not say."""
    outputs: tuple[Array, ...] = ()
    many: bool = False
    """f returns a tuple, and so dy is one."""
    dtype: np.dtype[np.floating] = FLOAT64
    """The least precise dtype that f or vjp may have computed in; of the inputs, until there are outputs."""

    def label(self, position: int) -> str:
        """How a report calls an input."""
        name = f" ({self.names[position]})" if position < len(self.names) else ""
        return f"input {position}{name}"

    def cotangent(self, flat: Array) -> Cotangent:
        """A cotangent from one vector: the elements of all outputs, one after the other."""
        parts = np.split(flat, np.cumsum([y.size for y in self.outputs])[:-1])
        return tuple(
            part.reshape(y.shape).astype(y.dtype) for part, y in zip(parts, self.outputs, strict=True)
        )

    def evaluated(self) -> Candidate:
        """The candidate with the outputs of f.

        Raises:
            ContractError: f raises, modifies an input, is random, or returns something other than floats.
        """
        results = [_call("f", self.f, self.points, self.points) for _ in range(2)]
        try:
            first, second = (tuple(as_output(y) for y in as_tuple(result)) for result in results)
        except TypeError as error:
            raise ContractError(str(error)) from error
        _require_equal("f", first, second)
        if not first:
            raise ContractError("f returns an empty tuple; required: at least one array")
        return replace(
            self,
            outputs=first,
            many=isinstance(results[0], tuple | list),
            dtype=coarsest([*self.points, *first]),
        )

    def gradients(
        self, dy: Cotangent, points: tuple[Array, ...] | None = None, numerical: Sequence[Array] | None = None
    ) -> tuple[Array, ...]:
        """What vjp returns for the floating inputs, at the candidate's own or another point.

        Raises:
            Refusal: vjp raises.
            ContractError: vjp modifies an argument, or returns the wrong number of gradients, or gradients
                of the wrong type, dtype or shape, or an input itself. The order of bytes is no difference.
        """
        points = self.points if points is None else points
        returned = _call("vjp", self.vjp, (dy if self.many else dy[0], *points), points)
        given = as_tuple(returned)
        if len(given) != len(self.positions):
            raise ContractError(
                f"vjp returns {len(given)} gradients; required: {len(self.positions)}, one for each of "
                + (", ".join(map(self.label, self.positions)) or "no inputs")
            )
        return tuple(
            self._gradient(position, g, points[position], None if numerical is None else numerical[order])
            for order, (position, g) in enumerate(zip(self.positions, given, strict=True))
        )

    def _gradient(self, position: int, g: object, x: Array, numerical: Array | None) -> Array:
        if not isinstance(g, np.ndarray | np.floating | float) or (
            isinstance(g, np.ndarray) and not is_plain(g)
        ):
            raise ContractError(
                f"the gradient of {self.label(position)} is a {type(g).__name__}; "
                "required: an array like the input"
            )
        array = np.array(g)
        if array.shape != x.shape:
            known = None if numerical is None else np.asarray(numerical, dtype=np.float64)
            raise ContractError(
                f"the gradient of {self.label(position)} has shape {array.shape}; "
                f"required: {x.shape}, the shape of the input",
                explain_shape(array.astype(np.float64), x.shape, known) if is_floating(array) else (),
            )
        if array.dtype != x.dtype and array.dtype.newbyteorder("=") != x.dtype.newbyteorder("="):
            raise ContractError(
                f"the gradient of {self.label(position)} has dtype {array.dtype}; "
                f"required: {x.dtype}, as the input"
            )
        return array


def _call(
    name: str, function: Callable[..., object], args: tuple[object, ...], points: Sequence[Array]
) -> object:
    """Call with copies; raise if the call raises, changes an argument, or returns the memory of an input."""
    copies = tuple(_copy(a) for a in args)
    try:
        result = function(*copies)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a foreign function may raise anything, SystemExit included
        raise Refusal(f"{name} raises {_told(error)}") from error
    for position, (before, after) in enumerate(zip(args, copies, strict=True)):
        if not _unchanged(before, after):
            offset = len(args) - len(points)
            what = "dy" if position < offset else f"input {position - offset}"
            raise ContractError(f"{name} modifies {what}; it must leave its arguments as they are")
    if name == "vjp":
        # f may return an input (the identity); a gradient that is one would change the parameter when scaled
        views = [part for part in as_tuple(result) if isinstance(part, np.ndarray) and _is_view(part, copies)]
        for position, x in enumerate(copies[len(args) - len(points) :] if views else ()):
            if any(np.may_share_memory(part, x) for part in views):
                raise ContractError(
                    f"a gradient shares its memory with input {position}: to scale it changes the input",
                    ("the input itself is returned as a gradient",),
                )
    return result


def _is_view(array: Array, arguments: Sequence[object]) -> bool:
    """Whether it may be in the memory of an argument: most results own theirs, and need no closer look."""
    return array.base is not None or any(array is argument for argument in arguments)


def _told(error: BaseException) -> str:
    """A foreign exception in one line; even its text is foreign code."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "its text cannot be had"
    return f"{type(error).__name__}: {text}"[:LINE]


def _copy(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(_copy(v) for v in value)
    return value.copy() if isinstance(value, np.ndarray) else value


def _unchanged(before: object, after: object) -> bool:
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        return before.shape == after.shape and before.tobytes() == after.tobytes()
    return _identical(as_tuple(before), as_tuple(after))


def _identical(first: Sequence[Array], second: Sequence[Array]) -> bool:
    """Bit by bit, so that NaN equals itself and 0 is not -0."""
    return len(first) == len(second) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(first, second, strict=True)
    )


def _require_equal(name: str, first: Sequence[Array], second: Sequence[Array]) -> None:
    if not _identical(first, second):
        raise ContractError(
            f"{name} returns different results for equal arguments: it is random or keeps state. Pass "
            "the random numbers (a dropout mask) as an input, and the state as input and output"
        )


def require_deterministic(candidate: Candidate, dy: Cotangent, gradients: Sequence[Array]) -> None:
    """Call vjp again: equal arguments must give equal bits.

    Raises:
        ContractError: they do not.
    """
    _require_equal("vjp", gradients, candidate.gradients(dy))
