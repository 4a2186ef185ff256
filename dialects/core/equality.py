"""When two modules are the same: equal text, and constants equal bit for bit."""

from __future__ import annotations

from .operation import Module
from .printer import print_module


def difference(first: Module, second: Module) -> str | None:
    """The first line or constant in which two modules differ, in words, or None if they are the same."""
    lines = zip(print_module(first).splitlines(), print_module(second).splitlines(), strict=False)
    for number, (left, right) in enumerate(lines, 1):
        if left != right:
            return f"line {number} differs:\n  {left}\n  {right}"
    for name, constant in first.constants.items():
        other = second.constants.get(name)
        if other is None:
            return f"constant @{name} is missing from the second module"
        if constant.array.dtype != other.array.dtype or constant.array.tobytes() != other.array.tobytes():
            return f"the data of constant @{name} differ"
    counts = [(len(module.constants), sum(1 for _ in module.walk())) for module in (first, second)]
    return None if counts[0] == counts[1] else f"(constants, operations) are {counts[0]} and {counts[1]}"


def same_module(first: Module, second: Module) -> bool:
    """True if `difference` finds none."""
    return difference(first, second) is None
