"""Packing instances as CSV files: columns `id`, `lower`, `upper`, `size`, and `offset` once they are packed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..dialects.core.diagnostics import CompileError, Diagnostic, Location, Position
from ..dialects.core.files import read_text, write_atomically
from ..passes.allocation.items import Item

COLUMNS = ("id", "lower", "upper", "size")
"""Of a buffer: its name, the half-open lifetime [lower, upper), and its bytes. The format of MiniMalloc's instances."""

LARGEST = 1 << 50
"""Of every number; sums of offsets then fit into 64 bits."""


@dataclass(frozen=True, slots=True)
class Instance:
    """The buffers of a file in its order, and their names."""

    names: tuple[str, ...]
    items: tuple[Item, ...]


def read_instance(path: Path) -> Instance:
    """The buffers of a CSV file; CompileError lists everything that is wrong, line by line."""
    lines = read_text(path).splitlines()
    rows = list(csv.reader(lines))
    header = [cell.strip() for cell in rows[0]] if rows else []
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        found = ", ".join(repr(cell) for cell in header) or "nothing"
        raise CompileError(
            f"{path}: the first line names the columns {found}, expected {', '.join(COLUMNS)}: {missing[0]} is missing"
        )
    places = [header.index(name) for name in COLUMNS]
    names: dict[str, int] = {}
    items: list[Item] = []
    problems: list[Diagnostic] = []

    def refuse(line: int, message: str) -> None:
        text = lines[line - 1] if line <= len(lines) else ""
        problems.append(Diagnostic(message, Location((), Position(str(path), line, 1, text))))

    for line, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != len(header):
            refuse(line, f"{len(row)} cells, expected {len(header)}")
            continue
        name, *cells = (row[place].strip() for place in places)
        if name in names:
            refuse(line, f"id '{name}' occurs on line {names[name]} already, expected a new one")
            continue
        names[name] = line
        numbers = [_number(cell) for cell in cells]
        for column, cell, number in zip(COLUMNS[1:], cells, numbers, strict=True):
            if number is None:
                refuse(line, f"{column} is '{cell}', expected an integer from 0 to {LARGEST}")
        if None in numbers:
            continue
        lower, upper, size = (number or 0 for number in numbers)
        if lower >= upper:
            refuse(line, f"the lifetime [{lower}, {upper}) is empty, expected lower < upper")
        elif not size:
            refuse(line, "size is 0, expected at least 1")
        else:
            items.append(Item(lower, upper, size))
    if problems:
        raise CompileError(problems)
    return Instance(tuple(names), tuple(items))


def write_packed(path: Path, instance: Instance, offsets: Sequence[int]) -> None:
    """The instance with a column `offset`, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, "offset"])
    for name, item, offset in zip(instance.names, instance.items, offsets, strict=True):
        writer.writerow([name, item.begin, item.end, item.size, offset])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def _number(cell: str) -> int | None:
    if not (cell.isascii() and cell.isdigit()) or len(cell) > 16:
        return None
    return int(cell) if int(cell) <= LARGEST else None
