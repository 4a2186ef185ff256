"""Every kind of ONNX file that must be refused, written into a folder under a name that says what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from models import NEWEST, graph_model, node_model
from onnx import ModelProto, TensorProto, helper

node = helper.make_node
IMAGE = (1, 4, 6, 6)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def write_models(folder: Path) -> None:
    """All files; the names appear in the table."""
    good = node_model("Conv", [IMAGE, ones(2, 4, 3, 3)])
    data = good.SerializeToString()
    (folder / "conv.onnx").write_bytes(data)
    (folder / "empty.onnx").touch()
    (folder / "noise.onnx").write_bytes(bytes(range(256)))
    (folder / "cut.onnx").write_bytes(data[:-40])
    for name, model in {**_whole_models(), **_nodes(), **_graphs(), **_tensors()}.items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    (folder / "short.bin").write_bytes(bytes(10))


def _edited(change: Any, model: ModelProto | None = None) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model if model is not None else node_model("Relu", [(1, 3)]))
    change(copy)
    return copy


def _whole_models() -> dict[str, ModelProto]:
    def input_type(data_type: int, op_type: str = "Relu") -> ModelProto:
        model = node_model(op_type, [(1, 3)])
        return _edited(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", data_type), model)

    recursive = node_model("Again", [(2,)], domain="local")
    body = [node("Again", ["a"], ["b"], domain="local")]
    recursive.functions.append(
        helper.make_function("local", "Again", ["a"], ["b"], body, [helper.make_opsetid("local", 1)])
    )
    recursive.opset_import.append(helper.make_opsetid("local", 1))
    return {
        "graphless": ModelProto(ir_version=8),
        "no_outputs": graph_model([], {"x": (2,)}, []),
        "opset6": node_model("Relu", [(2,)], opset=6),
        "opset_future": node_model("Relu", [(2,)], opset=NEWEST + 1),
        "half_input": input_type(TensorProto.BFLOAT16),
        "string_input": input_type(TensorProto.STRING),
        "integer_input": input_type(TensorProto.INT64, "Sigmoid"),
        "sequence_input": _edited(
            lambda m: m.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(m.graph.input[0].type))
        ),
        "dynamic_height": node_model("Relu", [("n", 3, "height")]),
        "no_shape": _edited(lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")),
        "no_elements": node_model("Relu", [(1, 0)]),
        "giant_input": node_model("Relu", [(1, 2**40)]),
        "twice_output": _edited(lambda m: m.graph.output.append(m.graph.output[0])),
        "twice_input": _edited(lambda m: m.graph.input.append(m.graph.input[0])),
        "not_utf8": _edited(lambda m: None, _not_utf8()),
        "recursive_function": recursive,
        "giant_sum": node_model("Sum", [(1, 2**28)] * 3),
        "large_product": node_model("MatMul", [(2**11, 1), (1, 2**11)]),
        "large_weight": node_model("MatMul", [(1, 2**11), ones(2**11, 2**11)]),
        "only_identity": node_model("Identity", [(1, 3)]),
    }


def _not_utf8() -> ModelProto:
    data = node_model("Relu", [(1, 3)]).SerializeToString().replace(b"node", b"n\xffde")
    return onnx.load_model_from_string(data)


def _nodes() -> dict[str, ModelProto]:
    body = helper.make_graph([], "body", [], [])
    return {
        "vendor": node_model("Fancy", [(1, 3)], domain="com.vendor"),
        "unknown_operator": node_model("Frobnicate", [(1, 3)]),
        "unsupported": graph_model(
            [node("Det", ["x"], ["a"], name="det"), node("Unique", ["a"], ["y"], name="unique")], {"x": (2, 2)}, ["y"]
        ),
        "control_flow": node_model("If", [np.array(True)], then_branch=body, else_branch=body),
        "too_new": node_model("Gelu", [(1, 3)]),
        "channels": node_model("Conv", [IMAGE, ones(2, 3, 1, 1)]),
        "window": node_model("Conv", [IMAGE, ones(2, 4, 7, 1)]),
        "product": node_model("MatMul", [(2, 3), (2, 4)]),
        "broadcast": node_model("Add", [(2, 3), (2, 4)]),
        "attribute": node_model("Relu", [(1, 3)], slope=1.0),
        "attribute_type": node_model("Conv", [IMAGE, ones(2, 4, 3, 3)], strides="two"),
        "no_stride": node_model("Conv", [IMAGE, ones(2, 4, 3, 3)], strides=[0, 1]),
        "inputs": node_model("Relu", [(1, 3), (1, 3)]),
        "giant_result": node_model("ConstantOfShape", [ints(2**20, 2**20)]),
        "giant_pad": node_model("Pad", [(2, 3), ints(0, 0, 2**40, 0)]),
        "reshape": node_model("Reshape", [(2, 3), ints(4, -1)]),
        "gather": node_model("Gather", [(5,), ints(5)]),
    }


def _graphs() -> dict[str, ModelProto]:
    inputs = {"x": (2,)}
    return {
        "cycle": graph_model(
            [
                node("Add", ["x", "b"], ["a"], name="first"),
                node("Relu", ["a"], ["b"], name="second"),
                node("Relu", ["b"], ["y"]),
            ],
            inputs,
            ["y"],
        ),
        "undefined": graph_model([node("Relu", ["z"], ["y"], name="relu")], inputs, ["y"]),
        "undefined_output": graph_model([node("Relu", ["x"], ["z"])], inputs, ["y"]),
        "defined_twice": graph_model(
            [node("Relu", ["x"], ["y"], name="first"), node("Tanh", ["x"], ["y"], name="second")], inputs, ["y"]
        ),
        "input_redefined": graph_model([node("Relu", ["x"], ["x"], name="relu")], inputs, ["x"]),
    }


def _tensors() -> dict[str, ModelProto]:
    def weights(change: Any) -> ModelProto:
        return _edited(lambda m: change(m.graph.initializer[0]), node_model("Add", [(2, 2), ones(2, 2)]))

    def external(location: str, **entries: object) -> ModelProto:
        def change(tensor: TensorProto) -> None:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in {"location": location, **entries}.items():
                tensor.external_data.add(key=key, value=str(value))

        return weights(change)

    def giant(tensor: TensorProto) -> None:
        tensor.dims[:] = [2**40, 2**20]

    return {
        "nan_weight": node_model("Mul", [(2,), np.float32([1, np.nan])]),
        "infinite_weight": node_model("Conv", [IMAGE, ones(1, 4, 1, 1) * np.inf]),
        "overflowing_weight": node_model("Mul", [(2,), np.float64([1, 1e300])]),
        "integer_weight": node_model("Add", [(2, 3), ints(1, 2, 3)]),
        "dims": weights(lambda t: t.dims.__setitem__(0, 3)),
        "negative_dims": weights(lambda t: t.dims.__setitem__(0, -2)),
        "giant_dims": weights(giant),
        "element_type": weights(lambda t: setattr(t, "data_type", 77)),
        "external_missing": external("nowhere.bin"),
        "external_parent": external("../secret.bin"),
        "external_absolute": external("/etc/passwd"),
        "external_folder": external("folder"),
        "external_short": external("short.bin"),
        "external_link": external("external_link.bin"),
        "external_offset": external("short.bin", offset="-1"),
        "external_words": external("short.bin", offset="ten"),
    }
