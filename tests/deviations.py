"""Where PyTorch, JAX and ONNX Runtime are not what the contract says, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

HALF = ("float16", "bfloat16")
WIDE = ("float64", "float32")
ALL = (*WIDE, *HALF)


Met = Literal["always", "at ci", "sometimes"]
"""Which cases of seed 0 meet it: those of levels smoke and ci, of ci alone, or some or none, as the processor
rounds."""


class Deviation(NamedTuple):
    """Where an operator of a library deviates: regular expressions for its aspects, and for what the report
    says of them."""

    name: str
    aspect: str
    says: str
    cause: str
    dtypes: tuple[str, ...] = ALL
    met: Met = "always"

    def concerns(self, aspect: str) -> bool:
        return re.fullmatch(self.aspect, aspect) is not None

    def explains(self, aspect: str, reason: str) -> bool:
        return self.concerns(aspect) and re.search(self.says, reason) is not None


def rounds() -> Deviation:
    """In a 16-bit format, an operator that is made of several operations of the library.

    The contract grants float32 inside and one rounding at the end. Where it shows depends on the processor:
    one that computes in the format rounds more often.
    """
    off = r"beyond what (any|random) rounding|off by [0-9]\S* where|in another memory layout"
    cause = "every operation rounds to the format, and not the last one alone"
    return Deviation("rounds-in-between", ".*", off, cause, HALF, met="sometimes")


def nan_for(says: str, cause: str) -> Deviation:
    """NaN at an infinity where the limit is a number."""
    aspects, says = "contract:special-values|sweep:value", f"{says}|not the limit at"
    return Deviation("nan-at-infinity", aspects, says, cause)


def hidden(aspect: str, *dtypes: str) -> Deviation:
    """A known convention, that of the wider formats."""
    cause = "rounding in between hides that this is a known convention"
    return Deviation("convention-and-rounded", aspect, "", cause, dtypes or HALF)


def beta_lost(aspect: str) -> Deviation:
    """Adam's bias correction with its constants in the format of the parameters."""
    cause = (
        "beta2, 0.999, is 1 in bfloat16: the mean square is divided by 1 - 1, and 0 / 0 at a gradient of 0"
    )
    return Deviation("beta-rounds-to-one", aspect, "", cause, ("bfloat16",))


def eps_lost(aspect: str) -> Deviation:
    """An optimizer at a gradient of 0 in float16, whose smallest number is 6e-8."""
    cause = "eps, 1e-8 or 1e-10, is 0 in float16, and 0 / 0 is the step at a gradient of 0"
    return Deviation("eps-rounds-to-zero", aspect, "", cause, ("float16",))


def softmax_of_float32(aspect: str) -> Deviation:
    """jax.nn.dot_product_attention, which says so in its source."""
    cause = "the softmax is computed in float32, whatever the format: off by 5e-8, and not finite beyond 3e38"
    return Deviation("softmax-of-float32", aspect, "", cause, ("float64",))


PRODUCT_WITH_0 = "x times a gate that is 0 at minus infinity"
GELU_TANH = Deviation(
    "nan-where-a-square-overflows",
    "vjp|sweep:vjp",
    "gelu-gradient-zero-times-infinity|of these are NaN",
    "by tanh the slope has the product of 1 - tanh(u)^2, which is 0, and the slope of u, in which x^2 "
    "overflows",
    ("float64", "float32", "bfloat16"),
)
RULED_OUT = Deviation(
    "nan-for-a-class-ruled-out",
    "contract:special-values",
    "softmax-ce-zero-times-infinity",
    "the loss is the sum of t log_softmax(z), and 0 times minus infinity is NaN",
)
KL_RULED_OUT = Deviation(
    "nan-for-a-class-ruled-out",
    "contract:special-values",
    "kl-zero-times-infinity",
    "the loss has the product of t and log_p, and 0 times minus infinity is NaN",
)


def foreign_memory(says: str, cause: str) -> Deviation:
    """A gradient that is right as long as its arguments are contiguous."""
    return Deviation("wrong-in-another-layout", "contract:layout", re.escape(says), cause, WIDE, met="at ci")


def no_kernel(*aspects: str) -> tuple[Deviation, ...]:
    """An operator that ONNX Runtime has in float32 alone."""
    cause = "there is no float64 kernel on the CPU"
    return tuple(
        Deviation("not-in-float64", aspect, "it raises", cause, ("float64",))
        for aspect in ("value", "contract:special-values", *aspects)
    )


