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
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from typing import Any, TypeVar

import numpy as np

from verify.files import write_whole
from verify.reports.record import Accuracy, Diagnosis, Outcome, Report, Verdict, Worst

SCHEMA = "refnet.report/1"

NOT_FINITE = ("inf", "-inf", "nan")
"""How a figure that is not finite is written."""

Document = dict[str, Any]
Member = TypeVar("Member", bound=Enum)


def load_schema(kind: str = "report") -> Document:
    """The JSON Schema (draft 2020-12) of a report, or of a "sweep"."""
    text = resources.files("verify.reports").joinpath(f"{kind}.schema.json").read_text(encoding="utf-8")
    schema: Document = json.loads(text)
    return schema


def write_json(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the report as a whole or not at all.

    Raises:
        OSError: the file cannot be written; what stood there before still stands.
    """
    data = (json.dumps(to_json(report), indent=1, allow_nan=False) + "\n").encode()
    write_whole(path, lambda file: file.write(data))


# ----------------------------------------------------------------------------------------------- writing


def to_json(report: Report) -> Document:
    """The report as a document of schema `refnet.report/1`, ready for `json.dumps(..., allow_nan=False)`."""
    return {
        "schema": SCHEMA,
        "refnet": report.refnet,
        "target": {"name": report.target, "version": report.version},
        "seed": int(report.seed),
        "level": report.level,
        "environment": dict(report.environment),
        "summary": {verdict.value: report.count(verdict) for verdict in Verdict},
        "outcomes": [_outcome(outcome) for outcome in report.outcomes],
        "notes": list(report.notes),
        "failure_probability": figure(report.failure_probability),
        "contract": list(report.contract),
    }


def plain(value: object) -> object:
    """An input as JSON: floats in hex, integers as they are, arrays and sequences as lists."""
    if isinstance(value, np.ndarray | np.generic):
        # bfloat16 and float16 widen to float64 exactly, and no other way gives them a hex form
        value = (value if value.dtype.kind in "biuU" else value.astype(np.float64)).tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, float):
        return value.hex()
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _outcome(outcome: Outcome) -> Document:
    return {
        "op": outcome.op,
        "aspect": outcome.aspect,
        "dtype": outcome.dtype,
        "verdict": outcome.verdict.value,
        "cases": int(outcome.cases),
        "failing_cases": int(outcome.failing_cases),
        "ratio": figure(outcome.ratio),
        "ulp": figure(outcome.ulp),
        "reason": outcome.reason,
        "variant": outcome.variant,
        "worst": None if outcome.worst is None else _worst(outcome.worst),
        "diagnosis": [{"mistake": d.mistake, "summary": d.summary} for d in outcome.diagnosis],
        "replay": outcome.replay,
        "keeps": outcome.keeps,
        "accuracy": None if outcome.accuracy is None else outcome.accuracy.value,
    }


def _worst(worst: Worst) -> Document:
    return {
        "settings": {name: setting(value) for name, value in worst.settings.items()},
        "inputs": {name: plain(value) for name, value in worst.inputs.items()},
        "output": worst.output,
        "index": [int(i) for i in worst.index],
        "expected": worst.expected,
        "got": worst.got,
        "bound": figure(worst.bound),
        "case": int(worst.case),
    }


def figure(value: float | None) -> float | str | None:
    """A figure about the check, as the module says."""
    if value is None:
        return None
    return float(value) if math.isfinite(value) else str(float(value))


def setting(value: object) -> str | int | float | bool | list[int] | None:
    """A setting as JSON: what is no number, no text and no tuple of integers by its text."""
    if isinstance(value, tuple) and all(isinstance(item, int | np.integer) for item in value):
        return [int(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, bool | int | str | None) else str(value)


# ----------------------------------------------------------------------------------------------- reading


def from_json(document: object) -> Report:
    """The report that `to_json` wrote. The summary is counted again from the outcomes.

    Raises:
        ValueError: names the place in the document, what is there and what is required.
    """
    top = _Node(document)
    if top["schema"].value != SCHEMA:
        raise top["schema"].refused(repr(SCHEMA))
    return Report(
        target=top["target"]["name"].text(),
        version=top["target"]["version"].text(),
        seed=top["seed"].integer(),
        level=top["level"].text(),
        environment={name: node.text() for name, node in top["environment"].fields()},
        outcomes=tuple(_read_outcome(node) for node in top["outcomes"].items()),
        notes=tuple(node.text() for node in top["notes"].items()),
        refnet=top["refnet"].text(),
        failure_probability=top["failure_probability"].figure(),
        contract=tuple(node.text() for node in top["contract"].items()),
    )


def _read_outcome(node: _Node) -> Outcome:
    return Outcome(
        op=node["op"].text(),
        aspect=node["aspect"].text(),
        dtype=node["dtype"].text(),
        verdict=node["verdict"].one_of(Verdict),
        cases=node["cases"].integer(),
        failing_cases=node["failing_cases"].integer(),
        ratio=node["ratio"].measured(),
        ulp=node["ulp"].measured(),
        reason=node["reason"].text(),
        variant=node["variant"].text(),
        worst=None if node["worst"].value is None else _read_worst(node["worst"]),
        diagnosis=tuple(
            Diagnosis(d["mistake"].text(), d["summary"].text()) for d in node["diagnosis"].items()
        ),
        replay=node["replay"].text(),
        keeps=node["keeps"].text(),
        accuracy=None if node["accuracy"].value is None else node["accuracy"].one_of(Accuracy),
    )


def _read_worst(node: _Node) -> Worst:
    return Worst(
        settings={name: setting.setting() for name, setting in node["settings"].fields()},
        inputs={name: item.value for name, item in node["inputs"].fields()},
        output=node["output"].text(),
        index=tuple(item.integer() for item in node["index"].items()),
        expected=node["expected"].text(),
        got=node["got"].text(),
        bound=node["bound"].figure(),
        case=node["case"].integer(),
    )


@dataclass(frozen=True, slots=True)
class _Node:
    """A value of a document and the path to it, read as what it must be or refused by name."""

    value: object
    path: str = ""

    def __getitem__(self, name: str) -> _Node:
        for found, node in self.fields():
            if found == name:
                return node
        raise ValueError(f"{self._place} has no {name!r}, which is required")

    def fields(self) -> list[tuple[str, _Node]]:
        if not isinstance(self.value, Mapping):
            raise self.refused("an object")
        return [
            (str(k), _Node(v, f"{self.path}.{k}" if self.path else str(k))) for k, v in self.value.items()
        ]

    def items(self) -> list[_Node]:
        if not isinstance(self.value, list):
            raise self.refused("an array")
        return [_Node(item, f"{self.path}[{k}]") for k, item in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.refused("a string")
        return self.value

    def integer(self) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.refused("an integer")
        return self.value

    def figure(self) -> float:
        if isinstance(self.value, bool) or not (
            isinstance(self.value, int | float) or self.value in NOT_FINITE
        ):
            raise self.refused("a number, " + " or ".join(map(repr, NOT_FINITE)))
        return float(self.value)

    def measured(self) -> float | None:
        return None if self.value is None else self.figure()

    def setting(self) -> str | int | float | bool | tuple[int, ...] | None:
        if isinstance(self.value, list) and all(isinstance(item, int) for item in self.value):
            return tuple(self.value)
        if isinstance(self.value, str) and self.value in NOT_FINITE:
            return self.figure()
        if not isinstance(self.value, str | int | float | None):
            raise self.refused("a string, a number, a boolean, null or an array of integers")
        return self.value

    def one_of(self, kind: type[Member]) -> Member:
        known = {member.value: member for member in kind}
        if self.text() not in known:
            raise self.refused(" or ".join(map(repr, known)))
        return known[self.text()]

    def refused(self, required: str) -> ValueError:
        return ValueError(f"{self._place} is {self.value!r}; required: {required}")

    @property
    def _place(self) -> str:
        return f"the report: {self.path}" if self.path else "the report"
