"""TEMPORARY"""

from typing import Any

import numpy as np


def condition_spreads(op: Any, spec: Any, inputs: Any, settings: Any, fmt: Any, dy: Any = None) -> Any:
    from verify.arithmetic.certified import in_order

    y = op(*inputs, **settings) if dy is None else op.vjp(dy, *inputs, **settings)
    return tuple(fmt.unit_roundoff * np.abs(np.asarray(v, dtype=np.float64)) for v in in_order(y))
