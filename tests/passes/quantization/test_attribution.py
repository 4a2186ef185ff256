"""Where the error comes from: a layer that is spoilt on purpose is named first, with what was done to it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accelc.backends.target import DEFAULT_TARGET, load_target
from accelc.compiler.driver import Settings, compile_module
from accelc.dialects.core.types import F32
from accelc.dialects.nn.convolution import Conv2dOp
from accelc.dialects.nn.elementwise import BinaryOperation
from accelc.dialects.nn.pooling import AveragePoolOp
from accelc.passes.framework.environment import Baseline
from accelc.passes.quantization.attribution import CAUSES, Walk, attribute_error, rounding_step
from accelc.passes.quantization.measure import Fidelity, return_logits
from accelc.passes.quantization.ranges import Range

ROOT = Path(__file__).parents[3]
MODEL = ROOT / "examples/models/digits_cnn.onnx"
SETTINGS = Settings(
    load_target(DEFAULT_TARGET),
    calibration=ROOT / "examples/data/digits.calibration.npz",
    calibration_method="min-max",
    skipped=frozenset({"round-weights", "correct-bias", "equalize-channels"}),
    stop="onnx",
)
SPOILT = "/features/3/act/Relu"


def quantized(table=None, settings=SETTINGS, model=MODEL):
    baseline = Baseline()
    return compile_module(model, settings, baseline=baseline, table=table).module, baseline


def with_range(factor):
    """The network in which the range of one tensor is `factor` times what calibration chose."""
    _, baseline = quantized()
    assert baseline.table is not None
    tensors = dict(baseline.table.tensors)
    seen = tensors[SPOILT]
    tensors[SPOILT] = replace(seen, range=Range(seen.range.low * factor, seen.range.high * factor))
    return quantized(replace(baseline.table, tensors=tensors), replace(SETTINGS, calibration_method=None))


@pytest.mark.parametrize(("factor", "cause"), [(0.25, "clipping"), (40.0, "activation rounding")])
def test_a_range_too_narrow_or_too_wide_is_named_first(factor, cause):
    found = attribute_error(*with_range(factor))
    worst = found.losses[0]
    assert SPOILT in worst.nodes
    assert max(worst.causes, key=worst.causes.get) == cause
    assert worst.causes[cause] > 0.8 * found.error
    assert worst.together > 0.8 * found.error


def test_coarse_weights_are_named_first():
    module, baseline = quantized()
    layer = next(op for op in module.main.body if isinstance(op, Conv2dOp) and SPOILT in op.location.nodes)
    coarse = (layer.weight.array.astype(np.int32) + 16) // 32 * 32
    layer.set_operand(1, module.add_constant("coarse", np.clip(coarse, -128, 127).astype(np.int8)))
    found = attribute_error(module, baseline)
    worst = found.losses[0]
    assert SPOILT in worst.nodes
    assert max(worst.causes, key=worst.causes.get) == "weight rounding"
    assert worst.causes["weight rounding"] > 0.8 * found.error


def test_the_error_is_that_of_the_executed_integers_and_every_layer_has_a_row():
    module, baseline = quantized()
    found = attribute_error(module, baseline)
    fidelity = Fidelity(baseline.module, baseline.measured)
    assert found.error == fidelity.error(module)
    assert found.samples == fidelity.count
    assert [set(loss.causes) for loss in found.losses] == [set(CAUSES)] * 7
    assert "input 'input'" in [loss.layer for loss in found.losses]
    assert [loss.together for loss in found.losses] == sorted((loss.together for loss in found.losses), reverse=True)
    pool = next(loss for loss in found.losses if loss.nodes == ("/pool/GlobalAveragePool",))
    assert pool.causes["weight rounding"] == pool.causes["clipping"] == 0.0


@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("model", ["digits_cnn", "digits_shufflenet"])
def test_integers_that_are_carried_as_reals_give_the_same(precision, model):
    """Exactly for products and movement; by the float form of a sum or an average within one step."""
    module, baseline = quantized(settings=replace(SETTINGS, precision=precision), model=MODEL.with_stem(model))
    copy = module.clone()
    steps = [rounding_step(op, baseline) for op in module.main.body]
    assert return_logits(copy) == [None]
    run = next(Fidelity(baseline.module, baseline.measured).runs(copy))
    walk = Walk(run, steps, [None])
    values, checked = walk.inputs(), 0
    for index, op in enumerate(run.module.main.body):
        quantized_operands = [v for v in op.operands if v in values and v.type.element != F32]
        if op.results and quantized_operands:
            expected = walk.step(index, values)
            found = walk.step(index, values | {v: values[v].astype(np.float64) for v in quantized_operands})
            difference = np.abs(found.astype(np.float64) - expected)
            exact = not isinstance(op, (BinaryOperation, AveragePoolOp)) and not getattr(op, "pre_shift", 0)
            assert difference.max() <= (0 if exact else 1), op.name
            checked += 1
        walk.advance(index, values)
    assert checked > 10
