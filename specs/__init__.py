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
    piecewise,
    pooling,
    recurrent,
    smooth,
    weighted_losses,
)
from specs.spec import (
    Aspect,
    Case,
    Domain,
    Form,
    Input,
    Kink,
    Refusal,
    Setting,
    Sharing,
    Slope,
    Spec,
    Tie,
    Variant,
)

SPECS: Mapping[str, Spec] = MappingProxyType(
    {
        spec.name: spec
        for table in (
            activations.SPECS,
            piecewise.SPECS,
            smooth.SPECS,
            linear.SPECS,
            normalisation.SPECS,
            convolution.SPECS,
            pooling.SPECS,
            indexing.SPECS,
            attention.SPECS,
            recurrent.SPECS,
            losses.SPECS,
            weighted_losses.SPECS,
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
    "Slope",
    "Spec",
    "Tie",
    "Variant",
]
