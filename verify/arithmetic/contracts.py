"""What a computation promises of its arithmetic, and the ladder of such promises for each format.

A tolerance follows from a contract and from nothing else: which format the results are rounded to, in which
one everything before is computed and accumulated, what a backward keeps of the forward and in which format,
and whether subnormal numbers may be taken for 0. The order of sums is promised by none: any order is granted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from verify.arithmetic.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FORMATS, Format

REFERENCE = "reference"
"""The name by which a contract calls the reference's own convention."""

TF32 = Format("tf32", FLOAT32.dtype, 11, FLOAT32.emin, FLOAT32.emax)
"""What NVIDIA's tensor cores read of a float32: 10 of its 23 bits after the point (A100 white paper)."""

OPERANDS: Mapping[str, Format] = MappingProxyType({"tf32": TF32, **FORMATS})
"""The formats in which the operands of a matrix product may be read."""


Promised = tuple[Format, Format, Format, Format, Format, bool]
"""Output, inside, saved, result, products, flush: what a bound depends on."""


@dataclass(frozen=True, slots=True)
class Contract:
    """All that a candidate promises, in one dtype.

    `output` is the format of the floating arguments and of the results; `inside` that of the computation and
    of its sums; `saved` that of what a backward keeps of its forward, and `result` that of the result among
    it; `products` that in which the operands of a matrix product are read. `flush` grants that subnormal
    numbers are read, and stored, as 0. With `specials` the known answers at infinities and NaN are due.
    `variant` is the convention that must be followed: any that is known if it is empty, the reference's if it
    is "reference".
    """

    output: Format
    inside: Format
    saved: Format
    result: Format
    products: Format
    flush: bool
    specials: bool = True
    variant: str = ""

    @classmethod
    def within(cls, output: Format, inside: Format, *, flush: bool) -> Contract:
        """Computed in one format throughout, and rounded to the output once."""
        return cls(output, inside, inside, inside, inside, flush)

    def keeping(self, saved: Format) -> Contract:
        """With all that a backward keeps in one format."""
        return replace(self, saved=saved, result=saved)

    @property
    def text(self) -> str:
        """The arithmetic in words: "float32 inside, one final rounding; subnormal numbers may be flushed"."""
        parts = [f"{self.inside.name} inside"]
        if self.inside.precision > self.output.precision:
            parts[0] += ", one final rounding"
        if self.saved.precision < self.inside.precision:
            parts.append(f"what the backward keeps in {self.saved.name}")
        elif self.result.precision < self.inside.precision:
            parts.append(f"the result that the backward keeps in {self.result.name}")
        if self.products.precision < self.inside.precision:
            parts.append(f"operands of products in {self.products.name}")
        parts.append("subnormal numbers may be flushed" if self.flush else "subnormal numbers kept")
        return "; ".join(parts)

    def arithmetic(self) -> Promised:
        """What a bound depends on."""
        return self.output, self.inside, self.saved, self.result, self.products, self.flush


DEFAULTS: Mapping[str, Contract] = MappingProxyType(
    {
        "float64": Contract.within(FLOAT64, FLOAT64, flush=True),
        "float32": Contract.within(FLOAT32, FLOAT32, flush=True),
        "float16": replace(Contract.within(FLOAT16, FLOAT32, flush=False), result=FLOAT16),
        "bfloat16": replace(Contract.within(BFLOAT16, FLOAT32, flush=True), result=BFLOAT16),
    }
)
"""What is asked of a candidate that promises nothing.

Subnormal numbers may be flushed, as compilers and accelerators do, except on the way to float16, which lives
on them: its smallest normal number is 6e-5. The half formats compute in float32 and round once; a backward
that works from the result, as of tanh, has it as it is stored.
"""


def _of_half(default: Contract) -> tuple[Contract, ...]:
    """A half format. Nothing is kept in it; the result is; all that is kept; everything is done in it."""
    fmt, flush = default.output, default.flush
    whole = replace(default, flush=False)
    flushing = (default,) if flush else ()
    return (
        whole.keeping(default.inside),
        whole,
        *flushing,
        default.keeping(fmt),
        Contract.within(fmt, fmt, flush=flush),
    )


