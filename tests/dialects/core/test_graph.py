"""Use lists, block surgery and module bookkeeping of the IR core."""

from __future__ import annotations

import numpy as np
import pytest

from accelc.dialects.builtin import ReturnOp
from accelc.dialects.core.diagnostics import CompileError, Location
from accelc.dialects.core.equality import difference, same_module
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Function, Module
from accelc.dialects.core.parser import parse_module
from accelc.dialects.core.types import F32, TensorType
from accelc.dialects.core.verifier import verify
from accelc.dialects.nn.activation import ReluOp
from accelc.dialects.nn.elementwise import AddOp
from accelc.dialects.registry import CONTEXT

VECTOR = TensorType((3,), F32)


@pytest.fixture
def function() -> Function:
    """relu(x) + c."""
    module = Module()
    function = module.add_function("main", [("x", VECTOR)], [VECTOR])
    constant = module.add_constant("c", np.ones(3, np.float32))
    relu = function.body.append(ReluOp.build(function.arguments[0]))
    total = function.body.append(AddOp.build(relu.out, constant))
    function.body.append(ReturnOp.build(total.out))
    return function


def test_use_lists_follow_every_change(function: Function) -> None:
    relu, total, end = function
    x = function.arguments[0]
    assert x.uses == ((relu, 0),)
    assert relu.result.users == (total,)
    total.set_operand(1, relu.result)
    assert relu.result.uses == ((total, 0), (total, 1))
    assert relu.result.users == (total,)
    assert not relu.result.has_one_use
    assert function.module.constants["c"].is_unused
    relu.result.replace_all_uses_with(x)
    assert relu.result.is_unused
    assert total.operands == (x, x)
    relu.erase()
    assert [op.name for op in function] == ["nn.add", "return"]
    assert x.users == (total,)
    assert end.operands == (total.result,)


def test_an_operation_in_use_is_not_erased(function: Function) -> None:
    with pytest.raises(ValueError, match="still used"):
        next(iter(function)).erase()


def test_block_surgery_keeps_the_list_whole(function: Function) -> None:
    relu, total, end = function
    first = function.body.insert_before(relu, ReluOp.build(function.arguments[0]))
    second = function.body.insert_after(relu, ReluOp.build(relu.result))
    assert list(function) == [first, relu, second, total, end]
    assert list(reversed(function.body)) == [end, total, second, relu, first]
    function.body.insert_before(relu, second)
    assert list(function) == [first, second, relu, total, end]
    function.body.insert_before(relu, second)
    function.body.insert_after(second, relu)
    function.body.append(end)
    assert list(function) == [first, second, relu, total, end]
    assert list(reversed(function.body)) == [end, total, relu, second, first]
    assert len(function.body) == 5
    assert function.body.first is first
    assert function.body.terminator is end
    first.detach()
    assert first.parent is None
    assert function.body.first is second
    with pytest.raises(ValueError, match="not in a function"):
        _ = first.function


def test_verifier_reports_use_before_definition_and_foreign_values(function: Function) -> None:
    relu, total, _ = function
    function.body.insert_before(relu, total)
    total.set_operand(1, Module().add_constant("c", np.ones(3, np.float32)))
    with pytest.raises(CompileError) as error:
        verify(function.module)
    assert [d.message for d in error.value.diagnostics] == [
        "'nn.add': operand 0 is not defined before its use",
        "'nn.add': operand 1 is not defined before its use",
    ]


def test_clone_is_equal_and_independent(function: Function) -> None:
    module = function.module
    twin = module.clone()
    assert same_module(module, twin)
    assert twin.constants["c"].array is not module.constants["c"].array
    assert np.shares_memory(twin.constants["c"].array, module.constants["c"].array)
    next(iter(twin.walk())).location = Location(("Relu_0",))
    assert "Relu_0" in str(difference(module, twin))
    other = module.clone()
    del other.constants["c"]
    other.add_constant("c", np.array([1, 1, 2], np.float32))
    assert not same_module(module, other)


def test_constants_are_read_only_and_get_fresh_names() -> None:
    module = Module()
    constant, twin = (module.add_constant("c", np.zeros(2, np.float32)) for _ in range(2))
    assert (constant.name, twin.name) == ("c", "c.1")
    with pytest.raises(ValueError, match="read-only"):
        constant.array[0] = 1
    scalar = module.add_constant("s", np.float32(2))
    assert scalar.type == TensorType((), F32)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"input 'x' is missing, expected tensor<3xf32>"),
        ({"x": np.zeros(3, np.float32), "y": np.zeros(3)}, "input 'y' is not an input of the model, expected 'x'"),
        ({"x": np.zeros(4, np.float32)}, r"input 'x' is float32\[4\], expected tensor<3xf32>"),
        ({"x": np.zeros(3, np.float64)}, r"input 'x' is float64\[3\], expected tensor<3xf32>"),
    ],
)
def test_interpreter_names_the_wrong_input(function: Function, inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        run(function.module, inputs)


def test_interpreter_locates_an_operation_that_cannot_run(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    total = list(function)[1]
    total.location = Location(("Add_7",))
    monkeypatch.setattr(total, "evaluate", lambda *arrays: np.concatenate(arrays, axis=7))
    with pytest.raises(CompileError, match=r"'nn.add': cannot be executed.*\nnote: from ONNX node 'Add_7'"):
        run(function.module, {"x": np.zeros(3, np.float32)})


def test_interpreter_runs_constants_and_arguments_that_are_returned() -> None:
    text = """
        const @c : tensor<2xf32> = dense<[1.0, 2.0]>
        func @main(%x: tensor<f32>) -> (tensor<2xf32>, tensor<f32>) attributes {outputs = ["a", "b"]} {
          return @c, %x : (tensor<2xf32>, tensor<f32>) -> ()
        }"""
    outputs = run(parse_module(text, CONTEXT), {"x": np.array(3, np.float32)})
    assert {name: array.tolist() for name, array in outputs.items()} == {"a": [1.0, 2.0], "b": 3.0}
