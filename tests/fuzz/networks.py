"""Random ONNX networks of every operator that accelc imports, with the shapes that compilers get wrong.

Images of one pixel, prime sizes, 1, 3, 47 and 94 channels, strides larger than the kernel, dilation, groups,
asymmetric padding, axes from the end, outputs in the middle. Everything is drawn from one `random.Random`: seeded, it
is a case of the long run; drawn by hypothesis, it shrinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from random import Random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .blocks import BLOCKS

CHANNELS = (1, 2, 3, 4, 5, 8, 13, 16, 24, 32, 33, 47, 94)
SIZES = (1, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13)
LARGEST = 20_000
"""Elements of the largest value: keeps a case below a tenth of a second."""


@dataclass
class Network:
    """A graph under construction: `shapes` by value name; every method appends nodes and names a result."""

    random: Random
    opset: int = 17
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    integers_given: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.numbers = np.random.default_rng(self.random.getrandbits(32))

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def weights(self, shape: Sequence[int], fan_in: int = 1) -> str:
        """Normal weights that keep the size of what they are applied to; some channels are zero or large."""
        array = self.numbers.standard_normal(tuple(shape)) / max(fan_in, 1) ** 0.5
        if array.ndim and self.random.random() < 0.2:
            array[self.random.randrange(len(array))] *= self.random.choice((0.0, 1e-3, 20.0))
        return self.constant(array.astype(np.float32))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def integer_input(self, shape: tuple[int, ...]) -> str:
        """An input of int64."""
        name = f"i{len(self.integers_given)}"
        self.integers_given[name] = shape
        return name

    def apply(self, op_type: str, inputs: Sequence[str], *shapes: tuple[int, ...], **attributes: object) -> str:
        """Append a node whose results have these shapes; the first one is returned."""
        index = len(self.nodes)
        results = [f"v{index}" if i == 0 else f"v{index}.{i}" for i in range(len(shapes))]
        self.nodes.append(helper.make_node(op_type, inputs, results, name=f"{op_type}_{index}", **attributes))
        self.used.update(inputs)
        self.shapes.update(zip(results, shapes, strict=True))
        return results[0]

    def values(self, accept: Callable[[tuple[int, ...]], bool]) -> list[str]:
        return [name for name, shape in self.shapes.items() if accept(shape)]

    def model(self) -> onnx.ModelProto:
        """The model: what nothing reads is an output, and sometimes a value in the middle."""
        computed = [name for node in self.nodes for name in node.output if name in self.shapes]
        outputs = [name for name in computed if name not in self.used]
        if self.random.random() < 0.2:
            outputs.append(self.random.choice(computed))
        inputs = [name for name in self.shapes if name.startswith("x")]
        graph = helper.make_graph(
            self.nodes,
            "random",
            [
                *(helper.make_tensor_value_info(name, TensorProto.FLOAT, self.shapes[name]) for name in inputs),
                *(helper.make_tensor_value_info(n, TensorProto.INT64, s) for n, s in self.integers_given.items()),
            ],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, self.shapes[n]) for n in dict.fromkeys(outputs)],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


Layer = Callable[[Network, str], None]
"""Appends nodes that read one value; what it cannot read it leaves alone."""


def convolution(net: Network, x: str) -> None:
    shape, random = net.shapes[x], net.random
    if len(shape) not in (3, 4):
        return
    channels, sizes = shape[1], shape[2:]
    divisors = [d for d in range(1, channels + 1) if channels % d == 0]
    groups = random.choice((1, 1, channels, random.choice(divisors)))
    outputs = groups * random.choice((1, 1, 2, 3)) if groups > 1 else random.choice(CHANNELS)
    kernel, strides, dilations, pads = window(net, sizes)
    result = outputs_of(sizes, kernel, strides, dilations, pads)
    if min(result) < 1 or prod(result) * outputs > LARGEST:
        return
    weight = net.weights((outputs, channels // groups, *kernel), channels // groups * prod(kernel))
    inputs = [x, weight, *([net.weights((outputs,))] if random.random() < 0.7 else [])]
    y = net.apply("Conv", inputs, (*shape[:1], outputs, *result), group=groups, strides=strides, dilations=dilations,
                  pads=pads, **({"kernel_shape": kernel} if random.random() < 0.5 else {}))  # fmt: skip
    if random.random() < 0.3:
        batch_normalization(net, y)


def window(net: Network, sizes: Sequence[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, strides, dilations and pads that reach at least one element."""
    random = net.random
    kernel = [random.choice((1, 1, 2, 3, 3, 5)) for _ in sizes]
    strides = [random.choice((1, 1, 1, 2, 3, 4)) for _ in sizes]
    dilations = [random.choice((1, 1, 1, 2, 3)) if k > 1 else 1 for k in kernel]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    low, high = ([random.choice((0, 0, (r - 1) // 2, random.randrange(r))) for r in reach] for _ in range(2))
    return kernel, strides, dilations, [*low, *high]


def outputs_of(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]
) -> list[int]:
    rank = len(sizes)
    total = [size + pads[i] + pads[i + rank] for i, size in enumerate(sizes)]
    return [
        (n - (k - 1) * d - 1) // s + 1 if n >= (k - 1) * d + 1 else 0
        for n, k, s, d in zip(total, kernel, strides, dilations, strict=True)
    ]


def pooling(net: Network, x: str) -> None:
    shape, random = net.shapes[x], net.random
    if len(shape) not in (3, 4):
        return
    kernel, strides, dilations, pads = window(net, shape[2:])
    average = random.random() < 0.5
    if average:
        dilations = [1] * len(kernel)
    pads = [min(pad, (k - 1) // 2) for pad, k in zip(pads, kernel * 2, strict=True)]
    result = outputs_of(shape[2:], kernel, strides, dilations, pads)
    if min(result) < 1:
        return
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    if average:
        net.apply("AveragePool", [x], (*shape[:2], *result), count_include_pad=random.randrange(2), **attributes)
    else:
        net.apply("MaxPool", [x], (*shape[:2], *result), dilations=dilations, **attributes)


def global_pooling(net: Network, x: str) -> None:
    shape = net.shapes[x]
    if len(shape) in (3, 4):
        op_type = net.random.choice(("GlobalAveragePool", "GlobalMaxPool"))
        net.apply(op_type, [x], (*shape[:2], *[1] * (len(shape) - 2)))


def activation(net: Network, x: str) -> None:
    random, shape = net.random, net.shapes[x]
    names = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Clip", "PRelu")
    op_type = random.choice(names + (("Mish",) if net.opset >= 18 else ()) + (("Gelu",) if net.opset >= 20 else ()))
    inputs, attributes = [x], {}
    if op_type == "Clip":
        low = random.choice((-1.0, 0.0, 0.5))
        inputs += [net.constant(np.float32(low)), net.constant(np.float32(low + random.choice((0.0, 1.0, 6.0))))]
    elif op_type == "LeakyRelu":
        attributes = {"alpha": random.choice((0.01, 0.1, 1.5, -0.5))}
    elif op_type == "PRelu":
        channels = shape[1] if len(shape) > 1 else 1
        inputs.append(net.weights(random.choice(((1,), (channels, *[1] * (len(shape) - 2))))))
    net.apply(op_type, inputs, shape, **attributes)


def function(net: Network, x: str) -> None:
    """A function of one number; those that need positive ones get at least 0.5."""
    random, shape = net.random, net.shapes[x]
    op_type = random.choice(FUNCTIONS)
    inputs, attributes = [x], {}
    if op_type in ("Log", "Reciprocal", "Sqrt"):
        positive = net.apply("Sigmoid", [x], shape)
        inputs = [net.apply("Add", [positive, net.constant(np.float32(0.5))], shape)]
    elif op_type == "Pow":
        inputs.append(net.constant(np.float32(random.choice((2, 3, 1)))))
    elif op_type in ("Min", "Max"):
        inputs.append(net.constant(np.float32(random.choice((-0.5, 0.0, 1.0)))))
    elif op_type == "ThresholdedRelu":
        attributes = {"alpha": 0.0}
    net.apply(op_type, inputs, shape, **attributes)


FUNCTIONS = (
    *("Abs", "Celu", "Cos", "Elu", "Erf", "Exp", "Log", "Max", "Min", "Neg", "Pow", "Reciprocal"),
    *("Asinh", "Atan", "Selu", "Sin", "Softplus", "Softsign", "Sqrt", "ThresholdedRelu"),
)


def normalization(net: Network, x: str) -> None:
    shape, random = net.shapes[x], net.random
    if len(shape) < 3 or prod(shape[2:]) < 2:
        return
    kind = random.choice(("layer", "instance", "group"))
    if kind == "layer" and net.opset >= 17 and shape[-1] > 1:
        bias = [net.weights(shape[-1:])] if random.random() < 0.7 else []
        net.apply("LayerNormalization", [x, net.weights(shape[-1:]), *bias], shape, axis=-1, epsilon=1e-3)
    elif kind == "instance":
        scale, bias = net.weights((shape[1],)), net.weights((shape[1],))
        net.apply("InstanceNormalization", [x, scale, bias], shape, epsilon=1e-3)
    elif kind == "group" and net.opset >= 21:
        groups = random.choice([d for d in range(1, shape[1] + 1) if shape[1] % d == 0])
        scale, bias = net.weights((shape[1],)), net.weights((shape[1],))
        net.apply("GroupNormalization", [x, scale, bias], shape, num_groups=groups, epsilon=1e-3)


def attention_product(net: Network, x: str) -> None:
    """A product of two computed values, the second one turned if need be."""
    shape = net.shapes[x]
    if len(shape) < 2:
        return
    others = net.values(lambda s: len(s) == len(shape) and s[:-2] == shape[:-2] and shape[-1] in s[-2:])
    if not others:
        return
    other = net.random.choice(others)
    right = net.shapes[other]
    if right[-2] != shape[-1]:
        order = [*range(len(right) - 2), len(right) - 1, len(right) - 2]
        right = (*right[:-2], right[-1], right[-2])
        other = net.apply("Transpose", [other], right, perm=order)
    if prod(shape[:-1]) * right[-1] <= LARGEST:
        net.apply("MatMul", [x, other], (*shape[:-1], right[-1]))


def batch_normalization(net: Network, x: str) -> None:
    shape = net.shapes[x]
    if len(shape) < 2:
        return
    scale, bias, mean = (net.weights((shape[1],)) for _ in range(3))
    variance = net.constant(net.numbers.uniform(0.1, 4, shape[1]).astype(np.float32))
    net.apply("BatchNormalization", [x, scale, bias, mean, variance], shape, epsilon=1e-3)


def local_response(net: Network, x: str) -> None:
    shape = net.shapes[x]
    if len(shape) == 4:
        net.apply("LRN", [x], shape, size=net.random.choice((1, 3, 5)), alpha=0.1, beta=0.75, bias=1.5)


def softmax(net: Network, x: str) -> None:
    shape = net.shapes[x]
    net.apply("Softmax", [x], shape, axis=net.random.choice((1 if len(shape) > 1 else 0, -1)))


def with_constant(net: Network, x: str) -> None:
    """One side is a constant: of one element, of one row, per channel, or of the whole shape."""
    shape, random = net.shapes[x], net.random
    chosen = random.choice(((), (1,), shape, shape[-1:], tuple(n if i == 1 else 1 for i, n in enumerate(shape))))
    op_type = random.choice(("Add", "Sub", "Mul", "Div"))
    if op_type == "Div":
        signs = net.numbers.choice((-1.0, 1.0), chosen)
        other = net.constant(np.asarray(signs * net.numbers.uniform(0.5, 3, chosen), np.float32))
    else:
        other = net.weights(chosen)
    inputs = [other, x] if op_type in ("Add", "Sub", "Mul") and random.random() < 0.3 else [x, other]
    net.apply(op_type, inputs, tuple(np.broadcast_shapes(shape, chosen)))


def with_other(net: Network, x: str) -> None:
    """Two computed sides that broadcast, or one twice."""
    shape = net.shapes[x]

    def fits(other: tuple[int, ...]) -> bool:
        if len(other) != len(shape):
            return False
        return all(a == b or 1 in (a, b) for a, b in zip(shape, other, strict=True))

    other = net.random.choice(net.values(fits))
    result = tuple(np.broadcast_shapes(shape, net.shapes[other]))
    if prod(result) > LARGEST:
        return
    op_type = net.random.choice(("Add", "Add", "Sub", "Mul", "Sum"))
    net.apply(op_type, [x, other, x] if op_type == "Sum" and net.random.random() < 0.5 else [x, other], result)


def concatenation(net: Network, x: str) -> None:
    shape = net.shapes[x]
    axis = net.random.randrange(1, len(shape)) if len(shape) > 1 else 0
    others = net.values(lambda s: len(s) == len(shape) and all(i == axis or n == shape[i] for i, n in enumerate(s)))
    joined = [x, *net.random.choices(others, k=net.random.choice((1, 1, 2)))]
    total = sum(net.shapes[name][axis] for name in joined)
    result = (*shape[:axis], total, *shape[axis + 1 :])
    if prod(result) <= LARGEST:
        net.apply("Concat", joined, result, axis=axis - net.random.choice((0, len(shape))))


def splitting(net: Network, x: str) -> None:
    shape = net.shapes[x]
    axis = net.random.randrange(len(shape))
    if shape[axis] < 2:
        return
    cut = net.random.randrange(1, shape[axis])
    parts = [(*shape[:axis], n, *shape[axis + 1 :]) for n in (cut, shape[axis] - cut)]
    net.apply("Split", [x, net.integers(cut, shape[axis] - cut)], *parts, axis=axis)


def slicing(net: Network, x: str) -> None:
    shape, random = net.shapes[x], net.random
    axis = random.randrange(len(shape))
    size = shape[axis]
    start, step = random.randrange(size), random.choice((1, 1, 2, 3))
    stop = random.randrange(start + 1, size + 1)
    if random.random() < 0.2:
        start, stop, step = size - 1, -(2**31), -1
    count = len(range(size)[slice(start, stop if stop >= 0 else None, step)])
    bounds = [net.integers(value) for value in (start, stop, axis - random.choice((0, len(shape))), step)]
    net.apply("Slice", [x, *bounds], (*shape[:axis], count, *shape[axis + 1 :]))


def padding(net: Network, x: str) -> None:
    shape, random = net.shapes[x], net.random
    first = 2 if random.random() < 0.8 else 1
    low, high = ([random.choice((0, 0, 1, 2)) if axis >= first else 0 for axis in range(len(shape))] for _ in range(2))
    mode = random.choice(("constant", "constant", "edge", "reflect"))
    if mode == "reflect":
        low, high = ([min(n, size - 1) for n, size in zip(pads, shape, strict=True)] for pads in (low, high))
    result = tuple(n + a + b for n, a, b in zip(shape, low, high, strict=True))
    if prod(result) > LARGEST:
        return
    value = [net.constant(np.float32(random.choice((0.0, 0.0, 0.7))))] if mode == "constant" else []
    net.apply("Pad", [x, net.integers(*low, *high), *value], result, mode=mode)


def transposition(net: Network, x: str) -> None:
    shape = net.shapes[x]
    order = [0, *net.random.sample(range(1, len(shape)), len(shape) - 1)] if len(shape) > 1 else [0]
    net.apply("Transpose", [x], tuple(shape[axis] for axis in order), perm=order)


def reshaping(net: Network, x: str) -> None:
    """To another rank: some axes joined, some split."""
    shape, random = net.shapes[x], net.random
    rest = list(shape[1:])
    if len(rest) > 1 and random.random() < 0.6:
        cut = random.randrange(len(rest) - 1)
        rest[cut : cut + 2] = [rest[cut] * rest[cut + 1]]
    elif rest and len(rest) < 4:
        cut = random.randrange(len(rest))
        divisor = random.choice([d for d in range(1, rest[cut] + 1) if rest[cut] % d == 0])
        rest[cut : cut + 1] = [divisor, rest[cut] // divisor]
    result = (shape[0], *rest)
    spelt = [-1 if i == len(result) - 1 else n for i, n in enumerate(result)]
    net.apply("Reshape", [x, net.integers(*(spelt if random.random() < 0.5 else result))], result)


def flattening(net: Network, x: str) -> None:
    shape = net.shapes[x]
    kind = net.random.randrange(3)
    if kind == 0 and len(shape) > 1:
        net.apply("Flatten", [x], (shape[0], prod(shape[1:])))
    elif kind == 1 and len(shape) < 5:
        axis = net.random.randrange(1, len(shape) + 1)
        net.apply("Unsqueeze", [x, net.integers(axis)], (*shape[:axis], 1, *shape[axis:]))
    elif 1 in shape[1:] and len(shape) > 2:
        axis = shape.index(1, 1)
        net.apply("Squeeze", [x, net.integers(axis)], (*shape[:axis], *shape[axis + 1 :]))


def product(net: Network, x: str) -> None:
    shape, random = net.shapes[x], net.random
    columns = random.choice(CHANNELS)
    if len(shape) < 2 or prod(shape[:-1]) * columns > LARGEST:
        return
    batch = shape[1:-2] if len(shape) > 3 and random.random() < 0.3 else ()
    weight = net.weights((*batch, shape[-1], columns), shape[-1])
    if len(shape) == 2 and random.random() < 0.5:
        turned = net.weights((columns, shape[-1]), shape[-1])
        row = [net.weights(random.choice(((columns,), (1, columns), (1,))))] if random.random() < 0.7 else []
        net.apply("Gemm", [x, turned, *row], (shape[0], columns), transB=1, alpha=random.choice((1.0, 0.5)))
    else:
        net.apply("MatMul", [x, weight], (*shape[:-1], columns))


def gathering(net: Network, x: str) -> None:
    shape, random = net.shapes[x], net.random
    axis = random.randrange(1, len(shape)) if len(shape) > 1 else 0
    indices = [random.randrange(-shape[axis], shape[axis]) for _ in range(random.choice((1, 2, 5, shape[axis])))]
    net.apply("Gather", [x, net.integers(*indices)], (*shape[:axis], len(indices), *shape[axis + 1 :]), axis=axis)


def shuffling(net: Network, x: str) -> None:
    """The channel shuffle of ShuffleNet."""
    shape = net.shapes[x]
    if len(shape) != 4:
        return
    n, channels, height, width = shape
    groups = net.random.choice([d for d in range(1, channels + 1) if channels % d == 0])
    wide = (n, groups, channels // groups, height, width)
    split = net.apply("Reshape", [x, net.integers(*wide)], wide)
    turned = net.apply("Transpose", [split], (n, wide[2], groups, height, width), perm=[0, 2, 1, 3, 4])
    net.apply("Reshape", [turned, net.integers(*shape)], shape)


def averaging(net: Network, x: str) -> None:
    shape, random = net.shapes[x], net.random
    axes = [axis for axis in range(2, len(shape)) if random.random() < 0.7] or [len(shape) - 1]
    keep = random.randrange(2)
    result = tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes)
    if not result or len(shape) < 2:
        return
    if net.opset < 18:
        net.apply("ReduceMean", [x], result, axes=axes, keepdims=keep)
    else:
        net.apply("ReduceMean", [x, net.integers(*axes)], result, keepdims=keep)


def passing(net: Network, x: str) -> None:
    net.apply(net.random.choice(("Identity", "Dropout")), [x], net.shapes[x])


LAYERS: tuple[tuple[int, Layer], ...] = (
    (9, convolution),
    (4, pooling),
    (1, global_pooling),
    (5, activation),
    (2, function),
    (1, batch_normalization),
    (2, normalization),
    (1, attention_product),
    (1, local_response),
    (1, softmax),
    (2, with_constant),
    (3, with_other),
    (2, concatenation),
    (1, splitting),
    (1, slicing),
    (1, padding),
    (1, transposition),
    (1, reshaping),
    (1, flattening),
    (3, product),
    (1, gathering),
    (1, shuffling),
    (1, averaging),
    (1, passing),
    *BLOCKS,
)
"""How often each is drawn."""


def random_network(random: Random) -> onnx.ModelProto:
    """A model of one to eight layers; at least one node."""
    net = Network(random, random.choice((14, 15, 17, 17, 18, 21)))
    for index in range(random.choice((1, 1, 1, 2))):
        kind = random.random()
        sizes = [random.choice(SIZES) for _ in range(2 if kind < 0.8 else 1 if kind < 0.9 else 0)]
        net.shapes[f"x{index}"] = (1, random.choice(CHANNELS), *sizes)
    count = random.randint(1, 8)
    weights, layers = zip(*LAYERS, strict=True)
    for _ in range(count):
        # Mostly the newest value, so that networks are deep, sometimes any.
        names = list(net.shapes)
        x = names[-1] if random.random() < 0.75 else random.choice(names)
        random.choices(layers, weights)[0](net, x)
    if not net.nodes:
        activation(net, "x0")
    return net.model()
