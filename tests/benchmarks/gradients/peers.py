"""Checkers of gradients behind one signature, each at its own defaults.

Those that are not installed are left out: pip install 'refnet[peers]'
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.benchmarks.gradients.operators import Inputs
from tests.gradient_examples import Array, Vjp
from verify import gradcheck
from verify.gradients.arrays import as_tuple, is_floating
from verify.gradients.report import Verdict

try:
    import torch
except ImportError:
    torch = None
try:
    import jax
    import jax.test_util

    jax.config.update("jax_enable_x64", True)
except ImportError:
    jax = None
try:
    import autograd
    import autograd.test_util
except ImportError:
    autograd = None
try:
    import scipy.optimize as scipy_optimize
except ImportError:
    scipy_optimize = None

Function = Callable[..., Any]


class Checker(NamedTuple):
    """A name, and `check(f, vjp, inputs, seed)`."""

    name: str
    check: Callable[[Function, Vjp, Inputs, int], Verdict]


def _refnet(f: Function, vjp: Vjp, inputs: Inputs, seed: int) -> Verdict:
    return gradcheck(f, vjp, inputs, seed=seed).verdict


REFNET = Checker("refnet", _refnet)


def _floating(inputs: Inputs) -> list[int]:
    return [position for position, x in enumerate(inputs) if is_floating(x)]


def _completed(inputs: Inputs, floating: tuple[Any, ...]) -> list[Any]:
    """All inputs, the floating ones replaced: most peers differentiate by every argument they are given."""
    new = iter(floating)
    return [next(new) if is_floating(x) else x for x in inputs]


def _verdict(call: Callable[[], object]) -> Verdict:
    """Peers raise, or return False, for what does not agree; and raise whatever they stumble over."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # torch: "Input #0 requires gradient and is not a double precision floating point"
        warnings.simplefilter("ignore")
        try:
            return "fail" if call() is False else "pass"
        except Exception:
            return "fail"


def torch_function(f: Function, vjp: Vjp, inputs: Inputs) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The pair as a `torch.autograd.Function`, and the inputs as tensors."""

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            ctx.save_for_backward(*tensors)
            return torch.from_numpy(np.array(f(*(t.detach().numpy() for t in tensors))))

        @staticmethod
        def backward(ctx: Any, *dys: Any) -> Any:
            arrays = [t.detach().numpy() for t in ctx.saved_tensors]
            gradients = iter(as_tuple(vjp(dys[0].detach().numpy(), *arrays)))
            return tuple(
                torch.from_numpy(np.array(next(gradients), order="C")) if is_floating(x) else None
                for x in arrays
            )

    tensors = tuple(torch.from_numpy(x.copy()).requires_grad_(is_floating(x)) for x in inputs)
    return Wrapped.apply, tensors


def torch_verdict(function: Callable[..., Any], tensors: tuple[Any, ...], fast: bool) -> Verdict:
    return _verdict(lambda: torch.autograd.gradcheck(function, tensors, fast_mode=fast))


def _torch(fast: bool) -> Callable[[Function, Vjp, Inputs, int], Verdict]:
    def check(f: Function, vjp: Vjp, inputs: Inputs, seed: int) -> Verdict:
        """The seed has no part in it: the slow mode draws nothing, the fast one from a seed of its own."""
        return torch_verdict(*torch_function(f, vjp, inputs), fast)

    return check


def _jax(f: Function, vjp: Vjp, inputs: Inputs, seed: int) -> Verdict:
    """`jax.test_util.check_grads`, which draws its one direction from a seed of its own."""
    y = np.asarray(f(*inputs))
    floating = [inputs[position] for position in _floating(inputs)]
    shape = jax.ShapeDtypeStruct(y.shape, y.dtype)
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in floating)

    def forward_of(*args: Any) -> Array:
        return np.asarray(f(*_completed(inputs, tuple(map(np.asarray, args)))))

    def backward_of(dy: Any, *args: Any) -> Inputs:
        arrays = _completed(inputs, tuple(map(np.asarray, args)))
        return tuple(np.asarray(g) for g in as_tuple(vjp(np.asarray(dy), *arrays)))

    def primal(*args: Any) -> Any:
        return jax.pure_callback(forward_of, shape, *args)

    def forward(*args: Any) -> Any:
        return primal(*args), args

    def backward(args: Any, dy: Any) -> Any:
        return jax.pure_callback(backward_of, shapes, dy, *args)

    wrapped = jax.custom_vjp(primal)
    wrapped.defvjp(forward, backward)
    return _verdict(lambda: jax.test_util.check_grads(wrapped, tuple(floating), order=1, modes=["rev"]))


def _autograd(f: Function, vjp: Vjp, inputs: Inputs, seed: int) -> Verdict:
    """`autograd.test_util.check_grads` draws from NumPy's global generator: seeded here, and put back."""
    positions = _floating(inputs)

    def forward(*args: Array) -> Any:
        return f(*_completed(inputs, args))

    def gradient(order: int) -> Callable[..., Any]:
        return lambda y, *args: lambda dy: as_tuple(vjp(np.asarray(dy), *_completed(inputs, args)))[order]

    arguments = tuple(range(len(positions)))  # its default is to check the first one only
    wrapped = autograd.extend.primitive(forward)
    autograd.extend.defvjp(wrapped, *map(gradient, arguments))
    check = autograd.test_util.check_grads(wrapped, arguments, modes=["rev"], order=1)
    generator = autograd.numpy.random
    state = generator.get_state()
    generator.seed(seed)
    try:
        return _verdict(lambda: check(*(inputs[position] for position in positions)))
    finally:
        generator.set_state(state)


