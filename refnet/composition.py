"""Networks of any operators: stages in a sequence, each a forward and a backward that agree on residuals.

The parameters of a network are one flat tuple of arrays in the order in which the stages take them, and its
gradients are a tuple like it: what a gradient checker, an optimizer or a file goes through one by one.

    network = Sequential(
        Reshape(1, 8, 8), Apply(conv2d, {"padding": 1}), Apply(relu), Reshape(-1), Apply(linear)
    )
    z = network(x, params)
    dx, dparams = network.vjp(dz, x, params)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

import numpy as np

from refnet.arguments import validate_count
from refnet.op import (
    FLOATS,
    HALF,
    UNPLAIN,
    Activation,
    ArgumentError,
    Array,
    MultiOp,
    Op,
    is_plain,
    validate_call,
    validate_cotangent,
)

__all__ = ["Apply", "Mean", "OverRows", "Reshape", "Residual", "Sequential", "Stage", "StageGradients"]


class StageGradients(NamedTuple):
    """The gradients of a stage: None for an input of integers, and one array for each parameter."""

    x: Array | None
    params: tuple[Array, ...]


class Stage(Protocol):
    """One array in, one array out, and the parameters that it takes in between.

    `forward(x, params)` returns the output and the residuals, and trusts its arguments unless `checked`;
    `backward(residuals, dy)` returns the gradients of `sum(dy * output)`.
    """

    @property
    def parameters(self) -> int:
        """How many arrays it takes."""

    @property
    def forward(self) -> Callable[..., tuple[Array, tuple[object, ...]]]: ...
    @property
    def backward(self) -> Callable[..., StageGradients]: ...


# ------------------------------------------------------------------------------------------ an operator


class AppliedResiduals(NamedTuple):
    residuals: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator with its settings. Its arguments are the array of the stage before, in the place of `to`
    (the first, unless named), the `constants` by their names, which are not learned, and the parameters.
    """

    operator: Activation
    settings: Mapping[str, object] = field(default_factory=dict)
    constants: Mapping[str, Array] = field(default_factory=dict)
    to: str = ""

    def __post_init__(self) -> None:
        given: object = self.operator
        if not isinstance(given, Op):
            one = "an operator with one output, such as refnet.linear"
            raise ArgumentError(
                "Apply", "operator", _described(given), one, "Cells with a state are unrolled by Unroll."
            )
        for name in ("settings", "constants"):
            mapping: object = getattr(self, name)
            if not isinstance(mapping, Mapping):
                example = 'Apply(conv2d, {"padding": 1})'
                raise ArgumentError(
                    "Apply", name, _described(mapping), "a mapping of names", f"As in {example}."
                )
        known = self.operator.arguments
        for name in (*self.constants, *([self.to] if self.to else [])):
            if name not in known or (name == self._entry and name in self.constants):
                raise ArgumentError(
                    "Apply",
                    "to" if name == self.to else "constants",
                    repr(name),
                    f"an argument of {self.operator.name}: {', '.join(known)}",
                    f"{self._entry} is the array of the stage before.",
                )

    @property
    def _learned(self) -> tuple[str, ...]:
        return tuple(a for a in self.operator.arguments if a != self._entry and a not in self.constants)

    @property
    def _entry(self) -> str:
        return self.to or self.operator.arguments[0]

    @property
    def parameters(self) -> int:
        return len(self._learned)

    def forward(
        self, x: Array, params: Sequence[Array], *, checked: bool = False
    ) -> tuple[Array, AppliedResiduals]:
        fixed = (
            {name: _like(x, array) for name, array in self.constants.items()} if checked else self.constants
        )
        given = {**fixed, **dict(zip(self._learned, params, strict=True)), self._entry: x}
        arguments = tuple(given[name] for name in self.operator.arguments)
        if checked:
            validate_call(self.operator, arguments, self.settings)
        y, residuals = self.operator.forward(*arguments, **self.settings)
        return y, AppliedResiduals(residuals)

    def backward(self, residuals: AppliedResiduals, dy: Array) -> StageGradients:
        gradients = self.operator.backward(residuals.residuals, dy)
        names: tuple[str, ...] = getattr(gradients, "_fields", ())
        named = dict(zip(names, gradients, strict=True))
        lacking = [name for name in self._learned if name not in named]
        if lacking:
            raise ArgumentError(
                "Apply",
                "params",
                f"{lacking[0]} of {self.operator.name}, which has no gradient",
                "parameters that can be learned",
                f"Hold it fixed: constants={{{lacking[0]!r}: ...}}.",
            )
        return StageGradients(named.get(self._entry), tuple(named[name] for name in self._learned))


# ------------------------------------------------------------------------------------- without parameters


