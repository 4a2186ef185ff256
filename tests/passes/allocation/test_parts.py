"""Parts of the SRAM: which there are, and that a buffer in a part keeps its banks and lines in the whole."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelc.backends.target import load_target
from accelc.backends.timing.banks import bank_map
from accelc.passes.allocation.parts import Part, halves, is_part, whole

TILE32 = load_target("tile32")
TILE16 = load_target("tile16")


def test_a_part_has_half_of_the_banks_or_half_of_their_lines() -> None:
    assert halves(whole(TILE32), TILE32) == [Part(8, 2048), Part(16, 1024)]
    assert halves(Part(4, 2048), TILE32) == [Part(4, 1024)]  # one group is left
    assert halves(Part(4, 16), TILE32) == []


def test_banks_stay_where_every_port_begins_at_another_one() -> None:
    apart = replace(TILE32, crossbar=replace(TILE32.crossbar, port_stride_banks=4))
    assert halves(whole(apart), apart) == [Part(16, 1024)]


def test_the_blocks_reach_the_same_share_of_a_part() -> None:
    assert TILE16.crossbar.reach_banks == 12
    assert Part(8, 1024).of(TILE16).crossbar.reach_banks == 6


def test_halving_leads_to_parts() -> None:
    assert is_part(whole(TILE32), TILE32) and is_part(Part(4, 16), TILE32)
    assert not is_part(Part(12, 2048), TILE32) and not is_part(Part(32, 2048), TILE32)


@given(st.sampled_from((Part(8, 2048), Part(16, 1024), Part(4, 128))), st.data())
def test_buffers_keep_their_banks_and_lines(part: Part, data: st.DataObject) -> None:
    inside = part.of(TILE32)
    size = data.draw(st.integers(1, inside.group_bytes))
    address = data.draw(st.integers(0, inside.sram_bytes - size))
    place = part.address(address, size, TILE32)
    if address // inside.group_bytes != (address + size - 1) // inside.group_bytes:
        assert place is None or part.bank_lines == TILE32.sram.bank_lines
        return
    assert place is not None and place + size <= TILE32.sram_bytes
    line = TILE32.sram.line_bytes
    lines = np.arange((size - 1) // line + 1)
    own, other = bank_map(inside), bank_map(TILE32)
    assert np.array_equal(own.banks(address // line + lines), other.banks(place // line + lines))


@pytest.mark.parametrize("address", [0, 8 * 2048])
def test_a_buffer_that_spans_groups_has_no_place_where_they_come_apart(address: int) -> None:
    part = Part(16, 1024)
    group = part.of(TILE32).group_bytes
    assert part.address(address, group - address + 1, TILE32) is None
    assert Part(8, 2048).address(address, TILE32.group_bytes + 1, TILE32) == address
