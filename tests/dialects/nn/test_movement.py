"""Data movement against numpy indexing, for floats and quantized integers alike."""

import numpy as np
import pytest
from evaluation import Operand, evaluate, i8
from hypothesis import given, settings
from hypothesis import strategies as st

from accelc.dialects.nn.movement import (
    ConcatOp,
    GatherOp,
    PadOp,
    PermuteChannelsOp,
    ReshapeOp,
    SliceOp,
    TransposeOp,
)

ELEMENT = i8(0.5, -3)
DATA = np.arange(2 * 3 * 5 * 4).astype(np.int8).reshape(2, 3, 5, 4)
OPERANDS = [Operand(DATA, ELEMENT), Operand(DATA.astype(np.float32)), Operand(DATA.astype(np.int64))]


@pytest.mark.parametrize("operand", OPERANDS, ids=lambda operand: str(operand.array.dtype))
def test_movements_keep_the_elements(operand):
    data = operand.array
    assert np.array_equal(evaluate(TransposeOp, operand, permutation=(3, 0, 2, 1)), data.transpose(3, 0, 2, 1))
    assert np.array_equal(evaluate(ReshapeOp, operand, shape=(6, 20)), data.reshape(6, 20))
    assert np.array_equal(evaluate(GatherOp, operand, axis=2, indices=(4, 0, 0)), data[:, :, [4, 0, 0]])
    assert np.array_equal(evaluate(PermuteChannelsOp, operand, permutation=(2, 0, 3, 1)), data[..., [2, 0, 3, 1]])
    assert np.array_equal(evaluate(ConcatOp, operand, operand, operand, axis=1), np.concatenate([data] * 3, axis=1))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_slices(draw):
    cuts = []
    for size in DATA.shape:
        start = draw.draw(st.integers(0, size))
        cuts.append((start, draw.draw(st.integers(start, size)), draw.draw(st.integers(1, 3))))
    starts, stops, steps = zip(*cuts, strict=True)
    actual = evaluate(SliceOp, OPERANDS[0], starts=starts, stops=stops, steps=steps)
    assert np.array_equal(actual, DATA[tuple(slice(*cut) for cut in cuts)])


def test_a_pad_value_is_a_real_number():
    low, high = (0, 1, 2, 0), (1, 0, 0, 3)
    widths = list(zip(low, high, strict=True))
    assert np.array_equal(evaluate(PadOp, OPERANDS[0], low=low, high=high), np.pad(DATA, widths, constant_values=-3))
    assert np.array_equal(
        evaluate(PadOp, OPERANDS[0], low=low, high=high, value=2.0), np.pad(DATA, widths, constant_values=1)
    )
    reals = DATA.astype(np.float32)
    expected = np.pad(reals, widths, constant_values=-1.5)
    assert np.array_equal(evaluate(PadOp, reals, low=low, high=high, value=-1.5), expected)
