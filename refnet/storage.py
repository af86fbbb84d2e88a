"""Networks in files: NumPy's npz, without pickle, so that reading a file never runs code from it."""

from __future__ import annotations

import os
from typing import get_args

import numpy as np

from refnet.activations import OPS
from refnet.arguments import validate_params, validate_path
from refnet.network import Head, Layer, Network, Params, validate_form
from refnet.op import ArgumentError, Array

FORMAT = "refnet.network/1"
"""The array `format` of a file; `activation` and `head` are names, `w0, b0, w1, b1, ...` the layers."""

ACTIVATIONS = {op.name: op for op in OPS if op.signature == "(...)->(...)"}
HEADS: dict[str, Head] = {head: head for head in get_args(Head)}


def save_network(path: str | os.PathLike[str], network: Network, params: Params) -> None:
    """Write a network and its parameters to a file, whole or not at all.

    Raises:
        ArgumentError: the parameters do not have the sizes of the network, the activation is not one of
            refnet's own, the dtype is not one of NumPy's own, `path` is not the name of a file.
        OSError: the file cannot be written, or PATH.PID.partial, which it is written under, is there already.
    """
    validate_path("save_network", path)
    validate_form("save_network", network)
    layers, dtype = validate_params("save_network", params)
    sizes = (len(layers[0][0]), *(len(b) for _, b in layers))
    if sizes != network.sizes:
        raise ArgumentError(
            "save_network",
            "params",
            f"of the sizes {sizes}",
            f"layers of the sizes {network.sizes} of the network",
            "Save the parameters with the network that they were trained for.",
        )
    if ACTIVATIONS.get(network.activation.name) is not network.activation:
        raise ArgumentError(
            "save_network",
            "network.activation",
            f"{network.activation.name}, which a file cannot name",
            f"one of {', '.join(ACTIVATIONS)}",
            "Save the arrays with np.savez, and the activation in your own code.",
        )
    if dtype.name == "bfloat16":
        raise ArgumentError(
            "save_network",
            "params",
            "of dtype bfloat16, which npz does not know",
            "float64, float32 or float16",
            "Use .astype(np.float32), which holds every bfloat16.",
        )
    arrays = {"format": np.asarray(FORMAT), "activation": np.asarray(network.activation.name)}
    arrays["head"] = np.asarray(network.head)
    for position, (w, b) in enumerate(params):
        arrays |= {f"w{position}": w, f"b{position}": b}
    partial = f"{os.fspath(path)}.{os.getpid()}.partial"
    file = open(partial, "xb")  # noqa: SIM115 - outside of `try`: what is there already is not ours to remove
    try:
        with file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        os.remove(partial)
        raise


def load_network(path: str | os.PathLike[str]) -> tuple[Network, list[Layer]]:
    """Read what `save_network` has written.

    Raises:
        ArgumentError: the file is not a whole network, `path` is not the name of a file.
        OSError: the file cannot be read.
    """
    validate_path("load_network", path)
    arrays = _arrays(path)
    if _text(path, arrays, "format") != FORMAT:
        raise _refusal(path, f'of the format "{_text(path, arrays, "format")}"')
    activation, head = _text(path, arrays, "activation"), _text(path, arrays, "head")
    if activation not in ACTIVATIONS:
        raise _refusal(path, f'with the activation "{activation}"')
    if head not in HEADS:
        raise _refusal(path, f'with the head "{head}"')
    layers = [name for name in arrays if name[:1] in ("w", "b") and name[1:].isdecimal()]
    depth = max(1, (len(layers) + 1) // 2)
    names = [f"{kind}{position}" for position in range(depth) for kind in "wb"]
    missing = [name for name in names if name not in arrays]
    if missing:
        raise _refusal(path, f"without {', '.join(missing)}")
    stray = set(arrays) - {*names, "format", "activation", "head"}
    if stray:
        raise _refusal(path, f"with a stray {', '.join(sorted(stray))}")
    params = [Layer(arrays[f"w{position}"], arrays[f"b{position}"]) for position in range(depth)]
    try:
        validate_params("load_network", params)
        sizes = (len(params[0].w), *(len(layer.b) for layer in params))
        return Network(sizes, ACTIVATIONS[activation], HEADS[head]), params
    except ArgumentError as error:
        raise _refusal(path, f"with layers that do not fit: {error.argument} is {error.given}") from error


def _arrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    import zipfile  # here, because `import refnet` reads no file

    with open(path, "rb") as file:
        try:
            if not zipfile.is_zipfile(file):
                raise _refusal(path, "not an npz file")
            file.seek(0)
            with np.load(file, allow_pickle=False) as content:
                return {name: content[name] for name in content.files}
        except ArgumentError:
            raise
        # Whatever it is: NumPy reads a header as Python text, and a hundred opening braces end in the
        # TokenError of a tokenizer, a damaged table of contents in an OSError for a place before the file.
        except Exception as error:
            raise _refusal(path, f"damaged ({error})") from error


def _text(path: str | os.PathLike[str], arrays: dict[str, Array], name: str) -> str:
    if name not in arrays or arrays[name].ndim or arrays[name].dtype.kind != "U":
        raise _refusal(path, f"without the text {name}")
    return str(arrays[name])


def _refusal(path: str | os.PathLike[str], given: str) -> ArgumentError:
    return ArgumentError(
        "load_network",
        os.fspath(path),
        given,
        f'a file of the format "{FORMAT}"',
        "Save it again with save_network, or `refnet train --save FILE`.",
    )
