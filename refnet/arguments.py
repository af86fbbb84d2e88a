"""The checks at the door of the functions of a network: once for each public call, never inside a loop."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

import numpy as np

from refnet.op import FLOATS, HALF, UNPLAIN, Activation, ArgumentError, Array, Labels, Mask, Op, is_plain

HEADS = ("softmax", "sigmoid")


MOST = 2**31 - 1
"""No axis of an array is as long as this in practice, and what is counted up to it overflows no integer."""


def validate_count(op: str, name: str, value: object, *, least: int = 1, most: int = MOST) -> None:
    """Refuse what is not an integer from `least` to `most`."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and least <= value <= most:
        return
    required = f"an integer of at least {least}"
    if isinstance(value, int | np.integer) and value > most:
        required += f" and at most {most}"
    raise ArgumentError(op, name, repr(value), required, "Pass it as a Python int.")


def validate_index(op: str, name: str, value: object) -> None:
    """Refuse what an array of int64 cannot hold."""
    validate_count(op, name, value, least=-(2**63), most=2**63 - 1)


def validate_range(
    op: str,
    name: str,
    indices: Labels,
    size: int,
    remedy: str,
    *,
    meaning: str = "",
    counted: Mask | None = None,
) -> None:
    """Refuse indices outside [0, size), of those that are `counted`; `meaning` says what is counted."""
    bad = (indices < 0) | (indices >= size)
    if counted is not None:
        bad = bad & counted
    if bad.any():
        raise ArgumentError(
            op,
            name,
            f"with {int(bad.sum())} of {indices.size} out of range, the first of them {int(indices[bad][0])}",
            f"integers in [0, {size}){meaning}",
            remedy,
        )


def validate_seed(op: str, seed: object) -> int:
    """Refuse None, which would draw another seed each time, and what is not an integer of at least 0."""
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool) and seed >= 0:
        return int(seed)
    raise ArgumentError(op, "seed", repr(seed), "an integer of at least 0", "Choose any, such as seed=0.")


def validate_choice(op: str, name: str, value: object, choices: Collection[str], remedy: str) -> None:
    """Refuse what is not one of some words; a list is none of them, though it cannot be looked up."""
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(op, name, repr(value), f"one of {', '.join(choices)}", remedy)


