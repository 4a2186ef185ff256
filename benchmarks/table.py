"""Prints what was measured as one table: a column a network, a row a figure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from goals import show_goals
from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from goals import Results
    from row import Row

WIDTH = 120
COLUMNS = 5
"""Networks beside each other."""
SLOWEST = 3
BUSY_SHARE = 0.9
"""Below this share of its core, other programs were running too."""
SLOW_PASSES = "slow passes"
"""Stands in the table's plan for the rows that depend on what was slow."""

Figure = Callable[["Row"], str]


def show(
    surroundings: Mapping[str, str], results: Results, goals: Sequence[Mapping[str, Any]], rounds: int, share: float
) -> None:
    """Print the surroundings, whole processes, a table of the networks and the goals on standard output."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    for name, value in surroundings.items():
        console.print(f"{name}: {value}", markup=False, soft_wrap=True)
    taken = ", ".join(f"{name} {timing.seconds:.2f} s" for name, timing in results.processes.items())
    console.print(f"a fresh process: {taken}", soft_wrap=True)
    if results.depth:
        deeper = ", ".join(f"{layers} layers {timing.seconds:.2f} s" for layers, timing in results.depth.items())
        console.print(f"ResNets, ONNX to program: {deeper}", soft_wrap=True)
    console.print(
        f"Seconds are this process's own processor seconds, medians of {rounds} rounds measured in turns; it had "
        f"{share:.0%} of its core"
        + (", so the caches were shared with other programs." if share < BUSY_SHARE else "."),
        soft_wrap=True,
    )
    rows = list(results.rows.values())
    for start in range(0, len(rows), COLUMNS):
        console.print(_table(rows[start : start + COLUMNS]))
    show_goals(console, goals)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("")
    for row in rows:
        table.add_column(row.name, justify="right", no_wrap=True)
    for title, figures in _SECTIONS:
        table.add_row(f"[bold]{title}[/bold]")
        for name, figure in figures:
            for each, shown in _slow_passes(rows) if name == SLOW_PASSES else [(name, figure)]:
                table.add_row(f"  {each}", *(shown(row) for row in rows))
        table.add_section()
    return table


def _seconds(name: str) -> Figure:
    def figure(row: Row) -> str:
        seconds = row.seconds(name)
        return "-" if seconds is None else f"{seconds:.3f}"

    return figure


def _milliseconds(name: str) -> Figure:
    def figure(row: Row) -> str:
        seconds = row.seconds(name)
        return "-" if seconds is None else f"{seconds * 1e3:.3f}"

    return figure


def _ratio(name: str, reference: str) -> Figure:
    def figure(row: Row) -> str:
        ours, theirs = row.seconds(name), row.seconds(reference)
        return "-" if ours is None or theirs is None else f"{ours / theirs:.2f} x"

    return figure


def _slow_passes(rows: Sequence[Row]) -> list[tuple[str, Figure]]:
    """A figure for every pass that is among the slowest of a network, in the order of the pipeline."""
    slow: dict[str, None] = {}
    for row in rows:
        longest = sorted(_pass_seconds(row).items(), key=lambda item: -item[1])[:SLOWEST]
        slow.update(dict.fromkeys(name for name, _ in longest))
    names = [name for name in _pass_seconds(rows[0]) if name in slow]
    return [(f"  {name}", _pass_figure(name)) for name in names]


def _pass_figure(name: str) -> Figure:
    return lambda row: f"{_pass_seconds(row).get(name, 0.0):.3f}"


def _pass_seconds(row: Row) -> dict[str, float]:
    """Seconds by pass; passes that run several times are added up."""
    total: dict[str, float] = {}
    for name, seconds in row.passes:
        total[name] = total.get(name, 0.0) + seconds
    return total


def _machine_milliseconds(row: Row) -> str:
    return f"{row.report['seconds'] * 1e3:.3f}"


def _bound(name: str) -> Figure:
    return lambda row: f"{row.report['bounds'][name]:,}"


def _rival(kind: str) -> str:
    return f"onnxruntime {kind}"


_SECTIONS: tuple[tuple[str, tuple[tuple[str, Figure], ...]], ...] = (
    (
        "compile, s",
        (
            ("import", _seconds("import")),
            ("passes", _seconds("passes")),
            (SLOW_PASSES, lambda _: ""),
            ("emit", _seconds("emit")),
            ("ONNX to program", _seconds("compile")),
            ("same, ranges given", _seconds("compile, ranges given")),
            ("same, calibrated", _seconds("compile calibrated")),
            ("  samples", lambda row: str(row.calibrated) if "compile calibrated" in row.timings else "-"),
            ("load the program", _seconds("load")),
            ("quantize_static", _seconds("onnxruntime quantize_static")),
        ),
    ),
    (
        "one sample, ms",
        (
            ("accelc, first", _milliseconds("first run")),
            ("accelc", _milliseconds("accelc")),
            ("onnxruntime float32", _milliseconds(_rival("float32"))),
            ("onnxruntime int8", _milliseconds(_rival("int8"))),
            ("BLAS alone", _milliseconds("BLAS alone")),
            ("accelc / float32", _ratio("accelc", _rival("float32"))),
            ("accelc / int8", _ratio("accelc", _rival("int8"))),
            ("accelc / BLAS alone", _ratio("accelc", "BLAS alone")),
        ),
    ),
    (
        "batch, ms a sample",
        (
            ("samples", lambda row: str(row.batch) if row.batch else "-"),
            ("accelc", _milliseconds("accelc batch")),
            ("onnxruntime float32", _milliseconds(_rival("float32 batch"))),
            ("onnxruntime int8", _milliseconds(_rival("int8 batch"))),
            ("accelc / float32", _ratio("accelc batch", _rival("float32 batch"))),
            ("accelc / int8", _ratio("accelc batch", _rival("int8 batch"))),
        ),
    ),
    (
        "the machine itself",
        (
            ("MACs", lambda row: f"{row.report['macs']:,}"),
            ("cycles", lambda row: f"{row.report['cycles']:,}"),
            ("  bound, compute", _bound("compute_cycles")),
            ("  bound, DRAM", _bound("dram_cycles")),
            ("utilization", lambda row: f"{row.report['utilization']:.1%}"),
            ("ms an image", _machine_milliseconds),
            ("instructions", lambda row: f"{row.report['instructions']:,}"),
            ("bits = interpreter", lambda row: "yes" if row.equal else "NO"),
        ),
    ),
)