LADDERS: Mapping[str, tuple[Contract, ...]] = MappingProxyType(
    {
        "float64": (Contract.within(FLOAT64, FLOAT64, flush=False), DEFAULTS["float64"]),
        "float32": (
            Contract.within(FLOAT32, FLOAT64, flush=False),
            Contract.within(FLOAT32, FLOAT32, flush=False),
            DEFAULTS["float32"],
            replace(DEFAULTS["float32"], products=TF32),
            replace(DEFAULTS["float32"], products=BFLOAT16),
        ),
        "float16": _of_half(DEFAULTS["float16"]),
        "bfloat16": _of_half(DEFAULTS["bfloat16"]),
    }
)
"""The contracts of each dtype from the strictest to the loosest."""

Grant = Format | Contract
"""A contract, or the format whose default it is."""


def contract_of(grant: Grant) -> Contract:
    """The contract that a format stands for."""
    return DEFAULTS[grant.name] if isinstance(grant, Format) else grant


def is_kept_by_reference(contract: Contract) -> bool:
    """Whether refnet promises as much: it computes in the format inside its default, and flushes nothing."""
    return contract.inside.precision <= DEFAULTS[contract.output.name].inside.precision


# ------------------------------------------------------------------------------------------------ in words


def promised(options: Sequence[str], fmt: Format) -> Contract:
    """The default contract of a format, with what `options`, each NAME=VALUE, say instead.

    `inside` moves `saved` and `products` along, unless they are given themselves.

    Raises:
        ValueError: no such name or value: with what was given, and what there is.
    """
    if isinstance(options, str):
        raise ValueError(f"{options}: promises are a list of strings, one for each NAME=VALUE.")
    given: dict[str, str] = {}
    for name, value in map(_pair, options):
        if name in given:
            raise ValueError(f"{name} is promised twice: {given[name]} and {value}.")
        given[name] = value
    contract = DEFAULTS[fmt.name]
    for name in sorted(given, key=list(OPTIONS).index):
        contract = OPTIONS[name](contract, given[name])
    return contract


def _pair(option: str) -> tuple[str, str]:
    name, equals, value = option.partition("=")
    if not equals or name not in OPTIONS:
        raise ValueError(f"{option}: a promise is NAME=VALUE, with NAME one of {', '.join(OPTIONS)}.")
    return name, value


def _inside(contract: Contract, value: str) -> Contract:
    inside = _one_of("inside", value, FORMATS)
    return replace(contract.keeping(inside), inside=inside, products=inside)


def _variant(contract: Contract, value: str) -> Contract:
    """Of a name. Which there are is known by the operators alone."""
    if not value:
        raise ValueError("variant=: it is the name of a convention. Unless one is promised, any passes.")
    return replace(contract, variant=value)


def _one_of(name: str, value: str, known: Mapping[str, Format]) -> Format:
    if value not in known:
        raise ValueError(f"{name}={value}: there is no such format. It is one of {', '.join(known)}.")
    return known[value]


def _choice(name: str, value: str, yes: str, no: str) -> bool:
    if value not in (yes, no):
        raise ValueError(f"{name}={value}: it is {yes} or {no}.")
    return value == yes


OPTIONS: Mapping[str, Callable[[Contract, str], Contract]] = MappingProxyType(
    {
        "inside": _inside,
        "saved": lambda contract, value: contract.keeping(_one_of("saved", value, FORMATS)),
        "products": lambda contract, value: replace(contract, products=_one_of("products", value, OPERANDS)),
        "subnormals": lambda contract, value: replace(
            contract, flush=_choice("subnormals", value, "flushed", "kept")
        ),
        "specials": lambda contract, value: replace(
            contract, specials=_choice("specials", value, "required", "any")
        ),
        "variant": _variant,
    }
)
"""The names of a contract on the command line, in the order in which they are read."""
