"""Machines as data: reads a target file (TOML), checks every key, and answers questions about the geometry."""

from __future__ import annotations

import difflib
import hashlib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_type_hints

from ..dialects.core.diagnostics import CompileError, Diagnostic

DEFAULT_TARGET = "tile32"


@dataclass(frozen=True)
class Range:
    """The values a number may take, both ends included."""

    low: float
    high: float


@dataclass(frozen=True)
class ArraySection:
    """`blocks` matrix blocks of `lanes` (reduction) x `columns`; a block does one vector times its weights a cycle.

    `weight_lines_per_cycle` SRAM lines of weights can be read a cycle, over all blocks, beside the streaming input.
    `latency_cycles` is the depth of the multiply-add pipeline. `int16_rate` and `bf16_rate` are the fraction of the
    int8 rate at which the wider types run (0: not supported); data of 16 bits meet weights of 8 bits at twice the
    `int16_rate`, for they take half as many 8-bit products.
    """

    lanes: Annotated[int, Range(1, 1024)]
    columns: Annotated[int, Range(1, 1024)]
    blocks: Annotated[int, Range(1, 256)]
    weight_lines_per_cycle: Annotated[int, Range(1, 256)]
    latency_cycles: Annotated[int, Range(0, 10_000)]
    int16_rate: Annotated[float, Range(0, 1)] = 0.0
    bf16_rate: Annotated[float, Range(0, 1)] = 0.0

    def step_cycles(self, data: str, weights: str) -> int:
        """Cycles that a block works on one vector of `data` (i8, i16, bf16) with its `weights`; 0 if it cannot."""
        if "bf16" in (data, weights):
            rate = self.bf16_rate if data == weights else 0.0
        else:
            rate = {"i8": 1.0, "i16": min(1.0, self.int16_rate * (2 if weights == "i8" else 1))}[data]
        return math.ceil(1 / rate) if rate else 0


@dataclass(frozen=True)
class AccumulatorSection:
    """One accumulator memory for all blocks: `rows` rows of `columns` (of the array) integers of `bits` bits."""

    rows: Annotated[int, Range(1, 2**20)]
    bits: Annotated[int, Range(32, 64)]


@dataclass(frozen=True)
class SramSection:
    """`banks` banks of `bank_lines` lines of `line_bytes`; a bank serves `read_ports` + `write_ports` lines a cycle.

    Addresses run through a group of `interleave` banks line by line, then through the next group. With `swizzle` the
    bank within the group is the exclusive or of the three lowest base-`interleave` digits of the line number within the
    group, which spreads power-of-two strides over the group.
    """

    banks: Annotated[int, Range(1, 1024)]
    bank_lines: Annotated[int, Range(16, 2**20)]
    line_bytes: Annotated[int, Range(4, 4096)]
    read_ports: Annotated[int, Range(1, 8)]
    write_ports: Annotated[int, Range(1, 8)]
    interleave: Annotated[int, Range(1, 64)]
    swizzle: bool = False


@dataclass(frozen=True)
class CrossbarSection:
    """The multiplexers between banks and block ports.

    A block port merges up to `lines_per_vector` lines into one vector a cycle. Without `lane_rotation` a byte can only
    reach the lane of its offset within the line. Port b reaches the `reach_banks` banks that start at bank
    (b * port_stride_banks) modulo the number of banks.
    """

    lines_per_vector: Annotated[int, Range(1, 64)]
    lane_rotation: bool
    reach_banks: Annotated[int, Range(1, 1024)]
    port_stride_banks: Annotated[int, Range(0, 1024)] = 0


@dataclass(frozen=True)
class VectorSection:
    """The vector unit: `lanes` 8-bit results a cycle in operations of one pass, `latency_cycles` of pipeline."""

    lanes: Annotated[int, Range(1, 4096)]
    latency_cycles: Annotated[int, Range(0, 10_000)]


@dataclass(frozen=True)
class DmaSection:
    """One DRAM channel shared by load and store: `bytes_per_cycle` in all, `latency_cycles` before the first byte."""

    bytes_per_cycle: Annotated[float, Range(0.01, 4096)]
    latency_cycles: Annotated[int, Range(0, 100_000)]


@dataclass(frozen=True)
class DramSection:
    """Off-chip memory."""

    megabytes: Annotated[int, Range(1, 2**17)]


@dataclass(frozen=True)
class EnergySection:
    """Energy in picojoules per int8 multiply-accumulate, per SRAM byte and per DRAM byte; 0 is unknown."""

    mac_pj: Annotated[float, Range(0, 1e6)] = 0.0
    sram_byte_pj: Annotated[float, Range(0, 1e6)] = 0.0
    dram_byte_pj: Annotated[float, Range(0, 1e6)] = 0.0


@dataclass(frozen=True)
class CostSection:
    """Silicon area in square millimetres and price in US dollars; 0 is unknown."""

    area_mm2: Annotated[float, Range(0, 1e6)] = 0.0
    price_usd: Annotated[float, Range(0, 1e6)] = 0.0


