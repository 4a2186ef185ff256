"""Comparisons, logic and casts: truth values and integers are numbers inside, and their own types outside."""

import numpy as np
import onnx.parser
import pytest
from reference import assert_close, reference_outputs

import accelc
from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.verifier import verify

RNG = np.random.default_rng(3)
X = np.round(RNG.standard_normal((4, 6)).astype(np.float32) * 4) / 4
Z = np.round(RNG.standard_normal((4, 6)).astype(np.float32) * 4) / 4


def parsed(inputs, outputs, body, opset=17):
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> graph ({inputs}) => ({outputs}) {{ {body} }}'
    return onnx.parser.parse_model(text)


def agrees(inputs, outputs, body, opset=17, **arrays):
    """The imported module computes what onnxruntime does, in the same types; returns the model."""
    model = parsed(inputs, outputs, body, opset)
    module = import_model(model)
    verify(module)
    assert_close(run(module, arrays), reference_outputs(model, arrays))
    return model


@pytest.mark.parametrize("op_type", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"])
@pytest.mark.parametrize("sides", ["x, half", "half, x", "x, z", "x, row"])
def test_comparisons_give_truth_values(op_type, sides):
    body = f"""half = Constant <value_float = 0.5> () row = Constant <value_floats = [0.0, 1.0, -1.0, 2.0, 0.5, 2.5]> ()
               y = {op_type}({sides})"""
    agrees("float[4, 6] x, float[4, 6] z", "bool[4, 6] y", body, x=X, z=Z)


def test_logic_on_truth_values_moves_and_chooses():
    body = """half = Constant <value_float = 0.5> () zeros = Constant <value_float = 0.0> ()
              shape = Constant <value_ints = [6, 4]> () a = Greater(x, half) b = Less(z, half)
              both = And(a, b) either = Or(a, b) one = Xor(a, b) none = Not(either) turned = Reshape(none, shape)
              left = Where(both, x, z) right = Where(one, half, x) kept = Where(a, x, zeros)"""
    outputs = """bool[4, 6] both, bool[4, 6] either, bool[4, 6] one, bool[6, 4] turned,
                 float[4, 6] left, float[4, 6] right, float[4, 6] kept"""
    agrees("float[4, 6] x, float[4, 6] z", outputs, body, x=X, z=Z)


def test_casts_cut_fractions_off_and_tell_what_is_not_zero():
    body = """i = Cast <to = 7> (x) f = Cast <to = 1> (i) b = Cast <to = 9> (x) g = Cast <to = 1> (b)
              n = Cast <to = 6> (b)
              h = Cast <to = 10> (x) back = Cast <to = 1> (h) like = CastLike(x, i)"""
    outputs = (
        "int64[4, 6] i, float[4, 6] f, bool[4, 6] b, float[4, 6] g, int32[4, 6] n, float[4, 6] back, int64[4, 6] like"
    )
    agrees("float[4, 6] x", outputs, body, x=X)


def test_integers_and_truth_values_come_in():
    body = """one = Constant <value_int = 1> () zero = Constant <value_int = 0> ()
              low = Constant <value_float = -9.0> () hidden = Sub(one, m) f = Cast <to = 1> (hidden)
              bias = Mul(f, low) y = Add(x, bias) padded = Equal(m, zero) z = Where(t, x, bias)"""
    m = RNG.integers(0, 2, (1, 6))
    inputs, outputs = "float[4, 6] x, int64[1, 6] m, bool[4, 6] t", "float[4, 6] y, bool[1, 6] padded, float[4, 6] z"
    agrees(inputs, outputs, body, x=X, m=m, t=RNG.integers(0, 2, (4, 6)).astype(bool))


def test_a_model_in_half_precision_is_computed_in_float32():
    model = parsed("float16[4, 6] x", "float16[4, 6] y", "y = Add(x, x)")
    result = run(import_model(model), {"x": X.astype(np.float16)})["y"]
    assert result.dtype == np.float16
    np.testing.assert_array_equal(result, (X + X).astype(np.float16))


def test_what_integers_are_not_computed_in_is_refused_by_name():
    model = parsed("int64[4] x", "int64[4] y", "two = Constant <value_int = 2> () y = Div(x, two)")
    with pytest.raises(CompileError, match="Div 'Div:y': reads 'x', which is int64, expected float32"):
        import_model(model)


def test_what_is_not_a_number_is_told():
    body = "n = IsNaN(x) zero = Constant <value_float = 0.0> () y = Where(n, zero, z)"
    odd = np.where(X > 1, np.float32(np.nan), X)
    agrees("float[4, 6] x, float[4, 6] z", "bool[4, 6] n, float[4, 6] y", body, x=odd, z=Z)


def test_a_softmax_holds_nothing_that_is_not_a_number():
    body = "s = Softmax(x) n = IsNaN(s) zero = Constant <value_float = 0.0> () y = Where(n, zero, s)"
    module = import_model(parsed("float[4, 6] x", "float[4, 6] y", body))
    assert [op.name for op in module.main.body] == ["nn.softmax", "return"]


@pytest.mark.parametrize("precision", ["int8", "int16", "bf16"])
def test_a_program_takes_and_gives_integers_and_truth_values(precision):
    body = """half = Constant <value_float = 0.5> () zero = Constant <value_int = 0> ()
              a = Greater(x, half) p = Equal(m, zero) y = And(a, p) z = Where(y, x, half)"""
    model = parsed("float[1, 6] x, int64[1, 6] m", "bool[1, 6] y, float[1, 6] z", body)
    x = RNG.choice([-1.0, -0.25, 0.25, 0.75, 1.0], (20, 6)).astype(np.float32)
    m = RNG.integers(0, 2, (20, 6))
    program = accelc.compile(model, precision=precision, calibration={"x": x, "m": m})
    found = program.run({"x": x, "m": m})
    expected = (x > 0.5) & (m == 0)
    assert found["y"].dtype == bool
    np.testing.assert_array_equal(found["y"], expected)
    np.testing.assert_allclose(found["z"], np.where(expected, x, 0.5), atol=0.02)