def cancels_near_0(inputs: str) -> Deviation:
    """The exponential pieces of ONNX Runtime."""
    cause = f"exp(x) - 1 has no digit left near 0: {inputs}"
    return Deviation("exponential-minus-1", "value", "beyond what any rounding explains", cause, ("float32",))


def number_of_float32(name: str) -> Deviation:
    """A setting that is an attribute of a node."""
    cause = f"{name} is an attribute, and those of ONNX are numbers of float32"
    return Deviation(
        "attribute-of-float32", "value", "beyond what any rounding explains", cause, ("float64",)
    )


def not_taken(says: str) -> Deviation:
    """A setting that an operator of ONNX does not have."""
    return Deviation("settings", "contract:settings", says, "ONNX has no such attribute", WIDE)


def nan_lost(aspect: str, says: str, cause: str, *dtypes: str) -> Deviation:
    """A number for a NaN."""
    return Deviation("nan-lost", aspect, says, cause, dtypes or ("float32",))


def of_minus_infinity(says: str, *dtypes: str) -> Deviation:
    """As in the other libraries, in the dtypes that ONNX Runtime has."""
    return nan_for(says, PRODUCT_WITH_0)._replace(dtypes=dtypes or ("float32",))


def as_inaccurate(aspect: str, name: str, cause: str, *dtypes: str, met: Met = "always") -> Deviation:
    """An error that is small beside 1, and as large as the result where that is small."""
    return Deviation(name, aspect, "beyond what any rounding explains", cause, dtypes or ("float32",), met)


def momentum_of_the_old(aspect: str) -> Deviation:
    """ONNX's momentum is the weight of the statistics so far."""
    return Deviation(
        "momentum-of-the-old",
        aspect,
        "beyond what any rounding explains",
        "the new statistics weigh 1 - momentum, which rounds: 1 - 0.9 is 0.100000024; and their variance is "
        "that by n, a known convention otherwise",
        WIDE,
        met="at ci",
    )