class ShapeResiduals(NamedTuple):
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, init=False)
class Reshape:
    """Each example in another shape: (n, ...) becomes (n, *shape), where one size may be -1."""

    shape: tuple[int, ...]

    def __init__(self, *shape: int) -> None:
        for size in shape:
            validate_count("Reshape", "shape", size, least=-1)
        object.__setattr__(self, "shape", shape)

    @property
    def parameters(self) -> int:
        return 0

    def forward(
        self, x: Array, params: Sequence[Array], *, checked: bool = False
    ) -> tuple[Array, ShapeResiduals]:
        if checked:
            self._validate(x)
        return x.reshape((len(x), *self.shape)), ShapeResiduals(x.shape)

    def backward(self, residuals: ShapeResiduals, dy: Array) -> StageGradients:
        return StageGradients(dy.reshape(residuals.shape), ())

    def _validate(self, x: Array) -> None:
        known = int(np.prod([size for size in self.shape if size >= 0]))
        each = x[:1].size if x.ndim else 0
        open_sizes = sum(size < 0 for size in self.shape)
        if not x.ndim or open_sizes > 1 or (each != known if not open_sizes else known == 0 or each % known):
            raise ArgumentError(
                "Reshape",
                "x",
                f"of shape {x.shape}",
                f"examples of as many numbers as the shape {self.shape} has",
                "One size may be -1, and follows from the others.",
            )


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean along one axis, which the output no longer has."""

    axis: int

    def __post_init__(self) -> None:
        validate_count("Mean", "axis", self.axis, least=-sys.maxsize)

    @property
    def parameters(self) -> int:
        return 0

    def forward(
        self, x: Array, params: Sequence[Array], *, checked: bool = False
    ) -> tuple[Array, ShapeResiduals]:
        if checked and (not -x.ndim <= self.axis < x.ndim or not x.shape[self.axis]):
            required = f"an array with an axis {self.axis} of at least one entry"
            raise ArgumentError("Mean", "x", f"of shape {x.shape}", required, "Count axes from 0.")
        return np.add.reduce(x, axis=self.axis) / x.shape[self.axis], ShapeResiduals(x.shape)

    def backward(self, residuals: ShapeResiduals, dy: Array) -> StageGradients:
        each = np.expand_dims(dy / residuals.shape[self.axis], self.axis)
        return StageGradients(np.broadcast_to(each, residuals.shape).copy(), ())


# --------------------------------------------------------------------------------------- stages of stages


class WithinResiduals(NamedTuple):
    shape: tuple[int, ...]
    residuals: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class OverRows:
    """A stage on all rows of an array (..., k) at once, as on a matrix: a linear layer for each token."""

    stage: Stage

    def __post_init__(self) -> None:
        _validate_stage("OverRows", self.stage)

    @property
    def parameters(self) -> int:
        return self.stage.parameters

    def forward(
        self, x: Array, params: Sequence[Array], *, checked: bool = False
    ) -> tuple[Array, WithinResiduals]:
        if checked and (not x.ndim or not x.size):
            raise ArgumentError(
                "OverRows", "x", f"of shape {x.shape}", "rows (..., k)", "Drop the empty ones."
            )
        y, residuals = self.stage.forward(x.reshape((-1, x.shape[-1])), params, checked=checked)
        if checked and (y.ndim != 2 or len(y) != x.size // x.shape[-1]):
            required = "a row for each row"
            raise ArgumentError(
                "OverRows",
                "the output of its stage",
                f"of shape {y.shape}",
                required,
                "A linear layer gives one.",
            )
        return y.reshape((*x.shape[:-1], y.shape[-1])), WithinResiduals(x.shape, residuals)

    def backward(self, residuals: WithinResiduals, dy: Array) -> StageGradients:
        dx, dparams = self.stage.backward(residuals.residuals, dy.reshape((-1, dy.shape[-1])))
        return StageGradients(None if dx is None else dx.reshape(residuals.shape), dparams)


@dataclass(frozen=True, slots=True)
class Residual:
    """x + stage(x): a residual connection, or skip connection."""

    stage: Stage

    def __post_init__(self) -> None:
        _validate_stage("Residual", self.stage)

    @property
    def parameters(self) -> int:
        return self.stage.parameters

    def forward(
        self, x: Array, params: Sequence[Array], *, checked: bool = False
    ) -> tuple[Array, WithinResiduals]:
        y, residuals = self.stage.forward(x, params, checked=checked)
        if checked and y.shape != x.shape:
            raise ArgumentError(
                "Residual",
                "the output of its stage",
                f"of shape {y.shape}",
                f"shape {x.shape}, that of its input",
                "The two are added: nothing is broadcast.",
            )
        return x + y, WithinResiduals(x.shape, residuals)

    def backward(self, residuals: WithinResiduals, dy: Array) -> StageGradients:
        dx, dparams = self.stage.backward(residuals.residuals, dy)
        return StageGradients(dy.copy() if dx is None else dy + dx, dparams)


class SequentialResiduals(NamedTuple):
    stages: tuple[tuple[object, ...], ...]


@dataclass(frozen=True, slots=True, init=False)
class Sequential:
    """Stages one after the other; a stage itself. Calling it, or its `vjp`, checks all arguments first."""

    stages: tuple[Stage, ...]

    def __init__(self, *stages: Stage) -> None:
        for stage in stages:
            _validate_stage("Sequential", stage)
        object.__setattr__(self, "stages", stages)

    @property
    def parameters(self) -> int:
        return sum(stage.parameters for stage in self.stages)

    def forward(
        self, x: Array, params: Sequence[Array], *, checked: bool = False
    ) -> tuple[Array, SequentialResiduals]:
        kept: list[tuple[object, ...]] = []
        ends = accumulate((stage.parameters for stage in self.stages), initial=0)
        for stage, (start, end) in zip(self.stages, pairwise(ends), strict=True):
            x, residuals = stage.forward(x, params[start:end], checked=checked)
            kept.append(residuals)
        return x, SequentialResiduals(tuple(kept))

    def backward(self, residuals: SequentialResiduals, dy: Array) -> StageGradients:
        """The chain rule, from the last stage to the first."""
        dx: Array | None = dy
        gradients: list[Array] = []
        for stage, kept in zip(reversed(self.stages), reversed(residuals.stages), strict=True):
            if dx is None:
                raise ArgumentError(
                    "Sequential",
                    "a stage but the first",
                    "one that takes integers",
                    "stages that take floating arrays",
                    "Only the first stage may look up ids.",
                )
            dx, own = stage.backward(kept, dx)
            gradients[:0] = own
        return StageGradients(dx, tuple(gradients))

    def __call__(self, x: Array, params: Sequence[Array]) -> Array:
        """The output, in the dtype of the parameters; of float16 and bfloat16, computed in float32.

        Raises:
            ArgumentError: an argument has the wrong type, dtype, number or shape; a stage names its operator.
        """
        dtype = self._validate(x, params)
        with np.errstate(all="ignore"):
            y, _ = self.forward(_in_float32(x), [_in_float32(p) for p in params], checked=True)
            return np.array(y, dtype=dtype)

    def vjp(self, dy: Array, x: Array, params: Sequence[Array]) -> StageGradients:
        """The gradients of `sum(dy * output)` for x (None, if it holds integers) and for each parameter.

        Raises:
            ArgumentError: as for a call; or dy has not the shape and dtype of the output.
        """
        dtype = self._validate(x, params)
        with np.errstate(all="ignore"):
            y, residuals = self.forward(_in_float32(x), [_in_float32(p) for p in params], checked=True)
            validate_cotangent("Sequential", "dy", dy, dtype, y.shape)
            dx, gradients = self.backward(residuals, _in_float32(dy))
            return StageGradients(
                None if dx is None else np.array(dx, dtype=dtype),
                tuple(np.asarray(gradient, dtype=dtype) for gradient in gradients),
            )

    def _validate(self, x: Array, params: Sequence[Array]) -> np.dtype[np.floating]:
        """Return the dtype that the floating arrays share."""
        given: object = params
        if not isinstance(given, tuple | list) or len(given) != self.parameters:
            raise ArgumentError(
                "Sequential",
                "params",
                f"{len(given)} arrays" if isinstance(given, tuple | list) else f"a {type(given).__name__}",
                f"a tuple of {self.parameters} arrays",
                "They come in the order in which the stages take them.",
            )
        named = {"x": x, **{f"params[{k}]": array for k, array in enumerate(params)}}
        dtypes: dict[np.dtype[np.floating], str] = {}
        for name, array in named.items():
            plain: object = array
            if not isinstance(plain, np.ndarray) or not is_plain(array):
                kind = type(plain).__name__
                raise ArgumentError("Sequential", name, f"a {kind}", "a NumPy array", UNPLAIN)
            if array.dtype.name in FLOATS:
                dtypes.setdefault(array.dtype, name)
            elif name != "x" or array.dtype.kind not in "iu":
                allowed = f"one of {', '.join(FLOATS)}"
                raise ArgumentError(
                    "Sequential", name, f"of dtype {array.dtype}", allowed, "Use .astype(np.float64)."
                )
        if len(dtypes) != 1:
            mixed = " and ".join(f"{dtype} ({name})" for dtype, name in dtypes.items())
            raise ArgumentError(
                "Sequential",
                "the arguments together",
                mixed or "without floats",
                "arrays of one floating dtype",
                "Use .astype: nothing is converted silently.",
            )
        return next(iter(dtypes))


def _validate_stage(op: str, stage: object) -> None:
    if not all(hasattr(stage, name) for name in ("parameters", "forward", "backward")):
        required = "a stage, such as Apply(refnet.relu)"
        raise ArgumentError(
            op, "a stage", _described(stage), required, "An operator is applied: Apply(operator)."
        )


def _described(value: object) -> str:
    return f"the operator {value.name}" if isinstance(value, Op | MultiOp) else f"a {type(value).__name__}"


def _like(x: Array, constant: Array) -> Array:
    """A constant of a half format as the computation has it: in float32, beside an x of float32."""
    return _in_float32(constant) if x.dtype == np.float32 else constant


def _in_float32(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype.name in HALF else array
