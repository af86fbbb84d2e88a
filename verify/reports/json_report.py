"""The JSON report, schema `refnet.report/1`: the form that other programs read.

The form is described, field by field, in `report.schema.json`, which ships beside this file. It is strict
JSON, which has no infinities and no NaN, so one rule holds for every number in it:

- a finite number is a JSON number, in the shortest form that reads back as the same float64;
- a number that is not finite is one of the strings "inf", "-inf" and "nan", which `float` of most
  languages reads;
- null stands for a figure that was not measured, and for nothing else.

The elements of arrays (`inputs`, `expected`, `got`) are values of the checked format rather than figures
about the check: floats among them are hexadecimal strings, exact in every format; labels are integers.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from refnet import __version__
from verify.reports.record import Diagnosis, Outcome, Report, Verdict, Worst

SCHEMA = "refnet.report/1"

Document = dict[str, Any]


def load_schema() -> Document:
    """The JSON Schema (draft 2020-12) of the report."""
    text = resources.files("verify.reports").joinpath("report.schema.json").read_text(encoding="utf-8")
    schema: Document = json.loads(text)
    return schema


def to_json(report: Report) -> Document:
    """The report as a document of schema `refnet.report/1`, ready for `json.dumps(..., allow_nan=False)`."""
    return {
        "schema": SCHEMA,
        "refnet": __version__,
        "target": {"name": report.target, "version": report.version},
        "seed": int(report.seed),
        "level": report.level,
        "environment": dict(report.environment),
        "summary": {verdict.value: report.count(verdict) for verdict in Verdict},
        "outcomes": [_outcome(outcome) for outcome in report.outcomes],
        "notes": list(report.notes),
    }


def from_json(document: Mapping[str, Any]) -> Report:
    """The report that `to_json` wrote.

    Raises:
        ValueError: the document has another schema.
    """
    if document.get("schema") != SCHEMA:
        raise ValueError(f"the document has schema {document.get('schema')!r}; required: {SCHEMA!r}")
    return Report(
        target=document["target"]["name"],
        version=document["target"]["version"],
        seed=document["seed"],
        level=document["level"],
        environment=dict(document["environment"]),
        outcomes=tuple(_read_outcome(outcome) for outcome in document["outcomes"]),
        notes=tuple(document["notes"]),
    )


def write_json(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the report as a whole or not at all: a reader never meets half of it.

    The text goes to a file beside the target, which then takes its name. A target that is no regular file
    (`/dev/stdout`, a pipe) cannot be replaced, and is written to.
    """
    text = json.dumps(to_json(report), indent=1, allow_nan=False) + "\n"
    target = Path(path).resolve()  # the file behind a link is replaced, not the link
    if target.exists() and not target.is_file():
        Path(path).write_text(text, encoding="utf-8")
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _outcome(outcome: Outcome) -> Document:
    return {
        "op": outcome.op,
        "aspect": outcome.aspect,
        "dtype": outcome.dtype,
        "verdict": outcome.verdict.value,
        "cases": int(outcome.cases),
        "failing_cases": int(outcome.failing_cases),
        "ratio": _figure(outcome.ratio),
        "ulp": _figure(outcome.ulp),
        "reason": outcome.reason,
        "variant": outcome.variant,
        "worst": None if outcome.worst is None else _worst(outcome.worst),
        "diagnosis": [{"mistake": d.mistake, "summary": d.summary} for d in outcome.diagnosis],
        "replay": outcome.replay,
    }


def _read_outcome(document: Mapping[str, Any]) -> Outcome:
    worst = document["worst"]
    return Outcome(
        op=document["op"],
        aspect=document["aspect"],
        dtype=document["dtype"],
        verdict=Verdict(document["verdict"]),
        cases=document["cases"],
        failing_cases=document["failing_cases"],
        ratio=_read_figure(document["ratio"]),
        ulp=_read_figure(document["ulp"]),
        reason=document["reason"],
        variant=document["variant"],
        worst=None if worst is None else _read_worst(worst),
        diagnosis=tuple(Diagnosis(d["mistake"], d["summary"]) for d in document["diagnosis"]),
        replay=document["replay"],
    )


def _worst(worst: Worst) -> Document:
    return {
        "settings": {name: _setting(value) for name, value in worst.settings.items()},
        "inputs": {name: _element(value) for name, value in worst.inputs.items()},
        "output": worst.output,
        "index": [int(i) for i in worst.index],
        "expected": worst.expected,
        "got": worst.got,
        "bound": _figure(worst.bound),
        "case": int(worst.case),
    }


def _read_worst(document: Mapping[str, Any]) -> Worst:
    return Worst(
        settings=dict(document["settings"]),
        inputs=dict(document["inputs"]),
        output=document["output"],
        index=tuple(document["index"]),
        expected=document["expected"],
        got=document["got"],
        bound=float(document["bound"]),
        case=document["case"],
    )


def _figure(value: float | None) -> float | str | None:
    if value is None:
        return None
    return float(value) if math.isfinite(value) else str(float(value))


def _read_figure(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _setting(value: object) -> str | int | float | bool | None:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return _figure(value)
    return value if isinstance(value, bool | int | str) else str(value)


def _element(value: object) -> object:
    """An input as JSON: floats in hex, integers as they are, arrays and sequences as lists."""
    if isinstance(value, np.ndarray | np.generic):
        # bfloat16 and float16 widen to float64 exactly, and no other way gives them a hex form
        value = (value if value.dtype.kind in "biuU" else value.astype(np.float64)).tolist()
    if isinstance(value, list | tuple):
        return [_element(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _element(item) for name, item in value.items()}
    if isinstance(value, float):
        return value.hex()
    return value if value is None or isinstance(value, bool | int | str) else str(value)
