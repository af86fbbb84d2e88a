"""The manners of a call: what a candidate may not do, whatever it computes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]


class ContractViolation(Exception):
    """A result that cannot be judged at all: raised, not an array, wrong count, shape or dtype."""


@dataclass(frozen=True, slots=True)
class Call:
    """The results of a call that kept the signature, and how it behaved otherwise."""

    results: tuple[Values, ...]
    impurity: str = ""
    """How the call touched what is not its own; empty for a pure one."""
    repeated: str = ""
    """How a second, equal call differed; empty for the same bits."""


def call(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    settings: Mapping[str, Any],
    shapes: Sequence[tuple[int, ...]],
    dtype: np.dtype[Any],
) -> Call:
    """Call twice on copies of the arguments (arrays, or lists and tuples of them), and look at everything.

    Raises:
        ContractViolation: with one line that says what came back and what was due.
    """
    mine, again = _copied(arguments), _copied(arguments)
    results = _results(_called(function, mine, settings), shapes, dtype)
    impurity = ""
    leaves, originals = _leaves(mine), _leaves(arguments)
    if any(_bits(a) != _bits(b) for a, b in zip(leaves, originals, strict=True)):
        impurity = "it modifies its input"
    elif any(np.may_share_memory(y, x) for y in results for x in leaves):
        impurity = "its result shares memory with its input"
    kept = tuple(y.copy() for y in results)
    second = _results(_called(function, again, settings), shapes, dtype)
    repeated = ""
    if any(_bits(a) != _bits(b) for a, b in zip(kept, second, strict=True)):
        repeated = "two equal calls give different bits"
    elif any(_bits(a) != _bits(b) for a, b in zip(kept, results, strict=True)):
        repeated = "a second call overwrites the result of the first"
    return Call(kept, impurity, repeated)


def _copied(arguments: Any) -> Any:
    """Deep copies, so that nothing that a candidate does to its arguments reaches the check."""
    if isinstance(arguments, list | tuple):
        return type(arguments)(_copied(item) for item in arguments)
    return arguments.copy() if isinstance(arguments, np.ndarray) else arguments


def _leaves(arguments: Any) -> list[Values]:
    if isinstance(arguments, list | tuple):
        return [leaf for item in arguments for leaf in _leaves(item)]
    return [arguments] if isinstance(arguments, np.ndarray) else []


def _bits(array: Values) -> tuple[bytes, tuple[int, ...], str]:
    return array.tobytes(), array.shape, array.dtype.name


def _called(function: Callable[..., Any], arguments: Sequence[Any], settings: Mapping[str, Any]) -> Any:
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return function(*arguments, **settings)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a foreign function may raise anything, SystemExit included
        text = " ".join(str(error).split())
        raise ContractViolation(f"it raises {type(error).__name__}: {text}"[:300]) from error


def _results(
    returned: Any, shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any]
) -> tuple[Values, ...]:
    found = _flattened(returned) if len(shapes) > 1 else _single(returned)
    if len(found) != len(shapes):
        raise ContractViolation(f"it returns {len(found)} arrays where {len(shapes)} are due")
    arrays = []
    for k, (item, shape) in enumerate(zip(found, shapes, strict=True)):
        which = f"result {k}" if len(shapes) > 1 else "it"
        if not isinstance(item, np.ndarray | np.generic):
            raise ContractViolation(
                f"{which} {'is' if len(shapes) > 1 else 'returns'} {_described(item)} where "
                f"{_due(shape, dtype)} is due"
            )
        array = np.asarray(item)
        if array.dtype != dtype or array.shape != shape:
            raise ContractViolation(
                f"{which} {'is' if len(shapes) > 1 else 'returns'} {_described(item)} where "
                f"{_due(shape, dtype)} is due"
            )
        arrays.append(array)
    return tuple(arrays)


def _single(returned: Any) -> list[Any]:
    """One array; a tuple or list of one is the same."""
    if isinstance(returned, tuple | list) and len(returned) == 1:
        return [returned[0]]
    return [returned]


def _flattened(returned: Any) -> list[Any]:
    """Arrays out of nested lists and tuples, in order."""
    if isinstance(returned, list | tuple):
        return [leaf for item in returned for leaf in _flattened(item)]
    return [returned]


def _described(item: Any) -> str:
    if isinstance(item, np.ndarray | np.generic):
        return f"{item.dtype} of shape {item.shape}"
    return "None" if item is None else f"a {type(item).__name__}"


def _due(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"{dtype} of shape {shape}"
