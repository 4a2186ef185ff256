"""Padding never changes a bit: random quantized graphs before and after."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelc.backends.target import load_target
from accelc.compiler.importer import import_model
from accelc.dialects.builtin import ReturnOp
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module, Operation, Value
from accelc.dialects.core.types import F32, TensorType
from accelc.dialects.core.verifier import verify
from accelc.dialects.nn import activation, convolution, elementwise, matmul, movement, normalization, pooling, reduction
from accelc.dialects.nn.softmax import SoftmaxOp
from accelc.passes.framework.environment import Environment
from accelc.passes.insert_quantization import InsertQuantization
from accelc.passes.pad_channels import PadChannels

EXAMPLES = Path(__file__).parents[3] / "examples" / "models"
SIZE = 4


class Graph:
    """Grows a float module operation by operation; every value is an image [1, SIZE, SIZE, C]."""

    def __init__(self, channels: int, seed: int) -> None:
        self.module = Module()
        self.random = np.random.default_rng(seed)
        image = TensorType((1, SIZE, SIZE, channels), F32)
        self.main = self.module.add_function("main", [("x", image)], ())
        self.images: list[Value] = list(self.main.arguments)

    def constant(self, *shape: int) -> Value:
        return self.module.add_constant("c", self.random.standard_normal(shape, dtype=np.float32))

    def add(self, kind: type[Operation], *operands: Value, **attributes) -> Value:
        return self.main.body.append(kind.build(*operands, **attributes)).result

    def finish(self) -> Module:
        features = self.add(reduction.ReduceMeanOp, self.images[-1], axes=(1, 2), keepdims=False)
        logits = self.add(matmul.MatmulOp, features, self.constant(features.type.shape[-1], 5), self.constant(5))
        returned = [logits, *self.images[-3:]]
        self.main.result_types = tuple(value.type for value in returned)
        self.main.body.append(ReturnOp(returned))
        verify(self.module)
        return self.module


def dense(graph: Graph, x: Value, outputs: int) -> Value:
    weight = graph.constant(3, 3, x.type.shape[-1], outputs)
    return graph.add(convolution.Conv2dOp, x, weight, graph.constant(outputs), pads=(1, 1, 1, 1), clamp_min=0.5)


def depthwise(graph: Graph, x: Value, _: int) -> Value:
    channels = x.type.shape[-1]
    return graph.add(convolution.Conv2dOp, x, graph.constant(1, 1, 1, channels), groups=channels)


def grouped(graph: Graph, x: Value, outputs: int) -> Value:
    weight = graph.constant(1, 1, 1, 2 * x.type.shape[-1])
    return graph.add(convolution.Conv2dOp, x, weight, groups=x.type.shape[-1])


def add_earlier(graph: Graph, x: Value, pick: int) -> Value:
    twins = [value for value in graph.images if value.type == x.type]
    return graph.add(elementwise.AddOp, x, twins[pick % len(twins)], clamp_max=1.0)


def concat(graph: Graph, x: Value, pick: int) -> Value:
    return graph.add(movement.ConcatOp, x, graph.images[pick % len(graph.images)], axis=3)


def concat_rows(graph: Graph, x: Value, _: int) -> Value:
    tall = graph.add(movement.ConcatOp, x, x, axis=1)
    return cut(graph, tall, 1, SIZE + 1, 0, x.type.shape[-1])


def cut(graph: Graph, x: Value, top: int, bottom: int, first: int, last: int) -> Value:
    return graph.add(movement.SliceOp, x, starts=(0, top, 0, first), stops=(1, bottom, SIZE, last), steps=(1, 1, 1, 1))


def some_channels(graph: Graph, x: Value, pick: int) -> Value:
    channels = x.type.shape[-1]
    first = pick % channels
    return cut(graph, x, 0, SIZE, first, first + 1 + pick % (channels - first))


def permuted(graph: Graph, x: Value, pick: int) -> Value:
    permutation = np.random.default_rng(pick).permutation(x.type.shape[-1])
    return graph.add(movement.PermuteChannelsOp, x, permutation=tuple(permutation.tolist()))


def frame(graph: Graph, x: Value, _: int) -> Value:
    wide = graph.add(movement.PadOp, x, low=(0, 1, 1, 0), high=(0, 1, 1, 0), value=0.5)
    return graph.add(pooling.MaxPoolOp, wide, kernel=(3, 3))


def pad_channel(graph: Graph, x: Value, _: int) -> Value:
    return graph.add(movement.PadOp, x, low=(0, 0, 0, 1), high=(0, 0, 0, 2))


def spread(graph: Graph, x: Value, _: int) -> Value:
    """A gate with one channel times all channels."""
    gate = graph.add(activation.SigmoidOp, dense(graph, x, 1))
    return graph.add(elementwise.MulOp, x, gate)


STEPS: tuple[Callable[[Graph, Value, int], Value], ...] = (
    dense,
    dense,
    depthwise,
    grouped,
    add_earlier,
    concat,
    concat_rows,
    some_channels,
    permuted,
    frame,
    pad_channel,
    spread,
    lambda g, x, _: g.add(elementwise.MulOp, x, g.constant(x.type.shape[-1])),
    lambda g, x, _: g.add(elementwise.SubOp, g.constant(1), x),
    lambda g, x, _: g.add(activation.SigmoidOp, x),
    lambda g, x, _: g.add(activation.PReluOp, x, g.constant(x.type.shape[-1])),
    lambda g, x, _: g.add(pooling.AveragePoolOp, x, kernel=(3, 3), pads=(1, 1, 1, 1)),
    lambda g, x, _: g.add(movement.TransposeOp, x, permutation=(0, 2, 1, 3)),
    lambda g, x, _: g.add(movement.GatherOp, x, axis=3, indices=(0, x.type.shape[-1] - 1)),
    lambda g, x, _: g.add(reduction.ReduceMeanOp, x, axes=(3,)),
    lambda g, x, _: g.add(normalization.LrnOp, x, size=3),
    lambda g, x, _: g.add(SoftmaxOp, x, axis=3),
    lambda g, x, _: g.add(SoftmaxOp, x, axis=2),
)


@st.composite
def modules(draw: st.DrawFn) -> Module:
    graph = Graph(draw(st.integers(1, 5)), draw(st.integers(0, 1000)))
    graph.images.append(dense(graph, graph.images[0], draw(st.integers(1, 7))))
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6)):
        image = graph.images[-1 - draw(st.integers(0, min(1, len(graph.images) - 1)))]
        graph.images.append(step(graph, image, draw(st.integers(1, 7))))
    module = graph.finish()
    InsertQuantization(synthetic=2).run(module, Environment())
    verify(module)
    return module


def assert_same(before: Module, after: Module) -> None:
    verify(after)
    (argument,) = before.main.arguments
    image = np.random.default_rng(7).standard_normal(argument.type.shape, dtype=np.float32)
    expected, found = run(before, {argument.name: image}), run(after, {argument.name: image})
    for name, array in expected.items():
        np.testing.assert_array_equal(array, found[name])


def macs(module: Module) -> int:
    return sum(getattr(op, "macs_total", 0) for op in module.walk())


@pytest.mark.parametrize("step", range(len(STEPS)))
@pytest.mark.parametrize("channels", [1, 5])
def test_every_operation_carries_padding_or_cuts_it_off(step: int, channels: int) -> None:
    graph = Graph(3, step)
    graph.images.append(dense(graph, graph.images[0], channels))
    graph.images.append(concat(graph, graph.images[-1], 1))
    for image in graph.images[1:]:
        graph.images.append(STEPS[step](graph, image, 3))
    graph.images.append(dense(graph, graph.images[-1], 3))
    module = graph.finish()
    InsertQuantization(synthetic=2).run(module, Environment())
    padded = module.clone()
    PadChannels(multiple=4, mode="always").run(padded, Environment())
    assert any("padded" in constant for constant in padded.constants)
    assert_same(module, padded)
    assert macs(padded) == macs(module)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(modules(), st.integers(2, 9))
def test_always_padding_changes_no_bit(module: Module, multiple: int) -> None:
    padded = module.clone()
    PadChannels(multiple=multiple, mode="always").run(padded, Environment())
    assert_same(module, padded)
    assert macs(padded) == macs(module)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(modules(), st.integers(2, 9))
def test_free_padding_changes_no_bit(module: Module, multiple: int) -> None:
    padded = module.clone()
    PadChannels(multiple=multiple).run(padded, Environment(target=load_target("tile16")))
    assert_same(module, padded)
    assert macs(padded) == macs(module)


@pytest.mark.parametrize("name", ["digits_cnn", "digits_depthwise", "digits_shufflenet"])
def test_networks_keep_every_bit(name: str) -> None:
    module = import_model(EXAMPLES / f"{name}.onnx")
    InsertQuantization().run(module, Environment())
    padded = module.clone()
    PadChannels(multiple=32, mode="always").run(padded, Environment())
    assert any("padded" in constant for constant in padded.constants)
    assert_same(module, padded)
    assert macs(padded) == macs(module)


def test_padding_twice_is_padding_once() -> None:
    module = import_model(EXAMPLES / "digits_cnn.onnx")
    InsertQuantization().run(module, Environment())
    once = PadChannels(multiple=32, mode="always")
    once.run(module, Environment())
    again = module.clone()
    environment = Environment()
    once.run(again, environment)
    assert_same(module, again)
    assert macs(again) == macs(module)
