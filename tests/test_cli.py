"""The command: its exit codes, its messages, and what it leaves behind when something goes wrong."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

import verify.cli
import verify.conformance
import verify.selfcheck
from refnet import predict
from refnet.datasets import load
from refnet.storage import load_network
from specs import SPECS
from verify.conformance.plan import LEVELS
from verify.reports import Outcome, Report, Verdict
from verify.reports.curves import _pieces
from verify.reports.json_report import from_json, load_schema, to_json

CLEAN = Report(
    "kernels.py", "1.2", 0, "ci", {}, (Outcome("relu", "value", "float64", Verdict.PASS, 40, ratio=0.4),)
)

RIGHT = """
import numpy as np
def relu(x): return np.maximum(x, 0)
def relu_vjp(dy, x): return dy * np.heaviside(x, 0)
"""
WRONG = """
import numpy as np
def relu(x): return np.abs(x)
"""


def refnet(*arguments: str | int | Path) -> Any:
    return CliRunner().invoke(verify.cli.app, [str(argument) for argument in arguments])


def command(*arguments: str | Path) -> list[str]:
    """The command in an interpreter of its own, as the installed script runs it."""
    return [sys.executable, "-c", "from verify.cli import main; main()", *map(str, arguments)]


def having(*verdicts: Verdict) -> Report:
    return replace(
        CLEAN, outcomes=tuple(Outcome("relu", "value", "float64", verdict, 1) for verdict in verdicts)
    )


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    for name, text in (
        ("right.py", RIGHT),
        ("wrong.py", WRONG),
        ("broken.py", "raise RuntimeError('no GPU here')"),
        ("empty.py", "x = 1"),
        ("endless.py", "import time\nprint('started', flush=True)\ntime.sleep(600)"),
    ):
        (tmp_path / name).write_text(text)
    return tmp_path


def stub(
    monkeypatch: pytest.MonkeyPatch, answer: Report | BaseException | Callable[..., Report]
) -> list[Any]:
    """Put an answer in the place of the check; return the calls that it gets."""
    calls: list[Any] = []

    def check(*arguments: Any, **settings: Any) -> Report:
        calls.append((arguments, settings))
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Report) else answer(*arguments, **settings)

    monkeypatch.setattr(verify.conformance, "check", check)
    return calls


# --------------------------------------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    ("verdict", "code", "strict"),
    [
        (Verdict.PASS, 0, 0),
        (Verdict.SUSPECT, 0, 1),
        (Verdict.INCONCLUSIVE, 0, 1),
        (Verdict.NOT_RUN, 0, 0),
        (Verdict.FAIL, 1, 1),
    ],
)
def test_the_verdicts_decide_the_exit_code(
    verdict: Verdict, code: int, strict: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(monkeypatch, having(Verdict.PASS, verdict, Verdict.PASS))
    assert refnet("check", "kernels.py").exit_code == code
    assert refnet("check", "kernels.py", "--strict").exit_code == strict


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "right.py", "--op", "softmx"], "softmx"),
        (["check", "right.py", "--dtype", "float8"], "float8"),
        (["check", "missing.py"], "missing.py"),
        (["check", "no.such.module"], "no.such.module"),
        (["check", "right.py", "--level", "deeper"], "deeper"),
        (["check", "right.py", "--seed", "-1"], "--seed"),
        (["check"], "TARGET"),
        (["chekc"], "chekc"),
        (["show", "softmx"], "Did you mean softmax"),
        (["selfcheck", "--level", "deeper"], "deeper"),
        (["selfcheck", "--op", "softmx"], "softmx"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_wrong(
    arguments: Sequence[str], message: str, candidates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(candidates)
    done = refnet(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not done.stdout
    assert "Traceback" not in done.output


def test_control_characters_are_shown_and_do_nothing(candidates: Path) -> None:
    done = refnet("check", candidates / "right.py", "--contract", "\x1b[31mred\r\x07=é")
    assert done.exit_code == 2
    assert r"refnet: \x1b[31mred\r\x07=é: a promise is" in done.stderr


@pytest.mark.parametrize(("target", "message"), [("broken.py", "no GPU here"), ("empty.py", "no function")])
def test_a_check_that_cannot_run_is_3(target: str, message: str, candidates: Path) -> None:
    done = refnet("check", candidates / target)
    assert done.exit_code == 3
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_a_defect_of_refnet_is_never_a_failing_candidate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub(monkeypatch, ZeroDivisionError("a bug"))
    monkeypatch.setattr(sys, "argv", ["refnet", "check", "kernels.py"])
    with pytest.raises(SystemExit) as ended:
        verify.cli.main()
    assert ended.value.code == 3
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


def test_an_interrupt_is_130(candidates: Path) -> None:
    with subprocess.Popen(
        command("check", candidates / "endless.py"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "started\n"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in err


# -------------------------------------------------------------------------------- what the engine is told


def test_the_options_reach_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stub(monkeypatch, CLEAN)
    refnet("check", "kernels.py")
    refnet(
        *("check", "kernels.py", "--op", "relu", "--op", "tanh", "--dtype", "float16"),
        *("--level", "deep", "--seed", "7", "--case", "3"),
        *("--contract", "inside=float16", "--contract", "subnormals=kept"),
    )
    told = [
        (arguments, {k: v for k, v in settings.items() if k != "progress"}) for arguments, settings in calls
    ]
    assert told == [
        (
            ("kernels.py",),
            {"ops": None, "dtypes": None, "level": "ci", "seed": 0, "case": None, "contract": []},
        ),
        (
            ("kernels.py",),
            {
                "ops": ["relu", "tanh"],
                "dtypes": ["float16"],
                "level": "deep",
                "seed": 7,
                "case": 3,
                "contract": ["inside=float16", "subnormals=kept"],
            },
        ),
    ]


def test_the_levels_are_those_of_the_plan() -> None:
    assert {level.value for level in verify.cli.Level} == set(LEVELS)
    text = " ".join(refnet("check", "--help").stdout.replace("│", " ").split())
    assert ", ".join(f"{level} {cases}" for level, cases in LEVELS.items()) in text


@pytest.mark.parametrize("name", ["gelu.svg", "leaky_relu.png", "hard_swish.pdf"])
def test_an_elementwise_operator_is_drawn(tmp_path: Path, name: str) -> None:
    done = refnet("show", name.partition(".")[0], "--plot", tmp_path / name)
    assert done.exit_code == 0
    assert f"written: {tmp_path / name}" in done.stdout
    assert (tmp_path / name).stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["softmax", "--plot", "curve.svg"], 2, "softmax is not elementwise, and has no curve. These have: "),
        (["--plot", "curve.svg"], 2, "--plot draws one operator: name it"),
        (["relu", "--plot", "curve.gif"], 2, "a plot is one of .png, .svg, .pdf"),
        (["relu", "--plot", "missing/curve.svg"], 3, "cannot be written"),
    ],
)
def test_trouble_with_a_curve_is_named(arguments: list[str], code: int, message: str) -> None:
    done = refnet("show", *arguments)
    assert done.exit_code == code
    assert message in done.stderr


def test_a_curve_has_a_gap_at_each_kink() -> None:
    x = np.linspace(-6.0, 6.0, 1201)
    pieces = {name: len(list(_pieces(SPECS[name], x))) for name in ("tanh", "relu", "relu6", "hard_sigmoid")}
    assert pieces == {"tanh": 1, "relu": 2, "relu6": 3, "hard_sigmoid": 3}


@pytest.mark.parametrize("arguments", [(), ("check",), ("selfcheck",), ("show",), ("train",)])
def test_help_has_the_exit_codes(arguments: tuple[str, ...]) -> None:
    done = refnet(*arguments, "--help")
    assert done.exit_code == 0
    assert "Exit codes: 0" in done.stdout


def test_the_version_is_printed() -> None:
    done = refnet("--version")
    assert (done.exit_code, done.stdout) == (0, "refnet 0.1.0\n")


def test_a_check_runs_from_end_to_end(candidates: Path) -> None:
    """Nothing is stubbed: a right function, and one that is wrong on half of all numbers."""
    options = ("--op", "relu", "--dtype", "float32", "--level", "smoke")
    assert refnet("check", candidates / "right.py", *options).exit_code == 0
    wrong = refnet("check", candidates / "wrong.py", *options, "--json", candidates / "report.json")
    assert wrong.exit_code == 1
    document = json.loads((candidates / "report.json").read_text())
    jsonschema.validate(document, load_schema())
    assert to_json(from_json(document)) == document
    assert "FAIL relu value float32" in wrong.stdout
    assert "replay" in wrong.stdout


def test_the_reference_is_put_to_its_witnesses(tmp_path: Path) -> None:
    done = refnet("selfcheck", "--op", "sigmoid", "--level", "smoke", "--json", tmp_path / "report.json")
    assert done.exit_code == 0
    document = json.loads((tmp_path / "report.json").read_text())
    jsonschema.validate(document, load_schema())
    aspects = {outcome["aspect"].partition(":")[0] for outcome in document["outcomes"]}
    assert {"value", "vjp", "symbolic", "numerical", "bounds", "law"} <= aspects


def test_a_reference_that_fails_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify.selfcheck, "selfcheck", lambda **settings: having(Verdict.FAIL))
    assert refnet("selfcheck").exit_code == 1


def test_the_line_that_replays_a_failure_shows_it_again(candidates: Path) -> None:
    folder = candidates / "a folder"
    folder.mkdir()
    (candidates / "wrong.py").rename(folder / "wrong.py")
    selection = ("--op", "relu", "--dtype", "float32", "--level", "smoke")
    text = refnet("check", folder / "wrong.py", *selection).stdout
    failures = re.findall(r"^(FAIL relu \S+ \S+):.*?^  replay +refnet (.*?)$", text, re.MULTILINE | re.DOTALL)
    assert len(failures) >= 2
    for title, replay in failures:
        arguments = shlex.split(replay)
        assert "--case" in arguments
        assert title in refnet(*arguments).stdout


def test_one_case_is_told_in_full_and_so_is_what_the_reference_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = [replace(CLEAN.outcomes[0], verdict=Verdict.FAIL, op=op, dtype=d) for op in "ab" for d in "xy"]
    report = replace(CLEAN, outcomes=tuple(fails))
    stub(monkeypatch, report)
    monkeypatch.setattr(verify.selfcheck, "selfcheck", lambda **settings: report)
    assert refnet("check", "kernels.py").stdout.count("\nFAIL ") == 2
    assert refnet("check", "kernels.py", "--case", "3").stdout.count("\nFAIL ") == 4
    assert refnet("selfcheck").stdout.count("\nFAIL ") == 4


# --------------------------------------------------------------------------------------------- the report


def test_the_json_report_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, having(Verdict.FAIL))
    assert refnet("check", "kernels.py", "--json", tmp_path / "report.json").exit_code == 1
    document = json.loads((tmp_path / "report.json").read_text())
    jsonschema.validate(document, load_schema())
    assert document["summary"]["fail"] == 1


@pytest.mark.parametrize("path", ["", "missing/report.json", "file/report.json"])
def test_a_path_that_cannot_be_written_is_found_before_the_work(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = stub(monkeypatch, CLEAN)
    (tmp_path / "file").touch()
    done = refnet("check", "kernels.py", "--json", tmp_path / path)
    assert done.exit_code == 3
    assert "cannot be written" in done.stderr
    assert calls == []


def test_a_path_that_has_become_unwritable_is_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def check_meanwhile(*arguments: Any, **settings: Any) -> Report:
        folder.rmdir()
        return CLEAN

    stub(monkeypatch, check_meanwhile)
    done = refnet("check", "kernels.py", "--json", folder / "report.json")
    assert done.exit_code == 3
    assert "cannot be written" in done.stderr


def test_nothing_is_written_when_the_check_cannot_run(candidates: Path) -> None:
    assert refnet("check", candidates / "empty.py", "--json", candidates / "report.json").exit_code == 3
    assert not (candidates / "report.json").exists()


# ------------------------------------------------------------------------------------- pipes and terminals


def test_a_pipe_gets_neither_escape_codes_nor_a_progress_bar(candidates: Path) -> None:
    done = subprocess.run(
        command("check", candidates / "wrong.py", "--op", "relu", "--level", "smoke"),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"\x1b" not in done.stdout
    assert done.stderr == b""


def test_a_terminal_gets_a_progress_bar_that_leaves_no_trace(candidates: Path) -> None:
    terminal, inside = pty.openpty()
    with subprocess.Popen(
        command("check", candidates / "right.py", "--op", "relu", "--level", "smoke"),
        stdout=subprocess.DEVNULL,
        stderr=inside,
        env={**os.environ, "TERM": "xterm"},
    ) as running:
        os.close(inside)
        seen = b""
        try:
            while chunk := os.read(terminal, 4096):
                seen += chunk
        except OSError:  # the terminal is gone with its last process
            pass
    os.close(terminal)
    assert running.returncode == 0
    assert b"relu" in seen
    assert seen.rstrip().endswith((b"\x1b[2K", b"\x1b[?25h", b"\x1b[1A\x1b[2K"))


def without_a_reader(*arguments: str | Path) -> tuple[int, str]:
    """Run the command into a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command(*arguments), stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    return done.returncode, done.stderr


