"""SPDX licence expressions: a thin layer over the `license-expression` library."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from license_expression import ExpressionError, LicenseWithExceptionSymbol, Licensing, get_spdx_licensing


@dataclass(frozen=True)
class Licence:
    """One licence. `base` is its id without an exception ("GPL-2.0-only" of "… WITH Classpath-exception-2.0")."""

    id: str
    base: str


@dataclass(frozen=True)
class AllOf:
    parts: list["Expression"]


@dataclass(frozen=True)
class AnyOf:
    parts: list["Expression"]


Expression = Licence | AllOf | AnyOf


def parse(expression: str) -> Expression | None:
    """The expression as a tree, or None where it is not valid SPDX. `LicenseRef-…` names are valid and unknown."""
    try:
        parsed = _licensing().parse(expression)
        unknown = _licensing().unknown_license_keys(parsed)
    except ExpressionError:
        return None
    if parsed is None or not all(key.startswith("LicenseRef-") for key in unknown):
        return None
    return _tree(parsed)


def normalise(expression: str) -> str | None:
    """The expression in SPDX's spelling ("mit" -> "MIT", "GPL-3.0+" -> "GPL-3.0-or-later"), or None."""
    return None if parse(expression) is None else str(_licensing().parse(expression))


def operands(expression: str) -> set[str]:
    """The licences that an expression names, without their exceptions."""
    parsed = parse(expression)
    return set() if parsed is None else _bases(parsed)


def all_of(expressions: list[str]) -> str:
    """The expressions joined with AND, in brackets where they need it."""
    joined: Any = _licensing().parse(" AND ".join(f"({expression})" for expression in expressions))
    return str(joined if joined.isliteral else joined.flatten())


def text_of(licence: str) -> str:
    """What identifies a licence's text: "-only" and "-or-later" are the same text."""
    return licence.removesuffix("-only").removesuffix("-or-later").removesuffix("+")


@cache
def _licensing() -> Licensing:
    return get_spdx_licensing()


def _tree(node: Any) -> Expression:
    if isinstance(node, LicenseWithExceptionSymbol):
        return Licence(str(node), node.license_symbol.key)
    if node.isliteral:
        return Licence(str(node), str(node))
    parts = [_tree(part) for part in node.args]
    return AllOf(parts) if isinstance(node, _licensing().AND) else AnyOf(parts)


def _bases(expression: Expression) -> set[str]:
    match expression:
        case Licence(base=base):
            return {base}
        case AllOf(parts) | AnyOf(parts):
            return {base for part in parts for base in _bases(part)}
