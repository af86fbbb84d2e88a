"""Samples from a CSV file. Every refusal names the line."""

from __future__ import annotations

import csv
import math
import os
from io import StringIO
from typing import NamedTuple

import numpy as np

from refnet.arguments import validate_path
from refnet.datasets.dataset import Dataset
from refnet.op import ArgumentError, Labels


class Row(NamedTuple):
    line: int
    """The number of the (last) line of the row in the file, from 1."""
    cells: list[str]


def load_csv(
    path: str | os.PathLike[str],
    *,
    label: str | int = -1,
    header: bool | None = None,
    delimiter: str = ",",
) -> Dataset:
    """Read samples from a CSV file, plain or `.gz`, in UTF-8: one column of classes, numbers in the others.

    `label` is the column of the class, by its name or its index; by default the last one. Classes may be
    words or whole numbers; they are counted in the order of the numbers, or else of the words. `header` says
    whether the first line holds the names of the columns; None looks: it does if none of its features is a
    number. Blank lines are skipped.

    Raises:
        ArgumentError: a row is longer or shorter than the first, a feature is missing or not a finite
            number, a class is missing, there are no samples, there are fewer than two classes, each sample
            has a class of its own, the column of the class does not exist, or a setting is not one.
        OSError: the file cannot be read.
    """
    validate_path("load_csv", path)
    _validate_settings(label, header, delimiter)
    rows = _rows(path, delimiter)
    if not rows:
        raise _refusal(path, None, "empty", "rows of numbers and a class", "Look whether it was written.")
    width = len(rows[0].cells)
    for row in rows:
        if len(row.cells) != width:
            raise _refusal(
                path,
                row.line,
                f"of {len(row.cells)} cells",
                f"{width} cells, as in line {rows[0].line}",
                "A cell with a delimiter in it needs quotes around it.",
            )
    if width < 2:
        raise _refusal(
            path,
            rows[0].line,
            "of one cell",
            "at least one feature and a class",
            f'If the cells are separated by something else than "{delimiter}", name it: delimiter=";".',
        )
    names = _header(rows[0].cells, label, header)
    column = _column(path, names, width, label)
    samples = rows[1:] if names else rows
    if not samples:
        raise _refusal(
            path, rows[0].line, "a header with nothing under it", "samples", "Add rows of numbers."
        )
    labels, class_names = _classes(path, [(row.line, row.cells[column]) for row in samples])
    x = np.array([_features(path, row, column, names) for row in samples], dtype=np.float64)
    feature_names = names or [f"column {position}" for position in range(width)]
    return Dataset(
        name=os.path.basename(path),
        x=x,
        labels=labels,
        feature_names=tuple(feature_names[:column] + feature_names[column + 1 :]),
        class_names=class_names,
        common_unit=False,
        licence="",
        source=os.fspath(path),
    )


def _validate_settings(label: object, header: object, delimiter: object) -> None:
    if not isinstance(label, str | int) or isinstance(label, bool):
        raise ArgumentError(
            "load_csv",
            "label",
            repr(label),
            "the name of a column, a str, or its index, an int",
            "For the last column use label=-1.",
        )
    if not (header is None or isinstance(header, bool)):
        raise ArgumentError(
            "load_csv",
            "header",
            repr(header),
            "True, False or None",
            "With header=True the first line names the columns; label= names the column of the class.",
        )
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        raise ArgumentError(
            "load_csv",
            "delimiter",
            repr(delimiter),
            "one character between two cells, neither a quote nor the end of a line",
            'Use delimiter=";" or delimiter="\\t".',
        )


def _rows(path: str | os.PathLike[str], delimiter: str) -> list[Row]:
    reader = csv.reader(StringIO(_text(path), newline=""), delimiter=delimiter, skipinitialspace=True)
    rows = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if stripped not in ([], [""]):
                rows.append(Row(reader.line_num, stripped))
    except csv.Error as error:
        raise _refusal(
            path, reader.line_num, f"not CSV ({error})", "cells of text", "Export the table once more."
        ) from error
    return rows


