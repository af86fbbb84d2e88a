"""The manners of a call: what a candidate may not do, whatever it computes."""

from __future__ import annotations

import inspect
import os
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from verify.laws.examples import LAYOUTS

Values = npt.NDArray[Any]
Shapes = Sequence[tuple[int, ...]]

LINE = 300
"""Characters of a foreign exception that a report repeats."""

HERE = Path(__file__).resolve().parents[2]

NOT_THE_CANDIDATE = tuple(
    f"{folder}{os.sep}" for folder in (HERE / "refnet", HERE / "specs", HERE / "verify", *np.__path__)
)
"""Where frames of a traceback are refnet's own or NumPy's."""

LIBRARIES = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "purelib", "platlib"))
"""Where frames are, as a rule, those of what a candidate is built on; if it is installed, its own."""


class ContractViolation(Exception):
    """A result that cannot be judged at all: raised, not an array, wrong count, shape or dtype."""

    @property
    def raised(self) -> bool:
        """Whether the function raised an exception of its own."""
        return self.__cause__ is not None

    @property
    def refuses_a_setting(self) -> bool:
        """Whether the function turned down a keyword argument, which it need not take."""
        return isinstance(self.__cause__, TypeError) and "keyword argument" in str(self.__cause__)


@dataclass(frozen=True, slots=True)
class Call:
    """The results of a call that kept the signature, and how the candidate behaved otherwise."""

    results: tuple[Values, ...]
    impurity: str
    """How the call touched what is not its own, as what the function did; empty for a pure one."""
    repeated: str
    """What a second, equal call showed of the function; empty for the same bits."""
    laid_out: tuple[Values, ...]
    """The results for the same numbers in another memory layout; empty if it did not return any."""
    misread: str
    """How that call went wrong; empty if it returned."""


def call(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    settings: Mapping[str, Any],
    shapes: Shapes,
    dtype: np.dtype[Any],
    layout: str,
    names: Sequence[str],
) -> Call:
    """Call a few times on copies of the arguments (arrays, or lists and tuples of them), and look at all.
    `names` are those of the arguments.

    The buffers of the call that counts have held other numbers in a call before it: a result that is
    remembered by the address of its input is the result for those. A call with equal arguments follows, and
    one with the arguments in another layout, of `LAYOUTS`.

    Raises:
        ContractViolation: with one line that says what came back and what was due.
    """
    originals = _leaves(arguments)
    buffers = _mapped(_mapped(arguments, np.flip), np.copy)
    invoke(function, _mapped(buffers, _view), settings)
    for buffer, original in zip(_leaves(buffers), originals, strict=True):
        buffer[...] = original
    given = _mapped(buffers, _view)
    leaves = [_leaves(argument) for argument in given]
    results = results_of(invoke(function, given, settings), shapes, dtype)
    kept = tuple(y.copy() for y in results)
    impurity = _impurity(leaves, given, arguments, results, names)
    second = results_of(invoke(function, _mapped(arguments, np.copy), settings), shapes, dtype)
    repeated = ""
    if any(_bits(a) != _bits(b) for a, b in zip(kept, second, strict=True)):
        repeated = "gives different bits in two equal calls"
    elif any(np.may_share_memory(a, b) for a in results for b in second):
        repeated = "returns the same memory from two calls: the second overwrites the first"
    laid_out: tuple[Values, ...] = ()
    misread = ""
    try:
        third = results_of(invoke(function, _mapped(arguments, LAYOUTS[layout]), settings), shapes, dtype)
        laid_out = tuple(y.copy() for y in third)
    except ContractViolation as violation:
        misread = str(violation)
    return Call(kept, impurity, repeated, laid_out, misread)


def _impurity(
    given: Sequence[Sequence[Values]],
    left: Sequence[Any],
    originals: Sequence[Any],
    results: Sequence[Values],
    names: Sequence[str],
) -> str:
    """What a call did to an argument: to the arrays that it was given, or to the lists that held them."""
    for leaves, argument, original, name in zip(given, left, originals, names, strict=True):
        found, due = _leaves(argument), _leaves(original)
        same = len(found) == len(leaves) and all(a is b for a, b in zip(leaves, found, strict=True))
        if not same or any(_bits(a) != _bits(b) for a, b in zip(leaves, due, strict=True)):
            return f"modifies its input {name}"
    for leaves, name in zip(given, names, strict=True):
        if any(np.may_share_memory(y, x) for y in results for x in leaves):
            return f"returns memory that it shares with its input {name}"
    return ""


def _view(array: Values) -> Values:
    """The same memory in an array of its own, whose shape and flags may be changed without harm."""
    return array[...]


