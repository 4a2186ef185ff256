"""Target files: presets load, geometry is right, every kind of wrong value is refused by key and range."""

from __future__ import annotations

from importlib import resources

import pytest

from accelc.backends.target import DEFAULT_TARGET, load_target, parse_target, preset_names
from accelc.dialects.core.diagnostics import CompileError

TEXT = resources.files("accelc.backends").joinpath("targets", "tile32.toml").read_text(encoding="utf-8")


def test_presets() -> None:
    assert {"array32", "tile16", "tile32", "tile64"} <= set(preset_names())
    assert DEFAULT_TARGET in preset_names()
    for name in preset_names():
        target = load_target(name)
        assert target.name == name
        assert target.reachable_groups <= set(range(target.groups))


def test_geometry_of_the_default() -> None:
    target = load_target("tile32")
    assert target.macs_per_cycle == 4 * 32 * 32
    assert target.sram_bytes == 1 << 20
    assert target.group_bytes == 1 << 18
    assert target.groups == 4
    assert list(target.groups_of((1 << 18) - 1, 2)) == [0, 1]


def test_array32_is_the_machine_other_estimators_use() -> None:
    target = load_target("array32")
    assert (target.array.blocks, target.macs_per_cycle) == (1, 1024)
    assert (target.dma.bytes_per_cycle, target.sram_bytes) == (8.0, 2 << 20)


def test_a_short_crossbar_leaves_groups_to_others() -> None:
    assert load_target("tile16").reachable_groups == {0, 1, 2}


def test_fingerprint_follows_figures_not_words() -> None:
    base = parse_target(TEXT)
    assert parse_target(TEXT.replace("4 blocks of", "four blocks of")).fingerprint == base.fingerprint
    assert parse_target(TEXT.replace("latency_cycles = 100", "latency_cycles = 101")).fingerprint != base.fingerprint


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lanes = 32", "lanes = 0", "'array.lanes' is 0, expected 1 to 1024"),
        ("lanes = 32", 'lanes = "x"', "'array.lanes' is 'x', expected int"),
        ("lanes = 32", "lanes = 32.5", "'array.lanes' is 32.5, expected int"),
        ("lanes = 32", "lanes = true", "'array.lanes' is True, expected int"),
        ("lanes = 32", "", "key 'array.lanes' is missing"),
        ("lanes = 32", "lnaes = 32", "unknown key 'array.lnaes'; did you mean 'array.lanes'?"),
        ("[dma]", "[dna]", "unknown key 'dna'; did you mean 'dma'?"),
        ("[dma]", "[dna]", "key 'dma' is missing"),
        ('name = "tile32"', "name = 3", "'name' is 3, expected str"),
        ('name = "tile32"', 'name = ""', "'name' is empty, expected text"),
        ('name = "tile32"', 'name = "tile32"\ndram = 3', "not valid TOML"),
        ("frequency_mhz = 500.0", "frequency_mhz = nan", "'frequency_mhz' is nan, expected 0.001 to 100000"),
        ("swizzle = true", "swizzle = 1", "'sram.swizzle' is 1, expected bool"),
        ("interleave = 4", "interleave = 3", "'sram.interleave' is 3, expected a power of two that divides 16 banks"),
        ("line_bytes = 32", "line_bytes = 48", "'sram.line_bytes' is 48, expected a power of two"),
        ("reach_banks = 16", "reach_banks = 17", "'crossbar.reach_banks' is 17, expected at most 16 banks"),
        ("reach_banks = 16", "reach_banks = 3", "no bank group is reached by every block port"),
        ("lane_rotation = true", "lane_rotation = false\nport_stride_banks = 5\nreach_banks = 1", "not valid TOML"),
        ("bytes_per_cycle = 16.0", "bytes_per_cycle = 0", "'dma.bytes_per_cycle' is 0.0, expected 0.01 to 4096"),
    ],
)
def test_wrong_values_are_refused(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(CompileError) as caught:
        parse_target(TEXT.replace(old, new, 1), file="my.toml")
    assert message in str(caught.value)
    assert "my.toml: " in str(caught.value)


def test_no_rotation_needs_whole_lines() -> None:
    text = TEXT.replace("lane_rotation = true", "lane_rotation = false").replace("lanes = 32", "lanes = 16", 1)
    with pytest.raises(CompileError, match=r"'array.lanes' is 16, expected a multiple of the 32 line bytes"):
        parse_target(text)


def test_all_problems_are_reported_at_once() -> None:
    text = TEXT.replace("lanes = 32", "lanes = 0", 1).replace("banks = 16", "banks = 0", 1)
    with pytest.raises(CompileError) as caught:
        parse_target(text)
    assert "'array.lanes' is 0" in str(caught.value)
    assert "'sram.banks' is 0" in str(caught.value)


def test_unknown_target_names_the_presets() -> None:
    with pytest.raises(CompileError, match=r"unknown target 'tile23'.*did you mean 'tile32'"):
        load_target("tile23")
    with pytest.raises(CompileError, match=r"missing\.toml: cannot be read"):
        load_target("missing.toml")
