"""The laws of single operators, all of them, and which of them an operator must obey."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from specs import Spec
from verify.laws.attention_laws import ATTENTION_LAWS
from verify.laws.call_laws import CALL_LAWS
from verify.laws.law import Law
from verify.laws.step_laws import STEP_LAWS
from verify.laws.value_laws import VALUE_LAWS
from verify.laws.weight_laws import WEIGHT_LAWS

_TABLES = (VALUE_LAWS, ATTENTION_LAWS, STEP_LAWS, WEIGHT_LAWS, CALL_LAWS)

LAWS: Mapping[str, Law] = MappingProxyType({law.name: law for table in _TABLES for law in table})
"""Every law of operators by its name."""


def laws_of(spec: Spec) -> tuple[Law, ...]:
    """The laws that an operator must obey: its own, then the universal ones."""
    own = [LAWS[name] for name in spec.laws]
    universal = (law for law in LAWS.values() if law.universal and law.applies(spec))
    return (*own, *(law for law in universal if spec.differentiable or not law.gradient))
