"""Why a layer runs as it does: the mappings that were considered, and who keeps whom from the banks of the SRAM."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..backends.target import Target
from ..backends.timing.duration import instruction_timing, operand_addresses, pretend_addresses
from ..backends.timing.engine import Timeline, run_timeline
from ..backends.timing.program import queue_instructions
from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Value
from ..dialects.tile.array import MatmulOp
from ..dialects.tile.instruction import InstructionOp
from ..passes.framework.environment import Remark
from .driver import Compiled, layer_nodes

SHOWN_CONFLICTS = 5
"""Conflicts that are listed, the worst first."""

NEAR_MATCHES = 3
"""Names that are suggested for one that is unknown."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mapping in words, with its estimated cycles for the whole layer, or the reason why it is not possible."""

    mapping: str
    cycles: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Cycles that an engine loses to the ports of banks: the buffers that meet there, and what would remove it."""

    cycles: int
    engine: str
    buffers: tuple[str, ...]
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The candidates of a layer, cheapest first and impossible ones last, and its worst conflicts.

    `chosen` is the mapping that was taken and `why` the reason in a sentence; there may be no choice (no candidates).
    """

    layer: str
    nodes: tuple[str, ...]
    kind: str
    candidates: tuple[Candidate, ...]
    chosen: str
    why: str
    conflicts: tuple[Conflict, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def explain(compiled: Compiled, name: str) -> tuple[Explanation, ...]:
    """The layers of an allocated module that bear a name or stand for an ONNX node of that name.

    Raises CompileError with near matches if there is none.
    """
    module = compiled.module
    names, kinds = module.attributes["layers"], module.attributes["layer_kinds"]
    assert isinstance(names, tuple) and isinstance(kinds, tuple)
    nodes = layer_nodes(module)
    wanted = [index for index, layer in enumerate(names) if name == layer or name in nodes[index]]
    if not wanted:
        known = dict.fromkeys([*map(str, names), *(node for group in nodes for node in group)])
        raise CompileError(f"layer '{name}' is unknown, {_near(name, list(known))}")
    ops = [op for op in module.main.body if isinstance(op, InstructionOp)]
    timeline = run_timeline(queue_instructions(ops, compiled.settings.target))
    found: list[Explanation] = []
    for index in wanted:
        candidates, chosen = _candidates(compiled.remarks, nodes[index], str(kinds[index]))
        conflicts = bank_conflicts(index, ops, timeline, compiled.settings.target)
        why = _why(candidates, chosen, str(kinds[index]))
        found.append(
            Explanation(str(names[index]), nodes[index], str(kinds[index]), candidates, chosen, why, conflicts)
        )
    return tuple(found)


def render_explanation(explanation: Explanation) -> str:
    """The explanation as text."""
    lines = [f"layer {explanation.layer} ({explanation.kind})", f"  {explanation.why}"]
    if explanation.candidates:
        width = max(len(candidate.mapping) for candidate in explanation.candidates)
        best = next((c.cycles for c in explanation.candidates if c.cycles is not None), None)
        lines.append(f"  {len(explanation.candidates)} candidates, estimated cycles of the whole layer:")
        for candidate in explanation.candidates:
            mark = "*" if candidate.mapping == explanation.chosen else " "
            if candidate.cycles is None:
                lines.append(f"  {mark} {candidate.mapping:<{width}}  not possible: {candidate.reason}")
            else:
                ratio = f"{candidate.cycles / best:.2f}x" if best else ""
                lines.append(f"  {mark} {candidate.mapping:<{width}}  {candidate.cycles:>14,.0f}  {ratio}")
    if not explanation.conflicts:
        lines.append("  no bank conflicts")
    else:
        lines.append("  worst bank conflicts:")
    for conflict in explanation.conflicts:
        lines.append(f"    {conflict.cycles:,} cycles of {conflict.engine}: {conflict.what}")
        lines.append(f"      would go with {conflict.remedy}")
    return "\n".join(lines) + "\n"


def _near(name: str, known: Sequence[str]) -> str:
    lowered = {each.lower(): each for each in known}
    near = [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, NEAR_MATCHES, 0.5)]
    near += [each for each in known if name.lower() in each.lower() and each not in near]
    if near:
        return f"expected for instance {', '.join(repr(each) for each in near[:NEAR_MATCHES])}"
    return f"expected one of {len(known)} names that --report shows, for instance '{known[0]}'"


def _candidates(remarks: Iterable[Remark], nodes: tuple[str, ...], kind: str) -> tuple[tuple[Candidate, ...], str]:
    """What `lower-to-tile` has remarked about the product of a layer."""
    if kind == "input":
        return (), ""
    for remark in remarks:
        if remark.kind == "mapping" and set(remark.location.nodes) & set(nodes):
            candidates = [Candidate(*entry) for entry in remark.data["candidates"]]
            candidates.sort(key=lambda candidate: (candidate.cycles is None, candidate.cycles or 0.0))
            return tuple(candidates), str(remark.data["chosen"])
    return (), ""