def _text(path: str | os.PathLike[str]) -> str:
    """The text of a plain or compressed file, without the byte order mark that spreadsheets write."""
    with open(path, "rb") as file:
        content = file.read()
    if os.fspath(path).endswith(".gz"):
        import gzip  # here, because few files are compressed
        import zlib

        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise _refusal(
                path, None, f"not compressed by gzip ({error})", "a whole gzip file", "Compress it again."
            ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(
            path, line, f"not text in UTF-8 ({error})", "a CSV file in UTF-8", "Export it in UTF-8."
        ) from error


def _is_number(cell: str) -> bool:
    """Python would read 1_000 as 1000."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _header(first: list[str], label: str | int, header: bool | None) -> list[str]:
    """The names of the columns; empty if the first row is a sample."""
    if header is None:
        others = [cell for k, cell in enumerate(first) if isinstance(label, str) or k != label % len(first)]
        header = not any(_is_number(cell) for cell in others)
    return first if header else []


def _column(path: str | os.PathLike[str], names: list[str], width: int, label: str | int) -> int:
    """The index of the column of the class."""
    if isinstance(label, int) and -width <= label < width:
        return label % width
    if isinstance(label, str) and names.count(label) == 1:
        return names.index(label)
    known = f"one of {', '.join(names)}" if names else "an index, as the first line holds no names"
    raise ArgumentError(
        "load_csv",
        "label",
        repr(label) + (f", the name of {names.count(label)} columns" if label in names else ""),
        f"{known}, or an index in [{-width}, {width})",
        "Name the column of the class; header=True makes the first line one of names.",
    )


def _features(path: str | os.PathLike[str], row: Row, column: int, names: list[str]) -> list[float]:
    cells = row.cells[:column] + row.cells[column + 1 :]
    try:
        values = list(map(float, cells))
        if all(map(math.isfinite, values)) and "_" not in "".join(cells):
            return values
    except ValueError:
        pass
    where, cell = next(
        (k, cell)
        for k, cell in enumerate(row.cells)
        if k != column and not (_is_number(cell) and math.isfinite(float(cell)))
    )
    name = f'"{names[where]}"' if names else f"{where}"
    raise _refusal(
        path,
        row.line,
        f"{repr(cell) if cell else 'empty'} in column {name}",
        "a finite number in every column but that of the class",
        "Fill the gap or drop the row; label= names the column of the class, header=True a line of names.",
    )


def _classes(path: str | os.PathLike[str], cells: list[tuple[int, str]]) -> tuple[Labels, tuple[str, ...]]:
    """Count the classes: 9 before 10 where they are integers, else in the order of the words.

    Not by NumPy, which ends a word before a last "\\0", and makes floats of integers beyond 64 bits.
    """
    for line, cell in cells:
        if not cell or cell.lower() == "nan":
            raise _refusal(path, line, "without a class", "a class for each sample", "Drop the row.")
    words = [cell for _, cell in cells]
    numbers = [number for word in words if (number := _whole(word)) is not None]
    if len(numbers) == len(words):
        words = list(map(str, numbers))
        found = list(map(str, sorted(set(numbers))))
    else:
        found = sorted(set(words))
    if len(found) < 2:
        raise _refusal(path, None, f"of the one class {words[0]}", "at least two classes", "Add samples.")
    if len(found) == len(words) > 2:
        raise _refusal(
            path,
            None,
            f"of {len(found)} classes, one for each sample",
            "classes with more than one sample",
            "label= names the column of the class; by default it is the last one.",
        )
    index = {name: position for position, name in enumerate(found)}
    return np.array([index[word] for word in words], dtype=np.intp), tuple(found)


def _whole(word: str) -> int | None:
    """The integer that a word means, "2.0" and "1e3" included, or None.

    Beyond 2^53 a float is that of other integers too: 9007199254740993.0 remains a word.
    """
    if not _is_number(word):
        return None
    try:
        return int(word)
    except ValueError:
        value = float(word)
        return int(value) if value.is_integer() and abs(value) <= 2.0**53 else None


def _refusal(
    path: str | os.PathLike[str], line: int | None, given: str, required: str, remedy: str
) -> ArgumentError:
    where = os.fspath(path) + (f", line {line}," if line is not None else "")
    return ArgumentError("load_csv", where, given, required, remedy)
