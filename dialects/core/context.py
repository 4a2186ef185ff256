"""What the parser may meet: the operation classes and dialect types that a caller has chosen."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from .operation import Operation
from .types import DialectType


@dataclass(frozen=True)
class Dialect:
    """A named, explicit list of operations and types."""

    name: str
    operations: tuple[type[Operation], ...]
    types: tuple[type[DialectType], ...] = ()


class Context:
    """The operations by name and the dialect types of a set of dialects."""

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self.dialects = tuple(dialects)
        self.operations = {op.name: op for dialect in self.dialects for op in dialect.operations}
        self.types = tuple(type for dialect in self.dialects for type in dialect.types)

    def similar_operation(self, name: str) -> str | None:
        """The known operation whose name is nearest to a misspelt one."""
        matches = difflib.get_close_matches(name, self.operations, n=1)
        return matches[0] if matches else None
