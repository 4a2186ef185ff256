"""The oracle against arithmetic done by hand, and every integer operation of the IR against the oracle."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from evaluation import Operand, constant, i8, module_of
from oracle.execution import execute
from oracle.rounding import common_fixed_point, divided, fixed_point, rounded, shifted

from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Operation
from accelc.dialects.core.types import I16, I32, I64, ElementType
from accelc.dialects.core.verifier import verify
from accelc.dialects.nn.activation import PReluOp
from accelc.dialects.nn.convolution import Conv2dOp
from accelc.dialects.nn.elementwise import AddOp, DivOp, MulOp, SubOp
from accelc.dialects.nn.indexing import ArgMaxOp, EmbeddingOp
from accelc.dialects.nn.layer_normalization import LayerNormOp
from accelc.dialects.nn.matmul import MatmulOp
from accelc.dialects.nn.movement import (
    ConcatOp,
    GatherOp,
    PadOp,
    PermuteChannelsOp,
    ReshapeOp,
    SliceOp,
    TransposeOp,
)
from accelc.dialects.nn.normalization import LrnOp
from accelc.dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from accelc.dialects.nn.reduction import ReduceMeanOp
from accelc.dialects.nn.softmax import MaskedSoftmaxOp, SoftmaxOp
from accelc.dialects.quant.indices import INDEX_TYPE
from accelc.dialects.quant.ops import DequantizeOp, LookupOp, QuantizeOp, RequantizeOp
from accelc.dialects.quant.tables import lrn_table, softmax_table, softmax_type
from accelc.dialects.quant.types import QuantizedType

IN, OTHER, OUT = i8(0.05, 3), i8(0.031, -20), i8(0.07, -11)
WIDE = tuple(QuantizedType(I16, scale, 0) for scale in (0.0004, 0.00023, 0.00051))
PROBABILITY = i8(1 / 256, -128)


def by_oracle(op_class: type[Operation], *operands: Any, out: ElementType | None = None, **attributes: Any) -> Any:
    module, inputs = built(op_class, operands, out, attributes)
    return execute(module, inputs)["output0"]


def built(op_class: type[Operation], operands: Any, out: ElementType | None, attributes: dict[str, Any]) -> Any:
    module, _ = module_of(op_class, *operands, out=out, **attributes)
    verify(module)
    inputs = {f"x{i}": o.array for i, o in enumerate(operands) if not o.constant}
    return module, inputs


def stored(values: Any, element: ElementType = IN) -> Operand:
    return Operand(np.asarray(values, np.int8), element)


def test_rounding_is_to_even_at_ties() -> None:
    numerators = np.arange(-40, 41)
    for denominator in (1, 2, 3, 4, 8):
        exact = [round(Fraction(int(n), denominator)) for n in numerators]  # Python rounds fractions to even
        assert divided(numerators, denominator).tolist() == exact
        assert [rounded(Fraction(int(n), denominator)) for n in numerators] == exact
    assert shifted(np.array([1, 3, 5, -1, -3]), 1).tolist() == [0, 2, 2, 0, -2]
    assert shifted(np.array([7]), 0).tolist() == [7]


@pytest.mark.parametrize("scale", [0.75, 1.0, 1 / 3, 5e-7, 2.0**-32, 2.0**20 + 0.3, 1 - 2.0**-30])
def test_multiplier_is_the_nearest_of_22_bits(scale: float) -> None:
    multiplier, shift = fixed_point(Fraction(scale))
    assert 2**21 <= multiplier < 2**22
    error = abs(Fraction(multiplier, 2**shift) - Fraction(scale))
    assert error <= Fraction(1, 2 ** (shift + 1))


def test_tiny_scales_vanish_and_large_ones_are_refused() -> None:
    assert fixed_point(Fraction(0)) == fixed_point(Fraction(2.0**-33)) == (0, 0)
    assert common_fixed_point([Fraction(1), Fraction(-1, 2**30)]) == ([2**21, 0], 21)
    with pytest.raises(ValueError, match="too large"):
        fixed_point(Fraction(2**22))


def test_convolution_pads_with_the_zero_point() -> None:
    out = by_oracle(Conv2dOp, stored([[[[5]]]]), constant(np.full((3, 3, 1, 1), 2, np.int8)), pads=(1, 1, 1, 1))
    assert out.tolist() == [[[[2 * (5 - 3)]]]]


def test_grouped_convolution_keeps_groups_apart() -> None:
    weight = np.arange(1, 5, dtype=np.int8).reshape(1, 1, 1, 4)
    out = by_oracle(Conv2dOp, stored([[[[4, 13]]]]), constant(weight), constant(np.int32([0, 0, 7, 0])), groups=2)
    assert out.tolist() == [[[[1, 2, 37, 40]]]]


def test_average_divides_by_what_it_counts() -> None:
    data = stored([[[[13], [33]]]])
    alone = by_oracle(AveragePoolOp, data, kernel=(1, 2), pads=(0, 1, 0, 0), out=IN)
    framed = by_oracle(AveragePoolOp, data, kernel=(1, 2), pads=(0, 1, 0, 0), counted_pads=(0, 1, 0, 0), out=IN)
    assert alone.ravel().tolist() == [13, 23]
    assert framed.ravel().tolist() == [8, 23]


def test_softmax_of_equal_values_shares_evenly() -> None:
    table = Operand(softmax_table(IN.scale), constant=True)
    out = by_oracle(SoftmaxOp, stored([[9, 9, 9, 9]]), table, axis=1, out=PROBABILITY)
    assert out.tolist() == [[64 - 128] * 4]


def test_division_by_zero_saturates_by_sign() -> None:
    out = by_oracle(DivOp, stored([103, -97, 3]), stored([-20, -20, -20], OTHER), out=OUT)
    assert out.tolist() == [127, -128, OUT.zero_point]


def test_a_wrong_softmax_table_is_noticed() -> None:
    table = softmax_table(IN.scale)
    table[7] += 1
    with pytest.raises(AssertionError, match="softmax table"):
        by_oracle(SoftmaxOp, stored([[1, 2]]), Operand(table, constant=True), axis=1, out=PROBABILITY)


def test_float_arithmetic_has_no_meaning_here() -> None:
    ones = Operand(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="has no meaning in integers"):
        by_oracle(AddOp, ones, ones)


Draw = Callable[..., Operand]


def convolutions(draw: Draw, rng: np.random.Generator, bits: int) -> list[tuple[Any, ...]]:
    """Convolutions with groups, dilation, strides and uneven pads."""
    weight_type, bias_type = (np.int8, np.int32) if bits == 8 else (np.int16, np.int64)
    limit = np.iinfo(weight_type).max
    cases: list[tuple[Any, ...]] = []
    for groups, depth, outs in ((1, 5, 7), (4, 1, 8), (3, 2, 6)):
        weight = constant(rng.integers(-limit, limit + 1, (3, 2, depth, outs)).astype(weight_type))
        bias = constant(rng.integers(-(2**20), 2**20, outs).astype(bias_type))
        for shape in ({}, {"strides": (2, 1), "pads": (1, 0, 2, 1)}, {"dilations": (2, 3), "pads": (3, 2, 1, 2)}):
            cases.append((Conv2dOp, (draw(2, 7, 6, groups * depth), weight, bias), None, {**shape, "groups": groups}))
    return cases


def cases_of(seed: int, bits: int = 8) -> list[tuple[Any, ...]]:
    """(class, operands, result element, attributes) of every integer operation, on seeded integers of any size."""
    rng = np.random.default_rng(seed)
    source, other, target = (IN, OTHER, OUT) if bits == 8 else WIDE
    storage, limit = source.storage, 1 << (bits - 1)

    def integers(*shape: int) -> np.ndarray:
        return rng.integers(-limit, limit, shape).astype(source.dtype)

    def draw(*shape: int, element: ElementType = source) -> Operand:
        return Operand(integers(*shape), element)

    a, b, image = draw(3, 4, 5), draw(4, 5, element=other), draw(1, 6, 5, 3)
    sums, width = (I32, 31) if bits == 8 else (I64, 44)
    accumulator = Operand(rng.integers(-(2**width) + 1, 2**width, (2, 3, 4)).astype(sums.dtype), sums)
    factors = constant((10 ** rng.uniform(*((-10, -5) if bits == 8 else (-13, -8)), 4)).astype(np.float32))
    shifted_by: dict[str, Any] = {} if bits == 8 else {"pre_shift": 13}
    half = constant(np.float32([0.5]))
    slope = constant(rng.uniform(-2, 2, 5).astype(np.float32))
    table = constant(integers(256 if bits == 8 else 513))
    lrn = {"size": 5, "alpha": 0.3, "beta": 0.75, "bias": 2.0}
    gains, shift = lrn_table(source, target, **lrn)
    window: dict[str, Any] = {"kernel": (3, 2), "strides": (2, 1), "pads": (1, 0, 1, 1)}
    row = constant(rng.uniform(-2, 2, 9).astype(np.float32)), constant(rng.uniform(-1, 1, 9).astype(np.float32))
    hidden = rng.integers(0, 2, (3, 50)).astype(np.int8)
    hidden[1] = 0
    real = Operand(np.float32(rng.normal(0, 5, (40, 25))))
    clamp = {"clamp_min": -0.5, "clamp_max": 1.7}
    named = Operand(rng.choice([-(2**15), -8, -7, -1, 0, 3, 6, 7, 2**15 - 1], (4, 6)).astype(np.int16), INDEX_TYPE)
    return [
        *convolutions(draw, rng, bits),
        (MatmulOp, (draw(2, 6, 9), constant(rng.integers(-127, 128, (9, 4)).astype(np.int8))), None, {}),
        (MatmulOp, (draw(2, 6, 9), draw(2, 9, 4, element=other)), None, {}),
        (MatmulOp, (draw(2, 6, 9), draw(2, 4, 9, element=other)), None, {"transpose_rhs": True}),
        *((LayerNormOp, (draw(2, 6, 9), *row), target, {"epsilon": 0.01, "centred": c}) for c in (True, False)),
        (RequantizeOp, (accumulator, factors), target, shifted_by),
        (RequantizeOp, (accumulator, factors), target, {"low": -11, "high": 90, **shifted_by}),
        (RequantizeOp, (a, half), target, {}),
        (RequantizeOp, (a, half), OUT if bits == 16 else WIDE[2], {}),
        *((op, (a, b), target, extra) for op in (AddOp, SubOp, MulOp, DivOp) for extra in ({}, clamp)),
        (PReluOp, (a, slope), target, {}),
        (LookupOp, (a, table), target, {}),
        (MaxPoolOp, (image,), None, {**window, "dilations": (1, 2)}),
        (AveragePoolOp, (image,), target, window),
        (AveragePoolOp, (image,), target, {**window, "counted_pads": (1, 0, 0, 1), **clamp}),
        (ReduceMeanOp, (image,), target, {"axes": (1, 2), "keepdims": False}),
        (ReduceMeanOp, (image,), source, {"axes": (3,)}),
        (ReduceMeanOp, (image,), target, {"axes": (0, 2, 3), "factor": 3.0}),
        (
            SoftmaxOp,
            (draw(3, 50), constant(softmax_table(source.scale, 50, storage))),
            softmax_type(storage),
            {"axis": 1},
        ),
        (
            MaskedSoftmaxOp,
            (draw(2, 3, 50), constant(hidden), constant(softmax_table(source.scale, 50, storage))),
            softmax_type(storage),
            {},
        ),
        (LrnOp, (draw(2, 3, 9), constant(gains)), target, {**lrn, "shift": shift}),
        (EmbeddingOp, (named, Operand(integers(7, 5), source, constant=True)), None, {}),
        *((ArgMaxOp, (Operand(integers(3, 4, 9) % 5, source),), None, {"last": last}) for last in (False, True)),
        (ConcatOp, (a, draw(3, 2, 5)), None, {"axis": 1}),
        (SliceOp, (a,), None, {"starts": (0, 1, 0), "stops": (3, 4, 5), "steps": (1, 2, 3)}),
        (PadOp, (a,), None, {"low": (0, 1, 0), "high": (2, 0, 1), "value": 0.61}),
        (GatherOp, (a,), None, {"axis": 1, "indices": (3, 0, 0)}),
        (ReshapeOp, (a,), None, {"shape": (5, 12)}),
        (TransposeOp, (a,), None, {"permutation": (2, 0, 1)}),
        (PermuteChannelsOp, (a,), None, {"permutation": (4, 2, 0, 1, 3)}),
        (QuantizeOp, (real,), source, {}),
        (DequantizeOp, (a,), None, {}),
    ]


@pytest.mark.parametrize("index", range(len(cases_of(0))), ids=lambda i: f"{cases_of(0)[i][0].name}-{i}")
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("bits", [8, 16])
def test_operation_computes_what_the_oracle_does(index: int, seed: int, bits: int) -> None:
    op_class, operands, out, attributes = cases_of(seed, bits)[index]
    module, inputs = built(op_class, operands, out, attributes)
    expected, actual = execute(module, inputs)["output0"], run(module, inputs)["output0"]
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


def test_ties_between_multipliers_go_to_even() -> None:
    """A float32 scale lies halfway between two multipliers of 22 bits a quarter of the time; here one step shows it."""
    scale = np.float32((2**21 + 0.5) * 2.0**-41)
    assert fixed_point(Fraction(float(scale))) == (2**21, 41)
    assert fixed_point(Fraction((2**21 + 1.5) * 2.0**-41)) == (2**21 + 2, 41)
    steps = np.arange(-100, 101, 2)
    accumulator = Operand((steps * 2**20 + 2**19).astype(np.int32), I32)  # halfway above an even step if M is even
    module, inputs = built(RequantizeOp, (accumulator, constant(np.float32([scale]))), i8(0.07, 0), {})
    assert execute(module, inputs)["output0"].tolist() == steps.tolist()
    assert run(module, inputs)["output0"].tolist() == steps.tolist()
