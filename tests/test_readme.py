"""The README is true: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.main import get_group
from typer.testing import CliRunner

import refnet.datasets
from specs import SPECS
from specs.network import NETWORK_SPECS
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


def section(title: str) -> str:
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_contract_is_complete() -> None:
    """Every function is there as it is called; and nothing else is."""
    rows = [row.split("|")[1] for row in section("The contract").splitlines() if row.startswith("| `")]
    written = [call for row in rows for call in re.findall(r"`([^`]+)`", row)]
    calls = []
    for name, spec in SPECS.items():
        required = [setting.name for setting in spec.settings if setting.required]
        arguments = [*(item.name for item in spec.inputs), *(["*", *required] if required else [])]
        calls.append(f"{name}({', '.join(arguments)})")
    assert sorted(written) == sorted([*calls, *(spec.call for spec in NETWORK_SPECS.values())])
    settings = {setting.name for spec in SPECS.values() for setting in spec.settings}
    assert all(f"`{name}" in section("The contract") for name in settings)


def test_its_links_to_sections_lead_to_one() -> None:
    headings = {"#" + line[3:].lower().replace(" ", "-") for line in README.splitlines() if line[:3] == "## "}
    assert set(re.findall(r"\]\((#[^)]+)\)", README)) <= headings


def test_the_extras_and_names_that_it_mentions_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(re.findall(r"'\.\[(\w+)\]'", README))
    assert extras == {"peers", "plot", "sklearn", "test", "torch"} <= set(project["optional-dependencies"])
    for name in re.findall(r"refnet\.datasets\.(\w+)\(", README):
        assert callable(getattr(refnet.datasets, name))


# --------------------------------------------------------------------------------------------- its samples


def without_figures(line: str) -> str:
    """A line of a report, as it is whatever the figures of this machine and of these versions are."""
    line = re.sub(r"-?0x[0-9a-f.]+p[+-]\d+|\b(inf|nan)\b|-?\d+(\.\d+)*(e[+-]\d+)?", "#", line)
    return " ".join(line.split())


def test_its_sample_of_a_library_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setenv("COLUMNS", "120")
    sample = blocks("text")[0].splitlines()
    done = CliRunner().invoke(app, ["check", "sklearn", "--level", "smoke"])
    assert done.exit_code == 0
    printed = without_figures(done.stdout.replace("level smoke", "level ci"))
    for line in sample:
        if not line.startswith(("...", "─")):
            assert without_figures(line) in printed, line
    assert " 0 fail," in sample[-1]


def test_its_sample_of_a_failure_is_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("my_kernels.py").write_text(
        "import numpy as np\n\ndef softmax(x, *, axis=-1):\n"
        "    e = np.exp(x)\n    return e / e.sum(axis=axis, keepdims=True)\n"
    )
    done = CliRunner().invoke(app, ["check", "my_kernels.py", "--op", "softmax"])
    assert done.exit_code == 1
    printed = {without_figures(line) for line in done.stdout.splitlines()}
    names = ("FAIL", "reason", "diagnosis", "the row", "expected", "replay", "worst")
    for line in blocks("text")[1].splitlines():
        if line.strip().startswith(names):
            assert without_figures(line) in printed, line


def test_its_sample_of_a_wrong_gradient_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (block for block in blocks("python") if "def layer_norm_vjp" in block)
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    printed = [without_figures(line) for line in capsys.readouterr().out.splitlines()]
    wrong, right = (block for block in blocks("text") if block.startswith("gradcheck of layer_norm"))
    for line in wrong.splitlines():
        assert line.strip() == "..." or without_figures(line) in printed, line
    assert "missing sum or mean: the error is the same along axis 1" in wrong

    forgotten = "dx = (dz - y *"
    assert forgotten in block
    mended = block.replace(forgotten, "dx = (dz - dz.mean(axis=1, keepdims=True) - y *")
    exec(compile(mended, "README.md", "exec"), {"__name__": "readme"})
    assert [without_figures(line) for line in right.splitlines()] == [
        without_figures(line) for line in capsys.readouterr().out.splitlines()
    ]