def test_a_closed_pipe_is_no_error() -> None:
    assert without_a_reader("show", "softmax") == (0, "")


def test_a_closed_pipe_costs_neither_the_verdict_nor_the_report(candidates: Path) -> None:
    report = candidates / "report.json"
    options = ("--op", "relu", "--level", "smoke", "--json", report)
    assert without_a_reader("check", candidates / "wrong.py", *options) == (1, "")
    assert json.loads(report.read_text())["summary"]["fail"] > 0


def test_a_terminal_without_unicode_is_served() -> None:
    done = subprocess.run(
        command("show", "softmax"),
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.isascii()


# -------------------------------------------------------------------------------------------------- train


@pytest.mark.parametrize("seed", [0, 1])
def test_digits_are_learnt(seed: int) -> None:
    done = refnet("train", "--data", "digits", "--hidden", "32", "--epochs", "20", "--seed", seed)
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()[:1].isdigit() and "%" in line]
    assert [row[0] for row in rows] == [str(epoch) for epoch in range(1, 21)]
    assert all(len(row) == 5 for row in rows)
    (accuracy,) = re.findall(r"test accuracy ([\d.]+)%", done.stdout)
    assert float(accuracy) >= 95.0


def test_training_is_decided_by_its_seed() -> None:
    first, again, other = (
        refnet("train", "--data", "iris", "--epochs", "2", "--seed", seed).stdout for seed in (3, 3, 4)
    )
    assert first == again
    assert first.replace("seed 3", "seed 4") != other


