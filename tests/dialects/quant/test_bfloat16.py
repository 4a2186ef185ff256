"""The numeric contract of bfloat16: rounding, ordinals, the order of sums, and tables that lose nothing."""

import ml_dtypes
import numpy as np
import pytest

from accelc.dialects.nn.activation import HardSwishOp, SigmoidOp, TanhOp
from accelc.dialects.nn.functions import ExpOp, LogOp, SqrtOp
from accelc.dialects.quant import bfloat16
from accelc.dialects.quant.bfloat16 import add_products, from_ordinals, ordered_matmul, ordinals, rounded
from accelc.dialects.quant.bfloat16_tables import brain_float_table, looked_up_brain_float, page_count
from accelc.dialects.quant.types import BRAIN_FLOAT

EVERY = np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16)
with np.errstate(invalid="ignore"):
    REAL = EVERY[~np.isnan(EVERY.astype(np.float32))]


def test_every_number_is_what_it_rounds_to_and_has_an_ordinal_in_order():
    assert rounded(REAL.astype(np.float32)).tobytes() == REAL.tobytes()
    assert from_ordinals(ordinals(EVERY)).tobytes() == EVERY.tobytes()
    order = np.argsort(ordinals(REAL), kind="stable")
    assert (np.diff(REAL[order].astype(np.float64)[1:-1]) >= 0).all()
    assert (BRAIN_FLOAT.integer(-np.inf), BRAIN_FLOAT.integer(0.0)) == (BRAIN_FLOAT.low, 0)
    assert ordinals(rounded(np.float32([np.nan, -np.nan]))).tolist() == [BRAIN_FLOAT.high] * 2


@pytest.mark.parametrize(
    ("function", "largest"),
    [
        (TanhOp.formula, 5_000),
        (SigmoidOp.formula, 10_000),
        (ExpOp.formula, 11_000),
        (HardSwishOp.formula, 9_000),
        (np.negative, 4_000),
        (LogOp.formula, 60_000),
        (SqrtOp.formula, 4_000),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_table_holds_the_rounded_function_at_every_number(function, largest):
    table = brain_float_table(function)
    assert table.dtype == np.int16 and table.nbytes <= largest and page_count(table.size)
    with np.errstate(all="ignore"):
        expected = rounded(np.asarray(function(REAL.astype(np.float64))).astype(np.float32) + np.float32(0))
    np.testing.assert_array_equal(looked_up_brain_float(REAL, table).view(np.int16), expected.view(np.int16))
    assert np.isnan(looked_up_brain_float(rounded(np.float32([np.nan])), table).astype(np.float32)).all()


def test_a_page_that_does_not_exist_is_an_error():
    table = brain_float_table(np.tanh)
    for page in (page_count(table.size), -1):
        broken = table.copy()
        broken[0] = page
        with pytest.raises(IndexError):
            looked_up_brain_float(EVERY, broken)


def test_blocks_do_not_change_the_order(monkeypatch):
    rng = np.random.default_rng(0)
    data, weight = rng.standard_normal((9, 50)).astype(np.float32), rng.standard_normal((9, 7)).astype(np.float32)
    expected = rng.standard_normal((7, 50)).astype(np.float32)
    total = expected.copy()
    for k in range(9):
        expected = expected + weight[k][:, None] * data[k]
    monkeypatch.setattr(bfloat16, "BLOCK_COLUMNS", 16)
    monkeypatch.setattr(bfloat16, "BLOCK_SUMS", 48)
    add_products(total, data, weight)
    assert total.tobytes() == expected.tobytes()


def test_a_sum_may_be_cut_anywhere_but_not_regrouped():
    rng = np.random.default_rng(1)
    left, right = (
        rounded(rng.standard_normal((4, 600)).astype(np.float32)),
        rounded(np.float32(rng.standard_normal((600, 3)))),
    )
    whole = ordered_matmul(left, right)
    halves = np.zeros((3, 4), np.float32)
    for cut in (slice(0, 217), slice(217, 600)):
        add_products(halves, left[:, cut].T.astype(np.float32), right[cut].astype(np.float32))
    assert halves.T.tobytes() == whole.tobytes()
    apart = ordered_matmul(left[:, :300], right[:300]) + ordered_matmul(left[:, 300:], right[300:])
    assert (apart != whole).any(), "partial sums that are added later differ, or this tests nothing"