def _scipy(f: Function, vjp: Vjp, inputs: Inputs, seed: int) -> Verdict:
    """`scipy.optimize.check_grad` of sum(dy * f), for one normally distributed dy.

    It returns a norm of the error and no verdict; users call it wrong above 1e-6 max(1, |gradient|).
    """
    positions = _floating(inputs)
    dy = np.random.default_rng(seed).standard_normal(np.shape(f(*inputs)))
    ends = np.cumsum([inputs[position].size for position in positions])

    def parts(flat: Array) -> list[Any]:
        pieces = np.split(np.asarray(flat), ends[:-1])
        arrays = tuple(
            piece.reshape(inputs[position].shape).astype(inputs[position].dtype)
            for piece, position in zip(pieces, positions, strict=True)
        )
        return _completed(inputs, arrays)

    def value(flat: Array) -> float:
        return float(np.sum(dy * f(*parts(flat))))

    def gradient(flat: Array) -> Array:
        gradients = as_tuple(vjp(dy.astype(np.asarray(f(*inputs)).dtype), *parts(flat)))
        return np.concatenate([np.asarray(g, dtype=np.float64).ravel() for g in gradients])

    def agrees() -> bool:
        point = np.concatenate([inputs[position].ravel() for position in positions])
        error = scipy_optimize.check_grad(value, gradient, point)
        return bool(error <= 1e-6 * max(1.0, float(np.linalg.norm(gradient(point)))))

    return _verdict(agrees)


def checkers() -> tuple[Checker, ...]:
    """refnet first, then the peers that are installed."""
    return (
        REFNET,
        *((Checker("torch slow", _torch(False)), Checker("torch fast", _torch(True))) if torch else ()),
        *((Checker("jax", _jax),) if jax else ()),
        *((Checker("autograd", _autograd),) if autograd else ()),
        *((Checker("scipy", _scipy),) if scipy_optimize else ()),
    )


def missing() -> str:
    """One line that names what is not installed, and how to get it; empty if nothing is missing."""
    libraries = {"torch": torch, "jax": jax, "autograd": autograd, "scipy": scipy_optimize}
    names = [name for name, library in libraries.items() if library is None]
    return f"Without {', '.join(names)}, not installed: pip install 'refnet[peers]'" if names else ""
