"""Every operator obeys each of its laws, and so does the network, in every format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import pytest
from hypothesis import HealthCheck, given, settings

from refnet import identity, sigmoid, tanh
from specs import SPECS
from verify.arithmetic.formats import FLOAT32, FORMATS, Format
from verify.laws.examples import Recipe
from verify.laws.law import Law, NotApplicable, Subject
from verify.laws.laws import LAWS, laws_of
from verify.laws.network import NetworkRecipe, NetworkSubject
from verify.laws.network_laws import NETWORK_LAWS, NetworkLaw
from verify.laws.strategies import network_recipes, recipes

EXAMPLES = {"smoke": 5, "ci": 8, "deep": 500}[os.environ.get("REFNET_LEVEL", "ci")]

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


NETWORKS = {
    "relu-softmax": NetworkSubject.of_reference(),
    "identity-softmax": NetworkSubject.of_reference(identity),
    "sigmoid-softmax": NetworkSubject.of_reference(sigmoid),
    "relu-sigmoid": NetworkSubject.of_reference(head="sigmoid"),
    "tanh-sigmoid": NetworkSubject.of_reference(tanh, "sigmoid"),
}

SAYS_NOTHING: Mapping[str, Callable[[str, Format], bool]] = {
    "collapses": lambda network, fmt: network.startswith(("sigmoid", "tanh")),
    "rescaling": lambda network, fmt: not network.startswith("relu"),
    "balance": lambda network, fmt: network.startswith(("sigmoid", "tanh")),
    "output-gradient-sums-to-zero": lambda network, fmt: network.endswith("-sigmoid"),
    "epoch-is-steps": lambda network, fmt: fmt.precision < FLOAT32.precision,
    "proportional-to-rate": lambda network, fmt: fmt.precision < FLOAT32.precision,
    "first-order": lambda network, fmt: fmt.precision < FLOAT32.precision,
}
"""The networks and formats of which a law says nothing; of all others it must say something."""


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("law", NETWORK_LAWS.values(), ids=NETWORK_LAWS)
def test_a_network_obeys_a_law(law: NetworkLaw, network: str, fmt: Format) -> None:
    subject, applied = NETWORKS[network], 0

    @SEARCH
    @given(network_recipes(fmt, outputs=1 if subject.head == "sigmoid" else None))
    def holds(recipe: NetworkRecipe) -> None:
        nonlocal applied
        try:
            law.check(subject, recipe.build(), fmt)
        except NotApplicable:
            return
        applied += 1

    holds()
    assert bool(applied) != (law.name in SAYS_NOTHING and SAYS_NOTHING[law.name](network, fmt))
