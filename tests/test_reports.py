"""The reports: nothing lost on the way to JSON and back, nothing hidden at the terminal."""

from __future__ import annotations

import errno
import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import jsonschema
import ml_dtypes
import numpy as np
import pytest
import rich.console
from rich.console import Console

import verify.reports
from verify.arithmetic.contracts import DEFAULTS, LADDERS
from verify.files import ensure_writable, write_whole
from verify.reports import (
    Diagnosis,
    Outcome,
    Report,
    Verdict,
    Worst,
    from_json,
    print_report,
    to_json,
    write_json,
)
from verify.reports.json_report import plain
from verify.reports.neighbourhood import decimal, shown_of
from verify.reports.record import Accuracy

SCHEMA = json.loads((Path(verify.reports.__file__).parent / "report.schema.json").read_text(encoding="utf-8"))
LONG = "softmax_cross_entropy_with_integer_labels"

WORST = Worst(
    settings={"axis": -1, "alpha": math.inf},
    inputs={
        "x": [[(i * 10 + j + 0.1).hex() for j in range(10)] for i in range(5)],
        "labels": [3, 1],
        "mask": [],
        "scale": "-inf",
    },
    output="y",
    index=(2, 3),
    expected="0x1.8000000000000p-3",
    got="nan",
    bound=1.25e-9,
    case=17,
)
FAILURE = Outcome(
    "softmax",
    "value",
    "float32",
    Verdict.FAIL,
    cases=40,
    failing_cases=3,
    ratio=math.inf,
    ulp=math.nan,
    reason="the class of the result is wrong [not markup]",
    worst=WORST,
    diagnosis=(Diagnosis("softmax-no-max-subtraction", "exp overflows"), Diagnosis("other", "less likely")),
    replay="refnet check some/long/path/to/my_kernels.py --op softmax --dtype float32 --level ci --seed 7",
)
REPORT = Report(
    target="some/long/path/to/my_kernels.py",
    version="1.2",
    seed=7,
    level="ci",
    environment={"numpy": "2.4.0", "python": "3.11"},
    outcomes=(
        Outcome("softmax", "value", "float64", Verdict.PASS, 40, ratio=0.42, ulp=1.5),
        FAILURE,
        Outcome("softmax", "vjp", "float64", Verdict.PASS, 40, ratio=0.1),
        replace(FAILURE, aspect="vjp", verdict=Verdict.SUSPECT, failing_cases=0, ratio=0.7, ulp=9.0),
        Outcome("softmax", "law:shift", "float32", Verdict.FAIL, 40, 1, reason="shifting moves the result"),
        Outcome("softmax", "law:sum", "float32", Verdict.PASS, 40),
        Outcome("softmax", "contract:shape", "float32", Verdict.PASS, 40),
        Outcome(LONG, "value", "float64", Verdict.PASS, 40, ratio=0.2, variant="clipped: log(max(p, eps))"),
        Outcome(LONG, "vjp", "float64", Verdict.INCONCLUSIVE, 40, reason="every input is at a kink"),
        Outcome(
            "adam_step", "step", "float64", Verdict.NOT_RUN, 0, reason="the candidate has no such function"
        ),
        Outcome(
            "rmsprop_step", "step", "float64", Verdict.NOT_RUN, 0, reason="the candidate has no such function"
        ),
        Outcome("sgd_epoch", "epoch", "float64", Verdict.PASS, 4, ratio=0.0),
    ),
    notes=("2 workers",),
)


def printed(report: Report, width: int = 80, *, full: bool = False) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=width), full=full)
    return stream.getvalue()


def unwrapped(text: str) -> str:
    """Words in order, whatever the folding; folded long words come apart only at a line's end."""
    return " ".join(text.split())


