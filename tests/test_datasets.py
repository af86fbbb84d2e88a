"""The shipped data are what they say, and a CSV file is read or refused by its line."""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from hatchling.builders.wheel import WheelBuilder

import refnet.datasets
from refnet import ArgumentError
from refnet.datasets import Dataset, load, load_csv
from refnet.datasets.shipped import ORIGINS

ROOT = Path(refnet.__file__).parents[1]
FOLDER = Path(refnet.datasets.__file__).parent
ORIGINALS: dict[str, Callable[[], Any]] = {
    "iris": sklearn.datasets.load_iris,
    "digits": sklearn.datasets.load_digits,
}

# ------------------------------------------------------------------------------------- what ships with it

Load = Callable[[str], Dataset]


def assert_the_originals(read: Load) -> None:
    for name, original in ORIGINALS.items():
        data, source = read(name), original()
        assert data.x.dtype == np.float64
        assert np.array_equal(data.x, source.data)
        assert np.array_equal(data.labels, source.target)
        assert data.feature_names == tuple(source.feature_names)
        assert data.class_names == tuple(map(str, source.target_names))


def test_the_shipped_data_are_those_of_scikit_learn() -> None:
    assert set(ORIGINALS) == set(ORIGINS)
    assert_the_originals(load)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda name: load(name)._replace(x=load(name).x[::-1]),
        lambda name: load(name)._replace(x=load(name).x.astype(np.float32)),
        lambda name: load(name)._replace(x=load(name).x + (load(name).x == 1.4) * 0.1),
        lambda name: load(name)._replace(labels=np.sort(load(name).labels)[::-1]),
        lambda name: load(name)._replace(class_names=load(name).class_names[::-1]),
        lambda name: load(name)._replace(feature_names=load(name).feature_names[1:]),
    ],
    ids=["reversed", "float32", "one value off", "labels", "classes", "features"],
)
def test_data_that_differ_are_caught(wrong: Load) -> None:
    with pytest.raises(AssertionError):
        assert_the_originals(wrong)


def test_every_call_returns_arrays_of_its_own() -> None:
    first, second = load("iris"), load("iris")
    first.x[...] = 0.0
    first.labels[...] = 0
    assert second.x.all()
    assert np.array_equal(load("iris").x, second.x)


def test_licence_and_source_are_named_beside_the_data() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for origin in ORIGINS.values():
        doi = origin.source.rpartition(" ")[2]
        assert doi.startswith("https://doi.org/10.24432/")
        assert all(part in text for part in (f"`{origin.file}`", doi, origin.licence))
    assert load("iris").licence == "CC BY 4.0"


