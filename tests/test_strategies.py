"""The strategies produce what they promise: each feature is searched for until it is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from hypothesis.strategies import SearchStrategy

from refnet import OPS
from specs import SPECS, Domain
from verify.arithmetic.certified import in_order
from verify.arithmetic.formats import FLOAT16, FLOAT32, FORMATS, Format
from verify.laws.examples import LAYOUTS, REGIMES, Example, Poke, Recipe, all_sizes, dtype_of, reach
from verify.laws.strategies import examples, from_ordinal, magnitudes, recipes, to_ordinal

SEARCH = settings(
    max_examples=2000, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
SAMPLE = settings(SEARCH, max_examples=30)


def shape_of(recipe: Recipe) -> tuple[int, ...]:
    return recipe.build().inputs[0].shape


def first(recipe: Recipe) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return recipe.build().inputs[0].astype(np.float64)


FEATURES: Mapping[str, tuple[str, Callable[[Recipe], bool]]] = {
    "a batch of one": ("softmax", lambda r: r.batch == (1,)),
    "a row of one": ("softmax", lambda r: r.sizes["c"] == 1),
    "a single number": ("sigmoid", lambda r: shape_of(r) == ()),
    "rank 1": ("softmax", lambda r: len(shape_of(r)) == 1),
    "rank 4": ("softmax", lambda r: len(shape_of(r)) == 4),
    "a subnormal": ("softmax", lambda r: bool(_subnormal(first(r)).any())),
    "the largest magnitude": (
        "softmax",
        lambda r: bool((np.abs(first(r)) >= 0.99 * _reach("softmax")).any()),
    ),
    "beyond the range of exp": ("softmax", lambda r: bool((first(r) > 89.0).any())),
    "a tie for the largest of a row": ("softmax", lambda r: bool((_tied(first(r)) > 1).any())),
    "a negative zero": ("relu", lambda r: bool((np.signbit(first(r)) & (first(r) == 0)).any())),
    "the neighbour of 1": ("sigmoid", lambda r: bool((first(r) == 1 + 2.0**-23).any())),
    "a known answer of the spec": ("softmax", lambda r: bool((np.abs(first(r)) == 30000.0).any())),
    "probability 0": ("binary_cross_entropy", lambda r: bool((first(r) == 0).any())),
    "probability 1": ("binary_cross_entropy", lambda r: bool((first(r) == 1).any())),
    "probability just below 1": (
        "binary_cross_entropy",
        lambda r: bool((first(r) == 1 - FLOAT32.unit_roundoff).any()),
    ),
    "a tiny entry of a distribution": (
        "categorical_cross_entropy",
        lambda r: bool((_subnormal(first(r)) & (first(r) > 0)).any()),
    ),
    "the last class": (
        "softmax_cross_entropy_with_integer_labels",
        lambda r: r.sizes["c"] > 2 and bool((r.build().inputs[1] == r.sizes["c"] - 1).any()),
    ),
    "the other axis": ("softmax", lambda r: r.settings["axis"] == 0 and len(r.batch) == 2),
    "one place before delta": ("huber", lambda r: _is_beside(r, -1)),
    "one place beyond delta": ("huber", lambda r: _is_beside(r, 1)),
    "a score on the margin": ("hinge", lambda r: bool((r.build().inputs[0] == r.build().inputs[1]).any())),
    "no reduction": ("mse", lambda r: r.settings["reduction"] == "none"),
    "a read-only array": ("softmax", lambda r: not r.build().inputs[0].flags.writeable),
    "a view with gaps": ("softmax", lambda r: _is_view(r.build()) and not r.build().inputs[0].flags.forc),
    "negative strides": ("softmax", lambda r: any(s < 0 for s in r.build().inputs[0].strides)),
    "column-major order": ("linear", lambda r: r.build().inputs[1].flags.fnc),
    "a view of a cotangent": ("softmax", lambda r: r.build().dy.base is not None),
}


def _subnormal(
    x: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray((x != 0) & (np.abs(x) < FLOAT32.smallest_normal))


def _tied(
    x: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    return np.asarray((x == x.max(axis=-1, keepdims=True)).sum(axis=-1))


def _reach(op: str) -> float:
    return reach(FLOAT32, SPECS[op].inputs[0])


def _is_beside(recipe: Recipe, side: int) -> bool:
    """A prediction next to the one at the distance delta = 1 above its target."""
    p, t = recipe.build().inputs
    return bool((p == np.nextafter(t + np.float32(1), np.float32(side * np.inf))).any())


def _is_view(example: Example) -> bool:
    return example.inputs[0].base is not None


@pytest.mark.parametrize("feature", FEATURES)
def test_every_feature_is_found(feature: str) -> None:
    op, has_it = FEATURES[feature]
    assert has_it(find(recipes(SPECS[op], FLOAT32), has_it, settings=SEARCH))


@pytest.mark.parametrize("feature", ["a view with gaps", "negative strides", "a read-only array"])
def test_a_strategy_that_forgets_the_views_is_found_out(feature: str) -> None:
    op, has_it = FEATURES[feature]
    plain = recipes(SPECS[op], FLOAT32).map(lambda recipe: replace(recipe, layout="contiguous"))
    with pytest.raises(NoSuchExample):
        find(plain, has_it, settings=settings(SEARCH, max_examples=300))


@pytest.mark.parametrize("feature", ["the neighbour of 1", "a known answer of the spec", "probability 1"])
def test_a_strategy_that_forgets_the_special_points_is_found_out(feature: str) -> None:
    op, has_it = FEATURES[feature]
    plain = recipes(SPECS[op], FLOAT32).map(lambda recipe: replace(recipe, pokes=()))
    with pytest.raises(NoSuchExample):
        find(plain, has_it, settings=settings(SEARCH, max_examples=300))


def test_every_regime_every_layout_and_every_setting_is_drawn() -> None:
    drawn: list[Recipe] = []

    @settings(SEARCH, max_examples=200)
    @given(recipes(SPECS["mse"], FLOAT32))
    def collect(recipe: Recipe) -> None:
        drawn.append(recipe)

    collect()
    assert {recipe.regime for recipe in drawn} == set(REGIMES)
    assert {recipe.layout for recipe in drawn} == set(LAYOUTS)
    assert {recipe.settings["reduction"] for recipe in drawn} == {"mean", "sum", "none"}


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("name", SPECS)
def test_what_is_drawn_lies_in_the_domain_and_no_two_sizes_are_alike(name: str, fmt: Format) -> None:
    spec = SPECS[name]

    @SAMPLE
    @given(recipes(spec, fmt))
    def holds(recipe: Recipe) -> None:
        sizes = all_sizes(spec, recipe.sizes, recipe.settings)
        own = [*recipe.batch, *(recipe.sizes[axis] for axis in spec.free_axes)]
        assert spec.shapes or len(set(own)) == len(own)
        for item, x in zip(spec.inputs, recipe.build().inputs, strict=True):
            assert isinstance(x, np.ndarray)
            assert x.dtype == dtype_of(item.domain, fmt)
            wide = x.astype(np.float64)
            if item.domain is Domain.INDEX:
                outside = wide == recipe.settings.get(item.outside)
                assert (outside | (wide >= 0) & (wide < sizes[item.along])).all()
            elif item.domain is Domain.COUNT:
                assert (wide >= 1).all()
            elif item.domain is Domain.WEIGHT:
                assert ((wide >= 0) & (wide <= 4)).all()
            elif item.domain is Domain.NONNEGATIVE:
                assert ((wide >= 0) & (wide <= reach(fmt, item))).all()
            elif item.domain in (Domain.REAL, Domain.LOG_PROBABILITY):
                assert (np.abs(wide) <= reach(fmt, item)).all()
                assert item.domain is Domain.REAL or (wide <= 0).all()
            elif item.domain is Domain.SIGN:
                assert (np.abs(wide) == 1).all()
            else:
                assert ((wide >= 0) & (wide <= 1)).all()
            if item.domain is Domain.DISTRIBUTION:
                # each of the nine entries at most has been rounded once
                assert (wide.sum(axis=-1) <= 1 + 9 * fmt.unit_roundoff).all()
                assert item.differentiable or (wide.sum(axis=-1) == 1).all()

    holds()


@pytest.mark.parametrize(
    "name", [s.name for s in SPECS.values() if all(i.domain is Domain.REAL for i in s.inputs)]
)
def test_no_honest_computation_overflows(name: str) -> None:
    @SAMPLE
    @given(examples(SPECS[name], FLOAT16))
    def holds(example: Example) -> None:
        results = (
            *in_order(OPS[name](*example.inputs, **example.settings)),
            *OPS[name].vjp(example.dy, *example.inputs, **example.settings),
        )
        assert all(np.isfinite(y.astype(np.float64)).all() for y in results)

    holds()


@pytest.mark.parametrize("name", ["softmax", "linear", "binary_cross_entropy"])
def test_a_recipe_prints_as_the_line_that_builds_the_same_example(name: str) -> None:
    @SAMPLE
    @given(recipes(SPECS[name], FLOAT16))
    def holds(recipe: Recipe) -> None:
        again: Recipe = eval(repr(recipe), {"Recipe": Recipe, "Poke": Poke})
        built, rebuilt = recipe.build(), again.build()
        for x, y in zip((*built.inputs, built.dy), (*rebuilt.inputs, rebuilt.dy), strict=True):
            assert x.tobytes() == y.tobytes()
            assert x.strides == y.strides

    holds()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_a_layout_changes_no_value(fmt: Format, layout: str) -> None:
    for shape in ((), (1,), (5,), (2, 3), (3, 1, 4), (1, 2, 3, 4)):
        x = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape)).astype(fmt.dtype)
        y = LAYOUTS[layout](x)
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        assert y.tobytes() == x.tobytes()
        assert not np.shares_memory(x, y)


# ------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_ordinals_count_the_numbers_of_a_format(fmt: Format) -> None:
    """Two neighbours differ by one, across every edge: NumPy knows the next number after each."""
    edges = (0.0, fmt.smallest_subnormal, fmt.smallest_normal, 1.0, 2.0, fmt.largest / 2)
    for edge in edges:
        number = np.asarray(edge).astype(fmt.dtype)
        following = np.nextafter(number, np.asarray(np.inf).astype(fmt.dtype))
        assert from_ordinal(to_ordinal(edge, fmt) + 1, fmt) == float(following)
        assert from_ordinal(to_ordinal(edge, fmt), fmt) == edge


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_all_orders_of_magnitude_are_drawn_alike(fmt: Format) -> None:
    """No sixteenth of the exponents gets less than a quarter of its share; of uniform floats, fifteen get
    nothing. Hypothesis repeats and varies what it has drawn, so the counts spread more than chance alone."""
    drawn: list[float] = []

    @settings(SEARCH, max_examples=200)
    @given(st.lists(magnitudes(fmt, fmt.largest), min_size=20, max_size=20))
    def collect(values: list[float]) -> None:
        drawn.extend(value for value in values if value >= fmt.smallest_normal)

    collect()
    exponents = np.frexp(np.array(drawn))[1] - 1
    counts, _ = np.histogram(exponents, bins=16, range=(fmt.emin, fmt.emax + 1))
    assert counts.min() > 0.25 * len(drawn) / 16


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_numbers_shrink_to_simple_ones(fmt: Format) -> None:
    strategy: SearchStrategy[float] = magnitudes(fmt, fmt.largest)
    assert find(strategy, lambda value: value > 0, settings=SEARCH) == 1.0
    assert find(strategy, lambda value: value > 2.5, settings=SEARCH) in (3.0, 4.0)


def test_examples_shrink_to_few_simple_elements() -> None:
    recipe = find(recipes(SPECS["softmax"], FLOAT32), lambda r: first(r).size > 2, settings=SEARCH)
    assert first(recipe).size == 3
    assert recipe.layout == "contiguous"
    assert not recipe.pokes
    assert len(np.unique(np.round(first(recipe), 2))) <= 3  # few numbers, or one and its neighbours
