"""What each operator is: executable mathematics and facts. Nothing here computes in floating point."""

from collections.abc import Mapping
from types import MappingProxyType

from specs import (
    activations,
    attention,
    convolution,
    indexing,
    linear,
    losses,
    normalisation,
    optimizers,
    pooling,
    recurrent,
)
from specs.spec import Aspect, Case, Domain, Form, Input, Kink, Refusal, Setting, Sharing, Spec, Tie, Variant

SPECS: Mapping[str, Spec] = MappingProxyType(
    {
        spec.name: spec
        for table in (
            activations.SPECS,
            linear.SPECS,
            normalisation.SPECS,
            convolution.SPECS,
            pooling.SPECS,
            indexing.SPECS,
            attention.SPECS,
            recurrent.SPECS,
            losses.SPECS,
            optimizers.SPECS,
        )
        for spec in table
    }
)

__all__ = [
    "SPECS",
    "Aspect",
    "Case",
    "Domain",
    "Form",
    "Input",
    "Kink",
    "Refusal",
    "Setting",
    "Sharing",
    "Spec",
    "Tie",
    "Variant",
]
