"""Numerical derivatives with error bars, and the check of a vjp against them."""

from verify.gradients.charts import Chart, symmetric, through, triangular
from verify.gradients.gradcheck import assert_gradients, gradcheck
from verify.gradients.kinks import Kinks
from verify.gradients.numerical import Estimate, numerical_vjp
from verify.gradients.report import GradcheckReport
from verify.gradients.second_order import HessianProduct, check_hessian_symmetry, hessian_vector_product

__all__ = [
    "Chart",
    "Estimate",
    "GradcheckReport",
    "HessianProduct",
    "Kinks",
    "assert_gradients",
    "check_hessian_symmetry",
    "gradcheck",
    "hessian_vector_product",
    "numerical_vjp",
    "symmetric",
    "through",
    "triangular",
]