def test_a_saved_network_predicts_from_features_as_they_are(tmp_path: Path) -> None:
    done = refnet(
        *("train", "--data", "iris", "--hidden", "8", "--hidden", "4", "--activation", "tanh"),
        *("--save", tmp_path / "network.npz"),
    )
    assert done.exit_code == 0
    network, params = load_network(tmp_path / "network.npz")
    iris = load("iris")
    assert network.sizes == (4, 8, 4, 3)
    classes = predict(iris.x, params, activation=network.activation, head=network.head)
    assert int(np.equal(classes, iris.labels).sum()) >= 140


def test_a_network_without_hidden_layers_is_trained() -> None:
    assert "network 4-3," in refnet("train", "--data", "iris", "--epochs", "1", "--hidden", "0").stdout


@pytest.mark.parametrize(
    ("name", "start"), [("curves.png", b"\x89PNG"), ("curves.svg", b"<?xml"), ("curves.pdf", b"%PDF")]
)
def test_the_curves_are_drawn(name: str, start: bytes, tmp_path: Path) -> None:
    done = refnet("train", "--data", "iris", "--epochs", "2", "--plot", tmp_path / name)
    assert done.exit_code == 0
    assert (tmp_path / name).read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_csv_file_is_trained_on(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("kind,a,b\n" + "".join(f"{'xy'[k % 2]},{k % 2 + k / 100},{k}\n" for k in range(40)))
    done = refnet("train", "--data", table, "--label", "kind", "--epochs", "1")
    assert done.exit_code == 0
    first, second, *_ = done.stdout.splitlines()
    assert first == f"{table}: 28 training, 6 validation, 6 test samples"
    assert second.startswith("network 2-32-1, relu, sigmoid")
    assert refnet("train", "--data", table, "--label", "0", "--epochs", "1").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "mnist"], 2, "neither a file nor one of iris, digits"),
        (["--data", "table.csv", "--label", "colour"], 2, "'colour'"),
        (["--data", "broken.csv"], 3, "line 2"),
        (["--data", "iris", "--learning-rate", "-1"], 2, "learning_rate is -1.0"),
        (["--data", "iris", "--learning-rate", "1e300"], 1, "no longer finite"),
        (["--data", "iris", "--activation", "softmax"], 2, "elementwise"),
        (["--data", "iris", "--activation", "swish"], 2, "no such activation"),
        (["--data", "iris", "--plot", "curves.gif"], 2, ".png, .svg, .pdf"),
        (["--data", "iris", "--plot", "missing/curves.png"], 3, "cannot be written"),
        (["--data", "iris", "--save", "missing/network.npz"], 3, "cannot be written"),
    ],
)
def test_trouble_with_training_is_named(
    arguments: Sequence[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("a,b\n1,x\n2,y\n3,x\n")
    (tmp_path / "broken.csv").write_text("a,b\n1\n")
    done = refnet("train", *arguments)
    assert done.exit_code == code
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.output


def test_a_missing_extra_is_named_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = refnet("train", "--data", "iris", "--plot", "curves.png")
    assert done.exit_code == 3
    assert "pip install matplotlib, or refnet with its extra, '.[plot]'" in done.stderr
    assert not done.stdout
