"""The ledger: who is charged for the gaps of the array, and that the books balance."""

from hypothesis import given, settings
from machine.timing import TARGET, programs, queued

from accelc.backends.timing.engine import run_timeline
from accelc.backends.timing.ledger import balance, block_cycles
from accelc.backends.timing.record import CAUSES

FULL = TARGET.macs_per_cycle


def gaps(program, target=TARGET):
    ledger = balance(run_timeline(program), target)
    return [(gap.start, gap.end, gap.cause, gap.layer) for gap in ledger.gaps]


def test_waiting_for_a_load_is_dma_wait_to_the_last_byte():
    program = [queued("load", 10, 100, signal="array", layer=1), queued("array", 20, wait="load", layer=2)]
    assert gaps(program) == [(0, 10, "dma_wait", 1), (10, 110, "dma_wait", 1)]


def test_waiting_for_the_vector_unit():
    program = [
        queued("array", 20, 8, signal="vector", layer=1),
        queued("vector", 5, 12, wait="array", signal="array", layer=1),
        queued("array", 20, wait="vector", layer=2),
    ]
    assert gaps(program) == [
        (20, 28, "fill_drain", 1),
        (28, 33, "vector_wait", 1),
        (33, 45, "token_wait", 1),
    ]


def test_the_chain_of_waiting_is_followed_to_its_end():
    """The array waits for the vector unit, which waits for a load of layer 7."""
    program = [
        queued("array", 5, layer=1),
        queued("load", 30, signal="vector", layer=7),
        queued("vector", 4, wait="load", signal="array", layer=2),
        queued("array", 5, wait="vector", layer=2),
    ]
    assert gaps(program) == [(5, 30, "dma_wait", 7), (30, 34, "vector_wait", 2)]


def test_the_instruction_before_the_producer_is_blamed_for_its_own_time():
    program = [
        queued("vector", 10, layer=3),
        queued("vector", 5, signal="array", layer=4),
        queued("array", 5, wait="vector", layer=5),
    ]
    assert gaps(program) == [(0, 10, "vector_wait", 3), (10, 15, "vector_wait", 4)]


def test_what_others_slow_down_is_a_bank_stall_at_its_end():
    program = [
        queued("load", 20, writes=[0], layer=1),
        queued("vector", 9, 3, writes=[0], layer=2, signal="array"),
        queued("array", 5, wait="vector", layer=3),
    ]
    assert gaps(program) == [(0, 9, "vector_wait", 2), (9, 29, "bank_stall", 2), (29, 32, "token_wait", 2)]


def test_an_array_that_others_slow_down_is_charged_for_it():
    program = [queued("vector", 8, reads={0: 48}, layer=1), queued("array", 5, reads={0: 64}, layer=2)]
    ledger = balance(run_timeline(program), TARGET)
    assert ledger.layers[2].slots["bank_stall"] == 6 * FULL  # a quarter of the ports for 8 cycles, then all of them
    assert ledger.layers[2].slots["useful_mac"] == 5 * FULL


def test_the_tail_belongs_to_those_who_finish():
    program = [
        queued("array", 20, 8, signal="vector", layer=1),
        queued("vector", 5, 12, wait="array", signal="store", layer=1),
        queued("store", 4, 100, wait="vector", layer=2),
    ]
    assert gaps(program) == [
        (20, 28, "fill_drain", 1),
        (28, 33, "vector_wait", 1),
        (33, 45, "token_wait", 1),
        (45, 49, "dma_wait", 2),
        (49, 149, "dma_wait", 2),
    ]


def test_a_transfer_waits_for_the_channel():
    program = [
        queued("store", 30, layer=1),
        queued("load", 10, signal="array", layer=2, wait="vector"),
        queued("vector", 2, signal="load", layer=2),
        queued("array", 5, wait="load", layer=2),
    ]
    assert gaps(program) == [
        (0, 2, "vector_wait", 2),
        (2, 30, "dma_wait", 1),
        (30, 40, "dma_wait", 2),
    ]


def test_a_program_without_array_instructions_is_charged_as_well():
    ledger = balance(run_timeline([queued("load", 10, 100, layer=4)]), TARGET)
    assert ledger.total.slots["dma_wait"] == 110 * FULL
    assert set(ledger.layers) == {4}


def test_an_empty_program_balances():
    ledger = balance(run_timeline([]), TARGET)
    assert ledger.total.cycles == 0 and not any(ledger.total.slots.values())


def test_block_cycles_are_slots_of_one_block():
    assert block_cycles({"idle": 3 * FULL}, TARGET) == {"idle": 3.0 * TARGET.array.blocks}


@settings(max_examples=120, deadline=None)
@given(programs())
def test_the_books_balance(program):
    timeline = run_timeline(program)
    ledger = balance(timeline, TARGET)
    assert list(ledger.total.slots) == list(CAUSES)
    assert ledger.total.cycles == timeline.cycles
    assert sum(ledger.total.slots.values()) == timeline.cycles * FULL
    assert sum(account.cycles for account in ledger.layers.values()) == timeline.cycles
    for account in ledger.layers.values():
        assert sum(account.slots.values()) == account.cycles * FULL
        assert all(type(count) is int and count >= 0 for count in account.slots.values())
    for cause in CAUSES:
        assert sum(account.slots[cause] for account in ledger.layers.values()) == ledger.total.slots[cause]
    assert ledger.total.slots["idle"] == 0


@settings(max_examples=120, deadline=None)
@given(programs())
def test_gaps_and_array_instructions_tile_the_timeline(program):
    timeline = run_timeline(program)
    slots = zip(timeline.slots, program, strict=True)
    pieces = [(slot.start, slot.end) for slot, op in slots if op.engine == "array"]
    pieces += [(gap.start, gap.end) for gap in balance(timeline, TARGET).gaps]
    at = 0
    for start, end in sorted(pieces):
        assert (start, end > start) == (at, True)
        at = end
    assert at == timeline.cycles


@settings(max_examples=80, deadline=None)
@given(programs())
def test_a_gap_is_charged_to_an_engine_that_was_busy_then(program):
    timeline = run_timeline(program)
    engines = {"vector_wait": {"vector"}, "token_wait": {"vector"}, "fill_drain": {"array"}}
    for gap in balance(timeline, TARGET).gaps:
        slot, op = timeline.slots[gap.blocker], timeline.program[gap.blocker]
        assert slot.start <= gap.start or gap.cause in ("bank_stall", "dma_wait")
        assert gap.end <= slot.done
        if gap.cause in engines:
            assert op.engine in engines[gap.cause]
