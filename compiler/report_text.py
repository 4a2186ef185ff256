"""The report as text: tables for a terminal, equally readable in a file of 110 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from .accuracy_report import loss_table
from .advice import advise
from .report import Layer, Report

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 118
"""Columns where there is no terminal to ask."""

WORDS = {
    "useful_mac": "useful MACs",
    "reduction_padding": "empty lanes",
    "column_padding": "empty columns",
    "edge_rows": "idle blocks",
    "depthwise_diagonal": "diagonal zeros",
    "wide_numbers": "wide numbers",
    "weight_load": "weight load",
    "fill_drain": "fill and drain",
    "bank_stall": "bank stalls",
    "dma_wait": "DRAM wait",
    "token_wait": "token wait",
    "vector_wait": "vector wait",
    "idle": "idle",
}
SHOWN_NODES = 1
_LEGEND = (
    "layer: the first ONNX node and how many more; mapping: window or row folded into the reduction, diagonal; "
    "K, N, M: blocks that share reduction, columns, pixels; x bound: cycles over the largest lower bound of the layer "
    "alone, which is C(ompute), T(iling), V(ector unit) or D(RAM); util: MACs over all MAC slots of its cycles; lanes: "
    "the same of the blocks while they work on a tile; SRAM: touched; DRAM: moved"
)
SHOWN_LOSSES = 3
LEAST_SHOWN_LOSS = 0.02


def render_report(report: Report, *, width: int = WIDTH, color: bool = False) -> str:
    """The whole report as lines of at most `width` columns, with terminal colours if asked for."""
    from rich.console import Console  # slow to import, and only the whole report needs it
    from rich.text import Text

    file = StringIO()
    console = Console(
        file=file, width=width, force_terminal=color, no_color=not color, highlight=False, emoji=False, markup=False
    )
    console.print(_layers(report, width))
    console.print(_LEGEND, style="dim")
    console.print()
    console.print(_books(report))
    console.print(_summary(report))
    for warning in report.warnings:
        console.print(f"warning: {warning}")
    if report.shuffles:
        console.print()
        console.print(_shuffles(report))
    if report.losses is not None:
        console.print()
        console.print(loss_table(report.losses), soft_wrap=True)
    if advice := advise(report):
        console.print()
        console.print(Text("what would get it back", style="bold"))
        for item in advice:
            share = item.cycles / report.cycles
            others = len(item.layers) - 1
            more = f" and {others} more layer{'s' if others > 1 else ''}" if others else ""
            line = f"- {item.layers[0]}{more}: {item.sentence} [{item.cycles:,} cycles, {share:.1%}]"
            console.print(line, soft_wrap=False)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )


def _layers(report: Report, width: int) -> Table:
    table = _table(f"layers of {report.model} on {report.machine.name}")
    table.expand = True
    table.add_column("layer", overflow="fold", width=width // 5)
    table.add_column("kind and mapping", overflow="fold", width=width // 7)
    for name in ("cycles", "x bound", "util", "lanes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("where the rest went", overflow="fold", ratio=1)
    for name in ("SRAM", "DRAM"):
        table.add_column(name, justify="right", no_wrap=True)
    for layer in report.layers:
        available = layer.cycles * report.machine.slots_per_cycle
        table.add_row(
            _joined(layer.nodes or (layer.name,)),
            layer.kind if layer.mapping is None else f"{layer.kind}, {layer.mapping}",
            f"{layer.cycles:,}",
            _nearest(layer),
            f"{layer.macs / available:.1%}" if available else "",
            f"{layer.lanes:.1%}" if layer.lanes is not None else "",
            _losses(layer),
            _bytes(layer.sram_bytes),
            _bytes(layer.dram_read_bytes + layer.dram_write_bytes),
        )
    return table


def _nearest(layer: Layer) -> str:
    """How far the cycles are from the largest bound, and which one it is."""
    name, bound = max(layer.bounds.items(), key=lambda item: item[1], default=("", 0))
    return f"{layer.cycles / bound:.2f} {name[0].upper()}" if bound else ""


def _losses(layer: Layer) -> str:
    total = sum(layer.slots.values())
    shown = [
        f"{WORDS.get(cause, cause)} {count / total:.0%}"
        for cause, count in layer.losses[:SHOWN_LOSSES]
        if count >= LEAST_SHOWN_LOSS * total
    ]
    return ", ".join(shown)


def _books(report: Report) -> Table:
    table = _table(f"ledger: {report.cycles:,} cycles x {report.machine.blocks} blocks")
    table.add_column("cause")
    table.add_column("block-cycles", justify="right")
    table.add_column("share", justify="right")
    total = sum(report.slots.values())
    for cause, count in report.slots.items():
        if count:
            share = count / total if total else 0.0
            table.add_row(WORDS.get(cause, cause), f"{count / report.machine.block_slots:,.1f}", f"{share:.1%}")
    table.add_section()
    table.add_row("sum", f"{total / report.machine.block_slots:,.1f}", f"{1:.1%}")
    return table


def _summary(report: Report) -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    machine, sram = report.machine, report.sram
    clock = f"{machine.frequency_mhz:g} MHz"
    rate = f"{1 / report.seconds:,.1f} runs a second" if report.seconds else "no time"
    rows = [
        ("time", f"{report.cycles:,} cycles, {report.seconds * 1e3:,.4g} ms at {clock}, {rate}"),
        ("work", f"{report.macs:,} MACs, {report.utilization:.1%} of {machine.slots_per_cycle:,} MACs a cycle"),
        ("bounds", "; ".join(_distance(name, bound, report.cycles) for name, bound in report.bounds.items())),
        ("SRAM", _sram(report)),
        ("DRAM", f"{_bytes(report.dram_read_bytes)} read, {_bytes(report.dram_write_bytes)} written"),
        ("stalls", f"{sram.get('bank_stall_cycles', 0):,} cycles in SRAM banks"),
        ("program", _instructions(report)),
    ]
    for call in report.host:
        moved = f"{_bytes(call.bytes_out)} out, {_bytes(call.bytes_back)} back in {call.dma_cycles:,} cycles"
        rows.append(("host", f"{', '.join(call.operations)}: {moved} of the DRAM channel; its own time is not counted"))
    if report.accuracy is not None:
        rows.append(("accuracy", accuracy_line(report.accuracy, report.precision)))
    if report.agreement is not None:
        rows += [("runtime", line) for line in agreement_lines(report.agreement)]
    for name, text in rows:
        table.add_row(name, text)
    return table


def _distance(name: str, bound: int, cycles: int) -> str:
    word = name.removesuffix("_cycles").replace("dram", "DRAM")
    factor = f" ({cycles / bound:.2f}x)" if bound else ""
    return f"{word} {bound:,} cycles{factor}"


def _sram(report: Report) -> str:
    sram = report.sram
    peak, lower = sram.get("peak_bytes", 0), sram.get("lower_bound_bytes", 0)
    spilled = f", {_bytes(sram['spilled_bytes'])} spilled" if sram.get("spilled_bytes") else ", nothing spilled"
    return f"peak {_bytes(peak)} of {_bytes(report.machine.sram_bytes)}, lower bound {_bytes(lower)}{spilled}"


def _instructions(report: Report) -> str:
    parts = ", ".join(f"{count} {engine}" for engine, count in report.instructions.items() if count)
    return f"{sum(report.instructions.values()):,} instructions ({parts})"


def accuracy_line(facts: Mapping[str, Any] | None, precision: str = "int8") -> str:
    """The result of an evaluation (see `evaluation.evaluate`) in one line; empty if there was none."""
    if facts is None:
        return ""
    inexact = f" (inexact: {facts['inexact']})" if "inexact" in facts else ""
    numbers = "bf16" if precision == "bf16" else "integers"
    samples = f"top-1 {facts['program']:.2%} of {facts['samples']} samples in {numbers}{inexact}"
    if facts["float"] is None:
        return f"{samples}; no float model to compare with, which only the .onnx file holds"
    low, high = (f"{100 * facts[name]:+.2f}" for name in ("low", "high"))
    difference = 100 * (facts["program"] - facts["float"])
    noise = "equal outputs" if facts["sqnr_db"] is None else f"SQNR {facts['sqnr_db']:.1f} dB"
    return (
        f"{samples}, {facts['float']:.2%} in float: {difference:+.2f} points (95 % interval {low} to {high}), "
        f"{facts['flips']} flips, {noise}"
    )


def agreement_lines(facts: Mapping[str, Any]) -> list[str]:
    """What a comparison with onnxruntime found (see `agreement.agreement`), in sentences."""
    lines = [_runtime_line(facts, word) for word in ("disabled", "enabled")]
    alone, first = facts["alone"], facts["first_difference"]
    text = f"{alone['share']:.5%} of the elements of {facts['tensors']} tensors differ where operands are equal"
    lines.append(text + (f", most in {_tensor(alone['worst'])}" if alone["worst"] else ""))
    if first:
        lines.append(f"the first tensor that differs is {_tensor(first)}")
    return lines


def _runtime_line(facts: Mapping[str, Any], word: str) -> str:
    found = facts[word]
    total = sum(found["steps"].values())
    by_one = sum(found["steps"].get(step, 0) for step in ("-1", "1"))
    more = total - by_one - found["steps"].get("0", 0)
    parts = [f"{found['equal']:.2%} of the outputs equal"]
    parts += [f"{by_one / total:.2%} one step off"] if by_one else []
    parts += [f"{more / total:.2%} up to {found['largest']} steps off"] if more else []
    head = f"onnxruntime {facts['version']}, optimisations {word}, {facts['samples']} samples"
    return f"{head}: {', '.join(parts)}, {found['flips']} flips"


def _tensor(facts: Mapping[str, Any]) -> str:
    return f"{facts['tensor']} ({facts['share']:.4%} by up to {facts['largest']})"


def summary_line(report: Report) -> str:
    """The whole report in one line."""
    return (
        f"{report.model} on {report.machine.name}: {len(report.layers)} layers, {report.cycles:,} cycles, "
        f"{report.seconds * 1e3:,.4g} ms at {report.machine.frequency_mhz:g} MHz, {report.utilization:.1%} utilization"
    )


def _shuffles(report: Report) -> Table:
    table = _table("shuffles")
    table.add_column("shuffle", overflow="fold")
    table.add_column("cycles before", justify="right")
    table.add_column("after", justify="right")
    table.add_column("outcome", overflow="fold")
    table.add_column("absorbed into", overflow="fold")
    for shuffle in report.shuffles:
        before, after = f"{shuffle.cycles_before:,}", f"{shuffle.cycles_after:,}"
        table.add_row(shuffle.name, before, after, shuffle.outcome, _joined(shuffle.absorbed_into))
    return table


def _joined(names: Sequence[str]) -> str:
    more = f" +{len(names) - SHOWN_NODES}" if len(names) > SHOWN_NODES else ""
    return " + ".join(names[:SHOWN_NODES]) + more


def _bytes(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    if count < 1000 * 1024:
        return f"{count / 1024:.1f} KiB"
    return f"{count / 1024 / 1024:.2f} MiB"