def test_json_is_valid_and_strict() -> None:
    document = json.loads(json.dumps(to_json(REPORT), allow_nan=False))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(document, SCHEMA)
    assert document["summary"] == {"pass": 6, "suspect": 1, "fail": 2, "inconclusive": 1, "not-run": 2}
    assert document["outcomes"][1]["ratio"] == "inf"
    assert document["outcomes"][1]["ulp"] == "nan"
    assert document["target"] == {"name": REPORT.target, "version": "1.2"}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema",), "refnet.report/2"),
        (("extra",), 1),
        (("summary", "pass"), -1),
        (("summary", "skipped"), 0),
        (("outcomes", 1, "verdict"), "ok"),
        (("outcomes", 1, "aspect"), "laws"),
        (("outcomes", 1, "ratio"), "Infinity"),
        (("outcomes", 1, "worst", "index"), [0.5]),
        (("outcomes", 1, "worst", "inputs", "x"), [0.5]),
        (("outcomes", 1, "diagnosis", 0, "extra"), ""),
    ],
)
def test_schema_refuses(place: tuple[str | int, ...], value: object) -> None:
    document = json.loads(json.dumps(to_json(REPORT)))
    parent = document
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_every_object_of_the_schema_is_closed() -> None:
    def walk(node: object) -> None:
        if isinstance(node, dict):
            if "properties" in node:
                assert node["additionalProperties"] is False, node
                assert set(node.get("required", ())) <= set(node["properties"])
            for item in node.values():
                walk(item)
        elif isinstance(node, list):
            for item in node:
                walk(item)

    walk(SCHEMA)


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("an earlier report")
    write_json(REPORT, path)
    document = json.loads(path.read_text(encoding="utf-8"))
    again = from_json(document)
    assert to_json(again) == document == to_json(REPORT)
    nan_free = replace(REPORT, outcomes=tuple(replace(o, ulp=None) for o in REPORT.outcomes))
    assert from_json(to_json(nan_free)) == nan_free
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_failed_write_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_is_full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "report.json"
    path.write_text("an earlier report")
    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(OSError, match="No space left"):
        write_json(REPORT, path)
    assert path.read_text() == "an earlier report"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_text_that_has_no_encoding_is_kept() -> None:
    """A foreign function may raise anything: a lone surrogate in its message must not cost the report."""
    odd = replace(REPORT, notes=("\ud800",), outcomes=())
    assert from_json(json.loads(json.dumps(to_json(odd)).encode())) == odd


def test_the_report_follows_a_link_and_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "file.json")
    write_json(REPORT, tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert from_json(json.loads((tmp_path / "file.json").read_text())).seed == 7


def test_what_is_no_file_is_written_to() -> None:
    reader, writer = os.pipe()
    ensure_writable(f"/dev/fd/{writer}")
    write_whole(f"/dev/fd/{writer}", lambda file: file.write(b"whole"))
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == b"whole"


def test_an_unwritable_path_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        ensure_writable(tmp_path)
    with pytest.raises(FileNotFoundError):
        ensure_writable(tmp_path / "missing" / "report.json")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        ensure_writable(tmp_path / "file" / "report.json")
    ensure_writable(tmp_path / "report.json")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_version_that_judged_is_kept() -> None:
    document = to_json(REPORT) | {"refnet": "0.0.7"}
    assert to_json(from_json(document))["refnet"] == "0.0.7"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "other"}, r"schema is 'other'; required: 'refnet.report/1'"),
        ({"seed": "0"}, r"the report: seed is '0'; required: an integer"),
        ({"outcomes": [3]}, r"outcomes\[0\] is 3; required: an object"),
        ({"target": None}, r"the report: target is None; required: an object"),
        ({"target": {"name": "x"}}, r"the report: target has no 'version', which is required"),
        ({"notes": "one"}, r"notes is 'one'; required: an array"),
    ],
)
def test_from_json_names_what_is_wrong(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(to_json(REPORT) | change)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([[0.5, -0.0]], dtype=np.float32), [["0x1.0000000000000p-1", "-0x0.0p+0"]]),
        (np.array([0.5, np.nan], dtype=ml_dtypes.bfloat16), ["0x1.0000000000000p-1", "nan"]),
        (np.array([1, 2]), [1, 2]),
        ([(np.ones((1, 1)), np.float16(2))], [[[["0x1.0000000000000p+0"]], "0x1.0000000000000p+1"]]),
        ({"w": -math.inf}, {"w": "-inf"}),
    ],
)
def test_plain_keeps_every_bit(value: object, expected: object) -> None:
    assert plain(value) == expected


