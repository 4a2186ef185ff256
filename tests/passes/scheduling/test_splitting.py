"""Sums in place: the tensor before one and the tensor behind it are two for the scheduler where only one is spilled."""

from pathlib import Path

from accelc.backends.target import load_target
from accelc.dialects.core.parser import parse_module
from accelc.dialects.registry import CONTEXT
from accelc.passes.framework.environment import Environment
from accelc.passes.fuse_residuals import FuseResiduals
from accelc.passes.lower_to_tile import LowerToTile
from accelc.passes.scheduling.layers import Program

SMALL = load_target(str(Path(__file__).parents[1] / "schedule" / "inputs" / "small.toml"))
KIND = "tensor<1x16x6x8x!quant.i8<0.05:-3>>"


def blocks(count: int) -> Program:
    """Residual blocks of one pool each, on one tensor that every sum is written in place of."""
    lines = ["func @main(%x: tensor<1x16x6x8xf32>) -> tensor<1x16x6x8xf32> {"]
    lines += [f'  %0 = quant.quantize %x : tensor<1x16x6x8xf32> -> {KIND} loc("in")']
    pool = "{kernel = [3, 3], pads = [1, 1, 1, 1]}"
    lines += [f'  %1 = nn.max_pool %0 {pool} : {KIND} -> {KIND} loc("first")']
    for index in range(1, 2 * count, 2):
        lines += [f'  %{index + 1} = nn.max_pool %{index} {pool} : {KIND} -> {KIND} loc("pool{index}")']
        lines += [f'  %{index + 2} = nn.add %{index}, %{index + 1} : ({KIND}, {KIND}) -> {KIND} loc("sum{index}")']
    lines += [f'  %last = quant.dequantize %{2 * count + 1} : {KIND} -> tensor<1x16x6x8xf32> loc("out")']
    lines += ["  return %last : tensor<1x16x6x8xf32> -> ()", "}"]
    module = parse_module("\n".join(lines), CONTEXT)
    LowerToTile().run(module, Environment(target=SMALL))
    FuseResiduals().run(module, Environment(target=SMALL))
    return Program.of(module.main)


def test_units_that_write_all_of_what_they_read_are_sums_in_place() -> None:
    program = blocks(3)
    sums = [program.sums_in_place(tensor) for tensor in program.tensors if tensor in program.uses]
    assert sorted(sums, key=len)[-1] == [3, 5, 7], "load, first pool, then a pool and its sum three times"
    assert sum(map(len, sums)) == 3


def test_a_split_program_has_two_tensors_and_the_same_units() -> None:
    program = blocks(3)
    tensor = next(t for t in program.uses if program.sums_in_place(t))
    split = program.split(tensor, 5)
    assert split is program.split(tensor, 5), "it is made once"
    (other,) = set(split.tensors) - set(program.tensors)
    assert split.uses[tensor] + split.uses[other][1:] == program.uses[tensor]
    assert split.uses[tensor][-1] == split.uses[other][0] == 5, "the sum reads one and writes the other"
    reads, writes = split.units[5].main.operands[0], split.units[5].main.operands[2]
    assert (reads, writes) == (tensor, other)
    assert program.uses[tensor] == [1, 2, 3, 4, 5, 6, 7, 8], "the program itself is as it was"
    assert [unit is own for unit, own in zip(split.units, program.units, strict=True)][:5] == [True] * 5
    assert not set(program.units[5:]) & set(split.units[5:])


def test_copies_of_units_use_nothing_once_they_are_forgotten() -> None:
    program = blocks(3)
    tensor = next(t for t in program.uses if program.sums_in_place(t))
    users = set(tensor.users)
    again = program.split(tensor, 5).split(tensor, 3)
    assert set(tensor.users) > users
    program.forget_splits()
    assert set(tensor.users) == users and not any(t.users for t in again.tensors if t not in program.tensors)
