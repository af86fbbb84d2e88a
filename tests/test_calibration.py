"""The verdicts are calibrated: sloppy code is seen, good code is left alone, and long sums keep to the bound.

What `tests.benchmarks.calibration` measures for all libraries, here for what is always installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from specs import SPECS
from tests.benchmarks import calibration
from tests.benchmarks.calibration import Catch, Ratio
from tests.candidates.sloppy import SLOPPY
from verify.conformance.candidate import load

SEEDS = (calibration.FIRST_SEED,)

CONVENTION = "recognised by name, as a convention of others"
NOT_CAUGHT: Mapping[str, str] = {
    "gelu-by-tanh": CONVENTION,
    "gelu-gradient-of-the-tanh-form": CONVENTION,
    "gelu-error-function-of-seven-digits": "1.5e-7 is within 4 ulp of an error function of the size of 1, "
    "which the form x (1 + erf) / 2 is granted",
}
"""The sloppy implementations that a check at level smoke does not object to, and why."""

AT_MOST = 1.0
"""An error of good code as a fraction of the statistical bound."""


@pytest.fixture(scope="module")
def catches() -> Sequence[Catch]:
    return [calibration.catch(row, SEEDS, "smoke") for row in SLOPPY]


def test_all_sloppy_implementations_are_caught_but_those_with_a_reason(catches: Sequence[Catch]) -> None:
    assert {found.sloppy.name for found in catches if not found.by_refnet} == set(NOT_CAUGHT)
    named = {found.sloppy.name for found in catches if found.convention and not found.by_refnet}
    assert named == {name for name, reason in NOT_CAUGHT.items() if reason == CONVENTION}


def test_no_other_judge_sees_as_many(catches: Sequence[Catch]) -> None:
    """Fixed numbers of ulp do, at the price of false alarms: they object to good code too."""
    for name in ("allclose", "assert_close"):
        seen = [found for found in catches if found.caught.get(name)]
        assert len(seen) < sum(found.by_refnet for found in catches)


def test_each_is_a_row_of_its_own() -> None:
    names = [row.name for row in SLOPPY]
    assert len(set(names)) == len(names)
    assert all(row.op in SPECS and row.says for row in SLOPPY)


def test_plain_numpy_code_raises_no_alarm_and_fixed_tolerances_do() -> None:
    functions = load(calibration.LIBRARIES["numpy"][1]).functions
    found = [calibration.scores("numpy", functions, op, SEEDS, "smoke") for op in SPECS]
    scores = [score for each, _ in found for score in each]
    assert [str(alarm) for _, alarms in found for alarm in alarms] == []
    assert {score.op for score in scores} == {name for name in functions if name in SPECS}
    assert all(score.alarms["refnet"] == score.undecided == 0 for score in scores)
    for name in ("allclose", "64 ulp"):
        assert sum(score.alarms[name] for score in scores) > 0


@pytest.mark.parametrize("op", calibration.SHAPES)
@pytest.mark.parametrize("terms", [16, 256])
def test_sums_in_any_order_keep_to_the_statistical_bound(op: str, terms: int) -> None:
    ratios: Sequence[Ratio] = list(calibration.sums(calibration.in_orders(), op, terms, SEEDS))
    assert all(0.0 < ratio.ratio <= AT_MOST for ratio in ratios)
    assert len(ratios) == sum(op in functions for functions in calibration.in_orders().values())