@pytest.mark.parametrize("width", [80, 100])
def test_console_hides_nothing(width: int) -> None:
    text = printed(REPORT, width, full=True)
    assert all(
        len(line) <= width for line in text.splitlines() if "replay" not in line and "level ci" not in line
    )
    assert "…" not in text
    assert "\x1b" not in text
    assert FAILURE.replay in text  # in one piece, to be copied
    words = unwrapped(text)
    for expected in (
        "FAIL f32 inf",
        "suspect f32 0.7",
        "pass f64 0.42",
        "1 FAIL",
        "f64 f32 (value, vjp), f32 (laws, contract)",
        "FAIL softmax value float32: 3 of 40 cases fail",
        "FAIL softmax law:shift float32: 1 of 40 cases fail",
        "suspect softmax vjp float32: 40 cases",
        "the class of the result is wrong [not markup]",
        "softmax-no-max-subtraction: exp overflows",
        "other: less likely",
        "17, seed 7, axis=-1, alpha=inf",
        "y[2, 3]",
        "0x1.8p-3 (0.1875)",
        "nan ulp = inf times the bound of 1.25e-09",
        "x (5, 10), labels (2,), mask (0,)",
        f"x[2, 0:6] = {(20.1).hex()} (20.1)",
        f"{(23.1).hex()} (23.1)",
        "labels[:] = 3, 1",
        "mask is empty",
        "scale = -inf",
        "shifting moves the result",
        "clipped: log(max(p, eps))",
        "every input is at a kink",
        "the candidate has no such function adam_step, rmsprop_step: step in f64",
        "2 workers",
        "my_kernels.py 1.2: 6 pass, 1 suspect, 2 fail, 1 inconclusive, 2 not-run (level ci, seed 7)",
    ):
        assert expected in words, expected


def test_console_of_an_empty_report() -> None:
    empty = replace(REPORT, outcomes=(), notes=())
    assert "0 pass, 0 suspect, 0 fail, 0 inconclusive, 0 not-run" in printed(empty)


