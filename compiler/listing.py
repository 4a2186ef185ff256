"""What there is: the tables of `--list-targets`, `--list-passes` and `--list-ops`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING

from ..backends.target import load_target, preset_names
from ..dialects.registry import CONTEXT
from ..passes.framework.base import Option
from ..passes.pipelines import PIPELINES
from ..passes.registry import PASSES
from .importer import LEARNING_OPERATORS, OPERATORS, RUNTIME_OPERATORS


def target_list() -> str:
    """One line a preset: name, clock, array, SRAM, DRAM, description."""
    rows = [("target", "MHz", "blocks", "SRAM KiB", "DRAM bytes/cycle", "description")]
    for name in preset_names():
        target = load_target(name)
        array = f"{target.array.blocks} of {target.array.lanes}x{target.array.columns}"
        rate = f"{target.dma.bytes_per_cycle:g}"
        sram = str(target.sram_bytes // 1024)
        rows.append((name, f"{target.frequency_mhz:g}", array, sram, rate, target.description))
    return _columns(rows)


def pass_list() -> str:
    """Every pass with its help and options, then the named pipelines."""
    lines = ["passes"]
    width = max(len(pass_class.name) for pass_class in PASSES)
    for pass_class in sorted(PASSES, key=lambda p: p.name):
        lines.append(f"  {pass_class.name:{width}}  {pass_class.help()}")
        lines += [f"  {'':{width}}    {_option(option)}" for option in pass_class.options().values()]
    lines.append("pipelines")
    lines += [f"  {name:4} {text}" for name, text in PIPELINES.items()]
    return "\n".join(lines)


def operation_list() -> str:
    """The ONNX operators that can be imported, then the operations of every dialect."""
    rows = [("ONNX operator", "opsets", "becomes", "restrictions")]
    rows += [
        (o.title, o.opsets, o.becomes, o.restrictions) for o in (*OPERATORS, *RUNTIME_OPERATORS, *LEARNING_OPERATORS)
    ]
    lines = [_columns(rows), ""]
    operations = [("IR operation", "meaning")]
    for name, operation in sorted(CONTEXT.operations.items()):
        operations.append((name, (operation.__doc__ or "").strip().split("\n")[0]))
    return "\n".join([*lines, _columns(operations)])


def _option(option: Option) -> str:
    value = option.default
    if value is None or isinstance(value, bool):
        value = str(value).lower()  # as pipeline text writes it
    default = "" if value is MISSING else f" (default {value})"
    return f"{option.name}: {option.expected}{default}"


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )
