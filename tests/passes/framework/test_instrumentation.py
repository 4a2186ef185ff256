"""What watches a pipeline: verification, printing, timing, and the check that a pass keeps the meaning."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.equality import same_module
from accelc.dialects.core.files import read_module
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.dialects.core.parser import parse_module
from accelc.dialects.nn.activation import ReluOp
from accelc.dialects.nn.elementwise import AddOp
from accelc.dialects.registry import CONTEXT
from accelc.passes.canonicalize import Canonicalize
from accelc.passes.eliminate_dead_code import EliminateDeadCode
from accelc.passes.framework.base import Pass
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.framework.printing import PrintIr
from accelc.passes.framework.semantics import VerifySemantics, seeded_inputs
from accelc.passes.framework.timing import TimePasses

TEXT = """
const @big : tensor<32xf32> = dense<elided>
func @main(%x: tensor<32xf32>) -> tensor<32xf32> attributes {outputs = ["y"]} {
  %0 = nn.add %x, @big : (tensor<32xf32>, tensor<32xf32>) -> tensor<32xf32> loc("Add_0")
  %1 = nn.reshape %0 {shape = [32]} : tensor<32xf32> -> tensor<32xf32> loc("Reshape_1")
  %2 = nn.relu %1 : tensor<32xf32> -> tensor<32xf32> loc("Relu_2")
  %3 = nn.tanh %2 : tensor<32xf32> -> tensor<32xf32> loc("Tanh_3")
  return %3 : tensor<32xf32> -> ()
}
"""


@dataclass(frozen=True)
class BreakRelu(Pass):
    """Replace relu by a constant sum, by `error`."""

    name: ClassVar[str] = "break-relu"
    error: float = 0.5

    def run(self, module: Module, environment: Environment) -> None:
        for op in module.walk():
            if isinstance(op, ReluOp):
                offset = np.zeros(32, np.float32)
                offset[7] = self.error
                new = AddOp.build(op.data, module.add_constant("offset", offset), location=op.location, clamp_min=0.0)
                assert op.parent is not None
                op.parent.insert_before(op, new)
                op.out.replace_all_uses_with(new.out)
                op.erase()


@dataclass(frozen=True)
class BreakTypes(Pass):
    """Leave an invalid module behind."""

    name: ClassVar[str] = "break-types"

    def run(self, module: Module, environment: Environment) -> None:
        module.main.result_types = ()


@dataclass(frozen=True)
class Fail(Pass):
    """Complain."""

    name: ClassVar[str] = "fail"

    def run(self, module: Module, environment: Environment) -> None:
        raise next(iter(module.walk())).error("is not liked")


@pytest.fixture
def module() -> Module:
    return parse_module(TEXT, CONTEXT, constants={"big": np.arange(32, dtype=np.float32)})


def test_errors_name_the_pass(module: Module) -> None:
    with pytest.raises(CompileError, match=r"'nn.add': is not liked\n(.*\n)*note: while running pass 'fail'"):
        PassManager([Fail()]).run(module)
    with pytest.raises(CompileError, match="note: the module is invalid after pass 'break-types'"):
        PassManager([BreakTypes()]).run(module)
    PassManager([BreakTypes()], verify_each=False).run(module)


def test_tree_of_dumps_parses_and_runs(module: Module, tmp_path: Path) -> None:
    watcher = PrintIr(tree_dir=tmp_path / "dumps")
    x = {"x": np.linspace(-40, 40, 32, dtype=np.float32)}
    expected = run(module, x)["y"]
    PassManager([Canonicalize(), EliminateDeadCode()], instrumentation=[watcher]).run(module)
    assert [path.name for path in watcher.written] == [
        "00-input.air",
        "01-canonicalize.air",
        "02-eliminate-dead-code.air",
    ]
    for path in watcher.written:
        np.testing.assert_array_equal(run(read_module(path, CONTEXT), x)["y"], expected)
    assert same_module(read_module(watcher.written[-1], CONTEXT), module)


def test_printing_chosen_passes(module: Module) -> None:
    passes = [EliminateDeadCode(), Canonicalize(), EliminateDeadCode()]

    def titles(watcher: PrintIr) -> list[str]:
        watcher.stream = io.StringIO()
        PassManager(passes, instrumentation=[watcher]).run(module.clone())
        return [line[14:-11] for line in watcher.stream.getvalue().splitlines() if line.startswith("// -----//")]

    assert titles(PrintIr(before=frozenset({"canonicalize"}))) == ["before canonicalize"]
    assert titles(PrintIr(after=frozenset({"eliminate-dead-code"}))) == ["after eliminate-dead-code"] * 2
    assert len(titles(PrintIr(after_all=True))) == 3
    assert titles(PrintIr(after_change=True)) == ["after canonicalize"]


def test_times_add_up(module: Module) -> None:
    watcher = TimePasses()
    PassManager([Canonicalize(), EliminateDeadCode()], instrumentation=[watcher]).run(module)
    assert [name for name, _ in watcher.seconds] == ["canonicalize", "eliminate-dead-code"]
    assert watcher.total == sum(seconds for _, seconds in watcher.seconds) > 0
    assert "canonicalize" in str(watcher)
    assert "total" in str(watcher)


def test_semantics_names_pass_output_operation_and_element(module: Module) -> None:
    watcher = VerifySemantics({"x": np.full(32, -6.5, np.float32)})
    with pytest.raises(CompileError) as error:
        PassManager([Canonicalize(), BreakRelu()], instrumentation=[watcher]).run(module)
    text = str(error.value)
    assert "pass 'break-relu' changed the meaning of the module: output 'y' differs at element [7]" in text
    assert "from ONNX node 'Relu_2'" in text
    assert "first differing operation: 'nn.add' differs at element [7]" in text
    assert watcher.compared == 1


def test_semantics_tolerates_float_noise_but_no_more(module: Module) -> None:
    inputs = {"x": np.full(32, -6.5, np.float32)}
    PassManager([BreakRelu(1e-6)], instrumentation=[VerifySemantics(inputs)]).run(module.clone())
    with pytest.raises(CompileError, match=r"tolerance 1e-07 of the largest magnitude"):
        PassManager([BreakRelu(1e-3)], instrumentation=[VerifySemantics(inputs, float_tolerance=1e-7)]).run(module)


INTEGERS = """
func @main(%x: tensor<4x!quant.i8<0.5:0>>) -> tensor<4x!quant.i8<0.5:0>> {
  %0 = nn.permute_channels %x {permutation = [1, 0, 2, 3]} : tensor<4x!quant.i8<0.5:0>> -> tensor<4x!quant.i8<0.5:0>>
  return %0 : tensor<4x!quant.i8<0.5:0>> -> ()
}
"""


@dataclass(frozen=True)
class DropPermutation(Pass):
    """Forget the permutation."""

    name: ClassVar[str] = "drop-permutation"

    def run(self, module: Module, environment: Environment) -> None:
        first = next(iter(module.walk()))
        first.result.replace_all_uses_with(first.operands[0])
        first.erase()


def test_semantics_is_exact_for_integers() -> None:
    module = parse_module(INTEGERS, CONTEXT)
    same = {"x": np.array([3, 3, 1, 2], np.int8)}
    PassManager([DropPermutation()], instrumentation=[VerifySemantics(same)]).run(module.clone())
    near = {"x": np.array([100, 101, 1, 2], np.int8)}
    with pytest.raises(CompileError, match=r"differs at element \[0\]: 100, before 101; 2 of 4.*exactly equal"):
        PassManager([DropPermutation()], instrumentation=[VerifySemantics(near)]).run(module)


@dataclass(frozen=True)
class Refine(DropPermutation):
    """As if the new order was closer to the reals."""

    name: ClassVar[str] = "refine"
    refines: ClassVar[bool] = True


def test_semantics_lets_refined_integers_move_a_little() -> None:
    module = parse_module(INTEGERS, CONTEXT)
    near = {"x": np.array([100, 101, 1, 2], np.int8)}
    PassManager([Refine()], instrumentation=[VerifySemantics(near)]).run(module.clone())
    far = {"x": np.array([100, 50, 1, 2], np.int8)}
    with pytest.raises(CompileError, match=r"differs at element \[0\]: 50, before 25; 2 of 4.*tolerance 0.1"):
        PassManager([Refine()], instrumentation=[VerifySemantics(far)]).run(module)


def test_inputs_come_from_calibration_or_from_the_seed(module: Module) -> None:
    first, second, other = (seeded_inputs(module, Environment(), seed)["x"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    samples = np.arange(64, dtype=np.float32)
    calibrated = seeded_inputs(module, Environment(calibration=CalibrationData({"x": samples})), 0)["x"]
    np.testing.assert_array_equal(calibrated, samples[:32])


def test_calibration_data_must_agree() -> None:
    with pytest.raises(CompileError, match="same number of samples for every input, found 'a' 2, 'b' 3"):
        CalibrationData({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))})
    data = CalibrationData({"a": np.arange(3)})
    assert data.count == 3
    assert data.batch(2, 2)["a"].tolist() == [2, 2]


def test_a_missing_target_is_named() -> None:
    with pytest.raises(CompileError, match="pass 'schedule' needs a target"):
        Environment().require_target("schedule")
