"""The host beside the machine: the same numbers at every level, transfers in the books, nothing hostile."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from oracle.execution import execute
from reference import reference_outputs

import accelc
from accelc.backends import manifest
from accelc.backends.container import pack, unpack
from accelc.backends.program import MEMBERS, _member, program_from_bytes
from accelc.backends.simulator.simulator import MODES, Simulator
from accelc.backends.target import load_target
from accelc.compiler.cli import run_cli
from accelc.compiler.driver import Settings, compile_module, emit
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.parser import parse_module
from accelc.dialects.core.printer import elided_constants, print_module
from accelc.dialects.registry import CONTEXT
from accelc.passes.framework.pass_manager import Instrumentation

RANDOM = np.random.default_rng(7)


def weights(*shape):
    return (RANDOM.standard_normal(shape) * 0.3).astype(np.float32)


def model(nodes, inputs, outputs, **constants):
    graph = helper.make_graph(
        [
            helper.make_node(kind, ins, outs, name=kind.lower() + outs[0], **attributes)
            for kind, ins, outs, attributes in nodes
        ],
        "host",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


REAL, INTEGER = TensorProto.FLOAT, TensorProto.INT64


def middle():
    """Between two layers, and at the end: a result that is quantized, one that is returned, integers."""
    nodes = [
        ("Conv", ["x", "w"], ["c"], {"pads": [1] * 4}),
        ("Relu", ["c"], ["a"], {}),
        ("GlobalAveragePool", ["a"], ["p"], {}),
        ("Flatten", ["p"], ["f"], {}),
        ("TopK", ["f", "k"], ["v", "i"], {}),
        ("MatMul", ["v", "m"], ["y"], {}),
        ("Hardmax", ["y"], ["best"], {"axis": 1}),
    ]
    outputs = [("y", REAL), ("best", REAL), ("i", INTEGER)]
    return model(nodes, [("x", REAL, [1, 3, 8, 8])], outputs, w=weights(8, 3, 3, 3), m=weights(5, 6), k=np.array([5]))


def tokens():
    """Integers that come in, through an embedding."""
    nodes = [("Gather", ["e", "t"], ["x"], {}), ("MatMul", ["x", "m"], ["y"], {}), ("Relu", ["y"], ["z"], {})]
    return model(nodes, [("t", INTEGER, [1, 6])], [("z", REAL)], e=weights(20, 16), m=weights(16, 8))


def turns():
    """Machine and host take turns, beside each other where they can."""
    nodes = [
        ("Shrink", ["x"], ["t"], {"lambd": 0.3}),
        ("MatMul", ["x", "m"], ["y"], {}),
        ("Shrink", ["y"], ["c"], {"lambd": 0.2}),
        ("Add", ["c", "y"], ["s"], {}),
        ("Sub", ["s", "t"], ["d"], {}),
        ("Shrink", ["d"], ["u"], {"lambd": 0.1}),
        ("Relu", ["d"], ["z"], {}),
        ("MatMul", ["u", "m"], ["v"], {}),
        ("Shrink", ["v"], ["w"], {"bias": 0.2}),
    ]
    return model(nodes, [("x", REAL, [2, 8])], [("w", REAL), ("z", REAL)], m=weights(8, 8))


def large():
    """A call whose operand and result do not fit the SRAM with their neighbours: they pass in strips."""
    nodes = [
        ("Conv", ["x", "w"], ["c"], {"pads": [1] * 4}),
        ("Softsign", ["c"], ["a"], {}),
        ("Shrink", ["a"], ["b"], {"lambd": 0.1}),
        ("Conv", ["b", "v"], ["d"], {"pads": [1] * 4}),
        ("Add", ["d", "b"], ["e"], {}),
        ("GlobalAveragePool", ["e"], ["y"], {}),
    ]
    return model(nodes, [("x", REAL, [1, 3, 32, 32])], [("y", REAL)], w=weights(16, 3, 3, 3), v=weights(16, 16, 3, 3))


class Keep(Instrumentation):
    """The module after every pass."""

    def __init__(self):
        self.modules = {}

    def after_pass(self, index, running, module):
        self.modules[running.name] = module.clone()


def inputs_of(program, samples):
    found = {}
    for port in program.inputs:
        shape = (samples * port.type.shape[0], *port.type.shape[1:])
        is_float = port.type.element.dtype == np.float32
        found[port.name] = (
            RANDOM.standard_normal(shape).astype(np.float32) if is_float else RANDOM.integers(0, 20, shape)
        )
    return found


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("target", ["tile16", "array32"])
@pytest.mark.parametrize("build", [middle, tokens, turns])
def test_all_levels_agree(build, target, level):
    kept = Keep()
    settings = Settings(load_target(target), opt_level=level, allow_host=True, instrumentation=(kept,))
    program = program_from_bytes(emit(compile_module(build(), settings)).to_bytes())
    inputs = inputs_of(program, 3)
    rows = [{n: a.reshape(3, -1, *a.shape[1:])[i] for n, a in inputs.items()} for i in range(3)]
    quantized = kept.modules["insert-quantization"]
    expected = {name: np.concatenate(parts) for name, parts in joined([execute(quantized, row) for row in rows])}
    tiles = kept.modules["insert-tokens"]
    again = parse_module(print_module(tiles), CONTEXT, constants=elided_constants(tiles))
    found = [Simulator(program, mode=mode).run(inputs) for mode in MODES]
    found.append({name: np.concatenate(parts) for name, parts in joined([run(again, row) for row in rows])})
    for outputs in found:
        for name, array in expected.items():
            np.testing.assert_array_equal(outputs[name], array, err_msg=name)


@pytest.mark.parametrize("precision", ["int16", "bf16"])
def test_other_precisions_have_a_host_too(precision):
    source = turns()
    program = accelc.compile(source, precision=precision, allow_host=True)
    inputs = inputs_of(program.compiled, 2)
    outputs = program.run(inputs, checked=True)
    plain = Simulator(program.compiled, mode="plain").run(inputs)
    real = reference_outputs(source, {"x": inputs["x"][:2]})
    for name, array in outputs.items():
        np.testing.assert_array_equal(array, plain[name])
        assert np.abs(array[:2] - real[name]).max() < 0.05 * np.abs(real[name]).max()


def joined(runs):
    return [(name, [each[name] for each in runs]) for name in runs[0]]


def test_what_does_not_fit_passes_in_strips():
    target = load_target("tile32")
    small = replace(target, sram=replace(target.sram, bank_lines=64))
    inputs = {"x": RANDOM.standard_normal((1, 3, 32, 32)).astype(np.float32)}
    program = accelc.compile(large(), small, opt_level=2, calibration=inputs, allow_host=True)
    report = program.report()
    expected = Simulator(program.compiled, mode="plain").run(inputs)
    np.testing.assert_array_equal(program.run(inputs, checked=True)["y"], expected["y"])
    assert report["sram"]["spilled_bytes"] > 0


def test_outputs_are_close_to_the_float_model():
    source = middle()
    inputs = {"x": RANDOM.standard_normal((32, 3, 8, 8)).astype(np.float32)}
    program = accelc.compile(source, calibration=inputs, allow_host=True)
    outputs = program.run(inputs)
    rows = [reference_outputs(source, {"x": row[None]}) for row in inputs["x"]]
    y = np.concatenate([row["y"] for row in rows])
    assert np.abs(outputs["y"] - y).max() < 0.1 * np.abs(y).max()
    assert np.mean(outputs["best"] == np.concatenate([row["best"] for row in rows])) > 0.8
    assert outputs["i"].dtype == np.int64


def test_the_report_has_the_calls_and_what_they_move():
    program = accelc.compile(middle(), allow_host=True)
    report = program.report()
    first, second = report["host"]
    assert first["operations"] == ["TopK 'topkv'"] and (first["bytes_out"], first["bytes_back"]) == (8, 5)
    assert second["operations"] == ["Hardmax 'hardmaxbest'"] and (second["bytes_out"], second["bytes_back"]) == (6, 0)
    assert 0 < first["dma_cycles"] < report["cycles"]
    line = "the host runs 2 operations in 2 calls, in float: TopK 'topkv'; Hardmax 'hardmaxbest'"
    assert line in report["warnings"]
    assert sum(report["ledger"].values()) == report["cycles"] * report["blocks"]


def test_the_command_says_so_and_refuses_without_the_flag(tmp_path, capsys):
    path = tmp_path / "model.onnx"
    onnx.save(middle(), path)
    assert run_cli([str(path)]) == 1
    assert "note: --allow-host runs them on the host, in float" in capsys.readouterr().err
    assert run_cli([str(path), "--allow-host", "-o", str(tmp_path / "model.accel"), "--report"]) == 0
    output, errors = capsys.readouterr()
    assert "warning: the host runs 2 operations in 2 calls, in float: TopK 'topkv'; Hardmax 'hardmaxbest'\n" in errors
    assert "host     TopK 'topkv': 8 B out, 5 B back in " in output
    assert run_cli([str(tmp_path / "model.accel"), "--report"]) == 0
    assert "host     Hardmax 'hardmaxbest': 6 B out, 0 B back in " in capsys.readouterr().out


def test_float_operations_of_text_need_the_flag_too(tmp_path, capsys):
    text = """func @main(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
      %0 = nn.relu %x : tensor<2x4xf32> -> tensor<2x4xf32>
      %1 = nn.onnx %0 {operator = "Atan", opset = 17} : tensor<2x4xf32> -> tensor<2x4xf32> loc("atan")
      return %1 : tensor<2x4xf32> -> ()
    }"""
    path = tmp_path / "model.air"
    path.write_text(text)
    assert run_cli([str(path)]) == 1
    assert "'nn.onnx': has no integer form as Atan" in (errors := capsys.readouterr().err)
    assert "note: --allow-host runs it on the host, in float" in errors
    assert run_cli([str(path), "--allow-host"]) == 0


@pytest.fixture(scope="module")
def members():
    settings = Settings(load_target("tile32"), allow_host=True)
    return unpack(emit(compile_module(middle(), settings)).to_bytes(), MEMBERS)


def rewritten(members, change=lambda data: None, **replaced):
    """The program file with other members, and every checksum as it should be."""
    members = {**members, **{name.replace("_", "."): data for name, data in replaced.items()}}
    data = json.loads(members["manifest.json"])
    data.pop("checksum")
    change(data)
    data["members"] = {name: _member(members[name]) for name in MEMBERS[1:]}
    return pack({**members, "manifest.json": manifest.dump(data)})


def swapped(text, old, new):
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"TopK"', b'"Loop"', "the host does not run 'Loop'"),
        (b'"Hardmax"', b'"Softmax"', None),
        (b"nn.onnx", b"tile.alloc", "tile.alloc"),
        (b'operator = "TopK"', b'operator = "os.system"', "ONNX has no operator 'os.system'"),
        (b"opset = 17", b"opset = 99999999999", "opset 99999999999 is unknown"),
        (b"dense<[5]>", b"dense<[6]>", "results are"),
        (b"@host1", b"@host2", "a call runs @host1, which is not a function of the host"),
        (b"const @k", b"const  @k", "host.air is not in canonical form"),
        (b"const @k", b"\xff\xfe @k", "host.air is not a text"),
    ],
)
def test_hostile_functions_are_refused(members, old, new, message):
    data = rewritten(members, host_air=swapped(members["host.air"], old, new))
    if message is None:
        assert program_from_bytes(data).host_calls
        return
    with pytest.raises(CompileError, match=message.replace(".", r"\.")):
        program_from_bytes(data)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("host_calls", 0, "results", 0, "writes", 0, "address"), 0, "outside the buffers of the DRAM"),
        (("host_calls", 0, "results", 0, "writes", 0, "address"), None, "writes to .*, outside its buffer"),
        (("host_calls", 0, "arguments", 0, "source"), "host1.0", "reads 'host1.0' before it is there"),
        (("host_calls", 1, "callee"), "host0", "does not have the types"),
        (("host_calls",), [], "reads|copies input|make the 0 calls"),
        (("host_constants",), [{"name": "z", "type": {"shape": [9], "storage": "i8"}}], "host.bin has 0 bytes"),
    ],
)
def test_hostile_calls_are_refused(members, path, value, message):
    def change(data):
        *outer, last = path
        place = data
        for key in outer:
            place = place[key]
        place[last] = data["inputs"][0]["writes"][0]["address"] if value is None else value

    with pytest.raises(CompileError, match=message):
        program_from_bytes(rewritten(members, change))


def test_calls_in_text_are_told_of_at_every_level_without_the_flag():
    kept = Keep()
    compile_module(turns(), Settings(load_target("tile32"), allow_host=True, instrumentation=(kept,)))
    for name in ("insert-quantization", "insert-tokens"):
        remarks = compile_module(kept.modules[name], Settings(load_target("tile32"))).remarks
        assert any("the host runs 4 operations in 3 calls" in remark.message for remark in remarks)
