"""The vectors of ONNX within refnet's own bounds: no tolerance but what the mathematics grants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from refnet import OPS
from tests.onnx_vectors import INACCURATE, ROWS, NotOurs, Row, Vector, judged, vectors
from verify.reports import Verdict


@pytest.fixture(autouse=True)
def onnx() -> Any:
    return pytest.importorskip("onnx", reason="onnx is not there: pip install '.[onnx]'")


def ours(row: Row, pattern: str) -> Iterator[Vector]:
    for vector in vectors(pattern):
        try:
            row.call(vector.inputs, vector.attributes)
        except NotOurs:
            continue
        yield vector


@pytest.mark.parametrize("pattern", ROWS)
def test_a_vector_is_within_the_bound(pattern: str) -> None:
    row = ROWS[pattern]
    verdicts = {vector.name: judged(row, vector) for vector in ours(row, pattern)}
    assert verdicts, "no vector of that name is ours"
    beyond = {name: j for name, j in verdicts.items() if j.verdict is not Verdict.PASS}
    assert set(beyond) == set(INACCURATE) & set(verdicts), beyond


@pytest.mark.parametrize("pattern", ROWS)
def test_an_output_that_is_off_by_a_thousandth_is_seen(pattern: str) -> None:
    row = ROWS[pattern]
    vector = next(ours(row, pattern))
    outputs = [None if y is None else (y * (1 + 2.0**-10)).astype(y.dtype) for y in vector.outputs]
    assert judged(row, vector._replace(outputs=outputs)).verdict is Verdict.FAIL


def test_what_is_not_ours_is_said() -> None:
    (matrix,) = vectors("test_gemm_default_matrix_bias")
    with pytest.raises(NotOurs, match="a bias of its own for each row"):
        judged(ROWS["test_gemm_*"], matrix)
    (ignored,) = vectors("test_sce_mean_no_weight_ii")
    with pytest.raises(NotOurs, match="ignore_index = 2"):
        judged(ROWS["test_sce_*"], ignored)


def test_the_axis_of_a_vector_counts() -> None:
    """The rows of a table are read: along another axis the numbers are others."""
    (vector,) = vectors("test_softmax_axis_0")
    along_the_last = vector._replace(attributes={})
    assert judged(ROWS["test_softmax_*"], along_the_last).verdict is Verdict.FAIL


def test_every_operator_of_a_row_is_called_by_its_own_name() -> None:
    """A misspelt operator would be a row that no release ever runs."""
    assert {row.op for row in ROWS.values()} <= set(OPS)
