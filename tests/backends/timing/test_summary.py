"""The figures of a run that reports print."""

from dataclasses import replace

import pytest
from machine.timing import TARGET, queued

from accelc.backends.target import EnergySection
from accelc.backends.timing.engine import QueuedInstruction, run_timeline
from accelc.backends.timing.ledger import balance
from accelc.backends.timing.record import InstructionTiming
from accelc.backends.timing.summary import summarize


def program():
    """A load of 160 bytes, 20 cycles on the array (half of them useful), 5 on the vector unit; layers 0, 1, 1."""
    full = TARGET.macs_per_cycle
    slots = {"useful_mac": 10 * full, "bank_stall": 10 * full}
    load = InstructionTiming(10, 100, dram_read_bytes=160, sram_write_lines=5, writes={0: 4})
    array = InstructionTiming(20, 8, slots, bank_stall_cycles=10, sram_read_lines=7)
    return [
        QueuedInstruction("load", load, (), ("array",), 0),
        QueuedInstruction("array", array, ("load",), ("vector",), 1),
        queued("vector", 5, 12, wait="array", layer=1),
    ]


def summary(target=TARGET):
    timeline = run_timeline(program())
    return summarize(timeline, balance(timeline, target), target, ["input", "Conv_0"], 4096)


def test_totals():
    found = summary()
    total = found.total
    assert total.cycles == 110 + 20 + 8 + 5 + 12
    assert found.seconds == pytest.approx(155 / 500e6)
    assert total.macs == 10 * TARGET.macs_per_cycle
    assert total.utilization == pytest.approx(10 / 155)
    assert total.ledger["dma_wait"] == 110 * TARGET.array.blocks
    assert (total.dram_read_bytes, total.dram_write_bytes) == (160, 0)
    assert (total.sram_read_bytes, total.sram_write_bytes) == (7 * 32, 5 * 32)
    assert (total.instructions, total.bank_stall_cycles, found.sram_peak_bytes) == (3, 10, 4096)
    assert found.engine_busy == {"load": 10, "array": 20, "vector": 5}


def test_layers_sum_to_the_total():
    found = summary()
    assert [row.name for row in found.layers] == ["input", "Conv_0"]
    assert [row.figures.cycles for row in found.layers] == [110, 45]
    assert sum(row.figures.dram_read_bytes for row in found.layers) == 160
    assert found.layers[1].figures.utilization == pytest.approx(10 / 45)


def test_energy_is_known_only_where_the_target_says_so():
    found = summary().total
    expected = found.macs * 0.3 + 12 * 32 * 1.25 + 160 * 160.0
    assert found.energy_pj == pytest.approx(expected)
    assert summary(replace(TARGET, energy=EnergySection())).total.energy_pj is None


def test_what_others_slow_down_counts_as_bank_stall():
    stalled = [queued("array", 5, reads=[1]), queued("store", 50, reads=[1])]
    timeline = run_timeline(stalled)
    found = summarize(timeline, balance(timeline, TARGET), TARGET, [], 0)
    assert found.total.bank_stall_cycles == 50
    assert found.layers[0].name == "layer 0"
