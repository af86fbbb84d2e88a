"""Every operator obeys each of its laws, and so does the network, in every format."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings

from specs import SPECS
from verify.arithmetic.formats import FORMATS, Format
from verify.laws.examples import Recipe
from verify.laws.law import Law, NotApplicable, Subject
from verify.laws.laws import LAWS, laws_of
from verify.laws.strategies import recipes

EXAMPLES = {"smoke": 5, "ci": 15, "deep": 500}[os.environ.get("REFNET_LEVEL", "ci")]

SEARCH = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

OPERATORS = [(name, law) for name, spec in SPECS.items() for law in laws_of(spec)]


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(("name", "law"), OPERATORS, ids=[f"{name}-{law.name}" for name, law in OPERATORS])
def test_an_operator_obeys_a_law(name: str, law: Law, fmt: Format) -> None:
    subject, applied = Subject.of_reference(name), 0

    @SEARCH
    @given(recipes(SPECS[name], fmt))
    def holds(recipe: Recipe) -> None:
        nonlocal applied
        try:
            law.check(subject, recipe.build(), fmt)
        except NotApplicable:
            return
        applied += 1

    holds()
    assert applied, "no example says anything about the law"


def test_every_law_is_the_law_of_some_operator() -> None:
    assert {law.name for _, law in OPERATORS} == set(LAWS)
