"""What would get lost cycles back: changes to the model, derived from the largest losses of its layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .report import Layer, Machine, Report

WORTH_NAMING = 0.01
"""Share of all cycles below which a loss is not worth a sentence."""

MOST = 8
"""Sentences, at most."""

FEW_CHANNELS = 2
"""Growing channels by more than this factor is no advice."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One suggestion: the layers it is about and the cycles that are lost to its cause, all blocks together."""

    layers: tuple[str, ...]
    cause: str
    cycles: int
    sentence: str


def advise(report: Report) -> list[Advice]:
    """Suggestions in order of what they would get back; equal ones of several layers are joined."""
    found: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for layer in report.layers:
        for cause, slots in layer.losses:
            cycles = slots // report.machine.slots_per_cycle
            if cycles < WORTH_NAMING * report.cycles or cycles == 0:
                break
            rule = _RULES.get(cause)
            sentence = rule(layer, report.machine) if rule else None
            if sentence:
                found.setdefault((cause, sentence), []).append((layer.nodes[0] if layer.nodes else layer.name, cycles))
    joined = [
        Advice(tuple(name for name, _ in parts), cause, sum(cycles for _, cycles in parts), sentence)
        for (cause, sentence), parts in found.items()
    ]
    return sorted(joined, key=lambda advice: -advice.cycles)[:MOST]


