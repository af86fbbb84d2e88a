"""The spec sheet leaves out nothing that is specified, and its formulas are the definitions."""

from __future__ import annotations

import inspect
import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import refnet
from specs import SPECS, Case
from specs.network import NETWORK_SPECS
from verify.arithmetic.formats import FLOAT32, FORMATS
from verify.arithmetic.formulas import formula_of
from verify.conformance.network import NETWORK_FUNCTIONS
from verify.laws.laws import laws_of
from verify.reports.sheet import UnknownOperator, print_index, print_sheet


def printed(name: str, width: int = 80) -> str:
    stream = io.StringIO()
    print_sheet(name, Console(file=stream, width=width))
    return stream.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", SPECS)
def test_the_sheet_says_everything(name: str) -> None:
    spec, text = SPECS[name], words(printed(name, width=1000))
    expected = [
        spec.summary,
        spec.signature,
        *(f"{item.name} " for item in spec.inputs),
        *(item.kind for item in spec.inputs),
        *(repr(value) for setting in spec.settings for value in setting.values),
        *(f"{law.name} {law.statement}" for law in laws_of(spec)),
        *(kink.where for kink in spec.kinks),
        *([spec.tie.where, spec.tie.convention.value, spec.tie.used_by] if spec.tie else []),
        *(f"{variant.name} {variant.summary} ({variant.used_by})" for variant in spec.variants),
        *(f"{form.name} ({form.used_by})" for form in spec.forms),
        *(case.why for case in spec.cases),
        *(refusal.why for refusal in spec.refusals),
        *spec.references,
        *FORMATS,
        *(f"d{spec.inputs[k].name}" for k in spec.differentiable),
    ]
    assert [item for item in expected if item not in text] == []


@pytest.mark.parametrize("name", [*SPECS, *NETWORK_SPECS])
def test_the_sheet_fits_a_terminal(name: str) -> None:
    text = printed(name)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "\x1b" not in text


def test_a_definition_is_printed_as_mathematics() -> None:
    definition = formula_of(SPECS["softmax"], unicode=False).definition
    assert [line.rstrip() for line in definition.splitlines()] == [
        "              x_0",
        "             e",
        "y_0 = ------------------",
        "       x_0    x_1    x_2",
        "      e    + e    + e",
    ]
    assert "x₀" in formula_of(SPECS["softmax"]).definition


def test_derivatives_are_those_of_the_definition() -> None:
    assert formula_of(SPECS["mse"]).derivatives == ("∂y/∂p = 2⋅(p - t)",)
    assert formula_of(SPECS["linear"]).derivatives == ("∂y₀₀/∂x₀₀ = w₀₀", "∂y₀₀/∂w₀₀ = x₀₀", "∂y₀₀/∂b₀ = 1")
    assert len(formula_of(SPECS["softmax"]).derivatives) == 2  # on the diagonal, and off it
    assert len(formula_of(SPECS["logsumexp"]).derivatives) == 1  # the other has the same form


def test_a_formula_follows_its_definition() -> None:
    """What is printed is what is checked: another definition prints another formula."""
    other = replace(SPECS["mse"], definition=lambda p, t, *, reduction: (p - t) * (p - t) / 2)
    assert formula_of(other).derivatives == ("∂y/∂p = p - t",)


def test_a_convention_at_a_single_point_is_printed_apart() -> None:
    formula = formula_of(SPECS["categorical_cross_entropy"])
    assert "t₀ = 0" not in formula.definition
    assert formula.exceptions == ("y (t₀ = 0) = -t₁⋅log(p₁) - t₂⋅log(p₂)",)
    assert formula_of(SPECS["relu"]).exceptions == ()


def test_what_the_slopes_at_a_kink_are_multiplied_by_is_said() -> None:
    taken = "At t p = 1 the derivative jumps. The reference takes 0; 0, 0.5 and 1 are accepted, each times -t"
    assert taken in words(printed("hinge"))
    assert "each times" not in printed("mae")
    assert formula_of(SPECS["mae"]).derivatives == ("∂y/∂p = sign(p - t)",)