def test_the_data_are_in_the_wheel(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(wheel).namelist()
    for file in (*(origin.file for origin in ORIGINS.values()), "README.md"):
        assert f"refnet/datasets/{file}" in names


UNKNOWN: list[Any] = ["mnist", None, ["iris"]]


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_set_is_refused(name: Any) -> None:
    with pytest.raises(ArgumentError, match=re.escape(f"{name!r}; required: one of iris, digits")):
        load(name)


# --------------------------------------------------------------------------------------------------- files


def written(folder: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


READ: dict[str, tuple[str | bytes, dict[str, Any], list[list[float]], list[int], tuple[str, ...]]] = {
    "a header, the class last": ("a,b,kind\n1,2,x\n3,4,y\n", {}, [[1, 2], [3, 4]], [0, 1], ("x", "y")),
    "no header": ("1,2,x\n3,4,y\n", {}, [[1, 2], [3, 4]], [0, 1], ("x", "y")),
    "the class by name": (
        "kind,a\nx,1\ny,2\nx,3\n",
        {"label": "kind"},
        [[1], [2], [3]],
        [0, 1, 0],
        ("x", "y"),
    ),
    "the class by index": (
        "9,1.5\n10,-2e3\n9,0\n",
        {"label": 0},
        [[1.5], [-2000], [0]],
        [0, 1, 0],
        ("9", "10"),
    ),
    "classes that are whole numbers": ("1,2.0\n2,10\n3,2\n", {}, [[1], [2], [3]], [0, 1, 0], ("2", "10")),
    "classes that are not all numbers": ("1,2\n2,ten\n3,2\n", {}, [[1], [2], [3]], [0, 1, 0], ("2", "ten")),
    "classes that a float would merge": (
        "1,9007199254740993\n2,9007199254740992\n3,9007199254740993\n",
        {},
        [[1], [2], [3]],
        [1, 0, 1],
        ("9007199254740992", "9007199254740993"),
    ),
    "classes beyond 64 bits": (
        "1,-1\n2,36893488147419103233\n3,36893488147419103232\n4,-1\n",
        {},
        [[1], [2], [3], [4]],
        [0, 2, 1, 0],
        ("-1", "36893488147419103232", "36893488147419103233"),
    ),
    "whole numbers that a float does not hold, as words": (
        "1,1e300\n2,9007199254740993.0\n3,1e300\n",
        {},
        [[1], [2], [3]],
        [0, 1, 0],
        ("1e300", "9007199254740993.0"),
    ),
    "classes whose numbers are equal": (
        "1,1e3\n2,1000\n3,-2.0\n",
        {},
        [[1], [2], [3]],
        [1, 1, 0],
        ("-2", "1000"),
    ),
    "a class with a zero byte": ("1,a\0\n2,a\n3,a\0\n", {}, [[1], [2], [3]], [1, 0, 1], ("a", "a\0")),
    "a header of numbers": ("7,8\n1,x\n2,y\n", {"header": True}, [[1], [2]], [0, 1], ("x", "y")),
    "semicolons": ("a;kind\n1;x\n2;y\n", {"delimiter": ";"}, [[1], [2]], [0, 1], ("x", "y")),
    "spaces, blank lines, no last newline": (
        "a, kind\n\n 1 , x\n   \n2,y",
        {},
        [[1], [2]],
        [0, 1],
        ("x", "y"),
    ),
    "quotes": ('a,kind\n"1","x, or so"\n2,y\n', {}, [[1], [2]], [0, 1], ("x, or so", "y")),
    "Windows": (b"\xef\xbb\xbfa,kind\r\n1,x\r\n2,y\r\n", {"label": "kind"}, [[1], [2]], [0, 1], ("x", "y")),
    "other alphabets": (
        "длина,вид\n1,ирис\n2,роза\n",
        {"label": "вид"},
        [[1], [2]],
        [0, 1],
        ("ирис", "роза"),
    ),
}


@pytest.mark.parametrize(("content", "settings", "x", "labels", "classes"), READ.values(), ids=READ)
@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz"])
def test_a_table_is_read(
    content: str | bytes,
    settings: dict[str, Any],
    x: list[list[float]],
    labels: list[int],
    classes: tuple[str, ...],
    name: str,
    tmp_path: Path,
) -> None:
    plain = content if isinstance(content, bytes) else content.encode()
    data = load_csv(
        written(tmp_path, gzip.compress(plain) if name.endswith("gz") else plain, name), **settings
    )
    assert data.x.dtype == np.float64
    assert data.x.tolist() == x
    assert data.labels.tolist() == labels
    assert data.class_names == classes
    assert data.name == name
    assert len(data.feature_names) == data.x.shape[1]


def test_features_have_the_names_of_the_header(tmp_path: Path) -> None:
    path = written(tmp_path, "a,kind,b\n1,x,2\n3,y,4\n")
    assert load_csv(path, label="kind").feature_names == ("a", "b")
    path = written(tmp_path, "1,x,2\n3,y,4\n")
    assert load_csv(path, label=1).feature_names == ("column 0", "column 2")


REFUSED: dict[str, tuple[str | bytes, dict[str, Any], int | None, str]] = {
    "an empty file": ("", {}, None, "empty"),
    "blank lines": ("\n\n  \n", {}, None, "empty"),
    "a header alone": ("a,kind\n", {}, 1, "a header with nothing under it"),
    "a row too short": ("a,b,kind\n1,2,x\n3,y\n", {}, 3, "of 2 cells; required: 3 cells, as in line 1"),
    "a row too long": ("1,x\n2,y\n3,z,4\n", {}, 3, "of 3 cells"),
    "text where a number is due": ("a,b,kind\n1,2,x\n3,four,y\n", {}, 3, "'four' in column \"b\""),
    "text in the first of no header": ("1,x\ntwo,y\n", {}, 2, "'two' in column 0"),
    "a first line half of numbers": ("1,b,kind\n1,2,x\n", {}, 1, "'b' in column 1"),
    "a missing feature": ("a,b,kind\n1,2,x\n3,,y\n", {}, 3, 'empty in column "b"'),
    "NaN": ("a,kind\n1,x\nNaN,y\n", {}, 3, "'NaN' in column \"a\""),
    "an infinity": ("a,kind\n1,x\n-inf,y\n", {}, 3, "'-inf'"),
    "a number too large": ("a,kind\n1,x\n1e999,y\n", {}, 3, "'1e999'"),
    "an underscore": ("a,kind\n1,x\n1_000,y\n", {}, 3, "'1_000'"),
    "the line after a cell of two lines": ('a,kind\n1,"x\ny"\nz,y\n', {}, 4, "'z' in column"),
    "a missing class": ("a,kind\n1,x\n2,\n", {}, 3, "without a class"),
    "a class NaN": ("1,0\n2,nan\n", {}, 2, "without a class"),
    "one class": ("a,kind\n1,x\n2,x\n", {}, None, "of the one class x; required: at least two classes"),
    "a class for each sample": ("1,.5\n2,.25\n3,.75\n", {}, None, "of 3 classes, one for each sample"),
    "one column": ("a\n1\n2\n", {}, 1, "of one cell"),
    "another delimiter": ("a;kind\n1;x\n2;y\n", {}, 1, 'delimiter=";"'),
    "bytes that are no text": (b"a,kind\n1,\xff\xfe\n", {}, 2, "not text in UTF-8"),
    "a cell without end": (b'a,kind\n1,x\n2,"' + b"y" * 200_000, {}, 3, "not CSV"),
    "a broken compression": (
        b"\x1f\x8b\x08\x00junk",
        {"name": "data.csv.gz"},
        None,
        "not compressed by gzip",
    ),
    "no compression": ("a,kind\n1,x\n", {"name": "data.csv.gz"}, None, "not compressed by gzip"),
}


@pytest.mark.parametrize(("content", "settings", "line", "text"), REFUSED.values(), ids=REFUSED)
def test_a_broken_table_is_refused_by_its_line(
    content: str | bytes, settings: dict[str, Any], line: int | None, text: str, tmp_path: Path
) -> None:
    path = written(tmp_path, content, settings.get("name", "data.csv"))
    with pytest.raises(ArgumentError) as caught:
        load_csv(path)
    assert caught.value.argument == f"{path}" + (f", line {line}," if line else "")
    assert text in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("content", "label", "text"),
    [
        ("a,kind\n1,x\n2,y\n", "species", "one of a, kind"),
        ("a,a,b\n1,x,2\n2,y,3\n", "a", "the name of 2 columns"),
        ("1,x\n2,y\n", 2, "an index in [-2, 2)"),
        ("1,x\n2,y\n", -3, "an index in [-2, 2)"),
    ],
)
def test_a_column_that_is_not_there_is_refused(
    content: str, label: str | int, text: str, tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError) as caught:
        load_csv(written(tmp_path, content), label=label)
    assert caught.value.argument == "label"
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        *(
            ("delimiter", value, "one character between two cells")
            for value in (";;", "", None, 5, '"', "\n")
        ),
        *(("label", value, "the name of a column, a str, or its index") for value in (None, True, 1.0, [0])),
        *(("header", value, "True, False or None") for value in ("a", 1)),
        *(("path", value, "the name of a file") for value in (None, 3, b"data.csv", "a\0")),
    ],
)
def test_what_is_no_setting_is_refused_by_name(name: str, value: Any, text: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"path": written(tmp_path, "1,x\n2,y\n"), name: value}
    with pytest.raises(ArgumentError) as caught:
        load_csv(**settings)
    assert caught.value.argument == name
    assert f"{name} is {value!r}; required: " in str(caught.value)
    assert text in str(caught.value)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_csv(tmp_path / "none.csv")
