"""PyTorch, JAX and ONNX Runtime, judged: all operators pass under all settings, but for what is explained."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from refnet import OPS
from specs import SPECS
from tests import deviations
from tests.deviations import LACKING, WITHOUT_GRADIENTS
from verify.conformance import TargetError, check
from verify.conformance.adapters import ADAPTERS
from verify.conformance.network import NETWORK_FUNCTIONS
from verify.conformance.plan import LEVELS
from verify.reports import Report, Verdict

LIBRARIES = ("torch", "jax", "onnxruntime")
DTYPES = {"torch": deviations.ALL, "jax": deviations.ALL, "onnxruntime": deviations.WIDE}
"""The dtypes that a library is judged in."""

DTYPE = {"torch": "float64", "jax": "float64", "onnxruntime": "float32"}
"""That of the quick checks: the one in which it has all its operators."""

FUNCTIONS = (*SPECS, *NETWORK_FUNCTIONS)
STOPPED: Mapping[str, Callable[[Any], Any]] = {
    "torch": lambda x: x.detach(),
    "jax": lambda x: import_module("jax").lax.stop_gradient(x),
}
"""A value through which no gradient flows."""

NAMED: Mapping[str, tuple[str, set[str]]] = {
    "torch": ("binary_cross_entropy", {"logarithm-clamped-at-minus-100"}),
    "jax": ("binary_cross_entropy", set()),
    "onnxruntime": ("batch_norm_training", {"running-variance-biased"}),
}
"""An operator, and the conventions that are recognised in it."""


@pytest.fixture
def adapter(library: str) -> Any:
    """The adapter, or a skip that says what to install."""
    reason = f"{library} is not there: pip install '.[{ADAPTERS[library].extra}]'"
    pytest.importorskip(library, reason=reason)
    return import_module(ADAPTERS[library].module)


def checked(library: str, op: str) -> Report:
    """A check in one dtype, with at least one case for each combination of the settings."""
    settings = SPECS[op].settings if op in SPECS else ()
    combinations = math.prod(len(setting.values) for setting in settings)
    level = "smoke" if combinations <= LEVELS["smoke"] else "ci"
    return check(library, ops=[op], dtypes=[DTYPE[library]], level=level)


def deviating(library: str, report: Report) -> dict[str, str]:
    """What the report says of each aspect that is not judged right, or not judged at all.

    The laws are left out where none is stated for the convention, and gradients where the library has none.
    """
    silent = {"law:all", *(("vjp",) if library in WITHOUT_GRADIENTS else ())}
    return {
        o.aspect: " ".join([o.reason, *(found.mistake for found in o.diagnosis)])
        for o in report.outcomes
        if o.verdict is not Verdict.PASS and o.aspect not in silent
    }


def assert_explained(library: str, op: str, dtype: str, report: Report) -> None:
    """What deviates is explained by a row of the table, and each row is met but for those that are sometimes;
    all else is judged, under all settings."""
    found, rows = deviating(library, report), deviations.of(library, op, dtype, report.level)
    unexplained = {a: why for a, why in found.items() if not any(row.explains(a, why) for row in rows)}
    unmet = [r for r in rows if r.met != "sometimes" and not any(r.explains(*each) for each in found.items())]
    assert not unexplained
    assert not unmet, found


@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_passes_but_for_the_deviations_that_are_explained(
    library: str, op: str, adapter: Any
) -> None:
    if (library, op) in LACKING:
        assert not hasattr(adapter, op)
    else:
        assert_explained(library, op, DTYPE[library], checked(library, op))


@pytest.mark.skipif(os.environ.get("REFNET_LEVEL") != "deep", reason="takes minutes: REFNET_LEVEL=deep")
@pytest.mark.parametrize("dtype", deviations.ALL)
@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_so_it_does_in_every_dtype_and_at_more_cases(library: str, op: str, dtype: str, adapter: Any) -> None:
    if (library, op) not in LACKING and dtype in DTYPES[library]:
        report = check(library, ops=[op], dtypes=[dtype], level="ci")
        assert_explained(library, op, dtype, report)


@pytest.mark.parametrize("library", LIBRARIES)
def test_its_conventions_are_named(library: str, adapter: Any) -> None:
    op = NAMED[library][0]
    named = {o.variant.partition(":")[0] for o in checked(library, op).outcomes}
    assert named - {""} == NAMED[library][1]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_mistake_in_it_would_be_seen(library: str, adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that is off by a billionth, or in float32 by a millionth."""
    tanh, off = adapter.FUNCTIONS["tanh"], {"float64": 1e-9, "float32": 1e-6}[DTYPE[library]]
    monkeypatch.setattr(adapter, "FUNCTIONS", {**adapter.FUNCTIONS, "tanh": lambda x: tanh(x) + off})
    assert "value" in deviating(library, checked(library, "tanh"))


@pytest.mark.parametrize("library", STOPPED)
def test_a_gradient_that_stops_would_be_seen(
    library: str, adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the softmax."""
    softmax, stopped = adapter.FUNCTIONS["softmax"], STOPPED[library]

    def mistaken(x: Any, axis: int = -1) -> Any:
        return stopped(softmax(x, axis)) + (x - stopped(x))

    monkeypatch.setattr(adapter, "FUNCTIONS", {**adapter.FUNCTIONS, "softmax": mistaken})
    found = deviating(library, checked(library, "softmax"))
    assert "vjp" in found
    assert "value" not in found


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_version_and_the_notes_are_in_the_report(library: str, adapter: Any) -> None:
    report = checked(library, "identity")
    assert report.version == adapter.__version__
    assert report.version.partition("+")[0] == report.environment[library].partition("+")[0]
    assert report.notes == adapter.NOTES


@pytest.mark.parametrize("library", LIBRARIES)
def test_without_the_library_the_error_says_what_to_install(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, ADAPTERS[library].module, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(TargetError, match=rf"needs {library}: pip install 'refnet\[{library}\]'"):
        check(library)


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_row_is_an_operator_of_the_contract(library: str, adapter: Any) -> None:
    assert set(adapter.FUNCTIONS) <= set(OPS)
    with pytest.raises(AttributeError, match="no_such_function"):
        _ = adapter.no_such_function


@pytest.mark.parametrize("library", ["jax"])
def test_the_adapter_of_jax_leaves_64_bits_as_they_were(library: str, adapter: Any) -> None:
    jax = import_module(library)
    before = jax.config.jax_enable_x64
    assert adapter.tanh(np.ones(3)).dtype == np.float64
    assert jax.config.jax_enable_x64 == before