def test_a_name_of_two_words_keeps_its_underscore() -> None:
    assert formula_of(SPECS["nll"]).definition == "y = -log_p₀"


def test_formulas_do_without_unicode() -> None:
    for spec in SPECS.values():
        formula = formula_of(spec, unicode=False)
        assert "".join((formula.definition, *formula.exceptions, *formula.derivatives)).isascii()


def test_a_wide_row_becomes_one_of_two() -> None:
    assert "z₂" not in formula_of(SPECS["softmax_cross_entropy"]).definition
    assert "z₂" in formula_of(SPECS["softmax_cross_entropy_with_integer_labels"]).definition


def test_what_an_operator_requires_has_no_default() -> None:
    assert printed("sgd_step").startswith("sgd_step(param, grad, *, learning_rate)\n")
    assert "learning_rate  required" in printed("sgd_step")
    assert printed("mse").startswith("mse(p, t, *, reduction='mean')\n")


def test_the_index_names_every_operator() -> None:
    stream = io.StringIO()
    print_index(Console(file=stream, width=200))
    text = words(stream.getvalue().replace("_ ", "_ "))
    for spec in SPECS.values():
        assert spec.summary in text
        assert spec.signature in text
    for network in NETWORK_SPECS.values():
        assert f"{network.name} a network {network.summary}" in text


@pytest.mark.parametrize("name", NETWORK_SPECS)
def test_the_sheet_of_a_network_function_says_everything(name: str) -> None:
    spec, text = NETWORK_SPECS[name], words(printed(name, width=1000))
    expected = [spec.call, spec.summary, spec.returns, spec.certified, "3-4-4-2"]
    expected += [*map(words, spec.equations), *(f"{n} {what}" for n, what in spec.arguments.items())]
    assert [item for item in expected if item not in text] == []
    assert ("learning_rate 0.125" in text) == (name == "sgd_epoch")


def test_every_function_of_the_contract_has_a_sheet() -> None:
    assert list(NETWORK_SPECS) == list(NETWORK_FUNCTIONS)


@pytest.mark.parametrize("name", NETWORK_SPECS)
def test_a_network_function_is_specified_as_it_is_called(name: str) -> None:
    """What the contract asks for is what refnet's own function cannot do without."""
    spec, parameters = NETWORK_SPECS[name], inspect.signature(getattr(refnet, name)).parameters.values()
    required = [p for p in parameters if p.default is inspect.Parameter.empty]
    assert list(spec.arguments) == [p.name for p in required]
    written = [p.name for p in required if p.kind is not p.KEYWORD_ONLY]
    keywords = [p.name for p in required if p.kind is p.KEYWORD_ONLY]
    assert spec.call == f"{name}({', '.join([*written, *(['*', *keywords] if keywords else [])])})"
    assert spec.certified.startswith(f"{NETWORK_FUNCTIONS[name].aspect}: ")


def test_the_equations_of_the_gradients_are_those_of_refnet() -> None:
    """relu'(0) = 0, and the mean over the samples, on numbers that are exact."""
    params = [(np.zeros((1, 2)), np.zeros(2)), (np.zeros((2, 2)), np.zeros(2))]
    (dw, db), (_, db_last) = refnet.mlp_gradients(params, np.ones((2, 1)), np.array([0, 0]))
    assert not dw.any()
    assert not db.any()
    assert db_last.tolist() == [-0.5, 0.5]


def test_an_unknown_operator_is_met_with_the_nearest() -> None:
    with pytest.raises(UnknownOperator, match=r"softmx: no such operator\. Did you mean softmax"):
        printed("softmx")
    with pytest.raises(UnknownOperator, match=r"xyzzy: no such operator\. There are: identity, relu"):
        printed("xyzzy")


def test_an_array_that_no_list_can_hold_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    import verify.reports.sheet as sheet

    case = Case("nothing", (np.zeros((0, 3), FLOAT32.dtype),), [])
    monkeypatch.setattr(sheet, "SPECS", {"softmax": replace(SPECS["softmax"], cases=(case,))})
    assert "nothing  x=empty (0, 3): []" in printed("softmax")
