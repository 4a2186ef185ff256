"""Writes a trained torch network as ONNX, batch normalization kept and the bytes reproducible."""

import operator
from collections.abc import Callable

import numpy as np
import onnx
import torch
from networks import ChannelShuffle, ChannelSplit, Concat
from onnx import TensorProto, helper, numpy_helper
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

OPSET = 17
IR_VERSION = 8  # the one that came with opset 17


class LeafTracer(fx.Tracer):
    """Traces a network and keeps the channel operations whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell which modules become nodes."""
        own = isinstance(m, ChannelShuffle | ChannelSplit | Concat)
        return own or super().is_leaf_module(m, module_qualified_name)


class GraphWriter:
    """Collects the nodes and initializers of one network; node and initializer names follow its modules."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        """Store an initializer and return its name."""
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def parameter(self, name: str, value: torch.Tensor) -> str:
        """Store a parameter or a running statistic under its name in the state dict."""
        return self.constant(name, value.detach().numpy())

    def emit(self, kind: str, path: str, inputs: list[str], outputs: list[str], **attributes: object) -> None:
        """Append one node, named like the module it comes from."""
        self.nodes.append(helper.make_node(kind, inputs, outputs, f"{path}/{kind}", **attributes))


Emitter = Callable[[GraphWriter, nn.Module, str, list[str], str, tuple[int, ...]], None]


def emit_convolution(
    writer: GraphWriter, module: nn.Conv2d, target: str, inputs: list[str], out: str, shape: tuple[int, ...]
) -> None:
    """Conv without bias: every convolution here is followed by a normalization."""
    weight = writer.parameter(f"{target}.weight", module.weight)
    writer.emit(
        "Conv",
        path_of(target),
        [*inputs, weight],
        [out],
        dilations=list(module.dilation),
        group=module.groups,
        kernel_shape=list(module.kernel_size),
        pads=list(module.padding) * 2,
        strides=list(module.stride),
    )


def emit_normalization(
    writer: GraphWriter, module: nn.BatchNorm2d, target: str, inputs: list[str], out: str, shape: tuple[int, ...]
) -> None:
    """BatchNormalization in inference mode."""
    names = ("weight", "bias", "running_mean", "running_var")
    parameters = [writer.parameter(f"{target}.{name}", getattr(module, name)) for name in names]
    writer.emit("BatchNormalization", path_of(target), [*inputs, *parameters], [out], epsilon=module.eps, momentum=0.9)


def emit_clip(
    writer: GraphWriter, module: nn.ReLU6, target: str, inputs: list[str], out: str, shape: tuple[int, ...]
) -> None:
    """Clip to [0, 6]; all of them share one pair of bounds."""
    low = writer.constant("relu6.min", np.array(0, np.float32))
    high = writer.constant("relu6.max", np.array(6, np.float32))
    writer.emit("Clip", path_of(target), [*inputs, low, high], [out])


def emit_pool(
    writer: GraphWriter, module: nn.MaxPool2d, target: str, inputs: list[str], out: str, shape: tuple[int, ...]
) -> None:
    """MaxPool with a square window and no padding."""
    size, stride = [module.kernel_size] * 2, [module.stride] * 2
    writer.emit("MaxPool", path_of(target), inputs, [out], kernel_shape=size, pads=[0] * 4, strides=stride)


def emit_linear(
    writer: GraphWriter, module: nn.Linear, target: str, inputs: list[str], out: str, shape: tuple[int, ...]
) -> None:
    """Gemm with the weight as torch stores it, outputs first."""
    parameters = [writer.parameter(f"{target}.{name}", getattr(module, name)) for name in ("weight", "bias")]
    writer.emit("Gemm", path_of(target), [*inputs, *parameters], [out], alpha=1.0, beta=1.0, transB=1)


def emit_shuffle(
    writer: GraphWriter, module: ChannelShuffle, target: str, inputs: list[str], out: str, shape: tuple[int, ...]
) -> None:
    """Reshape, Transpose, Reshape: the three nodes a torch export leaves of a shuffle."""
    batch, channels, height, width = shape
    path = path_of(target)
    grouped = [batch, module.groups, channels // module.groups, height, width]
    to_groups = writer.constant(f"{target}.grouped_shape", np.array(grouped, np.int64))
    to_channels = writer.constant(f"{target}.shape", np.array(shape, np.int64))
    writer.emit("Reshape", path, [*inputs, to_groups], [f"{path}/Reshape_output_0"])
    writer.emit("Transpose", path, [f"{path}/Reshape_output_0"], [f"{path}/Transpose_output_0"], perm=[0, 2, 1, 3, 4])
    writer.emit("Reshape", f"{path}/flat", [f"{path}/Transpose_output_0", to_channels], [out])


def simple(kind: str, **attributes: object) -> Emitter:
    """An emitter for a module that becomes one node without parameters."""

    def emit(
        writer: GraphWriter, module: nn.Module, target: str, inputs: list[str], out: str, shape: tuple[int, ...]
    ) -> None:
        writer.emit(kind, path_of(target), inputs, [out], **attributes)

    return emit


EMITTERS: dict[type[nn.Module], Emitter] = {
    nn.Conv2d: emit_convolution,
    nn.BatchNorm2d: emit_normalization,
    nn.ReLU: simple("Relu"),
    nn.ReLU6: emit_clip,
    nn.MaxPool2d: emit_pool,
    nn.AdaptiveAvgPool2d: simple("GlobalAveragePool"),
    nn.Flatten: simple("Flatten", axis=1),
    nn.Linear: emit_linear,
    ChannelShuffle: emit_shuffle,
    Concat: simple("Concat", axis=1),
}


def path_of(target: str) -> str:
    """`features.0.conv` as a node path: `/features/0/conv`."""
    return "/" + target.replace(".", "/")


def to_onnx(network: nn.Module, name: str, sample: torch.Tensor) -> onnx.ModelProto:
    """The network in inference mode as a checked model with input `input` and output `output`, batch as in `sample`."""
    network = network.eval()
    graph = LeafTracer().trace(network)
    traced = fx.GraphModule(network, graph)
    ShapeProp(traced).propagate(sample)
    writer = GraphWriter()
    values: dict[fx.Node, list[str]] = {}

    for node in graph.nodes:
        inputs = [
            values[argument][0] for argument in node.args if isinstance(argument, fx.Node) and node.op != "output"
        ]
        if node.op == "placeholder":
            values[node] = ["input"]
        elif node.op == "output":
            rename_output(writer, values[node.args[0]][0])
        elif node.target is operator.getitem:
            values[node] = [values[node.args[0]][node.args[1]]]
        elif node.target is operator.add:
            values[node] = [f"/{node.name}/Add_output_0"]
            writer.emit("Add", f"/{node.name}", inputs, values[node])
        else:
            values[node] = emit_module(writer, traced, node, inputs)

    described = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, list(sample.shape)),
        helper.make_tensor_value_info("output", TensorProto.FLOAT, [sample.shape[0], 10]),
    ]
    proto = helper.make_graph(writer.nodes, name, described[:1], described[1:], list(writer.initializers.values()))
    model = helper.make_model(
        proto, producer_name="train_digits", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def emit_module(writer: GraphWriter, traced: fx.GraphModule, node: fx.Node, inputs: list[str]) -> list[str]:
    """Write the nodes of one leaf module and return the names of its results."""
    target = str(node.target)
    module = traced.get_submodule(target)
    if isinstance(module, ChannelSplit):
        outputs = [f"{path_of(target)}/Split_output_{half}" for half in range(2)]
        halves = [meta.shape[1] for meta in node.meta["tensor_meta"]]
        sizes = writer.constant(f"{target}.sizes", np.array(halves, np.int64))
        writer.emit("Split", path_of(target), [*inputs, sizes], outputs, axis=1)
        return outputs
    out = f"{path_of(target)}/output_0"
    EMITTERS[type(module)](writer, module, target, inputs, out, tuple(node.meta["tensor_meta"].shape))
    return [out]


def rename_output(writer: GraphWriter, value: str) -> None:
    """Give the graph's result the name `output`."""
    last = writer.nodes[-1]
    last.output[list(last.output).index(value)] = "output"