LOST_IN_A_MAXIMUM = "a NaN is compared, and the number taken: it counts only where it comes first or last"
LOST_IN_64 = (
    "the maximum of a row of float64 passes over a NaN, and so does that of the sum of exponentials and "
    "1e-20: log_softmax([0, nan]) is [46.05, nan]"
)
CLAMPED_GATES = "the argument of a gate is clamped, and a NaN is then a number: the gate is open"
TAIL_OF_SIGMOID = "a rational approximation of tanh(x / 2), clamped: the sigmoid is 0 for x <= "
LOG1P = Deviation(
    "log1p-of-xla",
    "value",
    "beyond what any rounding explains",
    "jax.numpy.log1p is off by up to 128 ulp of float64 between -0.4142 and -0.35 on a CPU",
    ("float64",),
    met="at ci",
)
GROUPS_BY_ZEROS = Deviation(
    "groups-by-zeros",
    "law:nan-propagates",
    "has spread to the output",
    "on a CPU a convolution in groups is one of all channels, with zeros for those of others, and 0 times "
    "NaN is NaN",
    met="sometimes",
)
CLAMPED = (
    "the logarithms and slopes are clamped, and rounding in between hides that this is a known convention"
)
DEVIATIONS: Mapping[tuple[str, str], tuple[Deviation, ...]] = {
    ("torch", "hard_sigmoid"): (
        Deviation(
            "slope-of-float32",
            "vjp",
            "precision-of-float32",
            "hardsigmoid_backward has 1/6 as a number of float32: 0.1666666716 at x = 0, off by 3e-8",
            ("float64",),
        ),
    ),
    ("torch", "celu"): (
        Deviation(
            "slope-of-float32",
            "vjp",
            "precision-of-float32",
            "the backward of celu has 1 / alpha as a number of float32, off by 2e-8 at alpha = 1.7",
            ("float64",),
        ),
    ),
    ("torch", "hard_swish"): (nan_for("hard-swish-of-minus-infinity", PRODUCT_WITH_0),),
    ("torch", "softsign"): (
        nan_for("softsign-of-infinity", "infinity over infinity"),
        rounds(),
    ),
    ("torch", "log_sigmoid"): (rounds(),),
    ("torch", "silu"): (nan_for("silu-of-minus-infinity", PRODUCT_WITH_0),),
    ("torch", "mish"): (nan_for("mish-of-minus-infinity", PRODUCT_WITH_0),),
    ("torch", "gelu"): (nan_for("gelu-of-minus-infinity", PRODUCT_WITH_0), GELU_TANH),
    ("torch", "glu"): (rounds(),),
    ("torch", "layer_norm"): (rounds(),),
    ("torch", "batch_norm"): (rounds(),),
    ("torch", "batch_norm_training"): (
        Deviation(
            "statistics-are-buffers",
            "vjp",
            "has no batch_norm_training_vjp",
            "the running statistics are written in place, and no gradient goes through them",
        ),
        rounds(),
    ),
    ("torch", "batch_norm_inference"): (
        foreign_memory(
            "batch_norm_inference_vjp in another memory layout (strided)",
            "the backward for matrices reads gamma, mean and var of any stride as if they were contiguous: "
            "other numbers, and memory beyond their end",
        ),
        rounds(),
    ),
    ("torch", "group_norm"): (rounds(),),
    ("torch", "instance_norm"): (
        foreign_memory(
            "instance_norm_vjp in another memory layout",
            "the backward takes a dy of one example that lies channels last for one that lies channels first",
        ),
        rounds(),
    ),
    ("torch", "conv2d"): (
        Deviation(
            "the-next-pixel-times-0",
            "contract:special-values",
            "NaN and infinity stay under the kernel",
            "on some processors a lone channel of bfloat16 is multiplied in pairs: the pixel next to the "
            "kernel times 0, and so [1, 2, 3, inf] by [1, 1] is [3, nan, nan] for [3, 5, inf]",
            ("bfloat16",),
            met="sometimes",
        ),
        rounds(),
    ),
    ("torch", "conv1d"): (rounds(),),
    ("torch", "conv_transpose2d"): (rounds(),),
    ("torch", "max_pool2d"): (rounds(),),
    ("torch", "avg_pool2d"): (rounds(),),
    ("torch", "rnn_cell"): (rounds(),),
    ("torch", "lstm_cell"): (rounds(),),
    ("torch", "gru_cell"): (rounds(),),
    ("torch", "mae"): (rounds(),),
    ("torch", "huber"): (rounds(),),
    ("torch", "nll"): (rounds(),),
    ("torch", "kl_divergence"): (
        KL_RULED_OUT,
        rounds(),
    ),
    ("torch", "weighted_softmax_cross_entropy_with_integer_labels"): (
        Deviation(
            "nan-times-0",
            "law:ignored-examples-do-not-matter",
            "nan instead of 0.0",
            "the gradient of an ignored example is its softmax times 0: NaN where a logit is. In the wider "
            "formats a convention is recognised, of which no law is stated",
            HALF,
        ),
        rounds(),
        hidden("contract:special-values"),
    ),
    ("torch", "weighted_softmax_cross_entropy"): (
        Deviation(
            "nan-for-a-class-ruled-out",
            "contract:special-values",
            "a class ruled out costs nothing",
            "the loss is the sum of w t log_softmax(z), and 0 times minus infinity is NaN",
        ),
        rounds(),
    ),
    ("torch", "weighted_binary_cross_entropy_with_logits"): (rounds(),),
    ("torch", "momentum_step"): (
        rounds(),
        hidden("contract:special-values"),
        hidden("law:several-steps"),
        hidden("law:nan-propagates"),
    ),
    ("torch", "adam_step"): (
        rounds(),
        eps_lost("contract:special-values"),
        eps_lost("law:zero-gradient"),
    ),
    ("torch", "adamw_step"): (
        rounds(),
        eps_lost("contract:special-values"),
        eps_lost("law:zero-gradient"),
    ),
    ("torch", "rmsprop_step"): (
        rounds(),
        eps_lost("contract:special-values"),
        eps_lost("law:zero-gradient"),
    ),
    ("torch", "adagrad_step"): (
        rounds(),
        eps_lost("contract:special-values"),
        eps_lost("law:zero-gradient"),
    ),
    ("torch", "clip_by_global_norm"): (rounds(),),
    ("jax", "leaky_relu"): (rounds(),),
    ("jax", "hard_sigmoid"): (rounds(),),
    ("jax", "hard_swish"): (
        nan_for("hard-swish-of-minus-infinity", PRODUCT_WITH_0),
        rounds(),
    ),
    ("jax", "elu"): (rounds(),),
    ("jax", "celu"): (rounds(),),
    ("jax", "selu"): (rounds(),),
    ("jax", "softsign"): (
        nan_for("softsign-of-infinity", "infinity over infinity"),
        Deviation(
            "square-overflows",
            "vjp",
            "beyond what any rounding explains",
            "the slope is the quotient rule's, whose (1 + |x|)^2 overflows where |x| is beyond the root of "
            "the largest number: 1 / (1 + |x|) is left of it",
            ("float64", "float32", "bfloat16"),
        ),
        rounds(),
    ),
    ("jax", "log_sigmoid"): (rounds(),),
    ("jax", "softplus"): (rounds(),),
    ("jax", "silu"): (
        nan_for("silu-of-minus-infinity", PRODUCT_WITH_0),
        rounds(),
    ),
    ("jax", "mish"): (
        nan_for("mish-of-minus-infinity", PRODUCT_WITH_0),
        rounds(),
    ),
    ("jax", "gelu"): (
        nan_for("gelu-of-minus-infinity", PRODUCT_WITH_0),
        GELU_TANH,
        rounds(),
    ),
    ("jax", "glu"): (rounds(),),
    ("jax", "layer_norm"): (rounds(),),
    ("jax", "batch_norm"): (rounds(),),
    ("jax", "group_norm"): (rounds(),),
    ("jax", "instance_norm"): (rounds(),),
    ("jax", "batch_norm_inference"): (rounds(),),
    ("jax", "huber"): (rounds(),),
    ("jax", "mae"): (rounds(),),
    ("jax", "hinge"): (rounds(),),
    ("jax", "log_cosh"): (
        Deviation(
            "loss-rounds-to-0",
            "law:zero-when-perfect",
            "not above 0",
            "the logarithm of 2 is subtracted from a number that is rounded to 11 bits",
            ("float16",),
        ),
        rounds(),
    ),
    ("jax", "kl_divergence"): (KL_RULED_OUT, rounds()),
    ("jax", "clip_by_global_norm"): (rounds(),),
    ("jax", "adam_step"): (
        rounds(),
        eps_lost("contract:special-values"),
        eps_lost("law:zero-gradient"),
        beta_lost("contract:special-values"),
        beta_lost("law:zero-gradient"),
    ),
    ("jax", "rmsprop_step"): (
        rounds(),
        hidden("contract:special-values", "bfloat16"),
        eps_lost("contract:special-values"),
        eps_lost("law:zero-gradient"),
    ),
    ("jax", "scaled_dot_product_attention"): (
        softmax_of_float32("value"),
        softmax_of_float32("vjp"),
        softmax_of_float32("contract:special-values"),
        softmax_of_float32("law:order-of-keys"),
        softmax_of_float32("law:vjp-additive"),
        Deviation(
            "undecided",
            "vjp",
            "no finite bound",
            "scores of bfloat16 so large that no bound of the gradient is finite, and no spread either",
            ("bfloat16",),
        ),
    ),
    ("torch", "prelu"): (rounds(),),
    ("jax", "one_hot"): (rounds(),),
    ("jax", "conv2d"): (
        GROUPS_BY_ZEROS,
        rounds(),
    ),
    ("jax", "conv_transpose2d"): (rounds(),),
    ("jax", "conv1d"): (
        GROUPS_BY_ZEROS,
        rounds(),
    ),
    ("jax", "max_pool2d"): (rounds(),),
    ("jax", "avg_pool2d"): (rounds(),),
    ("jax", "momentum_step"): (
        rounds(),
        Deviation("settings", "contract:settings", "takes no", "its momentum has no dampening and no decay"),
    ),
    ("torch", "multi_head_attention"): (
        Deviation(
            "probabilities-above-1",
            "vjp",
            "beyond what (any|random) rounding",
            "the backward of the fused attention takes exp(score - logsumexp) for a probability: above 1 "
            "where the score rounds otherwise than in the forward, by 6e-6 at scores of 1e10 in float64, and "
            "infinite at 1e174. SDPBackend.MATH is right",
            (*WIDE, "bfloat16"),
            met="sometimes",
        ),
        rounds(),
    ),
    ("torch", "sigmoid"): (rounds(),),
    ("torch", "hinge"): (rounds(),),
    ("torch", "softmax"): (rounds(),),
    ("torch", "log_softmax"): (rounds(),),
    ("torch", "logsumexp"): (
        rounds(),
        Deviation(
            "derivative-from-a-rounded-output",
            "vjp",
            "beyond what any rounding explains",
            "the gradient is exp(x - y) dy with y rounded to 8 bits: of two entries that are both 6.5e35, "
            "each has the slope 1 for 1/2",
            ("bfloat16",),
        ),
    ),
    ("torch", "binary_cross_entropy"): (
        Deviation(
            "nan-refused",
            "contract:special-values",
            "all elements of input should be between 0 and 1",
            "a NaN among the probabilities is refused",
            ("float64", "float32"),
        ),
        rounds(),
        Deviation("clamped-and-rounded", "contract:special-values", "all elements of input", CLAMPED, HALF),
        Deviation("clamped-and-rounded", "vjp", "", CLAMPED, HALF),
        Deviation("nan-refused", "law:nan-propagates", "", "a NaN among the probabilities is refused"),
    ),
    ("torch", "binary_cross_entropy_with_logits"): (rounds(),),
    ("torch", "softmax_cross_entropy"): (
        RULED_OUT,
        rounds(),
    ),
    ("torch", "softmax_cross_entropy_with_integer_labels"): (rounds(),),
    ("torch", "mse"): (rounds(),),
    ("torch", "sgd_step"): (rounds(),),
    ("torch", "mlp"): (rounds(),),
    ("torch", "mlp_gradients"): (rounds(),),
    ("torch", "sgd_epoch"): (rounds(),),
    ("jax", "sigmoid"): (rounds(),),
    ("jax", "tanh"): (rounds(),),
    ("jax", "softmax"): (rounds(),),
    ("jax", "log_softmax"): (rounds(),),
    ("jax", "logsumexp"): (rounds(),),
    ("jax", "linear"): (rounds(),),
    ("jax", "binary_cross_entropy"): (
        LOG1P,
        rounds(),
    ),
    ("jax", "binary_cross_entropy_with_logits"): (rounds(),),
    ("jax", "categorical_cross_entropy"): (
        Deviation(
            "quotient-overflows",
            "law:vjp-additive",
            "nan instead of 0.0",
            "t / p overflows where p is 6e-8, and infinity times a cotangent of 0 is NaN",
            ("float16",),
        ),
        rounds(),
    ),
    ("jax", "softmax_cross_entropy"): (
        RULED_OUT,
        rounds(),
    ),
    ("jax", "softmax_cross_entropy_with_integer_labels"): (rounds(),),
    ("jax", "mse"): (rounds(),),
    ("jax", "sgd_step"): (rounds(),),
    ("jax", "mlp"): (rounds(),),
    ("jax", "mlp_gradients"): (rounds(),),
    ("jax", "sgd_epoch"): (rounds(),),
    ("onnxruntime", "leaky_relu"): no_kernel(),
    ("onnxruntime", "prelu"): no_kernel(),
    ("onnxruntime", "hard_sigmoid"): no_kernel(),
    ("onnxruntime", "hard_swish"): (of_minus_infinity("hard-swish-of-minus-infinity"), *no_kernel()),
    ("onnxruntime", "elu"): (cancels_near_0("0 at x = -2.4e-8, alpha = 1"), *no_kernel()),
    ("onnxruntime", "celu"): (cancels_near_0("0 at x = -6.0e-8, alpha = 2"), *no_kernel()),
    ("onnxruntime", "selu"): (cancels_near_0("0 at x = -2.9e-8, for -5.0e-8"), *no_kernel()),
    ("onnxruntime", "sigmoid"): (
        as_inaccurate(
            "value",
            "tail-cut-off",
            f"{TAIL_OF_SIGMOID}-18 in float32, 5.96e-8 for 2.29e-8 at -17.59, and 0 at -37 in float64",
            *WIDE,
        ),
    ),
    ("onnxruntime", "silu"): (
        as_inaccurate(
            "value",
            "tail-cut-off",
            f"x times Sigmoid; {TAIL_OF_SIGMOID}-18, and -2.03e-6 for -6.94e-7 at -17.015",
            *WIDE,
        ),
        of_minus_infinity("silu-of-minus-infinity", *WIDE),
    ),
    ("onnxruntime", "softsign"): (
        nan_for("softsign-of-infinity", "infinity over infinity")._replace(dtypes=("float32",)),
        *no_kernel(),
    ),
    ("onnxruntime", "softplus"): (not_taken("takes no beta"), *no_kernel()),
    ("onnxruntime", "mish"): (of_minus_infinity("mish-of-minus-infinity"), *no_kernel()),
    ("onnxruntime", "gelu"): (
        of_minus_infinity("gelu-of-minus-infinity"),
        *no_kernel(
            "law:difference-is-x", "law:sign-preserving", "law:batch-independent", "law:nan-propagates"
        ),
    ),
    ("onnxruntime", "log_softmax"): (nan_lost("law:nan-propagates", "NaN", LOST_IN_64, "float64"),),
    ("onnxruntime", "layer_norm"): (number_of_float32("eps"),),
    ("onnxruntime", "rms_norm"): (number_of_float32("eps"),),
    ("onnxruntime", "batch_norm_inference"): (number_of_float32("eps"),),
    ("onnxruntime", "batch_norm_training"): (
        momentum_of_the_old("value"),
        momentum_of_the_old("contract:special-values"),
    ),
    ("onnxruntime", "group_norm"): (
        as_inaccurate(
            "value",
            "variance-by-squares",
            "ONNX writes it as the mean of the squares less the square of the mean, which is below 0 at "
            "mean / deviation = 4095: NaN; in float64 eps is a number of float32 beside",
            *WIDE,
        ),
    ),
    ("onnxruntime", "instance_norm"): no_kernel(),
    ("onnxruntime", "conv2d"): no_kernel(),
    ("onnxruntime", "conv1d"): no_kernel(),
    ("onnxruntime", "conv_transpose2d"): no_kernel(),
    ("onnxruntime", "max_pool2d"): (
        nan_lost("law:nan-propagates", "NaN", LOST_IN_A_MAXIMUM, *WIDE),
        nan_lost("contract:special-values", "max-pool2d-loses-nan", LOST_IN_A_MAXIMUM, "float64"),
    ),
    ("onnxruntime", "avg_pool2d"): no_kernel(),
    ("onnxruntime", "global_max_pool2d"): (
        nan_lost("contract:special-values", "number-for-nan", LOST_IN_A_MAXIMUM),
        nan_lost("law:nan-propagates", "NaN", LOST_IN_A_MAXIMUM),
        *no_kernel(),
    ),
    ("onnxruntime", "global_avg_pool2d"): no_kernel(),
    ("onnxruntime", "embedding"): (not_taken("takes no padding_id"),),
    ("onnxruntime", "one_hot"): (
        Deviation("ids-of-rank-0", "contract:rank", "rank >= 1", "it wants an axis of ids", ("float32",)),
        *no_kernel(),
    ),
    ("onnxruntime", "scaled_dot_product_attention"): (
        Deviation(
            "scale-of-0-refused",
            "contract:special-values",
            "scale must be greater than 0",
            "a scale of 0, the mean of the values, is refused",
            ("float32",),
        ),
        number_of_float32("scale"),
    ),
    ("onnxruntime", "rotary_embedding"): no_kernel(),
    ("onnxruntime", "rnn_cell"): (
        as_inaccurate(
            "value",
            "tanh-of-the-size-of-1",
            "its tanh is right to 6e-8 and not to a digit: 0 at 1e-8, and 1.0729e-6 at 1e-6",
        ),
        *no_kernel(),
    ),
    ("onnxruntime", "lstm_cell"): (
        as_inaccurate("value", "tail-cut-off", f"{TAIL_OF_SIGMOID}-18, so that a gate at -20 shuts out all"),
        nan_lost("contract:special-values", "number-for-nan", CLAMPED_GATES),
        nan_lost("law:nan-propagates", "NaN", CLAMPED_GATES),
        *no_kernel(),
    ),
    ("onnxruntime", "gru_cell"): (
        as_inaccurate(
            "value",
            "tail-cut-off",
            "the sigmoid is right to 6e-8 and not to a digit: a state of -2.9e13 is let through by a gate "
            "that is 7e-14 instead of shut",
            met="at ci",
        ),
        nan_lost("contract:special-values", "beyond what any rounding explains", CLAMPED_GATES),
        nan_lost("law:nan-propagates", "NaN", CLAMPED_GATES),
        *no_kernel(),
    ),
    ("onnxruntime", "softmax_cross_entropy_with_integer_labels"): (
        nan_lost("law:nan-propagates", "NaN", LOST_IN_64, "float64"),
    ),
    ("onnxruntime", "weighted_softmax_cross_entropy_with_integer_labels"): (
        not_taken("takes no label_smoothing"),
        nan_lost("law:nan-propagates", "NaN", LOST_IN_64, "float64"),
    ),
}
"""By library and operator, at level ci and seed 0. A row that is no longer needed fails the test, but for
those that are met sometimes."""