def fitting_channels(channels: int, taps: int, lanes: int) -> tuple[int, int]:
    """Counts to choose instead of `channels`, where a reduction is `taps` times as long as there are channels.

    The first is the largest below it that fills whole vectors of `lanes` (0 if none does), the second the largest that
    takes no more vectors than `channels` does.
    """
    step = lanes // math.gcd(lanes, taps)
    vectors = -(-taps * channels // lanes)
    return (channels - 1) // step * step, vectors * lanes // taps


def _reduction_padding(layer: Layer, machine: Machine) -> str | None:
    mapping, product = layer.mapping, layer.product
    if mapping is None or product is None or mapping.diagonal:
        return None
    height, width = product.kernel
    taps = {"none": 1, "row": width, "window": width * height}[mapping.fold]
    lower, upper = fitting_channels(product.in_channels, taps, machine.lanes)
    depth = taps * product.in_channels
    padded = -(-depth // machine.lanes) * machine.lanes
    group = " of a group" if product.groups > 1 else ""
    fill = f"{product.in_channels} input channels{group} fill {depth / padded:.0%} of the lanes they take"
    if depth == padded:
        return f"its reduction of {depth * width * height // taps} does not divide evenly over the blocks that share it"
    if upper > FEW_CHANNELS * product.in_channels:
        return f"{fill}; more channels a pixel (space-to-depth on an input image) or a larger window fill more of them"
    return f"{fill}; {_alternatives(product.in_channels, lower, upper)}"


def _column_padding(layer: Layer, machine: Machine) -> str | None:
    mapping, product = layer.mapping, layer.product
    if mapping is None or product is None:
        return None
    columns = machine.columns
    tiles = -(-product.out_channels // columns)
    turns = -(-tiles // mapping.split_n) * mapping.split_n
    if (turns - tiles) * columns > tiles * columns - product.out_channels:
        same = f"{turns * columns} output channels would take the same cycles"
        return f"{tiles} column tile{'s' * (tiles > 1)} leave {turns - tiles} of {turns} block turns empty; {same}"
    share = product.out_channels / (tiles * columns)
    fill = f"{product.out_channels} output channels fill {share:.0%} of {tiles * columns} columns"
    return f"{fill}; {_alternatives(product.out_channels, (tiles - 1) * columns, tiles * columns)}"


def _alternatives(channels: int, lower: int, upper: int) -> str:
    more = f"{upper} would take the same cycles" if upper > channels else ""
    fewer = f"{lower} would fill them" if lower else ""
    return ", ".join(part for part in (more, fewer) if part) or "another count would fill more of them"


def _edge_rows(layer: Layer, machine: Machine) -> str | None:
    mapping, product = layer.mapping, layer.product
    if mapping is None or product is None:
        return None
    if product.rows == 1:
        return (
            f"a single output row leaves blocks of {machine.blocks} without work; a larger batch would give them rows"
        )
    used = mapping.split_k * mapping.split_n * mapping.split_m
    if used < machine.blocks:
        return f"{used} of {machine.blocks} blocks find work in {product.rows} output pixels; larger images would help"
    return f"{product.rows} output pixels are no multiple of the {mapping.split_m} blocks that share them"


def _depthwise_diagonal(layer: Layer, machine: Machine) -> str | None:
    mapping, product = layer.mapping, layer.product
    if mapping is None or product is None:
        return None
    if mapping.diagonal:
        return (
            f"a depthwise convolution lies on the diagonal of the blocks and uses 1 of {machine.columns} weights; "
            f"groups of up to {min(machine.lanes, machine.columns)} channels would take about the same cycles"
        )
    return (
        f"groups of {product.in_channels} to {product.out_channels} channels leave zeros in blocks of "
        f"{machine.lanes}x{machine.columns}; larger groups, or no groups, fill them"
    )


def _weight_load(layer: Layer, machine: Machine) -> str | None:
    product = layer.product
    if product is None:
        return None
    pixels = "1 output pixel" if product.rows == 1 else f"{product.rows} output pixels"
    return (
        f"weights are used for {pixels} only, less than it takes to load the next ones; larger images or batches "
        "reuse them"
    )


def _dma_wait(layer: Layer, machine: Machine) -> str:
    traffic = layer.dram_read_bytes + layer.dram_write_bytes
    if not traffic:
        return "waits for data that other layers move; less DRAM traffic around it would let it start earlier"
    streaming = traffic / machine.dram_bytes_per_cycle
    if streaming * 2 * machine.slots_per_cycle < layer.slots.get("dma_wait", 0):
        bare = f"{streaming:,.0f} cycles at full bandwidth" if streaming >= 2 else "a cycle or two"
        return f"moves {traffic:,} bytes ({bare}) and waits for the latency of the DRAM, with nothing to hide it behind"
    if not layer.macs:
        return f"moves {traffic:,} bytes at the bandwidth of the DRAM; smaller inputs and outputs would take less"
    needed = machine.slots_per_cycle / machine.dram_bytes_per_cycle
    return (
        f"moves {traffic:,} bytes for {layer.macs:,} MACs ({layer.macs / traffic:.1f} a byte; full blocks need "
        f"{needed:.0f}); fewer weights, or a larger batch that reuses them, would relieve the DRAM"
    )


def _vector_wait(layer: Layer, machine: Machine) -> str:
    product = layer.product
    if product is None or layer.mapping is None:
        return f"the {layer.kind} runs on the vector unit while the blocks wait; leaving it out or fusing it frees them"
    depth = product.kernel[0] * product.kernel[1] * (1 if layer.mapping.diagonal else product.in_channels)
    if machine.slots_per_cycle < machine.vector_lanes * depth:
        return "waits for its last results to be requantized, or for those of the layer before; larger images hide that"
    return (
        f"each output takes only {depth} MACs, and the vector unit requantizes at most {machine.vector_lanes} outputs "
        "a cycle; more input channels a product, or fewer outputs, would balance the two"
    )


def _bank_stall(layer: Layer, machine: Machine) -> str:
    return "waits for SRAM banks that other lines or engines use in the same cycles; smaller tensors would meet less"


def _waiting(layer: Layer, machine: Machine) -> str:
    each = layer.cycles // max(layer.instructions, 1)
    return (
        f"{layer.instructions} instructions of {each:,} cycles on average are too short to hide the latencies between "
        "engines; fewer and larger layers would"
    )


_RULES: dict[str, Callable[[Layer, Machine], str | None]] = {
    "reduction_padding": _reduction_padding,
    "column_padding": _column_padding,
    "edge_rows": _edge_rows,
    "depthwise_diagonal": _depthwise_diagonal,
    "weight_load": _weight_load,
    "dma_wait": _dma_wait,
    "vector_wait": _vector_wait,
    "bank_stall": _bank_stall,
    "fill_drain": _waiting,
    "token_wait": _waiting,
}
