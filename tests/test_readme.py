"""The README is true: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_group

from verify.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETUPS = (
    "python3 -m venv .venv && .venv/bin/pip install '.[sklearn]' && .venv/bin/refnet check sklearn",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.splitlines()[0])
def test_its_python_runs(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_what_it_says_of_the_first_operator_is_so(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(blocks("python")[0], "README.md", "exec"), names)
    assert capsys.readouterr().out.splitlines() == [
        "A distribution from a row of logits.",
        "value softmax-no-max-subtraction",
    ]
    assert str(names["y"]) == "[[1.00000000e+00 4.24835426e-18]]"
    assert str(names["dx"]) == "[[ 4.24835426e-18 -4.24835426e-18]]"


@pytest.mark.parametrize("command", SETUPS)
def test_both_setups_are_there_once_as_they_are_run(command: str) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert lines.count(command) == 1
    assert sum(command.split("&&")[1].strip() in line for line in lines) == 1


def commands() -> list[list[str]]:
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("refnet ")]


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_its_commands_are_understood(arguments: list[str]) -> None:
    """The command itself parses them, and does not run."""
    name, *rest = arguments
    get_group(app).commands[name].make_context(name, rest)


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
