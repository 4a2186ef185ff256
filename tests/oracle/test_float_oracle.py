"""The float oracle against arithmetic done by hand, and every operation on bfloat16 in the IR against the oracle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from evaluation import Operand, constant, module_of
from oracle.execution import execute, stored
from oracle.floats import finished, numbers, patterns, rank

from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Operation
from accelc.dialects.core.types import BF16, ElementType
from accelc.dialects.core.verifier import verify
from accelc.dialects.nn.activation import PReluOp, TanhOp
from accelc.dialects.nn.convolution import Conv2dOp
from accelc.dialects.nn.elementwise import AddOp, DivOp, MulOp, SubOp
from accelc.dialects.nn.indexing import ArgMaxOp, EmbeddingOp
from accelc.dialects.nn.layer_normalization import LayerNormOp
from accelc.dialects.nn.matmul import MatmulOp
from accelc.dialects.nn.movement import ConcatOp, GatherOp, PadOp, PermuteChannelsOp, SliceOp, TransposeOp
from accelc.dialects.nn.normalization import LrnOp
from accelc.dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from accelc.dialects.nn.reduction import ReduceMeanOp
from accelc.dialects.nn.softmax import MaskedSoftmaxOp, SoftmaxOp
from accelc.dialects.quant.bfloat16_tables import brain_float_lrn_table, brain_float_table, exponential_table
from accelc.dialects.quant.indices import INDEX_TYPE
from accelc.dialects.quant.ops import DequantizeOp, LookupOp, QuantizeOp

ODD = np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3.3e38, -3.3e38, 1.0])
"""Zeros, infinities, NaN, subnormals, and numbers whose sums and products overflow."""


def by_oracle(op_class: type[Operation], *operands: Any, out: ElementType | None = None, **attributes: Any) -> Any:
    module, inputs = built(op_class, operands, out, attributes)
    return execute(module, inputs)["output0"].astype(np.float32)


def built(op_class: type[Operation], operands: Any, out: ElementType | None, attributes: dict[str, Any]) -> Any:
    module, _ = module_of(op_class, *operands, out=out, **attributes)
    verify(module)
    inputs = {f"x{i}": o.array for i, o in enumerate(operands) if not o.constant}
    return module, inputs


def number(values: Any, *, fixed: bool = False) -> Operand:
    return Operand(stored(np.float32(values)), constant=fixed)


def test_rounding_goes_to_the_nearest_and_to_even_at_ties() -> None:
    step = 2.0**-7
    reals = np.float32([1 + step / 2, 1 + 3 * step / 2, 1 + 0.49 * step, -1 - step / 2, 3.4e38, 8e-41])
    assert numbers(patterns(reals)).tolist() == [1, 1 + 2 * step, 1, -1, np.inf, np.float32(9.18354962e-41)]
    assert patterns(np.float32([np.nan, -np.nan])).tolist() == [0x7FC0, 0x7FC0]


def test_ranks_put_minus_zero_below_zero_and_nan_on_top() -> None:
    order = np.float32([-np.inf, -2, -1, -1e-40, -0.0, 0.0, 1e-40, 1, np.inf, np.nan])
    assert (np.diff(rank(order)) > 0).all()
    assert rank(np.float32([0.0, -0.0])).tolist() == [0, -1]


def test_additions_round_one_after_the_other() -> None:
    """2^24 + 1 is 2^24 in float32, so ones behind it vanish and ones before it do not."""
    large = np.float32(2**24)
    ones, behind = np.ones((1, 3), np.float32), np.float32([[large], [1], [1]])
    assert by_oracle(MatmulOp, number(ones), number(behind)).tolist() == [[2.0**24]]
    assert by_oracle(MatmulOp, number([[1, 1, large]]), number(np.ones((3, 1)))).tolist() == [[2.0**24]]
    total = by_oracle(MatmulOp, number(np.ones((1, 600)) * 1.0), number(np.append(np.ones(599), 2**24)[:, None]))
    assert total.tolist() == [[float(numbers(patterns(np.float32(2**24 + 600))))]]


def test_a_weight_of_zero_gates_infinity() -> None:
    assert by_oracle(MatmulOp, number([[np.inf, 3.0]]), number([[0.0], [2.0]], fixed=True)).tolist() == [[6.0]]
    assert np.isnan(by_oracle(MatmulOp, number([[np.inf, 0.0]]), number([[0.0], [np.inf]], fixed=True)))


def test_a_clamp_follows_the_ranks() -> None:
    module, _ = module_of(AddOp, number([0.0]), number([0.0]), clamp_min=0.0, clamp_max=6.0)
    (op, *_) = module.main.body
    found = finished(op, np.float32([-3, -0.0, 2, 7, np.nan]))
    assert found.tolist() == [0, 0, 2, 6, 6]
    assert not np.signbit(found).any()


def cases_of(seed: int, *, odd: bool = False) -> list[tuple[Any, ...]]:
    """(class, operands, result element, attributes) of every operation; `odd` mixes special numbers into the data."""
    rng = np.random.default_rng(seed)

    def reals(*shape: int) -> np.ndarray:
        values = (rng.standard_normal(shape) * 2.0 ** rng.integers(-6, 7, shape)).astype(np.float32)
        return np.where(rng.integers(0, 8, shape) == 0, rng.choice(ODD, shape), values) if odd else values

    def draw(*shape: int) -> Operand:
        return number(reals(*shape))

    def weights(*shape: int) -> Operand:
        values = rng.standard_normal(shape) * rng.integers(0, 4, shape)  # a quarter are 0
        return number(values, fixed=True)

    def fixed(*shape: int) -> Operand:
        return constant(rng.standard_normal(shape).astype(np.float32))

    a, b, image, clamp = draw(3, 4, 5), draw(4, 5), draw(1, 6, 5, 3), {"clamp_min": -0.5, "clamp_max": 1.7}
    window: dict[str, Any] = {"kernel": (3, 2), "strides": (2, 1), "pads": (1, 0, 1, 1)}
    lrn: dict[str, Any] = {"size": 5, "alpha": 0.3, "beta": 0.75, "bias": 2.0}
    hidden = rng.integers(0, 2, (3, 20)).astype(np.int8)
    hidden[1] = 0
    exponentials, tanh = constant(exponential_table()), constant(brain_float_table(TanhOp.formula))
    convolutions = [
        (
            Conv2dOp,
            (draw(2, 7, 6, groups * depth), weights(3, 2, depth, outs), fixed(outs)),
            None,
            {"groups": groups} | s,
        )
        for groups, depth, outs in ((1, 5, 7), (4, 1, 8), (6, 1, 6), (3, 2, 6))
        for s in (
            {"clamp_min": 0.0},
            {"strides": (2, 1), "pads": (1, 0, 2, 1)},
            {"dilations": (2, 3), "pads": (3, 2, 1, 2)},
        )
    ]
    return [
        *convolutions,
        (Conv2dOp, (image, weights(1, 1, 3, 4)), None, {}),
        (MatmulOp, (draw(2, 6, 9), weights(9, 4), fixed(4)), None, clamp),
        (MatmulOp, (draw(2, 6, 9), draw(2, 9, 4)), None, {"factor": 0.3}),
        (MatmulOp, (draw(6, 9), draw(2, 4, 9)), None, {"transpose_rhs": True}),
        *(
            (LayerNormOp, (draw(2, 6, 9), fixed(9), fixed(9)), None, {"epsilon": 0.01, "centred": c})
            for c in (True, False)
        ),
        *((op, (a, b), None, extra) for op in (AddOp, SubOp, MulOp, DivOp) for extra in ({}, clamp)),
        (LrnOp, (draw(2, 3, 9), constant(brain_float_lrn_table(**lrn))), None, lrn),
        (PReluOp, (a, fixed(5)), None, {}),
        (LookupOp, (a, tanh), None, {}),
        (MaxPoolOp, (image,), None, {**window, "dilations": (1, 2)}),
        (AveragePoolOp, (image,), None, window),
        (AveragePoolOp, (image,), None, {**window, "counted_pads": (1, 0, 0, 1), **clamp}),
        (ReduceMeanOp, (image,), None, {"axes": (1, 2), "keepdims": False}),
        (ReduceMeanOp, (image,), None, {"axes": (0, 3), "factor": 3.0, "clamp_max": 0.5}),
        *((SoftmaxOp, (draw(3, 20), exponentials), None, {"axis": axis}) for axis in (0, 1)),
        (MaskedSoftmaxOp, (draw(2, 3, 20), constant(hidden), exponentials), None, {}),
        (
            EmbeddingOp,
            (Operand(np.int16([[-9, -1, 0], [2, 7, 99]]), INDEX_TYPE), replace(draw(8, 5), constant=True)),
            None,
            {},
        ),
        *((ArgMaxOp, (draw(3, 4, 9),), None, {"last": last}) for last in (False, True)),
        (ConcatOp, (a, draw(3, 2, 5)), None, {"axis": 1}),
        (SliceOp, (a,), None, {"starts": (0, 1, 0), "stops": (3, 4, 5), "steps": (1, 2, 3)}),
        (PadOp, (a,), None, {"low": (0, 1, 0), "high": (2, 0, 1), "value": 0.61}),
        (GatherOp, (a,), None, {"axis": 1, "indices": (3, 0, 0)}),
        (TransposeOp, (a,), None, {"permutation": (2, 0, 1)}),
        (PermuteChannelsOp, (a,), None, {"permutation": (4, 2, 0, 1, 3)}),
        (QuantizeOp, (Operand(np.nan_to_num(reals(40, 25))),), BF16, {}),
        (DequantizeOp, (a,), None, {}),
    ]


@pytest.mark.parametrize("odd", [False, True], ids=["ordinary", "odd"])
@pytest.mark.parametrize("index", range(len(cases_of(0))), ids=lambda i: f"{cases_of(0)[i][0].name}-{i}")
def test_operation_computes_what_the_oracle_does(index: int, odd: bool) -> None:
    op_class, operands, out, attributes = cases_of(index, odd=odd)[index]
    module, inputs = built(op_class, operands, out, attributes)
    expected, actual = execute(module, inputs)["output0"], run(module, inputs)["output0"]
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual.view(f"u{actual.itemsize}"), expected.view(f"u{actual.itemsize}"))