WITHOUT_GRADIENTS = ("onnxruntime",)
"""Libraries of values alone."""

NO_TRAINING = "the package for inference has no operators of training"
NO_NODE = "ONNX has no such operator"
NO_LAYERS, NO_LOSSES = "JAX has no layers", "JAX has no losses, and Optax none with weights"
LACKING: Mapping[tuple[str, str], str] = {
    ("torch", "dropout"): "it draws its mask itself",
    ("torch", "rotary_embedding"): "it has none",
    ("torch", "log_cosh"): "it has none",
    ("torch", "categorical_cross_entropy"): "it has no loss of probabilities against a distribution",
    ("jax", "prelu"): NO_LAYERS,
    ("jax", "dropout"): NO_LAYERS,
    ("jax", "rms_norm"): NO_LAYERS,
    ("jax", "batch_norm_training"): NO_LAYERS,
    ("jax", "multi_head_attention"): NO_LAYERS,
    ("jax", "rotary_embedding"): NO_LAYERS,
    ("jax", "rnn_cell"): "jax.experimental.rnn has an LSTM of whole sequences",
    ("jax", "lstm_cell"): "jax.experimental.rnn has an LSTM of whole sequences",
    ("jax", "gru_cell"): "jax.experimental.rnn has an LSTM of whole sequences",
    ("jax", "weighted_softmax_cross_entropy_with_integer_labels"): NO_LOSSES,
    ("jax", "weighted_softmax_cross_entropy"): NO_LOSSES,
    ("jax", "weighted_binary_cross_entropy_with_logits"): NO_LOSSES,
    ("jax", "adamw_step"): "it has none",
    ("jax", "adagrad_step"): "its adagrad has a momentum in the place of eps",
    ("onnxruntime", "dropout"): "it draws its mask itself",
    ("onnxruntime", "glu"): NO_NODE,
    ("onnxruntime", "log_sigmoid"): NO_NODE,
    ("onnxruntime", "batch_norm"): NO_NODE,
    ("onnxruntime", "multi_head_attention"): NO_NODE,
    ("onnxruntime", "binary_cross_entropy"): NO_NODE,
    ("onnxruntime", "binary_cross_entropy_with_logits"): NO_NODE,
    ("onnxruntime", "categorical_cross_entropy"): NO_NODE,
    ("onnxruntime", "softmax_cross_entropy"): NO_NODE,
    ("onnxruntime", "mse"): NO_NODE,
    ("onnxruntime", "mae"): NO_NODE,
    ("onnxruntime", "huber"): NO_NODE,
    ("onnxruntime", "log_cosh"): NO_NODE,
    ("onnxruntime", "hinge"): NO_NODE,
    ("onnxruntime", "kl_divergence"): NO_NODE,
    ("onnxruntime", "weighted_softmax_cross_entropy"): NO_NODE,
    ("onnxruntime", "weighted_binary_cross_entropy_with_logits"): NO_NODE,
    ("onnxruntime", "clip_by_global_norm"): NO_NODE,
    ("onnxruntime", "sgd_step"): NO_TRAINING,
    ("onnxruntime", "momentum_step"): NO_TRAINING,
    ("onnxruntime", "adam_step"): NO_TRAINING,
    ("onnxruntime", "adamw_step"): NO_TRAINING,
    ("onnxruntime", "rmsprop_step"): NO_TRAINING,
    ("onnxruntime", "adagrad_step"): NO_TRAINING,
    ("onnxruntime", "mlp_gradients"): NO_TRAINING,
    ("onnxruntime", "sgd_epoch"): NO_TRAINING,
}
"""What a library does not have, and why."""


def of(library: str, op: str, dtype: str, level: str) -> tuple[Deviation, ...]:
    """The deviations of an operator in one dtype, at level smoke or ci."""
    rows = DEVIATIONS.get((library, op), ())
    return tuple(row for row in rows if dtype in row.dtypes and not (row.met == "at ci" and level == "smoke"))
