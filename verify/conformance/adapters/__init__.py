"""The adapters that ship: a library's own functions under the names of the contract."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Adapter:
    """Where an adapter is, the library that it needs, and the extra of refnet that installs it."""

    module: str
    needs: str
    extra: str


ADAPTERS: Mapping[str, Adapter] = MappingProxyType(
    {
        "sklearn": Adapter("verify.conformance.adapters.sklearn", "scikit-learn", "sklearn"),
        "torch": Adapter("verify.conformance.adapters.torch", "torch", "torch"),
        "jax": Adapter("verify.conformance.adapters.jax", "jax", "jax"),
        "onnxruntime": Adapter("verify.conformance.adapters.onnxruntime", "onnxruntime", "onnxruntime"),
    }
)
"""By the name that the command takes."""
