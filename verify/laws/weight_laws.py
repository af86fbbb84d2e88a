"""Laws of losses with weights and ignored labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from verify.arithmetic.formats import Format
from verify.laws.examples import Example, Values
from verify.laws.law import Comparison, Law, NotApplicable, Subject, require, require_each


def _all_counting(example: Example) -> tuple[Values, ...]:
    """The inputs, with class 0 in the place of labels that are none."""
    z, labels, weights = example.inputs
    return z, np.where((labels >= 0) & (labels < z.shape[-1]), labels, 0), weights


def _plain_without_weights(subject: Subject, example: Example, fmt: Format) -> None:
    """With weights of 1, nothing smoothed and nothing ignored it is the loss without any of these."""
    z, labels, weights = _all_counting(example)
    plain = example.with_inputs(z, labels, np.ones_like(weights))
    plain = plain.with_settings(label_smoothing=0.0, ignored_label=-100)
    other = Subject.of_reference("softmax_cross_entropy_with_integer_labels")
    bare = Example((z, labels), {"reduction": example.settings["reduction"]}, example.dy, example.regime)
    granted = subject.output_bound(plain, fmt) + other.output_bound(bare, fmt)
    require(subject.outputs(plain), other.outputs(bare), granted, "the loss without weights")


def _ignored_do_not_matter(subject: Subject, example: Example, fmt: Format) -> None:
    """Leaving the examples with the ignored label out changes neither the sum nor the mean; nor do they have
    a gradient, be their logits NaN."""
    z, labels, weights = _all_counting(example)
    if labels.size < 2 or z.shape[-1] < 2:
        raise NotApplicable("one example, or one class: nothing is left beside what is ignored")
    labels.flat[0], labels.flat[1] = 0, 1
    kept = labels != 1
    lost = np.where(kept[..., None], z, z.dtype.type(np.nan))
    parts = []
    for reduction in ("sum", "mean"):
        plain = replace(example, dy=np.ones((), z.dtype))
        plain = plain.with_settings(ignored_label=1, reduction=reduction)
        whole, fewer = (
            plain.with_inputs(lost, labels, weights),
            plain.with_inputs(z[kept], labels[kept], weights),
        )
        granted = 2.0 * subject.output_bound(fewer, fmt)
        what = f"the {reduction} with the ignored examples"
        parts.append(Comparison(subject.outputs(whole), subject.outputs(fewer), granted, what))
        if subject.vjp is not None:
            (dz,) = subject.gradients(whole)
            what = f"the gradient of the {reduction} for the ignored examples"
            parts.append(Comparison(dz[~kept], np.zeros_like(dz[~kept]), 0.0, what))
    require_each(parts)


WEIGHT_LAWS = (
    Law("plain-without-weights", "weights of 1 change nothing", _plain_without_weights),
    Law("ignored-examples-do-not-matter", "an ignored example is none", _ignored_do_not_matter),
)
