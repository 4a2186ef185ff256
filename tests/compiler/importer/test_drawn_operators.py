"""Convolutions, pooling and slices of drawn sizes: the imported node computes what onnxruntime computes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from models import node_model
from reference import assert_imports_exactly

RNG = np.random.default_rng(7)


def weights(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 2, 3]))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilations = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    pads = draw(st.tuples(*[st.integers(0, 3)] * 4))
    fits = all(
        size + pads[i] + pads[i + 2] >= (kernel[i] - 1) * dilations[i] + 1 for i, size in enumerate((height, width))
    )
    padding = {"pads": list(pads)} if fits else {"auto_pad": draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))}
    if not fits:
        dilations = (1, 1)
    strides = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    shape = (draw(st.integers(1, 2)), groups * draw(st.integers(1, 3)), height, width)
    weight = (groups * draw(st.integers(1, 3)), shape[1] // groups, *kernel)
    return shape, weight, {"group": groups, "strides": list(strides), "dilations": list(dilations)} | padding


@settings(max_examples=60, deadline=None, derandomize=True)
@given(convolutions())
def test_any_convolution(case):
    shape, weight, attributes = case
    assert_imports_exactly(node_model("Conv", [shape, weights(*weight)], **attributes))


@st.composite
def poolings(draw):
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    pads = [draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4)]
    size = [draw(st.integers(max(1, kernel[i] - pads[i] - pads[i + 2]), 9)) for i in (0, 1)]
    strides = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    ceil_mode = draw(st.sampled_from([0, 1]))
    return (1, 2, *size), {"kernel_shape": list(kernel), "pads": pads, "strides": list(strides), "ceil_mode": ceil_mode}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(poolings(), st.sampled_from(["MaxPool", "AveragePool", "CountedAveragePool"]))
def test_any_pooling(case, kind):
    shape, attributes = case
    if kind == "CountedAveragePool":
        attributes["count_include_pad"] = 1
    assert_imports_exactly(node_model(kind.removeprefix("Counted"), [shape], opset=19, **attributes))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(-12, 12), st.integers(-12, 12), st.integers(-3, 3).filter(bool)), min_size=1, max_size=3
    )
)
def test_any_slice(bounds):
    shape = (5, 6, 7)
    if any(not range(*slice(*b).indices(n)) for b, n in zip(bounds, shape, strict=False)):
        return
    starts, ends, steps = (ints(*column) for column in zip(*bounds, strict=True))
    assert_imports_exactly(node_model("Slice", [shape, starts, ends, ints(*range(len(bounds))), steps]))