def settings_to_pass(
    function: Callable[..., Any], settings: Mapping[str, Any], optional: Mapping[str, Any], *, explicit: bool
) -> tuple[dict[str, Any], list[str]]:
    """The settings to pass to a function, and those that it would need to take but does not.

    What is at its default in `optional` may be left out, and is unless `explicit`. A function that does not
    say what it takes is passed only what it must be told.
    """
    accepted = _accepted(function)
    at_default = {name for name, value in settings.items() if name in optional and value == optional[name]}
    if accepted is None:
        return {name: value for name, value in settings.items() if name not in at_default}, []
    passed = {name: value for name, value in settings.items() if explicit or name not in at_default}
    taken = {name: value for name, value in passed.items() if name in accepted}
    return taken, [name for name in passed if name not in accepted and name not in at_default]


def _accepted(function: Callable[..., Any]) -> frozenset[str] | None:
    """The keyword arguments that a function takes; None when it takes any, or does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (
        Exception
    ):  # without a signature a TypeError or ValueError; a foreign `__signature__` may do anything
        return None
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(
        parameter.name
        for parameter in parameters
        if parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    )


def invoke(function: Callable[..., Any], arguments: Sequence[Any], settings: Mapping[str, Any]) -> Any:
    """What a foreign function returns; its warnings are nobody's.

    Raises:
        ContractViolation: it raises, be it SystemExit.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return function(*arguments, **settings)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a foreign function may raise anything, SystemExit included
        raise ContractViolation(f"it raises {told(error)}") from error


def told(error: BaseException) -> str:
    """A foreign exception in one line, with its place; even its text is foreign code."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "its text cannot be had"
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__)[:LINE] + _place(error)


def _place(error: BaseException) -> str:
    """File and line of the innermost frame in the candidate's own code, where the traceback has one."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    foreign = [(name, line) for name, line in frames if not name.startswith((*NOT_THE_CANDIDATE, "<frozen"))]
    own = [(name, line) for name, line in foreign if not name.startswith(LIBRARIES)]
    for name, line in reversed(own or foreign):
        return f" ({_near(name)}:{line})"
    return ""


def _near(path: str) -> str:
    """A path below the working directory as it is written there."""
    return path.removeprefix(f"{os.getcwd()}{os.sep}")


def _mapped(arguments: Any, change: Callable[[Values], Values]) -> Any:
    """The same lists and tuples of arrays, with every array changed."""
    if isinstance(arguments, list | tuple):
        return type(arguments)(_mapped(item, change) for item in arguments)
    if not isinstance(arguments, np.ndarray):
        return arguments
    return np.asarray(change(arguments))  # of an array without axes, NumPy makes a number


def _leaves(arguments: Any) -> list[Values]:
    if isinstance(arguments, list | tuple):
        return [leaf for item in arguments for leaf in _leaves(item)]
    return [arguments] if isinstance(arguments, np.ndarray) else []


def _bits(array: Values) -> tuple[bytes, tuple[int, ...], str]:
    return array.tobytes(), array.shape, array.dtype.name


def results_of(returned: Any, shapes: Shapes, dtype: np.dtype[Any]) -> tuple[Values, ...]:
    """The arrays that a call returned.

    Raises:
        ContractViolation: their number, a shape or a dtype is not what is due.
    """
    found = flattened(returned)
    if len(found) != len(shapes):
        count = f"{len(found)} results" if len(found) != 1 else "1 result"
        raise ContractViolation(f"it returns {count} instead of {len(shapes)}")
    arrays = []
    for k, (item, shape) in enumerate(zip(found, shapes, strict=True)):
        array = np.asarray(item) if _is_plain(item) else None
        if array is None or array.dtype != dtype or array.shape != shape:
            which = f"result {k} is" if len(shapes) > 1 else "it returns"
            raise ContractViolation(f"{which} {_described(item)} where {dtype} of shape {shape} is due")
        arrays.append(array)
    return tuple(arrays)


def _is_plain(item: Any) -> bool:
    """A subclass of an array may compute when it is looked at, or hide elements under a mask."""
    return type(item) is np.ndarray or isinstance(item, np.generic)


def flattened(returned: Any) -> list[Any]:
    """Arrays out of nested lists and tuples, in order; one array is the same as a tuple of one."""
    if isinstance(returned, list | tuple):
        return [leaf for item in returned for leaf in flattened(item)]
    return [returned]


def are_finite(arrays: Iterable[Values]) -> bool:
    """Whether numbers are all that they have."""
    return all(np.isfinite(x.astype(np.float64)).all() for x in arrays)


def _described(item: Any) -> str:
    kind = "None" if item is None else f"a {type(item).__name__}"
    if not isinstance(item, np.ndarray | np.generic):
        return kind
    array = f"{item.dtype} of shape {item.shape}"
    return array if _is_plain(item) else f"{kind}, {array},"
