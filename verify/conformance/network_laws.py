"""The laws of a network, put to the functions of a candidate: properties that need no certified value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from verify.arithmetic.contracts import Contract
from verify.arithmetic.formats import FLOAT32, FLOAT64, Format
from verify.conformance.contract import ContractViolation, flattened, invoke
from verify.conformance.findings import Finding
from verify.conformance.network import CASES, NETWORK_FUNCTIONS
from verify.conformance.plan import Plan
from verify.laws.law import LawViolation, NotApplicable
from verify.laws.network import NetworkExample, NetworkRecipe, NetworkSubject, layers
from verify.laws.network_laws import NETWORK_LAWS, NetworkLaw
from verify.reports.record import Verdict

Function = Callable[..., Any]

FORMATS_OF_LAWS = (FLOAT64, FLOAT32)
"""In a half format a hidden layer may be stored in between, and its subnormal numbers break symmetries."""

SIZES = ((3, 4, 4, 2), (2, 3), (4, 3, 5, 3), (5, 17, 4), (6, 1, 4))
"""The widths of the layers of an example: a square layer, no hidden one, two, a wide one, a single neuron."""

BATCHES = (3, 1, 4)

EVERY = 2
"""One case in this many is put to the laws, which cost more than a judgement; prime to the sizes and batches,
so that in time all of them meet."""

LAWS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mlp": ("collapses", "samples-are-independent", "probabilities", "hidden-order", "rescaling",
                "network-pure"),
        "mlp_gradients": ("loss-is-mean", "hidden-order", "rescaling", "balance",
                          "output-gradient-sums-to-zero", "batch-gradient-is-mean", "loss-decreases",
                          "first-order", "network-pure"),
        "sgd_epoch": ("epoch-is-steps", "proportional-to-rate", "network-pure"),
    }
)  # fmt: skip
"""The laws of each function of the contract: those that it breaks if it is wrong."""

USED_FOR: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mlp": ("mlp", "predict_probabilities", "collapse"),
        "mlp_gradients": ("mlp_gradients", "sgd_step", "mlp_loss"),
        "sgd_epoch": ("sgd_epoch", "mlp_gradients", "sgd_step"),
    }
)
"""The functions that the laws of each see: no more, so that a wrong one is not charged to another."""


def put_to_network_laws(
    functions: Mapping[str, Function], name: str, contract: Contract, plan: Plan
) -> Iterator[Finding]:
    """The findings of the laws of one of a candidate's functions of a network in one dtype."""
    fmt = contract.output
    if functions.get(name) is None or fmt not in FORMATS_OF_LAWS:
        return
    own = functions[name] == NETWORK_FUNCTIONS[name].reference
    subject = NetworkSubject.of_reference() if own else _of_candidate(functions)
    subject = _only(replace(subject, contract=contract), USED_FOR[name])
    for case in [case for case in plan.cases(every=CASES) if plan.wants(case)][::EVERY]:
        example = network_example(fmt, case, plan.seed)
        for law in (NETWORK_LAWS[each] for each in LAWS_OF[name]):
            yield from _put_to(law, subject, case, example, fmt)


def network_example(fmt: Format, case: int, seed: int) -> NetworkExample:
    """The example of a case, reproduced by its number and the seed alone."""
    sizes, batch = SIZES[case % len(SIZES)], BATCHES[case % len(BATCHES)]
    origin = np.random.SeedSequence((seed, fmt.precision, case)).generate_state(1)[0]
    return NetworkRecipe(fmt.name, sizes, batch, int(origin)).build()


def _only(subject: NetworkSubject, used: tuple[str, ...]) -> NetworkSubject:
    functions = {field.name for field in fields(subject)} - {"activation", "head", "contract"}
    hidden: dict[str, Any] = dict.fromkeys(functions - set(used))
    return replace(subject, **hidden)


def _of_candidate(functions: Mapping[str, Function]) -> NetworkSubject:
    one, all_layers = (lambda arrays: arrays[0]), layers
    return NetworkSubject(
        _guarded(functions.get("mlp"), one),
        _guarded(functions.get("mlp_gradients"), all_layers),
        _guarded(functions.get("sgd_epoch"), all_layers),
        _guarded(functions.get("sgd_step"), one),
    )


def _guarded(function: Function | None, form: Callable[[list[Any]], Any]) -> Function | None:
    """A candidate's function for a law: what it returns in the form that laws know, whatever the lists."""
    if function is None:
        return None
    return lambda *arguments, **settings: form(flattened(invoke(function, arguments, settings)))


def _put_to(
    law: NetworkLaw, subject: NetworkSubject, case: int, example: NetworkExample, fmt: Format
) -> Iterator[Finding]:
    """The finding; none where the example says nothing about the law, or the candidate lacks a function."""
    aspect = f"law:{law.name}"
    try:
        with np.errstate(all="ignore"):
            law.check(subject, example, fmt)
    except NotApplicable:
        return
    except (LawViolation, ContractViolation) as violation:
        yield Finding(aspect, case, Verdict.FAIL, f"{law.statement}: {violation}")
    except (TypeError, ValueError, IndexError) as error:  # results of another shape, type or number than due
        yield Finding(aspect, case, Verdict.FAIL, f"{law.statement}: {type(error).__name__}: {error}")
    else:
        yield Finding(aspect, case, Verdict.PASS)