def test_a_report_reads_as_it_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without colour, wherever it is: rich writes to no file in a notebook, unless it is told to."""
    plain_text = printed(REPORT, width=100).rstrip("\n")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    assert str(REPORT) == f"{REPORT}" == plain_text


def test_console_shows_a_ratio_that_is_not_a_number() -> None:
    outcomes = [
        Outcome("relu", "value", d, Verdict.PASS, 1, ratio=r) for d, r in (("a", 0.5), ("b", math.nan))
    ]
    for order in (outcomes, outcomes[::-1]):
        assert "pass nan" in printed(replace(REPORT, outcomes=tuple(order)))


# ------------------------------------------------------------------------------------- failures in short

MANY = replace(
    REPORT,
    outcomes=tuple(
        replace(FAILURE, op=op, aspect=aspect, dtype=dtype, replay=FAILURE.replay.replace("softmax", op))
        for op in ("relu", "softmax")
        for dtype in ("float64", "float32")
        for aspect in ("contract:pure", "law:shift", "vjp", "value")
    ),
)


def test_an_operator_is_told_once_in_full_and_its_other_failures_in_a_line_each() -> None:
    text = printed(MANY, 120)
    blocks = [line for line in text.splitlines() if line.startswith("FAIL")]
    assert blocks == [f"FAIL {op} value float64: 3 of 40 cases fail" for op in ("relu", "softmax")]
    of_relu, _, _ = text.partition(blocks[1])
    in_short = [line.split() for line in of_relu.splitlines() if line.startswith("  FAIL")]
    assert [(words[1], words[2:-5][:2]) for words in in_short if words[1] != "value"] == [
        (aspect, ["f64", "f32"]) for aspect in ("vjp", "contract:pure", "law:shift")
    ]
    assert ["value", "f32", "3", "of", "40", "inf", "softmax-no-max-subtraction:"] in [
        words[1:8] for words in in_short
    ]
    assert (
        "  refnet check some/long/path/to/my_kernels.py --op NAME --dtype NAME --level ci --seed 7\n" in text
    )
    assert "--json FILE" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_failure_is_hidden_however_many_there_are(width: int) -> None:
    text = printed(MANY, width)
    for outcome in MANY.outcomes:
        _, _, of_op = text.partition(f"FAIL {outcome.op} ")
        assert outcome.aspect in of_op.partition("\nFAIL")[0]
    lines = (line for line in text.splitlines() if "refnet check" not in line and "level ci" not in line)
    assert max(map(len, lines)) <= width


def test_one_operator_in_one_dtype_is_told_in_full() -> None:
    those = tuple(o for o in MANY.outcomes if (o.op, o.dtype) == ("softmax", "float32"))
    for text in (printed(replace(MANY, outcomes=those)), printed(replace(MANY, outcomes=those), full=True)):
        assert text.count("\n  replay") == len(those)
        assert text.count("\n  expected") == len(those)
        assert "NAME" not in text
    assert printed(MANY, full=True).count("\n  expected") == len(MANY.outcomes)


def test_what_fails_comes_before_what_is_suspect_and_what_shows_most_before_the_rest() -> None:
    suspect = replace(FAILURE, verdict=Verdict.SUSPECT, aspect="value")
    law = replace(FAILURE, aspect="law:shift", worst=None)
    special = replace(FAILURE, aspect="contract:special-values")
    text = printed(replace(REPORT, outcomes=(suspect, law, special, replace(law, dtype="float64"))))
    _, _, failures = text.partition("\n\nFAIL ")
    assert failures.startswith("softmax contract:special-values float32")
    assert failures.index("law:shift") < failures.index("suspect value")


# ------------------------------------------------------------------------------------- inputs of a failure


def arrays(**shapes: tuple[int, ...]) -> dict[str, object]:
    """Arrays in which every element encodes its own index: [2, 3] is 23."""
    return {
        name: np.array([sum(k * 10.0**p for p, k in enumerate(i[::-1])) for i in np.ndindex(s)]).reshape(s)
        for name, s in shapes.items()
    }


@pytest.mark.parametrize(
    ("op", "output", "index", "settings", "inputs", "shown"),
    [
        ("relu", "y", (2, 3), {}, arrays(x=(4, 5)), ["x[2, 3]"]),
        ("relu", "dx", (2, 3), {}, arrays(dy=(4, 5), x=(4, 5)), ["dy[2, 3]", "x[2, 3]"]),
        ("softmax", "y", (2, 3), {"axis": -1}, arrays(x=(4, 5)), ["x[2, :]"]),
        ("softmax", "y", (2, 3), {"axis": 0}, arrays(x=(4, 5)), ["x[:, 3]"]),
        ("softmax", "dx", (2, 3), {"axis": 0}, arrays(dy=(4, 5), x=(4, 5)), ["dy[:, 3]", "x[:, 3]"]),
        ("logsumexp", "y", (1, 3), {"axis": 0}, arrays(x=(4, 2, 5)), ["x[:, 1, 3]"]),
        ("logsumexp", "dx", (2, 3), {"axis": 0}, arrays(dy=(5,), x=(4, 5)), ["dy[3]", "x[:, 3]"]),
        ("softmax", "y", (1, 90), {"axis": -1}, arrays(x=(2, 100)), ["x[1, 87:93]"]),
        ("softmax", "y", (1, 99), {"axis": -1}, arrays(x=(2, 100)), ["x[1, 94:100]"]),
        ("linear", "y", (1, 2), {}, arrays(x=(2, 4), w=(4, 3), b=(3,)), ["x[1, :]", "w[:, 2]", "b[:]"]),
        (
            "linear",
            "dw",
            (3, 2),
            {},
            arrays(dy=(2, 3), x=(2, 4), w=(4, 3), b=(3,)),
            ["dy[:, 2]", "x[:, 3]", "w[3, :]", "b[:]"],
        ),
        ("mse", "y", (), {"reduction": "mean"}, arrays(p=(2, 3), t=(2, 3)), [*"pt"]),
        (
            "categorical_cross_entropy",
            "dp",
            (1, 2),
            {"reduction": "mean"},
            arrays(dy=(), p=(2, 3), t=(2, 3)),
            ["dy", "p[1, :]", "t[1, :]"],
        ),
        (
            "softmax_cross_entropy_with_integer_labels",
            "y",
            (1,),
            {"reduction": "none"},
            arrays(z=(2, 3), labels=(2,)),
            ["z[1, :]", "labels[1]"],
        ),
    ],
)
def test_the_inputs_of_the_worst_element_are_shown(
    op: str,
    output: str,
    index: tuple[int, ...],
    settings: dict[str, str | int | float | bool],
    inputs: dict[str, object],
    shown: list[str],
) -> None:
    worst = replace(WORST, output=output, index=index, settings=settings, inputs=inputs)
    lines = list(shown_of(op, "float64", worst))
    if shown == [*"pt"]:
        shown = [f"{name}[{row}, :]" for name in shown for row in (0, 1)]
    assert [line.name for line in lines] == shown
    for line in lines:  # the elements are those that the name says
        whole, _, place = line.name.partition("[")
        array = np.asarray(inputs[whole])
        expected = eval(f"array[{place}") if place else array
        got = [float.fromhex(text.partition(" ")[0]) for text in line.elements]
        assert got == np.ravel(expected).tolist()


@pytest.mark.parametrize(
    ("output", "index", "shown"),
    [
        ("w0", (1, 1), ["params[0][0][1, :]", "x[0, :]", "x[1, :]", "labels[:]"]),
        ("db1", (1,), ["params[1][1][:]", "x[0, :]", "x[1, :]", "labels[:]"]),
        ("dw1", (2, 0), ["params[1][0][2, :]", "x[0, :]", "x[1, :]", "labels[:]"]),
        ("z", (1, 0), ["params[1][0][:, 0]", "params[1][1][0]", "x[1, :]"]),
    ],
)
def test_the_parameters_of_the_worst_element_are_shown(
    output: str, index: tuple[int, ...], shown: list[str]
) -> None:
    params = [(np.ones((3, 4)), np.ones(4)), (np.ones((4, 2)), np.ones(2))]
    inputs = {"params": params, "x": np.ones((2, 3)), "labels": np.array([0, 1])}
    worst = replace(WORST, output=output, index=index, settings={}, inputs=inputs)
    assert [line.name for line in shown_of("mlp", "float32", worst)] == shown


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (0.1, "float64", "0x1.999999999999ap-4 (0.1)"),
        (float(np.float32(0.1)), "float32", "0x1.99999ap-4 (0.1)"),
        (float(ml_dtypes.bfloat16(0.1)), "bfloat16", "0x1.9ap-4 (0.100098)"),
        (0.1, "float32", "0x1.999999999999ap-4 (0.1)"),
        (-0.0, "float16", "-0x0p+0 (-0.0)"),
        (16.0, "float8", "0x1p+4 (16.0)"),
        (math.nan, "float32", "nan"),
    ],
)
def test_a_number_is_shown_with_all_its_digits_and_no_more(value: float, dtype: str, expected: str) -> None:
    assert decimal(value.hex(), dtype) == expected


def test_what_is_left_out_of_a_long_input_is_counted() -> None:
    worst = replace(WORST, inputs={"x": np.ones((2, 100))}, index=(1, 90), settings={"axis": -1})
    assert "... 94 more (--json FILE)" in printed(replace(REPORT, outcomes=(replace(FAILURE, worst=worst),)))


def test_console_names_the_aspects_that_share_a_column() -> None:
    text = printed(replace(REPORT, notes=()))
    table, _, _ = text.partition("FAIL softmax value")
    assert "epoch pass" in table
    assert "step not run" in table


@pytest.mark.parametrize("width", [50, 60, 70, 80, 100, 120])
def test_a_table_of_many_columns_is_cut_nowhere(width: int) -> None:
    aspects = ("value", "vjp", "symbolic", "numerical", "bounds", "law:a", "law:b", "contract:pure")
    outcomes = [Outcome(LONG, aspect, "float64", Verdict.PASS, 40, ratio=0.98) for aspect in aspects]
    outcomes.append(Outcome("relu", "numerical", "float64", Verdict.INCONCLUSIVE, 40, reason="a kink"))
    text = printed(replace(REPORT, outcomes=tuple(outcomes), notes=()), width)
    table, _, _ = text.partition("where a cell names none")
    assert max(map(len, table.splitlines())) <= width
    assert table.count("9") == 5
    heading = table.splitlines()[0].split()
    assert width < 80 or heading == ["operator", *aspects[:5], "laws", "contract"]
    assert width < 100 or "inconclusive" in table


def test_what_the_results_are_worth_is_told() -> None:
    default = DEFAULTS["float32"].text
    narrow = LADDERS["float32"][-1].text
    outcomes = (
        Outcome("tanh", "value", "float32", Verdict.PASS, 8, keeps=default, accuracy=Accuracy.CONDITIONED),
        Outcome("relu", "value", "float32", Verdict.PASS, 8, accuracy=Accuracy.CORRECTLY_ROUNDED),
        Outcome("linear", "value", "float32", Verdict.FAIL, 8, 1, reason="off", keeps=narrow),
    )
    text = printed(replace(REPORT, outcomes=outcomes))
    best, good = text.index("correctly rounded, in all cases"), text.index("as good as the problem permits")
    assert best < text.index("relu: value in f32") < good < text.index("tanh: value in f32")
    assert default not in text
    assert text.count(" ".join(narrow.split())[:30]) >= 1
    assert "keeps" in text
    assert from_json(to_json(replace(REPORT, outcomes=outcomes))).outcomes == outcomes
