"""The timeline of the engines: hand-computed cases, and agreement with a model that steps one cycle at a time."""

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine.stepping import step_through
from machine.timing import programs, queued

from accelc.backends.timing.engine import run_timeline
from accelc.dialects.core.diagnostics import CompileError, Location


def starts(program):
    return [slot.start for slot in run_timeline(program).slots]


def test_engines_run_side_by_side_and_each_in_order():
    program = [queued("load", 10), queued("array", 5), queued("array", 5), queued("vector", 3)]
    assert starts(program) == [0, 0, 5, 0]


def test_a_pipeline_of_load_array_vector_store():
    program = [
        queued("load", 10, 100, signal="array"),
        queued("array", 20, 8, wait="load", signal="vector"),
        queued("vector", 5, 12, wait="array", signal="store"),
        queued("store", 4, 100, wait="vector"),
    ]
    timeline = run_timeline(program)
    assert [(s.start, s.end, s.done) for s in timeline.slots] == [
        (0, 10, 110),
        (110, 130, 138),
        (138, 143, 155),
        (155, 159, 259),
    ]
    assert timeline.cycles == 259
    assert [s.producer for s in timeline.slots] == [-1, 0, 1, 2]


def test_tokens_are_counted():
    program = [
        queued("load", 10, signal="array"),
        queued("load", 10, signal="array"),
        queued("array", 1, wait="load"),
        queued("array", 1, wait="load"),
    ]
    assert starts(program) == [0, 10, 10, 20]


def test_tokens_of_a_later_instruction_may_come_first():
    program = [
        queued("vector", 1, 100, signal="array"),
        queued("vector", 1, 0, signal="array"),
        queued("array", 1, wait="vector"),
    ]
    assert starts(program) == [0, 1, 2]


def test_load_and_store_share_the_channel_for_the_occupancy_only():
    program = [queued("load", 10, 100), queued("store", 10, 100), queued("load", 10, 100)]
    timeline = run_timeline(program)
    # at cycle 10 load goes before store, so the store waits for both loads
    assert [s.start for s in timeline.slots] == [0, 20, 10]
    assert [s.holder for s in timeline.slots] == [-1, 2, -1]


def ends(program):
    return [slot.end for slot in run_timeline(program).slots]


def test_engines_share_the_ports_of_a_group_while_their_parts_fit():
    program = [queued("vector", 10, 8, reads={1: 32}), queued("array", 5, 2, reads={1: 32})]
    timeline = run_timeline(program)
    assert [(s.end, s.stalled, s.rival) for s in timeline.slots] == [(10, 0, -1), (5, 0, -1)]
    assert ends([queued("load", 50, 100, writes={0: 8}), queued("vector", 5, writes={0: 56})]) == [50, 5]


def test_an_engine_that_finds_less_left_goes_on_more_slowly():
    program = [queued("vector", 8, reads={1: 32}), queued("array", 8, reads={1: 64})]
    timeline = run_timeline(program)
    # half of the ports for 8 cycles does 4 cycles of work, the other 4 run alone
    assert [(s.start, s.end, s.stalled, s.rival) for s in timeline.slots] == [(0, 8, 0, -1), (0, 12, 4, 0)]


def test_an_engine_that_finds_nothing_left_stands_still():
    program = [queued("vector", 10, 8, reads=[1]), queued("array", 5, 3, reads=[1]), queued("load", 5, writes=[1])]
    timeline = run_timeline(program)
    # ports of results are used while an instruction executes, not while they are on their way
    assert [(s.start, s.end) for s in timeline.slots] == [(0, 10), (0, 15), (0, 5)]
    assert (timeline.slots[1].stalled, timeline.slots[1].rival, timeline.slots[1].done) == (10, 0, 18)


def test_the_speed_is_that_of_the_scarcest_group():
    program = [
        queued("load", 64, writes={0: 32, 1: 48}),
        queued("vector", 16, reads={0: 64}, writes={0: 64, 1: 32}),
    ]
    assert ends(program) == [64, 32]  # half of the write ports are left in both groups: half of 64, all of 32's half


def test_the_dma_goes_before_the_vector_unit_and_that_before_the_array():
    program = [queued(engine, 4, reads=[0]) for engine in ("array", "vector", "store")]
    assert ends(program) == [12, 8, 4]


def test_a_starved_token_is_a_diagnosed_deadlock():
    program = [
        queued("load", 1, signal="array"),
        queued("array", 1, wait="load vector", signal="vector"),
        queued("vector", 1, wait="array", signal="array"),
    ]
    with pytest.raises(CompileError) as caught:
        run_timeline(program)
    assert [d.message for d in caught.value.diagnostics] == [
        "deadlock: instruction 1 (instruction, array) waits for a token from vector",
        "deadlock: instruction 2 (instruction, vector) waits for a token from array",
    ]
    assert all(d.location == Location() for d in caught.value.diagnostics)


def test_an_empty_program_takes_no_time():
    assert run_timeline([]).cycles == 0


@settings(max_examples=250, deadline=None)
@given(programs())
def test_agrees_with_the_cycle_stepping_model(program):
    timeline = run_timeline(program)
    assert [(s.start, s.done) for s in timeline.slots] == step_through(program)


@settings(max_examples=100, deadline=None)
@given(programs(), st.randoms(use_true_random=False))
def test_agrees_where_tokens_are_missing(program, random):
    program = [op for op in program if random.random() < 0.8]
    expected = step_through(program)
    if expected is None:
        with pytest.raises(CompileError, match="deadlock"):
            run_timeline(program)
    else:
        assert [(s.start, s.done) for s in run_timeline(program).slots] == expected


@settings(max_examples=100, deadline=None)
@given(programs(groups=0, engines=("array", "vector", "load")), st.integers(1, 4))
def test_faster_transfers_are_never_slower_without_competition(program, factor):
    """Who goes first may turn around when a transfer gets faster, so nobody competes for banks or the channel here."""
    faster = [
        replace(op, timing=replace(op.timing, occupancy=-(-op.timing.occupancy // factor)))
        if op.engine == "load"
        else op
        for op in program
    ]
    assert run_timeline(faster).cycles <= run_timeline(program).cycles


def test_thousands_of_instructions_are_fast():
    program = []
    for index in range(1500):
        program += [
            queued("load", 7, 100, signal="array", writes=[index % 2]),
            queued("array", 20, 8, wait="load", signal="vector", reads=[index % 2]),
            queued("vector", 5, 12, wait="array", signal="store", writes=[2 + index % 2]),
            queued("store", 4, 100, wait="vector", reads=[2 + index % 2]),
        ]
    begin = time.process_time()
    run_timeline(program)
    assert time.process_time() - begin < 1.5
