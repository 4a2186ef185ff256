"""Networks that differ in few places: the same results, from where they differ on."""

from collections import Counter

import numpy as np
import pytest

from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.dialects.core.parser import parse_module
from accelc.dialects.nn.matmul import MatmulOp
from accelc.dialects.quant.ops import LookupOp, QuantizeOp, RequantizeOp
from accelc.dialects.registry import CONTEXT
from accelc.passes.quantization.recall import Recall

X = np.random.default_rng(0).standard_normal((1, 4), np.float32)


def network(*, weight: int = 3, scale: float = 0.01, low: int = -100) -> Module:
    type = "tensor<1x4x!quant.i8<0.1:0>>"
    return parse_module(
        f"""const @w : tensor<4x4xi8> = dense<{weight}>
        const @s : tensor<1xf32> = dense<{scale}>
        const @t : tensor<256xi8> = dense<7>
        func @main(%x: tensor<1x4xf32>) -> tensor<1x4x!quant.i8<0.1:0>> {{
          %0 = quant.quantize %x : tensor<1x4xf32> -> {type}
          %1 = nn.matmul %0, @w : ({type}, tensor<4x4xi8>) -> tensor<1x4xi32>
          %2 = quant.requantize %1, @s {{low = {low}}} : (tensor<1x4xi32>, tensor<1xf32>) -> {type}
          %3 = quant.lookup %0, @t : ({type}, tensor<256xi8>) -> {type}
          %4 = nn.add %2, %3 : ({type}, {type}) -> {type}
          return %4 : {type} -> ()
        }}""",
        CONTEXT,
    )


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    counts: Counter[str] = Counter()
    for kind in (QuantizeOp, MatmulOp, RequantizeOp, LookupOp):
        plain = kind.evaluate

        def counted(op, *arguments, plain=plain):
            counts[op.name] += 1
            return plain(op, *arguments)

        monkeypatch.setattr(kind, "evaluate", counted)
    return counts


def recall(memory: Recall, module: Module, name: int = 0, x: np.ndarray = X) -> None:
    memory.begin()
    (found,) = memory.run(module.main, {"x": x}, name)
    (expected,) = run(module, {"x": x}).values()
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, set()),
        ({"weight": 4}, {"nn.matmul", "quant.requantize"}),
        ({"scale": 0.02}, {"nn.matmul", "quant.requantize"}),
        ({"low": -5}, {"nn.matmul", "quant.requantize"}),
    ],
)
def test_only_what_follows_from_a_change_is_executed_again(executed, change, again):
    memory = Recall()
    recall(memory, network())
    memory.keep()
    executed.clear()
    recall(memory, network(**change))
    # `run`, which it is compared with, executes everything once.
    assert {name for name, count in executed.items() if count == 2} == again


def test_other_samples_are_not_taken_for_these(executed):
    memory = Recall()
    recall(memory, network())
    memory.keep()
    recall(memory, network(), 1, X + 1)


def test_what_was_not_kept_is_forgotten(executed):
    memory = Recall()
    recall(memory, network())
    executed.clear()
    recall(memory, network())
    assert set(executed.values()) == {2}