def validate_flag(op: str, name: str, value: object) -> None:
    """Refuse what is neither True nor False: an array is neither, and a word would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(op, name, repr(value), "True or False", "Pass a bool.")


def validate_path(op: str, path: object) -> None:
    """Refuse what names no file: a number is one that is open already."""
    if not isinstance(path, str | os.PathLike) or "\0" in str(path):
        raise ArgumentError(
            op, "path", repr(path), "the name of a file, a str or a pathlib.Path", 'Pass "net.npz".'
        )


def validate_generator(op: str, rng: object) -> None:
    """Refuse every source of randomness but an explicit Generator."""
    if not isinstance(rng, np.random.Generator):
        raise ArgumentError(
            op,
            "rng",
            f"a {type(rng).__name__}",
            "a numpy.random.Generator",
            "Use np.random.default_rng(seed).",
        )


def validate_activation(op: str, activation: object) -> None:
    """Refuse what does not map each element of one array to one element."""
    if not isinstance(activation, Op) or activation.signature != "(...)->(...)":
        kind = (
            f"{activation.name}, of signature {activation.signature}"
            if isinstance(activation, Op)
            else f"a {type(activation).__name__}"
        )
        raise ArgumentError(
            op,
            "activation",
            kind,
            "an elementwise operator, of signature (...)->(...)",
            "Use refnet.relu, tanh, sigmoid or identity; a softmax belongs to the head.",
        )


def validate_head(op: str, head: object, outputs: int) -> None:
    """Refuse an unknown head, and a sigmoid over any number of outputs but one."""
    validate_choice(op, "head", head, HEADS, 'Two classes: "sigmoid"; more: "softmax".')
    if head == "sigmoid" and outputs != 1:
        raise ArgumentError(
            op,
            "head",
            f"sigmoid over {outputs} outputs",
            "one output, the probability of class 1",
            'For one output for each class use head="softmax".',
        )


def validate_params(op: str, params: object) -> tuple[list[tuple[Array, Array]], np.dtype[np.floating]]:
    """Check that params are layers that chain, of one dtype; return them in the dtype of the computation,
    and their own dtype."""
    if not isinstance(params, list | tuple) or not params:
        given = "empty" if isinstance(params, list | tuple) and not params else f"a {type(params).__name__}"
        raise ArgumentError(
            op,
            "params",
            given,
            "a list of at least one pair (w, b)",
            "Write [(w, b)] for a network of one layer; `initialise` makes the first parameters.",
        )
    dtype: np.dtype[np.floating] | None = None
    width: int | None = None
    layers: list[tuple[Array, Array]] = []
    for position, pair in enumerate(params):
        name = f"params[{position}]"
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            size = f" of length {len(pair)}" if isinstance(pair, list | tuple) else ""
            raise ArgumentError(
                op,
                name,
                f"a {type(pair).__name__}{size}",
                "a pair (w, b)",
                "One pair for each layer: weights (k, m) and biases (m,).",
            )
        w, b = pair
        dtype = validate_array(op, f"{name}.w", w, 2, "(k, m)", dtype)
        dtype = validate_array(op, f"{name}.b", b, 1, "(m,)", dtype)
        if width is not None and w.shape[0] != width:
            raise ArgumentError(
                op,
                f"{name}.w",
                f"of shape {w.shape}",
                f"shape (k, m) with k = {width}, the m of the layer before",
                "The layers must chain: (64, 32), then (32, 10). PyTorch stores the transpose of w.",
            )
        if b.shape[0] != w.shape[1]:
            raise ArgumentError(
                op,
                f"{name}.b",
                f"of shape {b.shape}",
                f"shape (m,) with m = {w.shape[1]}, the columns of {name}.w",
                "One bias for each neuron. PyTorch stores the transpose of w.",
            )
        if not w.size:
            raise ArgumentError(
                op, f"{name}.w", f"of shape {w.shape}", "at least one input and one neuron", "Drop the layer."
            )
        width = w.shape[1]
        layers.append((w, b))
    assert dtype is not None  # there is at least one layer
    if dtype.name in HALF:
        layers = [(w.astype(np.float32), b.astype(np.float32)) for w, b in layers]
    return layers, dtype


def validate_array(
    op: str, name: str, value: object, ndim: int, form: str, dtype: np.dtype[np.floating] | None
) -> np.dtype[np.floating]:
    """Check the type, the number of axes and the dtype of a floating array; return its dtype."""
    if not isinstance(value, np.ndarray):
        raise ArgumentError(
            op,
            name,
            f"a {type(value).__name__}",
            f"a NumPy array of shape {form}",
            "Convert it with np.asarray(..., dtype=np.float64).",
        )
    if not is_plain(value):
        raise ArgumentError(
            op, name, f"a {type(value).__name__}", "a NumPy array, and no subclass of it", UNPLAIN
        )
    if value.dtype.name not in FLOATS:
        raise ArgumentError(
            op, name, f"of dtype {value.dtype}", f"one of {', '.join(FLOATS)}", "Use .astype(np.float64)."
        )
    if dtype is not None and value.dtype != dtype:
        raise ArgumentError(
            op,
            name,
            f"of dtype {value.dtype}",
            f"{dtype}, the dtype of the parameters before it",
            "Use .astype(params[0][0].dtype): nothing is converted silently.",
        )
    if value.ndim != ndim:
        raise ArgumentError(
            op,
            name,
            f"of shape {value.shape}",
            f"shape {form}",
            "One sample is a batch of one: x[None, :]."
            if name.startswith("x")
            else "w is a matrix, b a vector.",
        )
    kind: np.dtype[np.floating] = value.dtype
    return kind


def validate_network(
    op: str, x: Array, params: object, activation: Activation, *, name: str = "x"
) -> tuple[Array, list[tuple[Array, Array]], np.dtype[np.floating]]:
    """Check x, params and activation against one another; return x and the layers in the dtype of the
    computation, and the dtype that they came in."""
    validate_activation(op, activation)
    layers, dtype = validate_params(op, params)
    validate_array(op, name, x, 2, "(n, k)", dtype)
    features = layers[0][0].shape[0]
    if x.shape[1] != features:
        raise ArgumentError(
            op,
            name,
            f"of shape {x.shape}",
            f"shape (n, k) with k = {features}, the rows of params[0].w",
            "The first layer has one input for each feature of a sample.",
        )
    return (x.astype(np.float32) if dtype.name in HALF else x), layers, dtype


def validate_labels(
    op: str, labels: Labels, x: Array, layers: Sequence[tuple[Array, Array]], head: str, *, of: str = ""
) -> None:
    """Check that there is one integer label for each row of x, and each names a class of the head."""
    outputs = layers[-1][1].size
    validate_head(op, head, outputs)
    validate_one_label_each(op, labels, x, of=of)
    if not len(x):
        raise ArgumentError(op, f"x{of}", f"of shape {x.shape}", "at least one sample", "A mean needs one.")
    classes = 2 if head == "sigmoid" else outputs
    remedy = "Count classes from 0; np.unique(labels, return_inverse=True) does."
    validate_range(op, f"labels{of}", labels, classes, remedy, meaning=", the classes of the network")


def validate_one_label_each(op: str, labels: object, x: Array, *, of: str = "") -> None:
    """Refuse what is not an array of one integer for each row of x."""
    name = f"labels{of}"
    given = ""
    if not isinstance(labels, np.ndarray) or not is_plain(labels):
        given = f"a {type(labels).__name__}"
    elif labels.dtype.kind not in "iu":
        given = f"of dtype {labels.dtype}"
    if given or not isinstance(labels, np.ndarray):
        raise ArgumentError(
            op,
            name,
            given,
            "a NumPy array of integers, the class of each sample",
            "np.unique(labels, return_inverse=True) counts classes of any kind from 0.",
        )
    if labels.shape != x.shape[:1]:
        raise ArgumentError(
            op,
            name,
            f"of shape {labels.shape}",
            f"shape (n,) with n = {len(x)}, the number of samples",
            "One class index for each sample; a one-hot matrix becomes labels by .argmax(axis=1).",
        )
