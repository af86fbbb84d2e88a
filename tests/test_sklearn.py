"""scikit-learn's neural-network internals, judged: no defect, and its conventions by name."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from verify.conformance import TargetError, check
from verify.conformance.adapters import sklearn as adapter
from verify.reports import Report, Verdict

HAS = {
    "identity", "relu", "sigmoid", "tanh", "softmax", "binary_cross_entropy", "categorical_cross_entropy",
    "mse", "sgd_step", "mlp", "mlp_gradients", "sgd_epoch",
}  # fmt: skip


@pytest.fixture(scope="module")
def report() -> Report:
    return check("sklearn")


def test_nothing_fails_and_nothing_is_left_undecided(report: Report) -> None:
    decided = {Verdict.PASS, Verdict.NOT_RUN}
    assert [(o.op, o.aspect, o.reason) for o in report.outcomes if o.verdict not in decided] == []


def test_all_that_it_has_is_judged(report: Report) -> None:
    aspects = ("value", "step", "epoch")
    judged = {o.op for o in report.outcomes if o.aspect in aspects and o.verdict is Verdict.PASS}
    assert judged == HAS


def test_its_conventions_are_named(report: Report) -> None:
    variants = {(o.op, o.variant.partition(":")[0]) for o in report.outcomes if o.variant}
    assert variants == {
        ("binary_cross_entropy", "clipped-to-epsilon"),
        ("categorical_cross_entropy", "clipped-to-epsilon"),
        ("mse", "half"),
    }


def test_what_it_lacks_is_said(report: Report) -> None:
    reasons = {(o.op, o.aspect): o.reason for o in report.outcomes if o.verdict is Verdict.NOT_RUN}
    assert reasons["linear", "value"] == "the candidate does not have it"
    assert reasons["softmax", "vjp"] == "the candidate has no softmax_vjp"
    assert "axis" in reasons["softmax", "contract:settings"]
    assert "reduction" in reasons["mse", "contract:settings"]
    assert reasons["softmax", "contract:rank"].startswith("softmax refuses arrays of rank ")


def test_the_version_and_the_notes_are_in_the_report(report: Report) -> None:
    from sklearn import __version__

    assert report.version == report.environment["scikit-learn"] == __version__
    assert report.notes == adapter.NOTES


def test_the_adapter_trains_as_the_public_classifier_does() -> None:
    """One epoch of `sgd_epoch` is one `partial_fit` of an MLPClassifier with the same first weights."""
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((12, 4)), np.arange(12) % 3
    model = MLPClassifier(
        hidden_layer_sizes=(5,), solver="sgd", alpha=0.0, batch_size=1, learning_rate_init=0.1, shuffle=False,
        momentum=0.0, nesterovs_momentum=False, random_state=0,
    )  # fmt: skip
    model.partial_fit(x, labels, classes=[0, 1, 2])
    before = [(w.copy(), b.copy()) for w, b in zip(model.coefs_, model.intercepts_, strict=True)]
    model.partial_fit(x, labels)
    after = adapter.sgd_epoch(before, x, labels, learning_rate=0.1)
    for (w, b), theirs_w, theirs_b in zip(after, model.coefs_, model.intercepts_, strict=True):
        assert np.array_equal(w, theirs_w)
        assert np.array_equal(b, theirs_b)


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("verify.conformance.adapters.sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(TargetError, match=r"needs scikit-learn: pip install 'refnet\[sklearn\]'"):
        check("sklearn")


@pytest.mark.parametrize(
    ("op", "function"),
    [
        ("tanh_vjp", lambda dy, x: dy * (1 - np.tanh(x))),
        ("mlp_gradients", lambda params, x, labels: adapter.mlp_gradients(params, x, labels)[::-1]),
        ("mse", lambda p, t: adapter.mse(p, t) / 2),
    ],
)
def test_a_mistake_in_it_would_be_seen(op: str, function: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, op, function)
    assert check("sklearn", ops=[op.removesuffix("_vjp")], level="smoke").exit_code() == 1
