"""An operator: a forward and a backward that agree on a record of residuals, and the checks at its door."""

from __future__ import annotations

from collections.abc import Callable
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
            ArgumentError: an argument has the wrong type, dtype, shape or value.
        """
        dtype = _validate(self, args)
        with np.errstate(all="ignore"):
            y, _ = self.forward(*_in_float32(args), **kwargs)
            return np.asarray(y, dtype=dtype)

    def vjp(self, dy: Array, *args: P.args, **kwargs: P.kwargs) -> G:
        """Return the gradients of `sum(dy * output)`, one for each differentiable argument.

        Raises:
            ArgumentError: an argument has the wrong type, dtype, shape or value.
        """
        dtype = _validate(self, args)
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


def _validate(op: Op[P, R, G], args: tuple[object, ...]) -> np.dtype[np.floating]:
    """Check every array argument against the signature; return the floating dtype that they share."""
    expected = _core_axes(op.signature)
    if len(args) != len(expected):
        raise ArgumentError(
            op.name,
            "the argument list",
            f"{len(args)} arrays",
            f"{len(expected)} ({', '.join(op.arguments)})",
            "Pass arrays by position and settings by keyword.",
        )
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
        dtype = _validate_dtype(op.name, name, value, dtype)
        batch = _validate_shape(op, name, core, value.shape, axes, batch)
    if dtype is None:
        raise ArgumentError(op.name, "the argument list", "without floats", "a floating array", "Pass one.")
    return dtype


def _validate_dtype(
    op: str, name: str, value: Array, dtype: np.dtype[np.floating] | None
) -> np.dtype[np.floating] | None:
    given = value.dtype
    if name == "labels":  # the one integer argument of any operator
        if given.kind not in "iu":
            raise ArgumentError(
                op, name, f"of dtype {given}", "an integer dtype", "Use labels.astype(np.int64)."
            )
        return dtype
    if given.name not in FLOATS:
        raise ArgumentError(
            op, name, f"of dtype {given}", f"one of {', '.join(FLOATS)}", f"Use {name}.astype(np.float64)."
        )
    if dtype is not None and given != dtype:
        raise ArgumentError(
            op,
            name,
            f"of dtype {given}",
            f"{dtype}, the dtype of the arguments before it",
            f"Use {name}.astype(np.{dtype}).",
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
    if not isinstance(dy, np.ndarray | np.floating):
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


def validate_axis(op: str, x: Array, axis: int) -> None:
    """Refuse an axis that x does not have, or that is empty."""
    if not -x.ndim <= axis < x.ndim:
        raise ArgumentError(
            op, "axis", str(axis), f"an axis of x, which has shape {x.shape}", "Count axes from 0 or from -1."
        )
    if not x.shape[axis]:
        raise ArgumentError(
            op, "x", f"of shape {x.shape}", f"at least one entry along axis {axis}", "Drop the empty rows."
        )