def _why(candidates: Sequence[Candidate], chosen: str, kind: str) -> str:
    if not candidates:
        return f"there is no choice: '{kind}' runs in one way only"
    possible = [candidate for candidate in candidates if candidate.cycles is not None]
    others = [candidate for candidate in possible if candidate.mapping != chosen]
    winner = next(candidate.cycles for candidate in possible if candidate.mapping == chosen)
    if not others:
        return f"'{chosen}' is the only mapping considered that is possible"
    next_best = others[0]
    assert winner is not None and next_best.cycles is not None
    if next_best.cycles == winner:
        return (
            f"'{chosen}' is one of those with the least estimate, {winner:,.0f} cycles: "
            "that which keeps the array busy for the fewest, else the first"
        )
    percent = 100 * (next_best.cycles / winner - 1)
    return (
        f"'{chosen}' has the least estimate, {winner:,.0f} cycles; next is '{next_best.mapping}', {percent:.1f} % more"
    )


def bank_conflicts(
    layer: int, ops: Sequence[InstructionOp], timeline: Timeline, target: Target
) -> tuple[Conflict, ...]:
    """The worst conflicts of a layer of an allocated program, of which `timeline` is the timeline."""
    found: dict[tuple[str, tuple[str, ...], str, str], int] = {}

    def add(cycles: int, engine: str, buffers: Sequence[str], what: str, remedy: str) -> None:
        key = (engine, tuple(buffers), what, remedy)
        found[key] = found.get(key, 0) + cycles

    for index, op in enumerate(ops):
        if op.layer != layer:
            continue
        _inside(op, timeline.program[index].timing.bank_stall_cycles, target, add)
        slot = timeline.slots[index]
        if slot.stalled:
            _beside(op, ops[slot.rival], slot.stalled, target, add)
    worst = sorted(found.items(), key=lambda item: -item[1])[:SHOWN_CONFLICTS]
    return tuple(
        Conflict(cycles, engine, buffers, what, remedy) for (engine, buffers, what, remedy), cycles in worst if cycles
    )


def _inside(op: InstructionOp, stalls: int, target: Target, add: Any) -> None:
    """Stalls of one instruction: those that go when its buffers lie in groups of their own, and the rest."""
    if not stalls:
        return
    apart = min(stalls, _stalls(op, target))
    names = list(dict.fromkeys(str(value.name) for value, _, _ in _spans(op, target)))
    if stalls > apart:
        what = f"{' and '.join(names)} share banks in one instruction"
        add(stalls - apart, op.engine, names, what, "these buffers in different bank groups, at the start of lines")
    if apart:
        # The weights of a matmul lie line by line: what stalls is its input.
        names = names[:1] if isinstance(op, MatmulOp) else names
        what = f"{op.name.removeprefix('tile.')} meets few banks at a time in {' and '.join(names)}"
        add(apart, op.engine, names, what, _remedies(op, target, apart))


def _stalls(op: InstructionOp, target: Target) -> int:
    """The stalls of an instruction whose buffers lie in bank groups of their own."""
    return instruction_timing(op, target, pretend_addresses(op, target)).bank_stall_cycles


def _remedies(op: InstructionOp, target: Target, stalls: int) -> str:
    """The changes to the target that are measured to help, with the stalls that they leave, or what else may."""
    sram, crossbar = target.sram, target.crossbar
    variants = {
        "sram.swizzle = true": replace(target, sram=replace(sram, swizzle=True)),
        f"sram.read_ports = {2 * sram.read_ports}": replace(target, sram=replace(sram, read_ports=2 * sram.read_ports)),
        f"sram.write_ports = {2 * sram.write_ports}": replace(
            target, sram=replace(sram, write_ports=2 * sram.write_ports)
        ),
        f"crossbar.lines_per_vector = {2 * crossbar.lines_per_vector}": replace(
            target, crossbar=replace(crossbar, lines_per_vector=2 * crossbar.lines_per_vector)
        ),
    }
    left = {name: _stalls(op, variant) for name, variant in variants.items()}
    found = [f"{name} (leaves {count:,})" for name, count in left.items() if count < stalls]
    return " or ".join(found) or "other channel counts or strides; no single change to ports or crossbar helps"


def _beside(op: InstructionOp, holder: InstructionOp, cycles: int, target: Target, add: Any) -> None:
    """Going on more slowly because another engine uses the ports of a bank group that both read, or both write."""
    for value, writes, groups in _spans(op, target):
        for other, other_writes, other_groups in _spans(holder, target):
            shared = groups & other_groups
            if writes == other_writes and shared:
                verb = "write" if writes else "read"
                mine, theirs = str(value.name), str(other.name)
                what = f"{verb}s {mine} while {holder.engine} {verb}s {theirs} in bank group {min(shared)}"
                remedy = f"{mine} and {theirs} in different bank groups, or another {verb} port (sram.{verb}_ports)"
                add(cycles, op.engine, (mine, theirs), what, remedy)
                return


def _spans(op: InstructionOp, target: Target) -> list[tuple[Value[Any], bool, frozenset[int]]]:
    """The SRAM buffers that an instruction touches: whether it writes them, and in which bank groups."""
    addresses = operand_addresses(op)
    names = [declared.name for declared in op.operand_fields]
    found: list[tuple[Value[Any], bool, frozenset[int]]] = []
    for region in op.regions():
        value = op.operands[names.index(region.operand)]
        if getattr(value.type, "space", None) == "sram" and region.size:
            start = addresses[region.operand] - int(getattr(op, f"{region.operand}_offset")) + region.offset
            groups = target.groups_of(start, region.end - region.offset)
            found.append((value, region.writes, frozenset(groups)))
    return found
