"""Arrays become dense without a change of their elements, whatever their strides."""

import numpy as np
import pytest

from accelc.dialects.core import dense as dense_module
from accelc.dialects.core.dense import dense

ARRAY = np.arange(6 * 5 * 37 * 4, dtype=np.float32).reshape(6, 5, 37, 4)
VIEWS = {
    "dense": ARRAY,
    "last axis first": ARRAY.transpose(3, 2, 1, 0),
    "weights": ARRAY.transpose(1, 3, 0, 2),
    "every other": ARRAY[::2, :, ::-3],
    "filled": np.broadcast_to(np.float32(3), (6, 37)),
    "without elements": ARRAY[:0].transpose(3, 2, 1, 0),
}


@pytest.mark.parametrize("limit", [0, 1 << 18])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_elements_stay(monkeypatch, view, limit):
    monkeypatch.setattr(dense_module, "LARGE_BYTES", limit)
    found = dense(view)
    assert found.flags.c_contiguous
    assert found.dtype == view.dtype
    np.testing.assert_array_equal(found, view)


def test_what_is_dense_is_not_copied():
    assert dense(ARRAY) is ARRAY