@dataclass(frozen=True)
class Target:
    """One machine; see the sections. Bank b of the SRAM belongs to group b // interleave."""

    name: str
    description: str
    frequency_mhz: Annotated[float, Range(0.001, 100_000)]
    array: ArraySection
    accumulators: AccumulatorSection
    sram: SramSection
    crossbar: CrossbarSection
    vector: VectorSection
    dma: DmaSection
    dram: DramSection
    energy: EnergySection = field(default_factory=EnergySection)
    cost: CostSection = field(default_factory=CostSection)

    @cached_property
    def macs_per_cycle(self) -> int:
        """int8 multiply-accumulates of all blocks in a cycle."""
        return self.array.lanes * self.array.columns * self.array.blocks

    @cached_property
    def sram_bytes(self) -> int:
        """Capacity of the SRAM."""
        return self.sram.banks * self.sram.bank_lines * self.sram.line_bytes

    @cached_property
    def group_bytes(self) -> int:
        """Capacity of one group of interleaved banks."""
        return self.sram.interleave * self.sram.bank_lines * self.sram.line_bytes

    @cached_property
    def groups(self) -> int:
        """Number of groups of interleaved banks."""
        return self.sram.banks // self.sram.interleave

    @cached_property
    def reachable_groups(self) -> frozenset[int]:
        """The bank groups that every block port reaches: where the operands of the array may lie."""
        banks, reach = self.sram.banks, self.crossbar.reach_banks
        common = set(range(banks))
        for port in range(self.array.blocks):
            start = port * self.crossbar.port_stride_banks
            common &= {(start + i) % banks for i in range(reach)}
        width = self.sram.interleave
        return frozenset(g for g in range(self.groups) if all(g * width + i in common for i in range(width)))

    def groups_of(self, address: int, size: int) -> range:
        """The bank groups that `size` bytes at `address` touch."""
        return range(address // self.group_bytes, (address + max(size, 1) - 1) // self.group_bytes + 1)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that programs and timing depend on: all fields but description."""
        parts = [(f.name, repr(getattr(self, f.name))) for f in fields(self) if f.name != "description"]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def load_target(name_or_path: str) -> Target:
    """A preset by name, or a TOML file; CompileError names the file, the key and the allowed range."""
    path = Path(name_or_path)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise CompileError(f"{path}: cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise CompileError(f"{path}: not a text file: byte {error.start} is not UTF-8") from None
        return parse_target(text, file=str(path))
    presets = preset_names()
    if name_or_path not in presets:
        near = difflib.get_close_matches(name_or_path, presets, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise CompileError(f"unknown target '{name_or_path}', expected {', '.join(presets)} or a .toml file{hint}")
    text = (
        resources.files(__package__ or __name__).joinpath("targets", f"{name_or_path}.toml").read_text(encoding="utf-8")
    )
    return parse_target(text, file=f"{name_or_path}.toml")


def preset_names() -> list[str]:
    """The targets that come with the package, sorted."""
    folder = resources.files(__package__ or __name__).joinpath("targets")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def parse_target(text: str, *, file: str = "<target>") -> Target:
    """Read the text of a target file; raises CompileError with every wrong key at once."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CompileError(f"{file}: not valid TOML: {error}") from None
    return target_from_data(data, file=file)


def target_from_data(data: Mapping[str, Any], *, file: str) -> Target:
    """Check the keys of a target from a target file or the manifest of a program; errors as `parse_target`."""
    problems: list[str] = []
    target = cast(Target | None, _read_section(Target, data, "", problems))
    if target is not None and not problems:
        problems += _contradictions(target)
    if problems or target is None:
        raise CompileError([Diagnostic(f"{file}: {problem}") for problem in problems])
    return target


def _read_section(section: type, data: Mapping[str, Any], prefix: str, problems: list[str]) -> Any:
    """An instance of a section from a TOML table, or None; what is wrong with the table goes into `problems`."""
    declared = get_type_hints(section, include_extras=True)
    for key in data:
        if key not in declared:
            near = difflib.get_close_matches(key, declared, n=1)
            hint = f"; did you mean '{prefix}{near[0]}'?" if near else ""
            problems.append(f"unknown key '{prefix}{key}'{hint}")
    optional = {f.name for f in fields(section) if f.default is not MISSING or f.default_factory is not MISSING}
    values: dict[str, Any] = {}
    for name, hint in declared.items():
        key = prefix + name
        if name not in data:
            if name not in optional:
                problems.append(f"key '{key}' is missing")
        elif is_dataclass(hint):
            if isinstance(data[name], Mapping):
                table = cast(Mapping[str, Any], data[name])
                values[name] = _read_section(cast(type, hint), table, f"{key}.", problems)
            else:
                problems.append(f"'{key}' is {data[name]!r}, expected a table [{key}]")
        else:
            values[name] = _read_value(key, data[name], hint, problems)
    return None if problems else section(**values)


def _read_value(key: str, value: Any, hint: Any, problems: list[str]) -> Any:
    kind, limits = get_args(hint) if get_args(hint) else (hint, None)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        problems.append(f"'{key}' is {value!r}, expected {kind.__name__}")
    elif isinstance(limits, Range) and not limits.low <= value <= limits.high:
        problems.append(f"'{key}' is {value}, expected {limits.low} to {limits.high}")
    elif value == "":
        problems.append(f"'{key}' is empty, expected text")
    return value


def _contradictions(target: Target) -> list[str]:
    problems: list[str] = []
    sram = target.sram
    if sram.interleave & (sram.interleave - 1) or sram.banks % sram.interleave:
        problems.append(
            f"'sram.interleave' is {sram.interleave}, expected a power of two that divides {sram.banks} banks"
        )
    if sram.line_bytes & (sram.line_bytes - 1):
        problems.append(f"'sram.line_bytes' is {sram.line_bytes}, expected a power of two")
    if target.crossbar.reach_banks > sram.banks:
        problems.append(f"'crossbar.reach_banks' is {target.crossbar.reach_banks}, expected at most {sram.banks} banks")
    if not target.crossbar.lane_rotation and target.array.lanes % sram.line_bytes:
        expected = f"a multiple of the {sram.line_bytes} line bytes without lane rotation"
        problems.append(f"'array.lanes' is {target.array.lanes}, expected {expected}")
    if not problems and not target.reachable_groups:
        problems.append("'crossbar': no bank group is reached by every block port; raise reach_banks")
    return problems
