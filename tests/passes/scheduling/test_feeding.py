"""Long vector instructions are cut finer, and products run beside them that would keep the vector unit waiting."""

from functools import cache

from accelc.backends.target import load_target
from accelc.dialects.core.parser import parse_module
from accelc.dialects.registry import CONTEXT
from accelc.passes.framework.environment import Environment
from accelc.passes.lower_to_tile import LowerToTile
from accelc.passes.scheduling.emission import StripEmitter
from accelc.passes.scheduling.interleaving import WORTH_FEEDING, Interleaver, quickest_order
from accelc.passes.scheduling.layers import Program
from accelc.passes.scheduling.pieces import GRAINS, MOST_PIECES, MOST_VECTOR_PIECES, Grain, Touch
from accelc.passes.scheduling.residency import Policy, Residency

ARRAY32 = load_target("array32")
ROWS, CHANNELS, POOL = 32, 32, 2
"""POOL is the position of the pool among the units: a load and a product stand before it."""


@cache
def program() -> Program:
    """A pool between two products: first the vector unit has most to do, then the array."""
    kind = f"tensor<1x{ROWS}x{ROWS}x{CHANNELS}x!quant.i8<0.05:-3>>"
    sums = f"tensor<1x{ROWS}x{ROWS}x{CHANNELS}xi32>"
    lines = ["const @s : tensor<1xf32> = dense<0.01>"]
    for index in range(2):
        lines.append(f"const @w{index} : tensor<3x3x{CHANNELS}x{CHANNELS}xi8> = dense<{index + 1}>")
    image = f"tensor<1x{ROWS}x{ROWS}x{CHANNELS}xf32>"
    lines.append(f"func @main(%x: {image}) -> {image} {{")
    lines.append(f'  %v = quant.quantize %x : {image} -> {kind} loc("in")')
    value = "v"
    for index in range(2):
        weights, loc = f"tensor<3x3x{CHANNELS}x{CHANNELS}xi8>", f'loc("conv{index}")'
        pads = " {pads = [1, 1, 1, 1]}"
        lines.append(f"  %c{index} = nn.conv2d %{value}, @w{index}{pads} : ({kind}, {weights}) -> {sums} {loc}")
        lines.append(f"  %q{index} = quant.requantize %c{index}, @s : ({sums}, tensor<1xf32>) -> {kind} {loc}")
        value = f"q{index}"
        if not index:
            lines.append(
                f'  %p = nn.max_pool %{value} {{kernel = [3, 3], pads = [1, 1, 1, 1]}} : {kind} -> {kind} loc("pool")'
            )
            value = "p"
    lines.append(f'  %y = quant.dequantize %{value} : {kind} -> {image} loc("out")')
    lines += [f"  return %y : {image} -> ()", "}"]
    module = parse_module("\n".join(lines), CONTEXT)
    LowerToTile().run(module, Environment(target=ARRAY32))
    return Program.of(module.main)


def plan_of(grain: Grain) -> Residency:
    plan = Residency.decide(program(), ARRAY32, ARRAY32.sram_bytes, Policy(grain=grain))
    assert plan is not None
    return plan


def order_of(grain: Grain, *, feeding: bool) -> Interleaver:
    plan = plan_of(grain)
    tracks = [track.afresh() for track in StripEmitter(plan).order.tracks]
    return Interleaver(plan, tracks, plan.budget, feeding=feeding)


def test_only_long_instructions_of_the_vector_unit_are_cut_finer() -> None:
    grains = (GRAINS[0], GRAINS[0]._replace(longest=300))
    coarse, fine = ([track.series for track in order_of(grain, feeding=False).tracks] for grain in grains)
    for unit, before, after in zip(program().units, coarse, fine, strict=True):
        if unit.main.name != "tile.max_pool":
            assert len(after.pieces) == len(before.pieces) <= MOST_PIECES
    before, after = coarse[POOL], fine[POOL]
    assert len(before.pieces) <= MOST_PIECES < len(after.pieces) <= MOST_VECTOR_PIECES
    row = before.vector / ROWS
    assert max(piece.vector for piece in before.pieces) > 300 + row
    assert max(piece.vector for piece in after.pieces) <= 300 + row


def test_a_product_that_feeds_the_vector_unit_comes_before_a_heavy_one() -> None:
    plain, fed = (order_of(GRAINS[1], feeding=feeding) for feeding in (False, True))
    assert fed.worked <= plain.worked * WORTH_FEEDING, "the array multiplies while the vector unit pools"
    assert fed.worked >= fed.busy == plain.busy
    numbers = [track.index for track, _ in fed.order]
    assert sorted(numbers) == sorted(track.index for track, _ in plain.order) and numbers != sorted(numbers)
    taken = quickest_order(fed.plan, [track.afresh() for track in fed.tracks])
    assert taken.end == fed.end


def test_pieces_that_feed_come_after_what_they_need() -> None:
    done: list[tuple[int, Touch]] = []
    for track, piece in order_of(GRAINS[1], feeding=True).order:
        wrong = [i for i, other in done if i > track.index and any(other.conflicts(mine) for mine in piece.touches)]
        assert not wrong, f"a piece of unit {track.index} comes after one of {wrong} that needed it"
        done += [(track.index, touch) for touch in piece.touches]
