"""What each operator is: executable mathematics and facts. Nothing here computes in floating point."""

from collections.abc import Mapping
from types import MappingProxyType

from specs import activations, linear, losses
from specs.spec import Case, Domain, Form, Input, Kink, Setting, Spec, Variant

SPECS: Mapping[str, Spec] = MappingProxyType(
    {spec.name: spec for table in (activations.SPECS, linear.SPECS, losses.SPECS) for spec in table}
)

__all__ = ["SPECS", "Case", "Domain", "Form", "Input", "Kink", "Setting", "Spec", "Variant"]
