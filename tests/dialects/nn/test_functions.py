"""Functions of one number against Python's math, and chains of them against what they are chains of."""

import math

import numpy as np
import pytest
from evaluation import evaluate, module_of, onnx_result

from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.verifier import verify
from accelc.dialects.nn import functions as nn
from accelc.dialects.nn.chain import ChainOp, call
from accelc.dialects.nn.functions import error_function

POINTS = np.linspace(-9, 9, 20_001)


def test_erf_is_that_of_math():
    exact = np.array([math.erf(x) for x in POINTS])
    np.testing.assert_allclose(error_function(POINTS), exact, rtol=0, atol=3e-13)
    np.testing.assert_allclose(evaluate(nn.ErfOp, POINTS.astype(np.float32)), exact, rtol=0, atol=1e-6)


def test_erf_is_odd_and_saturates():
    assert np.array_equal(error_function(-POINTS), -error_function(POINTS))
    assert error_function(np.float64([6.0, 40.0, np.inf])).tolist() == [1.0, 1.0, 1.0]


def test_erf_of_nan_is_nan():
    assert np.isnan(error_function(np.float32([np.nan, 1.0]))).tolist() == [True, False]


@pytest.mark.parametrize(
    ("kind", "attributes", "exact"),
    [
        (nn.GeluOp, {}, lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2)))),
        (
            nn.GeluOp,
            {"tanh": True},
            lambda x: x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        ),
        (nn.SiluOp, {"alpha": 1.702}, lambda x: x / (1 + math.exp(-1.702 * x))),
        (nn.SoftplusOp, {}, lambda x: math.log1p(math.exp(x))),
        (nn.MishOp, {}, lambda x: x * math.tanh(math.log1p(math.exp(x)))),
        (nn.EluOp, {"alpha": 0.7}, lambda x: x if x > 0 else 0.7 * math.expm1(x)),
        (nn.EluOp, {"alpha": 2.0, "width": 2.0}, lambda x: x if x > 0 else 2 * math.expm1(x / 2)),
        (nn.SoftsignOp, {}, lambda x: x / (1 + abs(x))),
        (nn.ExpOp, {}, math.exp),
        (nn.SinOp, {}, math.sin),
        (nn.CosOp, {}, math.cos),
        (nn.PowOp, {"exponent": 3.0}, lambda x: x**3),
        (nn.PowOp, {"exponent": 2.0}, lambda x: x**2),
        (nn.FloorOp, {}, math.floor),
        (nn.CeilOp, {}, math.ceil),
        (nn.RoundOp, {}, round),
        (nn.NegOp, {}, lambda x: -x),
        (nn.AbsOp, {}, abs),
    ],
)
def test_functions_are_what_their_formulas_say(kind, attributes, exact):
    single = POINTS.astype(np.float32)
    expected = np.array([exact(float(x)) for x in single])
    np.testing.assert_allclose(evaluate(kind, single, **attributes), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("kind", "name"), [(nn.LogOp, "Log"), (nn.SqrtOp, "Sqrt"), (nn.ReciprocalOp, "Reciprocal")])
def test_functions_of_positive_numbers_are_those_of_onnxruntime(kind, name):
    data = np.random.default_rng(0).uniform(0.01, 9, 100).astype(np.float32)
    np.testing.assert_allclose(evaluate(kind, data), onnx_result(name, data), rtol=1e-6, atol=1e-7)


def test_a_chain_is_the_composition_of_its_steps():
    data = np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32)
    steps = (
        "x",
        "x",
        "sigmoid",
        "mul",
        "2.0",
        "sub",
        "clip(min=-1.5, max=0.25)",
        "elu(alpha=0.5, width=1.0, scale=2.0)",
    )
    inner = np.clip(data / (1 + np.exp(-data)) - 2, -1.5, 0.25)
    expected = 2 * np.where(inner > 0, inner, 0.5 * np.expm1(inner))
    np.testing.assert_allclose(evaluate(ChainOp, data, steps=steps), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", nn.FUNCTIONS)
def test_every_function_can_be_a_step(kind):
    attributes = {"exponent": 3.0} if kind is nn.PowOp else {}
    data = np.random.default_rng(2).uniform(0.1, 3, 20).astype(np.float32)
    _, op = module_of(kind, data, **attributes)
    expected = evaluate(kind, data, **attributes)
    assert np.array_equal(evaluate(ChainOp, data, steps=("x", call(op))), expected)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (("x", "x"), "steps leave 2 values, expected one"),
        ((), "steps leave 0 values, expected one"),
        (("x", "add"), "step 'add' finds no value"),
        (("x", "sine"), "step 'sine' is neither x, nor a number, nor an element-wise operation"),
        (("x", "clip"), "step 'clip' expects the attributes min, max"),
        (("x", "tanh(alpha=1.0)"), "step 'tanh(alpha=1.0)' expects the attributes of none"),
        (("x", "clip(min=low, max=1.0)"), "step 'low' is neither x"),
    ],
)
def test_malformed_chains_are_refused(steps, message):
    with pytest.raises(CompileError, match=r"nn\.chain") as caught:
        module, _ = module_of(ChainOp, np.zeros(3, np.float32), steps=steps)
        verify(module)
    assert message in str(caught.value)
