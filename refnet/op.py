"""An operator: a forward and a backward that agree on a record of residuals, and the checks at its door."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, ParamSpec, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]

P = ParamSpec("P")
Y = TypeVar("Y", bound=tuple[Array, ...])
R = TypeVar("R", bound=tuple[object, ...])
G = TypeVar("G", bound=tuple[Array, ...])
A = TypeVar("A", bound=tuple[Array, ...])
T = TypeVar("T", bound=tuple[object, ...])

HALF = ("float16", "bfloat16")
FLOATS = ("float64", "float32", *HALF)


class ArgumentError(ValueError):
    """An argument that an operator cannot take: names the operator, the argument, what was given, what is
    required, and how to mend it."""

    def __init__(self, op: str, argument: str, given: str, required: str, remedy: str) -> None:
        super().__init__(f"{op}: {argument} is {given}; required: {required}. {remedy}")
        self.op, self.argument, self.given, self.required, self.remedy = op, argument, given, required, remedy


class Operator(Protocol):
    """What every `Op` and `MultiOp` has, whatever its types: for code that walks over the operators."""

    @property
    def name(self) -> str: ...
    @property
    def signature(self) -> str: ...
    @property
    def arguments(self) -> tuple[str, ...]: ...
    @property
    def integers(self) -> tuple[str, ...]: ...
    @property
    def masks(self) -> tuple[str, ...]: ...
    @property
    def forward(self) -> Callable[..., tuple[Array | tuple[Array, ...], tuple[object, ...]]]: ...
    @property
    def backward(self) -> Callable[..., tuple[Array, ...]]: ...
    @property
    def __call__(self) -> Callable[..., Array | tuple[Array, ...]]: ...
    @property
    def vjp(self) -> Callable[..., tuple[Array, ...]]: ...


class Activation(Operator, Protocol):
    """An operator with one output, as a layer of a network needs one."""

    @property
    def forward(self) -> Callable[..., tuple[Array, tuple[object, ...]]]: ...
    @property
    def __call__(self) -> Callable[..., Array]: ...


@dataclass(frozen=True, slots=True)
class Op(Generic[P, R, G]):
    """A pure operator with one output.

    `forward(*args, **settings)` returns the output and the residuals; `backward(residuals, dy)` returns the
    gradients of `sum(dy * output)` for the differentiable arguments and uses nothing else. Both trust their
    arguments and accept any array-like that speaks NumPy's protocols. Calling the operator, or its `vjp`,
    first validates the arguments against `signature` (a gufunc signature, in which "..." stands for axes of
    any number that arguments share), computes float16 and bfloat16 in float32, and rounds the result once.

    The arguments named in `integers` and `masks` are of integers and of bools; all others are floating.
    """

    name: str
    signature: str
    arguments: tuple[str, ...]
    forward: Callable[P, tuple[Array, R]]
    backward: Callable[[R, Array], G]
    integers: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Array:
        """Return the output for validated arguments.

        Raises:
            ArgumentError: an argument has the wrong type, dtype, shape or value, or a setting is unknown.
        """
        dtype = validate_call(self, args, kwargs)
        with np.errstate(all="ignore"):
            y, _ = self.forward(*_in_float32(args), **kwargs)
            return np.asarray(y, dtype=dtype)

    def vjp(self, dy: Array, *args: P.args, **kwargs: P.kwargs) -> G:
        """Return the gradients of `sum(dy * output)`, one for each differentiable argument.

        Raises:
            ArgumentError: an argument has the wrong type, dtype, shape or value, or a setting is unknown.
        """
        dtype = validate_call(self, args, kwargs)
        with np.errstate(all="ignore"):
            y, residuals = self.forward(*_in_float32(args), **kwargs)
            validate_cotangent(self.name, "dy", dy, dtype, y.shape)
            return _stored(self.backward(residuals, np.asarray(dy, dtype=y.dtype)), dtype)


@dataclass(frozen=True, slots=True)
class MultiOp(Generic[P, Y, R, G]):
    """A pure operator with several outputs, in a NamedTuple; all else is as in `Op`.

    `backward(residuals, dy)` takes a cotangent for each output, in a record like that of the outputs.
    """

    name: str
    signature: str
    arguments: tuple[str, ...]
    forward: Callable[P, tuple[Y, R]]
    backward: Callable[[R, Y], G]
    integers: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Y:
        """Return the outputs for validated arguments.

        Raises:
            ArgumentError: an argument has the wrong type, dtype, shape or value, or a setting is unknown.
        """
        dtype = validate_call(self, args, kwargs)
        with np.errstate(all="ignore"):
            y, _ = self.forward(*_in_float32(args), **kwargs)
            return _stored(y, dtype)

    def vjp(self, dy: tuple[Array, ...], *args: P.args, **kwargs: P.kwargs) -> G:
        """Return the gradients of the sum over the outputs of `sum(dy * output)`, one for each differentiable
        argument; `dy` has a cotangent for each output.

        Raises:
            ArgumentError: an argument has the wrong type, dtype, shape or value, or a setting is unknown.
        """
        dtype = validate_call(self, args, kwargs)
        with np.errstate(all="ignore"):
            y, residuals = self.forward(*_in_float32(args), **kwargs)
            given: object = dy
            if not isinstance(given, tuple) or len(given) != len(y):
                raise ArgumentError(
                    self.name,
                    "dy",
                    f"a {type(dy).__name__}",
                    f"a tuple of {len(y)} arrays",
                    "There is one cotangent for each output, of its shape.",
                )
            for k, (cotangent, output) in enumerate(zip(dy, y, strict=True)):
                validate_cotangent(self.name, f"dy[{k}]", cotangent, dtype, output.shape)
            wide = (np.asarray(d, dtype=output.dtype) for d, output in zip(dy, y, strict=True))
            return _stored(self.backward(residuals, tuple.__new__(type(y), wide)), dtype)


def _in_float32(args: T) -> T:
    return tuple.__new__(
        type(args),
        (a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype.name in HALF else a for a in args),
    )


def _stored(results: A, dtype: np.dtype[np.floating]) -> A:
    """A record of results, rounded to the dtype of the arguments."""
    return tuple.__new__(type(results), (np.asarray(result, dtype=dtype) for result in results))


BATCH = "..."
"""Stands for any number of axes in a signature: batch axes, where it is first."""


@lru_cache
def _axes(signature: str) -> tuple[tuple[str, ...], ...]:
    """The axes of each input: "(...,k),(k,m),(m)->(...,m)" gives (..., k), (k, m), (m)."""
    inputs, _, _ = signature.partition("->")
    return tuple(tuple(filter(None, group.strip("()").split(","))) for group in inputs.split("),"))


def is_plain(array: Array) -> bool:
    """Whether an array is nothing else beside: a mask would be lost without a word, a matrix has its own *.

    A memory map is an array whose numbers are in a file.
    """
    return type(array) is np.ndarray or type(array) is np.memmap


UNPLAIN = "np.asarray takes the bare numbers: fill or drop masked entries before."


@lru_cache
def _settings(forward: Callable[..., object]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The keyword arguments of a forward, and those of them without a default; None if it takes any, or
    does not say."""
    try:
        parameters = inspect.signature(forward).parameters.values()
    except ValueError:  # a ufunc, a function in C: it does not say
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    settings = [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    due = [parameter for parameter in settings if parameter.default is parameter.empty]
    return tuple(parameter.name for parameter in settings), tuple(parameter.name for parameter in due)


def _validate_settings(op: Operator, given: Mapping[str, object]) -> None:
    settings = _settings(op.forward)
    if settings is None:
        return
    known, due = settings
    for name in given:
        if name not in known:
            raise ArgumentError(
                op.name,
                name,
                "a setting that it does not have",
                f"one of {', '.join(known)}" if known else "no setting at all",
                "Pass arrays by position and settings by keyword.",
            )
    for name in due:
        if name not in given:
            raise ArgumentError(op.name, name, "missing", "this setting", f"Pass it by keyword: {name}=...")


def validate_call(
    op: Operator, args: tuple[object, ...], settings: Mapping[str, object]
) -> np.dtype[np.floating]:
    """Check every array argument against the signature, and the names of the settings; return the floating
    dtype that the arrays share."""
    expected = _axes(op.signature)
    if len(args) != len(expected):
        raise ArgumentError(
            op.name,
            "the argument list",
            f"{len(args)} arrays",
            f"{len(expected)} ({', '.join(op.arguments)})",
            "Pass arrays by position and settings by keyword.",
        )
    _validate_settings(op, settings)
    dtype: np.dtype[np.floating] | None = None
    sizes: dict[str, int] = {}
    batch: tuple[int, ...] | None = None
    for name, axes, value in zip(op.arguments, expected, args, strict=True):
        if not isinstance(value, np.ndarray):
            raise ArgumentError(
                op.name,
                name,
                f"a {type(value).__name__}",
                "a NumPy array",
                f"Convert it with np.asarray({name}, dtype=...).",
            )
        if not is_plain(value):
            raise ArgumentError(
                op.name, name, f"a {type(value).__name__}", "a NumPy array, and no subclass of it", UNPLAIN
            )
        dtype = _validate_dtype(op, name, value, dtype)
        batch = _validate_shape(op, name, axes, value.shape, sizes, batch)
    if dtype is None:
        raise ArgumentError(op.name, "the argument list", "without floats", "a floating array", "Pass one.")
    return dtype


def _validate_dtype(
    op: Operator, name: str, value: Array, dtype: np.dtype[np.floating] | None
) -> np.dtype[np.floating] | None:
    given = value.dtype
    if name in op.integers:
        if given.kind not in "iu":
            raise ArgumentError(
                op.name, name, f"of dtype {given}", "an integer dtype", f"Use {name}.astype(np.int64)."
            )
        return dtype
    if name in op.masks:
        if given.kind != "b":
            raise ArgumentError(op.name, name, f"of dtype {given}", "bool", f"Use {name}.astype(bool).")
        return dtype
    if given.name not in FLOATS:
        raise ArgumentError(
            op.name,
            name,
            f"of dtype {given}",
            f"one of {', '.join(FLOATS)}",
            f"Use {name}.astype(np.float64).",
        )
    if dtype is not None and given != dtype:
        raise ArgumentError(
            op.name,
            name,
            f"of dtype {given}",
            f"{dtype}, the dtype of the arguments before it",
            f"Use {name}.astype({op.arguments[0]}.dtype).",
        )
    return given


def _validate_shape(
    op: Operator,
    name: str,
    axes: tuple[str, ...],
    shape: tuple[int, ...],
    sizes: dict[str, int],
    batch: tuple[int, ...] | None,
) -> tuple[int, ...] | None:
    """Bind the named axes of one argument; return the batch axes that all arguments share."""
    named = tuple(axis for axis in axes if axis != BATCH)
    split, start = len(shape) - len(named), axes.index(BATCH) if BATCH in axes else 0
    many = shape[start : start + max(split, 0)]
    own = shape[:start] + shape[start + max(split, 0) :]
    known = ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
    required = f"shape ({', '.join(axes)})" + (f" with {known}" if known else "")
    batched = BATCH in axes
    if batched and batch:
        required += f" and {'batch axes' if axes[0] == BATCH else '...'} {batch}"
    bad_batch = bool(many) if not batched else batch is not None and many != batch
    if (
        split < 0
        or bad_batch
        or any(sizes.get(axis, size) != size for axis, size in zip(named, own, strict=True))
    ):
        raise ArgumentError(
            op.name,
            name,
            f"of shape {shape}",
            required,
            "Shapes must agree exactly: nothing is broadcast between arguments.",
        )
    sizes.update(zip(named, own, strict=True))
    return many if batched else batch


def validate_cotangent(
    op: str, name: str, dy: object, dtype: np.dtype[np.floating], shape: tuple[int, ...]
) -> None:
    if not isinstance(dy, np.ndarray | np.floating) or (isinstance(dy, np.ndarray) and not is_plain(dy)):
        given = f"a {type(dy).__name__}"
    elif dy.dtype != dtype or dy.shape != shape:
        given = f"{dy.dtype} of shape {dy.shape}"
    else:
        return
    raise ArgumentError(
        op,
        name,
        given,
        f"{dtype} of shape {shape}, like the output",
        "The cotangent has one entry for each entry of the output.",
    )


def validate_axis(op: str, x: Array, axis: object) -> None:
    """Refuse an axis that is no integer, that x does not have, or that is empty."""
    if not isinstance(axis, int | np.integer) or isinstance(axis, bool):
        raise ArgumentError(op, "axis", repr(axis), "one axis of x, an int", "For the last axis use axis=-1.")
    if not -x.ndim <= axis < x.ndim:
        raise ArgumentError(
            op, "axis", str(axis), f"an axis of x, which has shape {x.shape}", "Count axes from 0 or from -1."
        )
    if not x.shape[axis]:
        raise ArgumentError(
            op, "x", f"of shape {x.shape}", f"at least one entry along axis {axis}", "Drop the empty rows."
        )


def validate_classes(op: str, name: str, rows: Array) -> None:
    """Refuse rows (..., c) of no class: their loss is that of nothing, a perfect 0."""
    if not rows.shape[-1]:
        raise ArgumentError(
            op, name, f"of shape {rows.shape}", "at least one class", "The last axis counts the classes."
        )


def validate_number(
    op: str,
    name: str,
    value: object,
    dtype: np.dtype[np.floating],
    *,
    positive: bool = False,
    remedy: str = "Pass a Python float, or leave it at its default.",
) -> float:
    """Return a setting as a Python float, which takes the dtype of the array that it meets.

    A `np.float64` would turn a float32 array into float64. A number that the dtype does not hold would become
    0 or infinity there: 1e300 times a gradient of 0 is NaN in float32.
    """
    number, least = as_number(value), float(np.finfo(dtype).smallest_normal)
    most = float(np.finfo(dtype).max)
    in_range = number == 0.0 or least <= abs(number) <= most
    if in_range and (number > 0.0 or not positive):
        return number
    required = f"a {'positive ' if positive else ''}finite number"
    if not in_range and np.isfinite(number) and (number > 0.0 or not positive):
        required = f"a number that {dtype} holds, from {least:.2g} to {most:.2g}"
    raise ArgumentError(op, name, given_number(value), required, remedy)


def as_number(value: object) -> float:
    """A real number as a Python float; NaN for what is none."""
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # an int beyond float64
        return math.inf


def given_number(value: object) -> str:
    """What was given where a number is required, in words."""
    return str(value) if isinstance(value, int | float | np.number) else f"a {type(value).__name__}"
