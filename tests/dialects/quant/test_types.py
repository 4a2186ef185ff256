"""Quantized element types: text, ranges, and the two directions between reals and integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.parser import parse_module
from accelc.dialects.core.types import F32, I8, I16, U8, TensorType
from accelc.dialects.quant.types import QuantizedType, quantized_element
from accelc.dialects.registry import CONTEXT

storages = st.sampled_from([I8, I16, U8])
positive = st.floats(2.0**-126, 2.0**109)


@st.composite
def quantized_types(draw):
    storage = draw(storages)
    limits = np.iinfo(storage.dtype)
    zero_point = 0 if storage == I16 else draw(st.integers(int(limits.min), int(limits.max)))
    return QuantizedType(storage, draw(positive), zero_point)


@given(quantized_types())
def test_a_type_survives_its_text(element):
    text = f"func @main(%x: tensor<2x{element}>) -> tensor<2x{element}> {{\n return %x : tensor<2x{element}> -> ()\n}}"
    assert parse_module(text, CONTEXT).main.result_types == (TensorType((2,), element),)


@given(quantized_types(), st.data())
def test_an_integer_survives_its_real(element, data):
    stored = np.array([data.draw(st.integers(element.low, element.high))], element.dtype)
    assert element.quantize(element.dequantize(stored)).tolist() == stored.tolist()


def test_reals_are_rounded_half_to_even_and_saturate():
    element = QuantizedType(I8, 0.5, 3)
    reals = np.array([0.25, 0.75, -0.25, 0.0, 1e9, -1e9, np.inf], np.float32)
    assert element.quantize(reals).tolist() == [3, 5, 3, 3, 127, -128, 127]
    assert element.quantize(reals.astype(np.float64)).tolist() == element.quantize(reals).tolist()
    assert int(element.quantize(1.0)) == 5
    assert element.magnitude == 131


@pytest.mark.parametrize(
    ("storage", "scale", "zero_point", "message"),
    [
        (F32, 1.0, 0, "storage is f32, expected one of i8, i16, u8"),
        (I8, 0.0, 0, "scale is 0.0, expected"),
        (I8, float("nan"), 0, "scale is nan, expected"),
        (I8, 1e-60, 0, "scale is 1e-60, expected"),
        (I8, 1.0, 128, "zero point is 128, expected -128 to 127"),
        (U8, 1.0, -1, "zero point is -1, expected 0 to 255"),
        (I16, 1.0, 5, "zero point is 5, expected 0 for i16"),
    ],
)
def test_bad_parameters_are_refused(storage, scale, zero_point, message):
    with pytest.raises(ValueError, match=message):
        QuantizedType(storage, scale, zero_point)


def test_bad_text_is_a_located_error():
    text = "func @main(%x: tensor<2x!quant.i8<0.5>>) -> () {\n return : () -> ()\n}"
    with pytest.raises(CompileError, match=r"<text>:1:25: error: !quant\.i8: expected <scale:zero_point>"):
        parse_module(text, CONTEXT)


def test_a_plain_tensor_has_no_quantized_element():
    with pytest.raises(TypeError, match="is not quantized"):
        quantized_element(TensorType((2,), F32))
