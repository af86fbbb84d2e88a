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

P = ParamSpec("P")
R = TypeVar("R", bound=tuple[object, ...])
G = TypeVar("G", bound=tuple[Array, ...])
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
    """What every `Op` has, whatever its types: for code that walks over the operators."""

    @property
    def name(self) -> str: ...
    @property
    def signature(self) -> str: ...
    @property
    def arguments(self) -> tuple[str, ...]: ...
    @property
    def batched(self) -> bool: ...
    @property
    def forward(self) -> Callable[..., tuple[Array, tuple[object, ...]]]: ...
    @property
    def backward(self) -> Callable[..., tuple[Array, ...]]: ...
    @property
    def __call__(self) -> Callable[..., Array]: ...
    @property
    def vjp(self) -> Callable[..., tuple[Array, ...]]: ...


@dataclass(frozen=True, slots=True)
class Op(Generic[P, R, G]):
    """A pure operator.

    `forward(*args, **settings)` returns the output and the residuals; `backward(residuals, dy)` returns the
    gradients of `sum(dy * output)` for the differentiable arguments and uses nothing else. Both trust their
    arguments and accept any array-like that speaks NumPy's protocols. Calling the operator, or its `vjp`,
    first validates the arguments against `signature` (a gufunc signature; leading axes are batch axes when
    `batched`), computes float16 and bfloat16 in float32, and rounds the result once.
    """

    name: str
    signature: str
    arguments: tuple[str, ...]
    forward: Callable[P, tuple[Array, R]]
    backward: Callable[[R, Array], G]
    batched: bool = True

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Array:
        """Return the output for validated arguments.

        Raises:
            ArgumentError: an argument has the wrong type, dtype, shape or value, or a setting is unknown.
        """
        dtype = _validate(self, args, kwargs)
        with np.errstate(all="ignore"):
            y, _ = self.forward(*_in_float32(args), **kwargs)
            return np.asarray(y, dtype=dtype)

    def vjp(self, dy: Array, *args: P.args, **kwargs: P.kwargs) -> G:
        """Return the gradients of `sum(dy * output)`, one for each differentiable argument.

        Raises:
            ArgumentError: an argument has the wrong type, dtype, shape or value, or a setting is unknown.
        """
        dtype = _validate(self, args, kwargs)
        with np.errstate(all="ignore"):
            y, residuals = self.forward(*_in_float32(args), **kwargs)
            _validate_cotangent(self, dy, dtype, y.shape)
            gradients = self.backward(residuals, np.asarray(dy, dtype=y.dtype))
            return tuple.__new__(type(gradients), (np.asarray(g, dtype=dtype) for g in gradients))


def _in_float32(args: T) -> T:
    return tuple.__new__(
        type(args),
        (a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype.name in HALF else a for a in args),
    )


@lru_cache
def _core_axes(signature: str) -> tuple[tuple[str, ...], ...]:
    """The named axes of each input: "(n,k),(k,m),(m)->(n,m)" gives (n,k), (k,m), (m)."""
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


def _validate_settings(op: Op[P, R, G], given: Mapping[str, object]) -> None:
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


def _validate(
    op: Op[P, R, G], args: tuple[object, ...], settings: Mapping[str, object]
) -> np.dtype[np.floating]:
    """Check every array argument against the signature, and the names of the settings; return the floating
    dtype that the arrays share."""
    expected = _core_axes(op.signature)
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
    axes: dict[str, int] = {}
    batch: tuple[int, ...] | None = None
    for name, core, value in zip(op.arguments, expected, args, strict=True):
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
        batch = _validate_shape(op, name, core, value.shape, axes, batch)
    if dtype is None:
        raise ArgumentError(op.name, "the argument list", "without floats", "a floating array", "Pass one.")
    return dtype


def _validate_dtype(
    op: Op[P, R, G], name: str, value: Array, dtype: np.dtype[np.floating] | None
) -> np.dtype[np.floating] | None:
    given = value.dtype
    if name == "labels":  # the one integer argument of any operator
        if given.kind not in "iu":
            raise ArgumentError(
                op.name, name, f"of dtype {given}", "an integer dtype", "Use labels.astype(np.int64)."
            )
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
    op: Op[P, R, G],
    name: str,
    core: tuple[str, ...],
    shape: tuple[int, ...],
    axes: dict[str, int],
    batch: tuple[int, ...] | None,
) -> tuple[int, ...]:
    """Bind the core axes of one argument; return the batch axes that all arguments share."""
    split = len(shape) - len(core)
    leading, sizes = shape[: max(split, 0)], shape[max(split, 0) :]
    wanted = ("..." if op.batched else "", *core)
    known = ", ".join(f"{axis} = {size}" for axis, size in axes.items())
    required = f"shape ({', '.join(filter(None, wanted))})" + (f" with {known}" if known else "")
    if batch:
        required += f" and batch axes {batch}"
    bad_batch = leading != batch if batch is not None else bool(leading) and not op.batched
    if (
        split < 0
        or bad_batch
        or any(axes.get(axis, size) != size for axis, size in zip(core, sizes, strict=True))
    ):
        raise ArgumentError(
            op.name,
            name,
            f"of shape {shape}",
            required,
            "Shapes must agree exactly: nothing is broadcast between arguments.",
        )
    axes.update(zip(core, sizes, strict=True))
    return leading


def _validate_cotangent(
    op: Op[P, R, G], dy: object, dtype: np.dtype[np.floating], shape: tuple[int, ...]
) -> None:
    if not isinstance(dy, np.ndarray | np.floating) or (isinstance(dy, np.ndarray) and not is_plain(dy)):
        given = f"a {type(dy).__name__}"
    elif dy.dtype != dtype or dy.shape != shape:
        given = f"{dy.dtype} of shape {dy.shape}"
    else:
        return
    raise ArgumentError(
        op.name,
        "dy",
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


def validate_positive(
    op: str, name: str, number: object, dtype: np.dtype[np.floating], remedy: str, beyond: str
) -> float:
    """Return a positive setting as a Python float, which takes the dtype of the array that it meets.

    A `np.float64` would turn a float32 array into float64. A number that the dtype does not hold would become
    0 or infinity there. `remedy` says what to use instead, `beyond` what to do where the dtype is too narrow.
    """
    given = f"a {type(number).__name__}"
    if isinstance(number, int | float | np.integer | np.floating) and not isinstance(number, bool):
        try:
            value = float(number)
        except OverflowError:  # an int beyond float64
            value = math.inf
        least, most = float(np.finfo(dtype).smallest_normal), float(np.finfo(dtype).max)
        if 0.0 < value < math.inf and not least <= value <= most:
            required = f"a number that {dtype} holds, from {least:.2g} to {most:.2g}"
            raise ArgumentError(op, name, str(value), required, beyond)
        if 0.0 < value < math.inf:
            return value
        given = str(number)
    raise ArgumentError(op, name, given, "a positive finite number", remedy)


def validate_classes(op: str, name: str, rows: Array) -> None:
    """Refuse rows (..., c) of no class: their loss is that of nothing, a perfect 0."""
    if not rows.shape[-1]:
        raise ArgumentError(
            op, name, f"of shape {rows.shape}", "at least one class", "The last axis counts the classes."
        )
