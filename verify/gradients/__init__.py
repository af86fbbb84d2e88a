"""Numerical derivatives with error bars, and the check of a vjp against them."""

from verify.gradients.gradcheck import assert_gradients, gradcheck
from verify.gradients.kinks import Kinks
from verify.gradients.numerical import Estimate, numerical_vjp
from verify.gradients.report import GradcheckReport

__all__ = ["Estimate", "GradcheckReport", "Kinks", "assert_gradients", "gradcheck", "numerical_vjp"]
