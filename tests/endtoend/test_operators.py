"""Operators of transformers and decoders, alone: oracle == quantized IR == program, bit for bit, and near the float."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from endtoend.agreement import machine_start
from endtoend.transformers import causal_block, keyword_transformer
from models import node_model
from oracle.execution import execute
from reference import random_inputs, reference_outputs

from accelc.backends.emitter import emit
from accelc.backends.program import program_from_bytes
from accelc.backends.simulator.simulator import Simulator
from accelc.backends.target import load_target
from accelc.compiler.importer import import_model
from accelc.dialects.core.interpreter import run
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.pipelines import PIPELINES
from accelc.passes.registry import PASSES

RNG = np.random.default_rng(11)
TOKENS = (1, 7, 12)
IMAGE = (1, 6, 5, 7)
SEQUENCE = (5, 1, 6)


def weights(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CASES: list[tuple[str, list[Any], dict[str, Any], int]] = [
    *((name, [IMAGE], {}, 20) for name in ("Abs", "Cos", "Elu", "Erf", "Exp", "Gelu", "Mish", "Neg", "Selu", "Sin")),
    *((name, [IMAGE], {}, 20) for name in ("Softplus", "Softsign", "Celu")),
    ("Gelu", [IMAGE], {"approximate": "tanh"}, 20),
    ("Pow", [IMAGE, np.float32(3)], {}, 17),
    ("Max", [IMAGE, IMAGE], {}, 17),
    ("Min", [IMAGE, np.float32(0.5)], {}, 17),
    ("MatMul", [(1, 2, 7, 5), (1, 2, 5, 9)], {}, 17),
    ("MatMul", [(1, 2, 7, 5), weights(2, 5, 9)], {}, 17),
    ("MatMul", [weights(4, 7), TOKENS], {}, 17),
    ("Einsum", [TOKENS, weights(12, 3, 4)], {"equation": "abc,cde->abde"}, 17),
    ("Einsum", [(1, 5, 3, 4), (1, 6, 3, 4)], {"equation": "bqhd,bkhd->bhqk"}, 17),
    ("LayerNormalization", [TOKENS, weights(12), weights(12)], {}, 17),
    ("LayerNormalization", [TOKENS, weights(7, 12)], {"axis": 1}, 17),
    ("RMSNormalization", [TOKENS, weights(12)], {}, 23),
    ("InstanceNormalization", [IMAGE, weights(6), weights(6)], {}, 17),
    ("GroupNormalization", [IMAGE, weights(6), weights(6)], {"num_groups": 2}, 21),
    *(("Softmax", [IMAGE], {"axis": axis}, 17) for axis in (1, 2, 3)),
    *(("ReduceMean", [IMAGE], {"axes": axes}, 17) for axes in ([1], [3], [1, 2], [1, 2, 3])),
    ("ReduceSum", [TOKENS, ints(2)], {}, 13),
    ("ReduceSum", [(1, 3, 512), ints(2)], {}, 13),
    ("Conv", [(1, 1, 2000), weights(6, 1, 400)], {"strides": [300]}, 17),
    ("Conv", [(1, 2, 700), weights(3, 2, 3)], {"dilations": [300]}, 17),
    ("Conv", [(1, 2, 1300), weights(2, 1, 3)], {"strides": [270], "dilations": [260], "group": 2}, 17),
    ("Add", [(1, 6, 2, 5, 2, 1, 7), weights(7)], {}, 17),
    ("Mul", [(2, 3, 4, 5, 2, 7), weights(2, 1, 1, 5, 1, 7)], {}, 17),
    ("Sub", [(2, 3, 4, 5, 2, 7), weights(1, 3, 4, 1, 1, 1)], {}, 17),
    ("Sigmoid", [(3, 4, 5, 2, 7)], {}, 17),
    ("PRelu", [(3, 4, 5, 2, 7), weights(7)], {}, 17),
    ("MaxPool", [(1, 2, 700)], {"kernel_shape": [3], "strides": [300]}, 17),
    ("ReduceMax", [TOKENS], {"axes": [2], "keepdims": 0}, 17),
    ("ReduceMin", [TOKENS], {"axes": [1]}, 17),
    ("ReduceL2", [TOKENS], {"axes": [2]}, 17),
    ("Expand", [(1, 1, 12), ints(1, 7, 12)], {}, 17),
    ("Tile", [TOKENS, ints(1, 2, 3)], {}, 17),
    ("Where", [np.tri(7, 12, dtype=bool), TOKENS, np.float32(0.5)], {}, 17),
    ("Resize", [IMAGE, None, np.float32([1, 1, 2, 2])], {}, 17),
    ("Resize", [IMAGE, None, np.float32([1, 1, 2, 1.5])], {"mode": "linear"}, 17),
    ("DepthToSpace", [(1, 12, 3, 5)], {"blocksize": 2}, 17),
    ("SpaceToDepth", [(1, 3, 4, 6)], {"blocksize": 2}, 17),
    ("ConvTranspose", [IMAGE, weights(6, 4, 3, 3), weights(4)], {"strides": [2, 2], "pads": [1] * 4}, 17),
    ("ConvTranspose", [IMAGE, weights(6, 2, 2, 2)], {"strides": [2, 2], "group": 3}, 17),
    ("Attention", [TOKENS, (1, 7, 6), (1, 7, 6)], {"q_num_heads": 2, "kv_num_heads": 1, "is_causal": 1}, 23),
    ("Attention", [TOKENS, (1, 5, 12), (1, 5, 12)], {"q_num_heads": 3, "kv_num_heads": 3}, 23),
    ("LSTM", [SEQUENCE, 0.3 * weights(1, 20, 6), 0.3 * weights(1, 20, 5), weights(1, 40)], {"hidden_size": 5}, 17),
    ("GRU", [SEQUENCE, 0.3 * weights(1, 15, 6), 0.3 * weights(1, 15, 5)], {"hidden_size": 5}, 17),
]
"""(operator, inputs, attributes, opset); inputs as in `node_model`."""


def label(case: tuple[str, list[Any], dict[str, Any], int]) -> str:
    return f"{case[0]}{case[2]}".replace(" ", "")


@pytest.mark.parametrize("case", CASES, ids=label)
@pytest.mark.parametrize(("level", "target"), [("O0", "tile16"), ("O2", "tile32")])
def test_an_operator_computes_the_same_bits_in_every_form(
    case: tuple[str, list[Any], dict[str, Any], int], level: str, target: str
) -> None:
    op_type, inputs, attributes, opset = case
    assert agreed(node_model(op_type, inputs, opset=opset, **attributes), level, target) > 20


@pytest.mark.parametrize("target", ["tile16", "tile32", "array32", "tile64"])
@pytest.mark.parametrize("level", PIPELINES)
def test_a_keyword_transformer_computes_the_same_bits_in_every_form(level: str, target: str) -> None:
    assert agreed(keyword_transformer(form="erf" if target == "tile32" else "tanh"), level, target) > 20


@pytest.mark.parametrize("target", ["tile16", "tile32"])
@pytest.mark.parametrize("masked", [-np.inf, -1e9, -1e4])
def test_a_causal_block_computes_the_same_bits_in_every_form(masked: float, target: str) -> None:
    assert agreed(causal_block(masked=masked), "O2", target) > 25


def test_everything_that_exporters_spell_out_is_recognised() -> None:
    """No arithmetic is left beside residual sums, and attention moves nothing."""
    module, target = import_model(keyword_transformer()), load_target("tile32")
    PassManager(parse_pipeline(PIPELINES["O2"], PASSES)).run(module, Environment(target=target))
    kinds = module.attributes["layer_kinds"]
    block = ["matmul", "matmul", "softmax", "matmul", "matmul", "add", "layer norm"]
    block += ["matmul", "lookup", "matmul", "add", "layer norm"]
    assert [kind for kind in kinds if kind not in ("input", "output", "move")] == [
        "matmul",
        "add",
        *block * 2,
        "matmul",
    ]
    assert kinds.count("move") == 1, "the constant token before the others"


def agreed(model: onnx.ModelProto, level: str, target_name: str) -> float:
    """Compile for real, compare all forms, and return the least signal-to-noise ratio of an output in dB."""
    module, target = import_model(model), load_target(target_name)
    inputs = random_inputs(module)
    expected = reference_outputs(model, inputs)
    passes = parse_pipeline(PIPELINES[level], PASSES)
    cut = machine_start(passes)
    data = CalibrationData({name: np.stack([array, array]) for name, array in inputs.items()})
    PassManager(passes[:cut]).run(module, Environment(calibration=data))
    quantized, exact = run(module, inputs), execute(module, inputs)
    PassManager(passes[cut:]).run(module, Environment(target=target))
    program = program_from_bytes(emit(module, target).to_bytes())
    forms = {"lowered": run(module, inputs), "oracle": exact}
    forms |= {mode: Simulator(program, mode=mode).run(inputs) for mode in ("fast", "plain", "checked")}
    for form, outputs in forms.items():
        for name, array in quantized.items():
            assert np.array_equal(outputs[name], array), f"{form}: {name} differs"
    return min(
        10 * float(np.log10((wanted**2).sum() / max(((quantized[name] - wanted) ** 2).sum(), 1e-30)))
        for name, wanted in expected.items()
    )
