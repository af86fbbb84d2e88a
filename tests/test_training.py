"""Training is the same steps by hand, bit for bit, and keeps its sets apart."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import refnet
from refnet import (
    ArgumentError,
    Array,
    EpochRecord,
    Evaluation,
    History,
    Labels,
    Layer,
    Network,
    Samples,
    Scaling,
    Split,
    evaluate,
    fit,
    identity,
    initialise,
    load_network,
    mlp,
    mlp_gradients,
    mlp_loss,
    predict,
    relu,
    run_epochs,
    save_network,
    sgd_epoch,
    sgd_step,
    split,
    standardise,
    tanh,
)
from refnet.datasets import load
from refnet.training import BLOCK
from tests.test_network import Problem, flat, problem, same_bits

LOOSE: Any = refnet
"""The functions without their types, to be called as no type checker would let them be."""

# --------------------------------------------------------------------------------------------------- epochs

PROBLEMS = [
    problem(Network((4, 6, 3)), 5),
    problem(Network((4, 6, 5, 3), tanh), 7, np.float32),
    problem(Network((3, 4), identity), 6),
    problem(Network((4, 6, 1), relu, "sigmoid"), 7),
    problem(Network((BLOCK // 100, 150, 3)), 3),
]
"""The last one has a layer that is corrected in blocks."""

BATCH_SIZES = (1, 2, 3, 100)
RATE = 0.1

Epoch = Callable[[Problem, int], Sequence[tuple[Array, Array]]]


def epoch(p: Problem, batch_size: int) -> list[Layer]:
    return sgd_epoch(
        p.params,
        p.x,
        p.labels,
        learning_rate=RATE,
        batch_size=batch_size,
        activation=p.network.activation,
        head=p.network.head,
    )


def stepped(params: Sequence[Layer], gradients: Sequence[Layer]) -> list[Layer]:
    return [
        Layer(sgd_step(w, dw, learning_rate=RATE), sgd_step(b, db, learning_rate=RATE))
        for (w, b), (dw, db) in zip(params, gradients, strict=True)
    ]


def gradients_of(p: Problem, params: Sequence[Layer], rows: slice) -> list[Layer]:
    return mlp_gradients(
        params, p.x[rows], p.labels[rows], activation=p.network.activation, head=p.network.head
    )


def epoch_by_hand(p: Problem, batch_size: int) -> list[Layer]:
    params = p.params
    for start in range(0, len(p.x), batch_size):
        params = stepped(params, gradients_of(p, params, slice(start, start + batch_size)))
    return params


def assert_steps_by_hand(run: Epoch) -> None:
    for p in PROBLEMS:
        for batch_size in BATCH_SIZES:
            got, want = run(p, batch_size), epoch_by_hand(p, batch_size)
            assert same_bits(flat(got), flat(want)), (p.network.sizes, batch_size)


def test_an_epoch_is_the_same_steps_by_hand() -> None:
    assert_steps_by_hand(epoch)


def test_one_batch_of_everything_is_one_step_on_the_mean() -> None:
    for p in PROBLEMS:
        want = stepped(p.params, gradients_of(p, p.params, slice(None)))
        assert same_bits(flat(epoch(p, len(p.x))), flat(want))


def with_stale_gradients(p: Problem, batch_size: int) -> list[Layer]:
    params = p.params
    for start in range(0, len(p.x), batch_size):
        params = stepped(params, gradients_of(p, p.params, slice(start, start + batch_size)))
    return params


def with_the_sum(p: Problem, batch_size: int) -> list[Layer]:
    params = p.params
    for start in range(0, len(p.x), batch_size):
        rows = slice(start, start + batch_size)
        size = len(p.x[rows])
        gradients = gradients_of(p, params, rows)
        params = stepped(params, [Layer(w * size, b * size) for w, b in gradients])
    return params


WRONG_EPOCHS: dict[str, Epoch] = {
    "every gradient at the first parameters": with_stale_gradients,
    "the sum over a batch": with_the_sum,
    "no last incomplete batch": lambda p, size: epoch(
        p._replace(x=p.x[: max(size, len(p.x) // size * size)]), size
    ),
    "the samples backwards": lambda p, size: epoch(p._replace(x=p.x[::-1], labels=p.labels[::-1]), size),
    "batches of one, whatever was asked": lambda p, size: epoch(p, 1),
    "no step at all": lambda p, size: p.params,
    "uphill": lambda p, size: [
        Layer(w + (w - new_w), b + (b - new_b))
        for (w, b), (new_w, new_b) in zip(p.params, epoch(p, size), strict=True)
    ],
    "biases stay": lambda p, size: [
        Layer(new.w, old.b) for old, new in zip(p.params, epoch(p, size), strict=True)
    ],
}


@pytest.mark.parametrize("wrong", WRONG_EPOCHS.values(), ids=WRONG_EPOCHS)
def test_a_wrong_epoch_is_caught(wrong: Epoch) -> None:
    with pytest.raises((AssertionError, ArgumentError)):
        assert_steps_by_hand(wrong)


def assert_pure(run: Epoch) -> None:
    """Inputs stay as they were, results are memory of their own, a second call gives the same bits."""
    for p in PROBLEMS:
        given = [p.x, *flat(p.params)]
        kept, labels = [a.copy() for a in given], p.labels.copy()
        first, second = flat(run(p, 2)), flat(run(p, 2))
        assert same_bits(given, kept)
        assert (p.labels == labels).all()
        assert same_bits(first, second)
        assert not any(np.shares_memory(a, b) for a in first for b in (*given, *second))


def in_place(p: Problem, batch_size: int) -> list[Layer]:
    for layer, new in zip(p.params, epoch(p, batch_size), strict=True):
        layer.w[...], layer.b[...] = new
    return [Layer(w.copy(), b.copy()) for w, b in p.params]


def test_an_epoch_is_pure() -> None:
    assert_pure(epoch)


@pytest.mark.parametrize("wrong", [in_place, lambda p, size: p.params], ids=["in place", "aliased"])
def test_an_impure_epoch_is_caught(wrong: Epoch, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = [p._replace(params=[Layer(w.copy(), b.copy()) for w, b in p.params]) for p in PROBLEMS]
    monkeypatch.setattr(f"{__name__}.PROBLEMS", copies)
    with pytest.raises(AssertionError):
        assert_pure(wrong)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_half_formats_train_in_float32_and_are_rounded_once(dtype: str) -> None:
    p = problem(Network((4, 6, 3)), 5, dtype)
    wide = p._replace(
        params=[Layer(w.astype(np.float32), b.astype(np.float32)) for w, b in p.params],
        x=p.x.astype(np.float32),
    )
    assert same_bits(flat(epoch(p, 2)), [a.astype(dtype) for a in flat(epoch(wide, 2))])


# ----------------------------------------------------------------------------------------------------- split

Divide = Callable[[Array, Labels, int], Split]


def numbered(counts: Sequence[int]) -> Samples:
    """Samples whose one feature is their number, of classes that occur so many times."""
    n = sum(counts)
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    return Samples(np.arange(n, dtype=np.float64)[:, None], labels)


COUNTS = ([50, 50, 50], [11, 97, 41], [7, 8, 9, 300], [20, 21])


def assert_a_partition(divide: Divide) -> None:
    """Every sample lands in exactly one set, with its own label; the sets have their sizes."""
    for counts in COUNTS:
        x, labels = numbered(counts)
        for seed in range(5):
            parts = divide(x, labels, seed)
            numbers = np.concatenate([part.x[:, 0] for part in parts]).astype(np.int64)
            assert sorted(numbers.tolist()) == list(range(len(x)))
            assert (np.concatenate([part.labels for part in parts]) == labels[numbers]).all()
            sizes = [len(part.labels) for part in parts]
            assert sizes[1:] == [round(len(x) * 0.15), round(len(x) * 0.15)]


def assert_stratified(divide: Divide) -> None:
    """The share of each class is that of the data, within one sample in the test set, two in the others."""
    for counts in COUNTS:
        x, labels = numbered(counts)
        for seed in range(5):
            parts = divide(x, labels, seed)
            for part, allowed in zip(parts, (2, 2, 1), strict=True):
                for index, count in enumerate(counts):
                    fair = count * len(part.labels) / len(x)
                    assert abs(int((part.labels == index).sum()) - fair) < allowed


def assert_shuffled(divide: Divide) -> None:
    """Another seed, another split; the samples of a set come in no order; the same seed, the same bits."""
    x, labels = numbered([50, 50, 50])
    splits = [divide(x, labels, seed) for seed in (0, 1, 0)]
    for first, other, again in zip(*splits, strict=True):
        assert not np.array_equal(first.x, other.x)
        assert np.array_equal(first.x, again.x)
        assert (np.diff(first.x[:, 0]) < 0).any()
        assert (np.diff(first.labels) < 0).any()


def divide(x: Array, labels: Labels, seed: int) -> Split:
    return split(x, labels, seed=seed)


def divide_plainly(x: Array, labels: Labels, seed: int) -> Split:
    return split(x, labels, seed=seed, stratified=False)


def test_every_sample_lands_in_exactly_one_set() -> None:
    assert_a_partition(divide)
    assert_a_partition(divide_plainly)


def test_the_sets_have_the_shares_of_the_classes() -> None:
    assert_stratified(divide)


def test_a_share_may_be_a_number_of_numpy() -> None:
    x, labels = numbered([50, 50, 50])
    for kind in (np.float32, np.float64):
        shares: dict[str, Any] = {"validation": kind(0.25), "test": kind(0.125)}
        got = split(x, labels, seed=0, **shares)
        want = split(x, labels, seed=0, validation=0.25, test=0.125)
        for a, b in zip(got, want, strict=True):
            assert np.array_equal(a.x, b.x)


def test_a_split_is_random_and_repeatable() -> None:
    assert_shuffled(divide)
    assert_shuffled(divide_plainly)


def in_order(x: Array, labels: Labels, seed: int) -> Split:
    third = round(len(x) * 0.15)
    edges = (0, len(x) - 2 * third, len(x) - third, len(x))
    return Split(*(Samples(x[a:b], labels[a:b]) for a, b in pairwise(edges)))


def leaking(x: Array, labels: Labels, seed: int) -> Split:
    """The test set is drawn from all samples, as two calls of a splitter with their own seeds would."""
    first, second = divide(x, labels, seed), divide(x, labels, seed + 1)
    return first._replace(test=second.test)


def relabelled(x: Array, labels: Labels, seed: int) -> Split:
    first = divide(x, labels, seed)
    return first._replace(test=Samples(first.test.x, first.test.labels[::-1]))


def by_class(x: Array, labels: Labels, seed: int) -> Split:
    """Each set sorted by class."""
    parts = (
        Samples(p.x[o], p.labels[o]) for p in divide(x, labels, seed) if (o := np.argsort(p.labels)).size
    )
    return Split(*parts)


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (assert_a_partition, leaking),
        (assert_a_partition, relabelled),
        (assert_a_partition, lambda x, labels, seed: split(x, labels, seed=seed, test=0.3)),
        (assert_stratified, divide_plainly),
        (assert_shuffled, in_order),
        (assert_shuffled, by_class),
        (assert_shuffled, lambda x, labels, seed: divide(x, labels, 0)),
    ],
)
def test_a_wrong_split_is_caught(check: Callable[[Divide], None], wrong: Divide) -> None:
    with pytest.raises(AssertionError):
        check(wrong)


# ------------------------------------------------------------------------------------------ standardisation

HALVES = np.array([[1.0, 10.0, 0.1], [3.0, 30.0, 0.1], [1.0, 10.0, 0.1], [3.0, 30.0, 0.1]])
"""Means 2, 20, 0.1 and deviations 1, 10, none."""

Scale = Callable[..., tuple[Array, ...]]


def assert_scaled_like_the_training_set(scale: Scale) -> None:
    before = HALVES.copy()
    training, test = scale(HALVES, HALVES[:1] * 4.0)
    assert same_bits([HALVES], [before])
    assert training.tolist() == [[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]] * 2
    assert test[0, :2].tolist() == [2.0, 2.0]


def test_features_are_scaled_by_the_statistics_of_the_training_set() -> None:
    assert_scaled_like_the_training_set(standardise)
    (huge,) = standardise(np.array([[-1.5e308], [1.5e308]]) / 2)
    assert huge.tolist() == [[-1.0], [1.0]]
    (narrow,) = standardise(HALVES[:, :2].astype(np.float32))
    assert same_bits([narrow], [np.array([[-1, -1], [1, 1]] * 2, np.float32)])


def test_a_common_deviation_keeps_the_proportions_of_the_features() -> None:
    x = np.array([[1.0, 8.0, 5.0], [-1.0, -8.0, 5.0]])  # variances 1, 64 and 0, in the mean 65 / 3
    (scaled,) = standardise(x, common=True)
    deviation = math.sqrt(65.0 / 3.0)
    assert scaled[:, 2].tolist() == [0.0, 0.0]
    assert scaled[0, 1] / scaled[0, 0] == 8.0
    # unit * sqrt(mean of squares in units of 8): six roundings of u each, and the division
    assert abs(scaled[0, 0] * deviation - 1.0) <= 8 * 2.0**-53


def test_a_scaling_folds_into_the_first_layer() -> None:
    """In powers of two nothing is rounded."""
    scaling = Scaling(np.array([2.0, -1.0]), np.array([4.0, 0.5]))
    params = [
        Layer(np.array([[1.0, 2.0, -1.0], [3.0, 0.0, 1.0]]), np.array([1.0, 0.0, -2.0])),
        Layer(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, -1.0]]), np.array([1.0, 2.0])),
    ]
    x = np.array([[3.0, 5.0], [-8.0, 0.25]])
    assert same_bits([mlp(x, scaling.folded(params))], [mlp(scaling.apply(x), params)])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda *sets: tuple(standardise(x)[0] for x in sets),
        lambda *sets: sets,
        lambda *sets: tuple((x - HALVES.mean(0)) / HALVES.std(0, ddof=1).clip(1.0) for x in sets),
        lambda *sets: standardise(*sets, common=True),
    ],
    ids=["its own statistics", "unscaled", "the deviation of a sample", "one deviation"],
)
def test_a_wrong_scaling_is_caught(wrong: Scale) -> None:
    with pytest.raises(AssertionError):
        assert_scaled_like_the_training_set(wrong)


# ------------------------------------------------------------------------------------- fitting, and history

NETWORK = Network((2, 8, 3))
DATA = split(
    (points := np.random.default_rng(5).standard_normal((120, 2))),
    (points @ np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])).argmax(1),
    seed=0,
)

Fit = Callable[[int], tuple[Sequence[Layer], History]]
EPOCHS = 4


def fitted(seed: int) -> tuple[list[Layer], History]:
    return fit(NETWORK, DATA.training, DATA.validation, seed=seed, epochs=EPOCHS, learning_rate=RATE)


def record_by_hand(number: int, params: Sequence[Layer]) -> EpochRecord:
    rows = [
        (float(mlp_loss(params, x, labels)), float((predict(x, params) == labels).mean()))
        for x, labels in (DATA.training, DATA.validation)
    ]
    return EpochRecord(number, *rows[0], *rows[1])


def assert_fitted_by_hand(run: Fit) -> None:
    """A new permutation for each epoch, from the generator that has drawn the first parameters."""
    x, labels = DATA.training
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        params, records = initialise(NETWORK, rng), []
        for number in range(1, EPOCHS + 1):
            order = rng.permutation(len(x))
            params = sgd_epoch(params, x[order], labels[order], learning_rate=RATE)
            records.append(record_by_hand(number, params))
        got, history = run(seed)
        assert same_bits(flat(got), flat(params))
        assert history == tuple(records)


def without_shuffling(seed: int) -> tuple[list[Layer], History]:
    params, history = initialise(NETWORK, np.random.default_rng(seed)), []
    for number in range(1, EPOCHS + 1):
        params = sgd_epoch(params, *DATA.training, learning_rate=RATE)
        history.append(record_by_hand(number, params))
    return params, tuple(history)


def with_one_permutation(seed: int) -> tuple[list[Layer], History]:
    rng = np.random.default_rng(seed)
    params, history = initialise(NETWORK, rng), []
    order = rng.permutation(len(DATA.training.labels))
    for number in range(1, EPOCHS + 1):
        params = sgd_epoch(params, DATA.training.x[order], DATA.training.labels[order], learning_rate=RATE)
        history.append(record_by_hand(number, params))
    return params, tuple(history)


def test_fit_is_epochs_by_hand_and_the_seed_decides_all() -> None:
    assert_fitted_by_hand(fitted)
    assert_fitted_by_hand(fitted)
    assert fitted(0)[1] != fitted(1)[1]


@pytest.mark.parametrize(
    "wrong",
    [
        without_shuffling,
        with_one_permutation,
        lambda seed: fitted(0),
        lambda seed: (fitted(seed)[0], fitted(seed)[1][1:]),
        lambda seed: (
            fitted(seed)[0],
            tuple(r._replace(validation_loss=r.training_loss) for r in fitted(seed)[1]),
        ),
    ],
    ids=["no shuffling", "one permutation", "one seed", "a record is missing", "no validation"],
)
def test_a_wrong_fit_is_caught(wrong: Fit) -> None:
    with pytest.raises(AssertionError):
        assert_fitted_by_hand(wrong)


def test_epochs_are_computed_when_they_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    params = initialise(NETWORK, rng)
    run = run_epochs(params, DATA.training, DATA.validation, rng, learning_rate=RATE)
    rows = list(islice(run, 2))
    longer, history = fit(
        NETWORK, DATA.training, DATA.validation, seed=0, epochs=2, learning_rate=RATE, batch_size=1
    )
    assert same_bits(flat(rows[-1][1]), flat(longer))
    assert tuple(record for record, _ in rows) == history
    assert [record.epoch for record in history] == [1, 2]


def test_a_network_that_has_diverged_is_never_right() -> None:
    x, labels = DATA.test
    lost = [Layer(np.full((2, 3), np.nan), np.zeros(3))]
    loss, accuracy = evaluate(lost, x, labels)
    assert math.isnan(loss)
    assert accuracy == 0.0
    assert evaluate([Layer(np.zeros((2, 3)), np.array([0.0, 50.0, 0.0]))], x, labels) == Evaluation(
        float(mlp_loss([Layer(np.zeros((2, 3)), np.array([0.0, 50.0, 0.0]))], x, labels)),
        float((labels == 1).mean()),
    )


@pytest.mark.parametrize(("name", "least"), [("digits", 0.95), ("iris", 0.9)])
def test_the_shipped_data_are_learnt(name: str, least: float) -> None:
    """The figure for digits is the one that the command promises; iris has 22 test samples."""
    data = load(name)
    sets = split(data.x, data.labels, seed=0)
    training, validation, test = standardise(*(part.x for part in sets), common=data.common_unit)
    network = Network.for_data(data.x.shape[1], len(data.class_names), hidden=(32,))
    params, history = fit(
        network, (training, sets.training.labels), (validation, sets.validation.labels), seed=0
    )
    assert len(history) == 20
    assert history[-1].training_loss < history[0].training_loss
    assert evaluate(params, test, sets.test.labels).accuracy >= least


def test_two_classes_are_learnt_under_a_sigmoid() -> None:
    network = Network.for_data(2, 2, hidden=(4,))
    pairs = [(part.x, (part.x[:, 0] > 0).astype(np.int64)) for part in (DATA.training, DATA.test)]
    params, _ = fit(network, *pairs, seed=0, learning_rate=RATE)
    assert evaluate(params, *pairs[1], head="sigmoid").accuracy >= 0.9


# ---------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("network", [NETWORK, Network((3, 1), tanh, "sigmoid")], ids=["softmax", "sigmoid"])
def test_a_network_comes_back_from_its_file(network: Network, dtype: npt.DTypeLike, tmp_path: Path) -> None:
    params = problem(network, 1, dtype).params
    save_network(tmp_path / "net", network, params)
    loaded, layers = load_network(tmp_path / "net")
    assert loaded == network
    assert same_bits(flat(layers), flat(params))
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_a_file_that_is_in_the_way_is_left_where_it_is(tmp_path: Path) -> None:
    partial_file = tmp_path / f"net.{os.getpid()}.partial"
    partial_file.write_text("of another one")
    with pytest.raises(FileExistsError):
        save_network(tmp_path / "net", NETWORK, problem(NETWORK, 1).params)
    assert partial_file.read_text() == "of another one"
    assert list(tmp_path.iterdir()) == [partial_file]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.npz"
    params = problem(NETWORK, 1).params
    save_network(path, NETWORK, params)
    before = path.read_bytes()

    def half(file: Any, **arrays: Array) -> None:
        file.write(before[:100])
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(OSError, match="no space left"):
        save_network(path, NETWORK, params)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def stored(path: Path, **changes: Any) -> None:
    arrays: dict[str, Any] = {"format": "refnet.network/1", "activation": "relu", "head": "softmax"}
    for k, (w, b) in enumerate(problem(NETWORK, 1).params):
        arrays |= {f"w{k}": w, f"b{k}": b}
    arrays |= changes
    with path.open("wb") as file:
        np.savez(file, **{name: value for name, value in arrays.items() if value is not None})


def written(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def damaged(path: Path, change: Callable[[bytes], bytes]) -> None:
    stored(path)
    path.write_bytes(change(path.read_bytes()))


def with_header(path: Path, header: str) -> None:
    """w0 begins with that for a description of its dtype and shape."""
    stored(path, w0=None)
    length = len(header).to_bytes(2, "little")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("w0.npy", b"\x93NUMPY\x01\x00" + length + header.encode())


GARBAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "nothing": (partial(written, content=b""), "not an npz file"),
    "text": (partial(written, content=b"x,y\n1,2\n"), "not an npz file"),
    "one array": (one_array, "not an npz file"),
    "half a file": (partial(damaged, change=lambda data: data[: len(data) // 2]), "not an npz file"),
    "a flipped bit": (
        partial(
            damaged,
            change=lambda data: data.replace(b"r\x00\x00\x00e\x00\x00\x00l", b"R\x00\x00\x00e\x00\x00\x00l"),
        ),
        "damaged",
    ),
    **{
        f"a header {name}": (partial(with_header, header=header), "damaged")
        for name, header in {
            "of braces": "{" * 117,
            "of brackets": "[" * 5000,
            "of two levels": "if 1:\n  2\n 3",
            "without an end": "'''",
            "of a set of lists": "{[]: 1}",
            "of nothing": "",
            "of a huge shape": "{'descr': '<f8', 'fortran_order': False, 'shape': (1" + "0" * 30 + ",)}",
        }.items()
    },
    "a pickle": (partial(stored, w0=np.array([{}], dtype=object)), "damaged (Object arrays cannot be loaded"),
    "another format": (partial(stored, format="refnet.network/9"), 'of the format "refnet.network/9"'),
    "no format": (partial(stored, format=None), "without the text format"),
    "a number for a name": (partial(stored, head=3), "without the text head"),
    "an unknown activation": (partial(stored, activation="gelu"), 'with the activation "gelu"'),
    "a softmax for an activation": (partial(stored, activation="softmax"), 'with the activation "softmax"'),
    "an unknown head": (partial(stored, head="hinge"), 'with the head "hinge"'),
    "a head that does not fit": (partial(stored, head="sigmoid"), "head is sigmoid over 3 outputs"),
    "a layer too few": (partial(stored, w0=None, b0=None), "without w0, b0"),
    "no layers": (partial(stored, w0=None, b0=None, w1=None, b1=None), "without w0, b0"),
    "a bias too few": (partial(stored, b1=None), "without b1"),
    "an array too many": (partial(stored, c=np.ones(1)), "with a stray c"),
    "layers that do not chain": (partial(stored, w1=np.ones((3, 3))), "params[1].w is of shape (3, 3)"),
    "integers": (partial(stored, w0=np.ones((2, 8), np.int64)), "of dtype int64"),
}


@pytest.mark.parametrize(("write", "text"), GARBAGE.values(), ids=GARBAGE)
def test_a_file_that_is_no_network_is_refused(
    write: Callable[[Path], None], text: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.npz"
    stored(path)
    load_network(path)
    write(path)
    with pytest.raises(ArgumentError) as caught:
        load_network(path)
    assert text in str(caught.value)
    assert str(path) in str(caught.value)


# --------------------------------------------------------------------------------------------------- errors

X, LABELS = DATA.training
PARAMS = initialise(NETWORK, np.random.default_rng(0))
RNG = np.random.default_rng(0)

REFUSED: dict[str, tuple[Callable[[], object], str, str]] = {
    **{
        f"batches of {size!r}": (
            partial(LOOSE.sgd_epoch, PARAMS, X, LABELS, learning_rate=RATE, batch_size=size),
            "batch_size",
            "an integer of at least 1",
        )
        for size in (0, -1, 2.0, True, None)
    },
    **{
        f"a learning rate of {rate!r}": (
            partial(LOOSE.sgd_epoch, PARAMS, X, LABELS, learning_rate=rate),
            "learning_rate",
            "a positive finite number",
        )
        for rate in (0, -1.0, math.nan, math.inf, "1")
    },
    "an epoch of nothing": (
        lambda: LOOSE.sgd_epoch(PARAMS, X[:0], LABELS[:0], learning_rate=RATE),
        "x",
        "at least one sample",
    ),
    "an epoch of other features": (
        lambda: LOOSE.sgd_epoch(PARAMS, X[:, :1], LABELS, learning_rate=RATE),
        "xs",
        "required: shape (n, k) with k = 2",
    ),
    "an epoch of other classes": (
        lambda: LOOSE.sgd_epoch(PARAMS, X, LABELS + 1, learning_rate=RATE),
        "labels",
        "integers in [0, 3)",
    ),
    "labels too few": (
        lambda: LOOSE.split(X, LABELS[1:], seed=0),
        "labels",
        f"shape (n,) with n = {len(X)}",
    ),
    "a share of 1": (lambda: LOOSE.split(X, LABELS, seed=0, test=1.0), "test", "between 0 and 1"),
    "a share of 0": (lambda: LOOSE.split(X, LABELS, seed=0, validation=0), "validation", "between 0 and 1"),
    "a share in words": (
        lambda: LOOSE.split(X, LABELS, seed=0, test="0.1"),
        "test",
        "a float between 0 and 1",
    ),
    "no seed": (
        lambda: LOOSE.split(X, LABELS, seed=None),
        "seed",
        "None; required: an integer of at least 0. Choose any, such as seed=0.",
    ),
    **{
        f"a seed {seed!r}": (
            partial(LOOSE.fit, NETWORK, DATA.training, DATA.validation, seed=seed),
            "seed",
            "an integer of at least 0. Choose any, such as seed=0.",
        )
        for seed in (-1, 1.0, True, "0", [1])
    },
    "a choice that is an array": (
        lambda: LOOSE.split(X, LABELS, seed=0, stratified=LABELS),
        "stratified",
        "required: True or False",
    ),
    "a deviation that is a word": (
        lambda: LOOSE.standardise(X, common="no"),
        "common",
        "'no'; required: True",
    ),
    "no network to fit": (
        lambda: LOOSE.fit("x", DATA.training, DATA.validation, seed=0),
        "network",
        "a str; required: a refnet.Network",
    ),
    "no samples to fit": (
        lambda: LOOSE.fit(NETWORK, (None, LABELS), DATA.validation, seed=0),
        "x of training",
        "a NoneType; required: a NumPy array of shape (n, k)",
    ),
    "no network to save": (
        lambda: LOOSE.save_network("never", "relu", PARAMS),
        "network",
        "a str; required: a refnet.Network",
    ),
    **{
        f"{verb} the path {path!r}": (partial(function, path, *rest), "path", "the name of a file")
        for verb, function, rest in (
            ("save to", LOOSE.save_network, (NETWORK, PARAMS)),
            ("load from", LOOSE.load_network, ()),
        )
        for path in (None, 10**6, b"net", "a\0b")
    },
    "shares of everything": (
        lambda: LOOSE.split(X, LABELS, seed=0, test=0.5, validation=0.5),
        "the training set",
        "at least one sample in each set",
    ),
    "too few samples": (lambda: LOOSE.split(X[:2], LABELS[:2], seed=0), "the validation set", "empty, of 2"),
    "a class of one sample": (
        lambda: LOOSE.split(X[:4], np.array([0, 0, 0, 1]), seed=0, test=0.25, validation=0.25),
        "the training set",
        "without class 1, which has 1 samples",
    ),
    "a gap in the data": (
        lambda: LOOSE.standardise(np.array([[1.0, 2.0], [3.0, math.nan]])),
        "x",
        "nan in row 1, column 1",
    ),
    "nothing to scale": (lambda: LOOSE.standardise(X[:0]), "x", "at least one sample"),
    "other features to scale": (
        lambda: LOOSE.standardise(X, X[:, :1]),
        "x",
        "with k = 2, the features of the scaling",
    ),
    "a scaling of other features": (
        lambda: LOOSE.Scaling.of(X[:, :1]).folded(PARAMS),
        "params[0].w",
        "with k = 1, the features of the scaling",
    ),
    "no epochs": (
        lambda: LOOSE.fit(NETWORK, DATA.training, DATA.validation, seed=0, epochs=0),
        "epochs",
        "at least 1",
    ),
    "samples without labels": (
        lambda: LOOSE.fit(NETWORK, X, DATA.validation, seed=0),
        "training",
        "a pair (x, labels)",
    ),
    "validation of other features": (
        lambda: LOOSE.fit(NETWORK, DATA.training, (X[:, :1], LABELS), seed=0),
        "x of validation",
        "with k = 2",
    ),
    "validation of other classes": (
        lambda: LOOSE.fit(NETWORK, DATA.training, (X, LABELS + 3), seed=0),
        "labels of validation",
        "integers in [0, 3)",
    ),
    "epochs without a Generator, at the call": (
        lambda: LOOSE.run_epochs(PARAMS, DATA.training, DATA.validation, 0, learning_rate=RATE),
        "rng",
        "a numpy.random.Generator",
    ),
    "parameters of another network": (
        lambda: LOOSE.save_network("never", Network((2, 8, 4)), PARAMS),
        "params",
        "of the sizes (2, 8, 3)",
    ),
    "an activation of one's own": (
        lambda: LOOSE.save_network(
            "never",
            Network((2, 8, 3), refnet.Op("relu", "(...)->(...)", ("x",), relu.forward, relu.backward)),
            PARAMS,
        ),
        "network.activation",
        "one of identity, relu, sigmoid, tanh",
    ),
    "a dtype that npz does not know": (
        lambda: LOOSE.save_network("never", NETWORK, initialise(NETWORK, RNG, dtype="bfloat16")),
        "params",
        "np.float32",
    ),
}


@pytest.mark.parametrize(("call", "argument", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_by_name(call: Callable[[], object], argument: str, text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert caught.value.argument == argument
    assert text in str(caught.value)
    assert caught.value.remedy
