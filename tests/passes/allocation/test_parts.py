"""Parts of the SRAM: which there are, and that a buffer in a part keeps its banks and lines in the whole."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelc.backends.target import load_target
from accelc.backends.timing.banks import bank_map
from accelc.passes.allocation.parts import Part, every_part, is_part, smaller, whole

TILE32 = load_target("tile32")
TILE16 = load_target("tile16")


def test_a_part_has_the_next_step_or_half_of_the_banks_or_of_their_lines() -> None:
    steps = [Part(12, 2048, 12), Part(8, 2048, 8), Part(16, 1536, 16), Part(16, 1024, 16)]
    assert smaller(whole(TILE32), TILE32) == steps
    assert smaller(Part(4, 2048, 4), TILE32) == [Part(4, 1536, 4), Part(4, 1024, 4)]  # one group is left
    assert smaller(Part(4, 16, 4), TILE32) == []


def test_steps_are_powers_of_two_and_three_times_them() -> None:
    assert smaller(Part(12, 1536, 12), TILE32) == [Part(8, 1536, 8), Part(12, 1024, 12), Part(12, 768, 12)]
    assert smaller(Part(4, 33, 4), TILE32) == [Part(4, 32, 4)]
    assert smaller(Part(4, 50, 4), TILE32) == [Part(4, 48, 4), Part(4, 25, 4)]


def test_coarse_steps_are_powers_of_two_alone_and_lead_to_parts_that_fine_ones_reach() -> None:
    assert smaller(whole(TILE32), TILE32, every=False) == [Part(8, 2048, 8), Part(16, 1024, 16)]
    assert smaller(Part(12, 1536, 12), TILE32, every=False) == [Part(8, 1536, 8), Part(12, 1024, 12)]
    assert all(is_part(part, TILE32) for part in smaller(Part(8, 1024, 8), TILE32, every=False))


def test_banks_stay_where_every_port_begins_at_another_one() -> None:
    apart = replace(TILE32, crossbar=replace(TILE32.crossbar, port_stride_banks=4))
    assert smaller(whole(apart), apart) == [Part(16, 1536, 16), Part(16, 1024, 16)]


def test_the_blocks_reach_the_same_share_of_a_part() -> None:
    assert whole(TILE16) == Part(16, 1024, 12)
    assert smaller(whole(TILE16), TILE16)[:3] == [Part(12, 1024, 12), Part(12, 1024, 8), Part(8, 1024, 8)]
    assert smaller(whole(TILE16), TILE16, every=False)[0] == Part(8, 1024, 4)


def test_what_a_target_has_is_a_part() -> None:
    assert all(is_part(part, TILE16) for part in every_part(TILE16))
    assert is_part(Part(12, 1000, 9), TILE16)


@pytest.mark.parametrize(
    "part",
    (Part(32, 64, 12), Part(10, 64, 8), Part(16, 1025, 12), Part(16, 15, 12), Part(16, 64, 16), Part(16, 64, 3)),
    ids=("banks", "half a group", "lines", "few lines", "reach", "no group reached"),
)
def test_what_a_target_does_not_have_is_no_part(part: Part) -> None:
    assert not is_part(part, TILE16)


def test_every_part_is_there_once_the_largest_first() -> None:
    parts = every_part(TILE16)
    assert parts[0] == whole(TILE16) and len(set(parts)) == len(parts)
    sizes = [part.banks * part.bank_lines for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert all(set(smaller(part, TILE16)) <= set(parts) for part in parts)
    for part in (Part(12, 1024, 8), Part(16, 384, 12), Part(8, 512, 4)):
        assert set(every_part(part.of(TILE16))) <= set(parts)  # nested: what a smaller machine has


PARTS = st.sampled_from((Part(8, 2048, 8), Part(16, 1024, 16), Part(4, 128, 4), Part(16, 48, 16)))


@given(PARTS, st.data())
def test_buffers_keep_their_banks_and_lines(part: Part, data: st.DataObject) -> None:
    inside = part.of(TILE32)
    size = data.draw(st.integers(1, inside.group_bytes))
    group = data.draw(st.integers(0, inside.groups - 1))
    address = group * inside.group_bytes + data.draw(st.integers(0, inside.group_bytes - size))
    place = part.address(address, TILE32)
    line = TILE32.sram.line_bytes
    lines = np.arange((size - 1) // line + 1)
    own, other = bank_map(inside), bank_map(TILE32)
    assert np.array_equal(own.banks(address // line + lines), other.banks(place // line + lines))


@given(PARTS, st.data())
def test_buffers_that_span_groups_do_not_overlap_in_the_whole(part: Part, data: st.DataObject) -> None:
    inside = part.of(TILE32)
    cuts = st.lists(st.integers(0, inside.sram_bytes), min_size=2, max_size=8, unique=True)
    borders = sorted(data.draw(cuts))
    places = [(part.address(a, TILE32), b - a) for a, b in itertools.pairwise(borders)]
    ends = [place + size for place, size in places]
    assert all(end <= place for end, (place, _) in zip(ends, places[1:], strict=False))
    assert ends[-1] <= TILE32.sram_bytes
    for (address, end), (place, size) in zip(itertools.pairwise(borders), places, strict=True):
        assert set(TILE32.groups_of(place, size)) <= set(inside.groups_of(address, end - address))
