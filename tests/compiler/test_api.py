"""The Python API: every kind of model and calibration, runs, evaluation, round trip through a file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from models import graph_model
from onnx import helper

import accelc
from accelc.backends.target import load_target
from accelc.compiler.cli import run_cli
from accelc.compiler.driver import Settings, compile_module, kind_of, level_of, load_module
from accelc.dialects.core.interpreter import run
from accelc.passes.pipelines import PIPELINES

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL = EXAMPLES / "models" / "digits_cnn.onnx"
CALIBRATION = EXAMPLES / "data" / "digits.calibration.npz"


@pytest.fixture(scope="module")
def images():
    with np.load(EXAMPLES / "data" / "digits.test.npz") as data:
        return data["input"][:9]


@pytest.fixture(scope="module")
def program():
    return accelc.compile(MODEL, calibration=CALIBRATION)


def test_program_says_what_it_is(program):
    assert program.target == load_target("tile32")
    assert {name: type.shape for name, type in program.inputs.items()} == {"input": (1, 1, 8, 8)}
    assert {name: type.shape for name, type in program.outputs.items()} == {"output": (1, 10)}
    assert repr(program) == "<accelc.Program 'digits_cnn' for tile32>"


def test_every_kind_of_model_gives_the_same_program(program):
    expected = program.compiled.code
    with np.load(CALIBRATION) as data:
        kinds = [str(MODEL), MODEL.read_bytes(), onnx.load(MODEL), load_module(MODEL)]
        for kind in kinds:
            again = accelc.compile(kind, target=load_target("tile32"), calibration=data)
            np.testing.assert_array_equal(again.compiled.code, expected)
            np.testing.assert_array_equal(again.compiled.constants, program.compiled.constants)


def test_compiling_leaves_a_module_as_it_is():
    module = load_module(MODEL)
    before = [op.name for op in module.walk()]
    accelc.compile(module, passes="O1", calibration=CALIBRATION)
    assert [op.name for op in module.walk()] == before


def test_every_kind_of_calibration_gives_the_same_program(program, tmp_path):
    with np.load(CALIBRATION) as data:
        samples = data["input"]
    np.savez(tmp_path / "a.npz", input=samples[:100])
    np.save(tmp_path / "b.npy", samples[100:200])
    np.save(tmp_path / "input_2.npy", samples[200:].astype(np.float64))
    for calibration in (str(CALIBRATION), {"input": samples}, tmp_path):
        again = accelc.compile(MODEL, calibration=calibration)
        np.testing.assert_array_equal(again.compiled.constants, program.compiled.constants)


def test_program_equals_the_interpreter_of_every_level(program, images):
    logits = program.run({"input": images})["output"]
    assert logits.shape == (9, 10) and logits.dtype == np.float32
    for stop in ("quant", "tile"):
        settings = Settings(load_target("tile32"), calibration=CALIBRATION, stop=stop)
        module = compile_module(MODEL, settings).module
        assert level_of(module) == stop
        for index in range(2):
            (expected,) = run(module, {"input": images[index : index + 1]}).values()
            np.testing.assert_array_equal(logits[index : index + 1], expected)


def test_round_trip(program, images, tmp_path):
    program.save(tmp_path / "kept.accel")
    assert kind_of(tmp_path / "kept.accel") == "accel"
    again = accelc.load(tmp_path / "kept.accel")
    for checked in (False, True):
        outputs = again.run({"input": images}, checked=checked)
        np.testing.assert_array_equal(outputs["output"], program.run({"input": images})["output"])
    again.save(tmp_path / "again.accel")
    assert (tmp_path / "again.accel").read_bytes() == (tmp_path / "kept.accel").read_bytes()
    with pytest.raises(accelc.CompileError, match="compiled for target 'tile32', which differs from 'tile16'"):
        accelc.load(tmp_path / "kept.accel", target="tile16")


def test_evaluate(program, images, tmp_path):
    labels = program.run({"input": images})["output"].argmax(axis=1)
    facts = program.evaluate({"input": images}, labels)
    assert facts["program"] == 1.0 and facts["samples"] == 9 and facts["sqnr_db"] > 20
    assert program.report()["accuracy"] == facts
    program.save(tmp_path / "kept.accel")
    alone = accelc.load(tmp_path / "kept.accel").evaluate({"input": images}, labels)
    assert alone == {
        "float": None,
        "program": 1.0,
        "samples": 9,
        "flips": None,
        "sqnr_db": None,
        "low": None,
        "high": None,
    }
    with pytest.raises(accelc.CompileError, match=r"labels: array 'labels' has shape \[3\], expected \[9\]"):
        program.evaluate({"input": images}, labels[:3])


@pytest.fixture(scope="module")
def small():
    """A model with a symbolic batch and two inputs."""
    weight = np.random.default_rng(0).standard_normal((6, 4, 3, 3), np.float32)
    nodes = [
        onnx.helper.make_node("Add", ["a", "b"], ["sum"], name="add"),
        onnx.helper.make_node("Conv", ["sum", "weight"], ["y"], name="conv"),
    ]
    return graph_model(nodes, {"a": ("N", 4, 5, 5), "b": ("N", 4, 5, 5), "weight": weight}, ["y"])


def test_shapes_are_given_to_dynamic_inputs(small):
    model = onnx.ModelProto()
    model.CopyFrom(small)
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        dims[2].dim_param, dims[3].dim_param = "height", "width"
    program = accelc.compile(model, input_shapes={"a": (2, 4, 6, 7)})
    assert program.inputs["b"].shape == (2, 4, 6, 7) and program.outputs["y"].shape == (2, 6, 4, 5)
    samples = {name: np.ones((5, 4, 6, 7), np.float32) for name in ("a", "b")}
    assert program.run(samples)["y"].shape == (5, 6, 4, 5)
    with pytest.raises(
        accelc.CompileError, match="a shape is given for input 'a', but IR has the shapes of its inputs"
    ):
        accelc.compile(load_module(model, input_shapes={"a": (2, 4, 6, 7)}), input_shapes={"a": (2, 4, 6, 7)})
    with pytest.raises(accelc.CompileError, match="a batch of 3 is given, but IR has the shapes of its inputs"):
        accelc.compile(load_module(small), batch=3)


def test_batches_are_filled_up(small):
    random = np.random.default_rng(1)
    samples = {name: random.standard_normal((7, 4, 5, 5), np.float32) for name in ("a", "b")}
    single = accelc.compile(small, calibration=samples)
    batched = accelc.compile(small, calibration=samples, batch=3)
    assert batched.inputs["a"].shape == (3, 4, 5, 5)
    outputs = batched.run(samples)["y"]
    assert outputs.shape == (7, 6, 3, 3)
    np.testing.assert_array_equal(outputs, single.run(samples)["y"])


def test_rows_that_are_no_samples_must_fill_the_runs():
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "x"], ["y"]),
    ]
    rows = np.random.default_rng(0).standard_normal((32, 8), np.float32)
    program = accelc.compile(graph_model(nodes, {"x": (16, 8)}, ["y"]), calibration={"x": rows})
    assert program.run({"x": rows})["y"].shape == (32, 8)
    for count in (3, 19):
        message = "inputs: 3 rows are left for the last run, expected 16: the rows of output 'y' depend on one another"
        with pytest.raises(accelc.CompileError, match=message):
            program.run({"x": rows[:count]})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"a": (7, 4, 5, 5)}, "inputs: input 'b' is missing, found 'a'"),
        ({"a": (7, 4, 5, 5), "b": (6, 4, 5, 5)}, "inputs: the inputs hold different numbers of samples: 'a' 7, 'b' 6"),
        ({"a": (7, 4, 5, 5), "bb": (7, 4, 5, 5)}, "inputs: array 'bb' is not an input of the model, expected 'a', 'b'"),
    ],
)
def test_wrong_inputs(small, inputs, message):
    calibration = {name: np.zeros((1, 4, 5, 5), np.float32) for name in ("a", "b")}
    program = accelc.compile(small, calibration=calibration)
    with pytest.raises(accelc.CompileError) as caught:
        program.run({name: np.zeros(shape, np.float32) for name, shape in inputs.items()})
    assert caught.value.diagnostics[0].message.startswith(message)


def test_a_folder_of_arrays_must_name_the_inputs(small, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 4, 5, 5), np.float32))
    with pytest.raises(
        accelc.CompileError, match=r"x\.npy: belongs to no input of the model, expected names such as a\.npy"
    ):
        accelc.compile(small, calibration=tmp_path)
    for name in ("a-0", "a-1", "b-0", "b-1"):
        np.save(tmp_path / f"{name}.npy", np.ones((2, 4, 5, 5), np.float32))
    (tmp_path / "x.npy").unlink()
    assert accelc.compile(small, calibration=tmp_path).inputs.keys() == {"a", "b"}


def test_wrong_arguments():
    with pytest.raises(accelc.CompileError, match="opt_level is 4, expected 0 to 3"):
        accelc.compile(MODEL, opt_level=4)
    with pytest.raises(accelc.CompileError, match="precision is 'int4'"):
        accelc.compile(MODEL, precision="int4")
    with pytest.raises(accelc.CompileError, match="calibration is ndarray, expected a path or arrays by input name"):
        accelc.compile(MODEL, calibration=np.zeros((4, 1, 8, 8), np.float32))
    with pytest.raises(accelc.CompileError, match="unknown pass 'nothing'"):
        accelc.compile(MODEL, passes="nothing")
    with pytest.raises(accelc.CompileError, match="skip_passes names 'nothing', expected one of canonicalize, "):
        accelc.compile(MODEL, skip_passes=["nothing"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: accelc.compile(5), "model is int, expected a path, an onnx.ModelProto, its bytes or a Module"),
        (lambda: accelc.compile("x" * 5000), "cannot be read: File name too long"),
        (lambda: accelc.compile("a\0b"), "cannot be read: embedded null byte"),
        (lambda: accelc.load(5), "program is int, expected the path of a program file"),
        (lambda: accelc.load("a\0b"), "cannot be read: embedded null byte"),
        (lambda: accelc.compile(MODEL, calibration={"input": [[1, 2], [3]]}), "rows of different lengths"),
        (lambda: accelc.compile(MODEL, calibration={3: np.zeros(4)}), "array '3' is not an input of the model"),
    ],
)
def test_what_is_of_another_kind_is_refused(wrong, message):
    with pytest.raises(accelc.CompileError, match=message):
        wrong()


def test_wrong_samples_are_refused(program):
    with pytest.raises(accelc.CompileError, match="inputs: int, expected arrays by input name"):
        program.run(5)
    with pytest.raises(accelc.CompileError, match="array 'input' has rows of different lengths, expected one shape"):
        program.run({"input": [[1, 2], [3]]})


def test_ir_that_computes_in_bfloat16_is_a_program_of_that_precision(tmp_path):
    path = tmp_path / "quantized.air"
    assert run_cli([str(MODEL), "--precision", "bf16", "--emit=quant", "-o", str(path)]) == 0
    assert accelc.compile(path).compiled.precision == "bf16"


def test_passes_can_be_left_out(small):
    skipped = {"round-weights", "correct-bias"}
    pipeline = accelc.compile(small, skip_passes=skipped).report()["pipeline"]
    assert "insert-quantization" in pipeline and not any(name in pipeline for name in skipped)


def test_a_pass_to_skip_that_the_pipeline_does_not_have_is_told(small):
    found = accelc.compile(small, opt_level=0, skip_passes=["correct-bias"]).report()["warnings"]
    assert "the pass 'correct-bias' is to be skipped, but the pipeline does not have it" in found


def test_a_pipeline_without_tokens_is_refused(small):
    passes = PIPELINES["O0"].removesuffix(",insert-tokens")
    with pytest.raises(accelc.CompileError, match="no instruction waits for another engine, expected tokens"):
        accelc.compile(small, passes=passes)
    assert accelc.compile(small, passes=f"{passes},insert-tokens").report()["cycles"] > 0


def test_a_model_that_computes_nothing_is_refused():
    model = graph_model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])], {"x": (1, 4), "shape": np.array([4, 1])}, ["y"]
    )
    with pytest.raises(accelc.CompileError, match="nothing is left to compute: all outputs are inputs or constants"):
        accelc.compile(model)


def test_a_pass_that_was_left_out_is_named(small):
    with pytest.raises(accelc.CompileError, match=r"the module is at level quant after the passes .*, expected tile"):
        accelc.compile(small, skip_passes={"lower-to-tile"})


def test_progress_is_told(program, images):
    seen = []

    class Bar:
        def __init__(self, title, total):
            self.title, self.total, self.done = title, total, 0
            seen.append(self)

        def __enter__(self):
            return self.advance

        def __exit__(self, *error):
            return None

        def advance(self, count):
            self.done += count

    program.evaluate({"input": images}, np.zeros(9, np.int64), progress=Bar)
    assert [(bar.title, bar.done, bar.total) for bar in seen] == [
        ("simulating", 9, 9),
        ("running the float model", 9, 9),
    ]
