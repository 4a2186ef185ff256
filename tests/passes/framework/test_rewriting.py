"""Pattern rewriting: order, worklist, locations, and the bound on patterns that undo each other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from accelc.dialects.core.diagnostics import CompileError, Location
from accelc.dialects.core.operation import Module, Operation
from accelc.dialects.core.parser import parse_module
from accelc.dialects.nn.activation import ReluOp, SigmoidOp, TanhOp
from accelc.dialects.registry import CONTEXT
from accelc.passes.framework.matching import defined_by
from accelc.passes.framework.rewriting import RewritePattern, Rewriter, apply_patterns


def chain(*names: str) -> Module:
    """Unary operations one after the other, operation i from ONNX node `Node_i`."""
    lines = ["func @main(%v: tensor<2xf32>) -> tensor<2xf32> {"]
    value = "%v"
    for index, name in enumerate(names):
        lines.append(f'%{index} = nn.{name} {value} : tensor<2xf32> -> tensor<2xf32> loc("Node_{index}")')
        value = f"%{index}"
    return parse_module("\n".join([*lines, f"return {value} : tensor<2xf32> -> () }}"]), CONTEXT)


def found(module: Module) -> list[tuple[str, tuple[str, ...]]]:
    """(name, ONNX nodes) of every operation but the return."""
    return [(op.name.removeprefix("nn."), op.location.nodes) for op in module.walk() if op.results]


@dataclass(frozen=True)
class ReluOfRelu(RewritePattern[ReluOp]):
    """relu(relu(x)) == relu(x)."""

    def rewrite(self, op: ReluOp, rewriter: Rewriter) -> None:
        if defined_by(op.data, ReluOp) is not None:
            rewriter.replace(op, op.data)


@dataclass(frozen=True)
class TanhToSigmoid(RewritePattern[TanhOp]):
    """Exchange one for the other."""

    def rewrite(self, op: TanhOp, rewriter: Rewriter) -> None:
        rewriter.replace(op, SigmoidOp.build(op.data))


@dataclass(frozen=True)
class SigmoidToTanh(RewritePattern[SigmoidOp]):
    """Exchange it back."""

    def rewrite(self, op: SigmoidOp, rewriter: Rewriter) -> None:
        rewriter.replace(op, TanhOp.build(op.data))


@dataclass(frozen=True)
class CountAny(RewritePattern[SigmoidOp | TanhOp]):
    """Changes nothing."""

    def rewrite(self, op: SigmoidOp | TanhOp, rewriter: Rewriter) -> None:
        assert isinstance(op, (SigmoidOp, TanhOp))


def test_replacing_by_a_value_passes_names_on() -> None:
    module = chain("relu", "relu", "relu", "tanh")
    assert apply_patterns(module, [ReluOfRelu()]) == 2
    assert found(module) == [("relu", ("Node_0", "Node_1", "Node_2")), ("tanh", ("Node_3",))]


def test_a_name_that_another_operation_bears_is_not_passed_on() -> None:
    module = chain("relu", "relu", "tanh")
    first, second, last = (op for op in module.walk() if op.results)
    second.location = last.location
    apply_patterns(module, [ReluOfRelu()])
    assert found(module) == [("relu", ("Node_0",)), ("tanh", ("Node_2",))]
    assert first.parent is not None


def test_a_replacing_operation_takes_the_location() -> None:
    module = chain("tanh")
    assert apply_patterns(module, [CountAny(), TanhToSigmoid()]) == 1
    assert found(module) == [("sigmoid", ("Node_0",))]
    assert next(iter(module.walk())).location.position is not None


@dataclass(frozen=True)
class FuseIntoTanh(RewritePattern[ReluOp]):
    """relu(tanh(x)) == tanh(x), for the test."""

    def rewrite(self, op: ReluOp, rewriter: Rewriter) -> None:
        inner = defined_by(op.data, TanhOp, only_use=True)
        if inner is not None:
            rewriter.replace(op, TanhOp.build(inner.data, location=Location(("New",))))


def test_what_dies_with_a_replacement_bequeaths_its_names() -> None:
    module = chain("tanh", "relu")
    apply_patterns(module, [FuseIntoTanh()])
    assert found(module) == [("tanh", ("New", "Node_1", "Node_0"))]


def test_dead_code_is_erased_in_passing() -> None:
    module = chain("relu", "tanh", "sigmoid")
    end = module.main.body.terminator
    end.set_operand(0, module.main.arguments[0])
    apply_patterns(module, [])
    assert found(module) == []


def test_patterns_that_undo_each_other_are_diagnosed() -> None:
    with pytest.raises(CompileError, match=r"do not come to an end: \d+ rewrites, \d+ of them by (Tanh|Sigmoid)To"):
        apply_patterns(chain("tanh", "relu"), [TanhToSigmoid(), SigmoidToTanh()])


def test_operation_classes_follow_from_the_type_argument() -> None:
    assert ReluOfRelu.op_classes == (ReluOp,)
    assert CountAny.op_classes == (SigmoidOp, TanhOp)

    @dataclass(frozen=True)
    class Everything(RewritePattern[Operation]):
        """Any operation."""

    assert Everything.op_classes == (Operation,)
