"""Does it hold: the checks that judge any implementation against the reference.

    verify.check("my_kernels.py")                        every operator that a module has: a `Report`
    verify.assert_conforms(my_softmax, "softmax")        one function, as an assertion
    verify.sweep("torch", "gelu", "float32")             every number of a format: a `SweepReport`
    verify.gradcheck(f, vjp, inputs)                     any function with a hand-written gradient
    verify.assert_gradients(f, vjp, inputs)              the same, as an assertion

A name is imported when it is first used: the checks need sympy and flint, `import verify` does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verify.conformance import (
        SweepError,
        SweepReport,
        TargetError,
        UsageError,
        assert_conforms,
        check,
        sweep,
    )
    from verify.gradients import (
        Chart,
        GradcheckReport,
        Kinks,
        assert_gradients,
        check_hessian_symmetry,
        gradcheck,
        hessian_vector_product,
        symmetric,
        through,
        triangular,
    )
    from verify.reports import Diagnosis, Outcome, Report, Verdict, Worst
else:
    _HOMES = {
        "verify.conformance": (
            "SweepError",
            "SweepReport",
            "TargetError",
            "UsageError",
            "assert_conforms",
            "check",
            "sweep",
        ),
        "verify.gradients": (
            "Chart",
            "GradcheckReport",
            "Kinks",
            "assert_gradients",
            "check_hessian_symmetry",
            "gradcheck",
            "hessian_vector_product",
            "symmetric",
            "through",
            "triangular",
        ),
        "verify.reports": ("Diagnosis", "Outcome", "Report", "Verdict", "Worst"),
    }

    def __getattr__(name):
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(home), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "Chart",
    "Diagnosis",
    "GradcheckReport",
    "Kinks",
    "Outcome",
    "Report",
    "SweepError",
    "SweepReport",
    "TargetError",
    "UsageError",
    "Verdict",
    "Worst",
    "assert_conforms",
    "assert_gradients",
    "check",
    "check_hessian_symmetry",
    "gradcheck",
    "hessian_vector_product",
    "sweep",
    "symmetric",
    "through",
    "triangular",
]
