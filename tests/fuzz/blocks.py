"""Layers of random networks of several nodes, as transformers and mobile networks have them; and what the host runs."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx

if TYPE_CHECKING:
    from .networks import Network

HOST_OPERATORS = frozenset({"GatherElements", "ReduceProd", "TopK"})
"""What the layers of `on_host` consist of: continuous functions, on which evaluators agree."""


def on_host(net: Network, x: str) -> None:
    """An operator without an integer form."""
    shape, random = net.shapes[x], net.random
    axis = random.randrange(-len(shape), len(shape)) if shape else 0
    kind = random.choice(sorted(HOST_OPERATORS))
    if kind == "GatherElements" and shape:
        places = net.constant(net.numbers.integers(0, shape[axis], shape))
        net.apply(kind, [x, places], shape, axis=axis)
    elif kind == "ReduceProd" and net.opset < 18 and shape:
        net.apply(kind, [x], tuple(1 if i == axis % len(shape) else n for i, n in enumerate(shape)), axes=[axis])
    elif kind == "TopK" and shape:
        count = random.randint(1, shape[axis])
        result = tuple(count if i == axis % len(shape) else n for i, n in enumerate(shape))
        net.apply(kind, [x, net.integers(count)], result, axis=axis)
        net.nodes[-1].output.append(f"{net.nodes[-1].output[0]}.places")


def sums_and_logarithms(net: Network, x: str) -> None:
    """Operators that become several: sums so far, triangles, logarithms of sums of exponentials."""
    shape, random = net.shapes[x], net.random
    axis = random.randrange(-len(shape), len(shape)) if shape else 0
    kind = random.choice(("CumSum", "LogSoftmax", "ReduceLogSumExp", "Trilu"))
    if kind == "CumSum" and shape:
        attributes = {"reverse": random.randrange(2), "exclusive": random.randrange(2)}
        net.apply(kind, [x, net.constant(np.array(axis, np.int64))], shape, **attributes)
    elif kind == "LogSoftmax" and shape:
        net.apply(kind, [x], shape, axis=axis)
    elif kind == "ReduceLogSumExp" and net.opset < 18 and shape:
        net.apply(kind, [x], tuple(1 if i == axis % len(shape) else n for i, n in enumerate(shape)), axes=[axis])
    elif kind == "Trilu" and len(shape) > 1:
        net.apply(kind, [x], shape, upper=random.randrange(2))


def choosing(net: Network, x: str) -> None:
    """Comparisons whose truth values choose between numbers that are alike where they change."""
    shape, random = net.shapes[x], net.random
    low, high = sorted(random.choices((-1.0, -0.3, 0.0, 0.4, 1.0), k=2))
    first, second = (net.constant(np.array(value, np.float32)) for value in (low, high))
    above, below = random.choice((("Greater", "Less"), ("GreaterOrEqual", "LessOrEqual")))
    over = net.apply(above, [x, first], shape)
    truths = [over]
    match random.randrange(3):
        case 0:
            net.apply("Where", [over, x, first] if random.random() < 0.5 else [over, first, x], shape)
        case 1:
            factor = net.apply("Cast", [over], shape, to=1)
            net.apply("Mul", [net.apply("Sub", [x, first], shape), factor], shape)
        case _:
            under = net.apply(below, [x, second], shape)
            both = net.apply("And", [over, under], shape)
            outside = net.apply("Not", [both], shape)
            truths += [under, both, outside]
            slopes = [net.apply("Sub", [x, bound], shape) for bound in (first, second)]
            zero = net.constant(np.array(0.0, np.float32))
            net.apply("Where", [outside, zero, net.apply("Mul", slopes, shape)], shape)
    for name in truths:  # no other layer reads them, and they are no outputs
        del net.shapes[name]


def embedding(net: Network, x: str) -> None:
    """Rows of a table by integers from outside, a negative one from the end."""
    random = net.random
    rows, length = random.choice((4, 7, 40)), random.choice((1, 3, 8))
    width = random.choice((1, 3, 16, 33))
    axis = random.randrange(2)
    table = net.weights((rows, width) if axis == 0 else (width, rows))
    result = (1, length, width) if axis == 0 else (width, 1, length)
    net.apply("Gather", [table, net.integer_input((1, length))], result, axis=axis)


def masking(net: Network, x: str) -> None:
    """Where with a condition that follows from constants, and scores with a mask as exporters write it."""
    shape, random = net.shapes[x], net.random
    if len(shape) < 2 or prod(shape) < 2:
        return
    rows, columns = shape[-2:]
    if random.random() < 0.3 and columns > 1:
        net.apply("Softmax", [hidden_scores(net, x)], shape, axis=-1)
        return
    if random.random() < 0.5:
        mask = np.tril(np.ones((rows, columns), np.float32), columns - 1 if random.random() < 0.2 else 0)
        hidden = net.constant(np.where(mask > 0, 0, random.choice((-1e4, -1e9, -np.inf))).astype(np.float32))
        net.apply("Softmax", [net.apply("Add", [x, hidden], shape)], shape, axis=-1)
        return
    condition = net.constant(net.numbers.random((rows, columns)) < 0.6)
    other = net.constant(np.array(random.choice((0.0, 1.0, -2.5)), np.float32))
    operands = [x, other] if random.random() < 0.5 else [other, x]
    net.apply("Where", [condition, *operands], shape)


def hidden_scores(net: Network, x: str) -> str:
    """Scores of which integers from outside hide some, never the first: (1 - m) * -10000, or minus infinity."""
    shape, random = net.shapes[x], net.random
    columns = shape[-1]
    one, zero = (net.constant(np.array(n, np.int64)) for n in (1, 0))
    low = net.constant(np.array(random.choice((-1e4, -np.inf)), np.float32))
    first = net.constant(np.eye(1, columns, dtype=np.int64).reshape((1,) * (len(shape) - 1) + (columns,)))
    given = net.integer_input((1,) * (len(shape) - 1) + (columns,))
    names = [f"{given}.{step}" for step in ("zero", "sign", "shown", "rest", "real")]
    for op_type, inputs, name in (
        ("Abs", [given], names[0]),
        ("Add", [names[0], first], names[1]),
        ("Min", [names[1], one], names[2]),
    ):
        net.nodes.append(onnx.helper.make_node(op_type, inputs, [name], name=name))
    if random.random() < 0.5:
        net.nodes.append(onnx.helper.make_node("Equal", [names[2], zero], [names[3]], name=names[3]))
        return net.apply("Where", [names[3], low, x], shape)
    net.nodes.append(onnx.helper.make_node("Sub", [one, names[2]], [names[3]], name=names[3]))
    net.nodes.append(onnx.helper.make_node("Cast", [names[3]], [names[4]], name=names[4], to=1))
    lower = net.constant(np.array(-1e4, np.float32))
    term = net.apply("Mul", [names[4], lower], (1,) * (len(shape) - 1) + (columns,))
    result = net.apply("Add", [x, term], shape)
    del net.shapes[term]
    return result


def gelu(net: Network, x: str) -> None:
    """The product x * (1 + erf(x / sqrt 2)) / 2, or the form with tanh, node by node."""
    shape = net.shapes[x]

    def number(value: float) -> str:
        return net.constant(np.array(value, np.float32))

    if net.random.random() < 0.5:
        inner = net.apply("Erf", [net.apply("Div", [x, number(2**0.5)], shape)], shape)
    else:
        cube = net.apply("Mul", [net.apply("Pow", [x, number(3.0)], shape), number(0.044715)], shape)
        scaled = net.apply("Mul", [net.apply("Add", [x, cube], shape), number((2 / np.pi) ** 0.5)], shape)
        inner = net.apply("Tanh", [scaled], shape)
    gate = net.apply("Add", [inner, number(1.0)], shape)
    net.apply("Mul", [net.apply("Mul", [x, gate], shape), number(0.5)], shape)


def squeeze_excite(net: Network, x: str) -> None:
    """Every channel times a factor that follows from the means of all channels."""
    shape, random = net.shapes[x], net.random
    if len(shape) != 4:
        return
    channels, inner = shape[1], random.choice((1, 2, 4, 8))
    pooled = net.apply("GlobalAveragePool", [x], (*shape[:2], 1, 1))
    down = net.apply("Conv", [pooled, net.weights((inner, channels, 1, 1), channels)], (1, inner, 1, 1))
    gate = net.apply("Relu", [down], (1, inner, 1, 1))
    up = net.apply("Conv", [gate, net.weights((channels, inner, 1, 1), inner)], (*shape[:2], 1, 1))
    factor = net.apply(random.choice(("Sigmoid", "HardSigmoid")), [up], (*shape[:2], 1, 1))
    net.apply("Mul", [x, factor] if random.random() < 0.5 else [factor, x], shape)


def heads(net: Network, x: str) -> None:
    """Attention over the first axis behind the batch, heads split and joined by reshapes and transposes."""
    shape, random = net.shapes[x], net.random
    if len(shape) != 3 or shape[0] != 1 or shape[2] > 48:
        return
    _, length, width = shape
    count = random.choice([n for n in (1, 2, 3, 4) if width % n == 0])
    size = width // count

    def projected(transposed: bool) -> str:
        plain = net.apply("MatMul", [x, net.weights((width, width), width)], shape)
        split = net.apply("Reshape", [plain, net.integers(1, length, count, size)], (1, length, count, size))
        order = [0, 2, 3, 1] if transposed else [0, 2, 1, 3]
        sizes = (1, count, size, length) if transposed else (1, count, length, size)
        return net.apply("Transpose", [split], sizes, perm=order)

    query, key, value = projected(False), projected(True), projected(False)
    square = (1, count, length, length)
    scores = net.apply("MatMul", [query, key], square)
    scaled = net.apply("Mul", [scores, net.constant(np.array(size**-0.5, np.float32))], square)
    weights = net.apply("Softmax", [scaled], square, axis=-1)
    mixed = net.apply("MatMul", [weights, value], (1, count, length, size))
    joined = net.apply("Transpose", [mixed], (1, length, count, size), perm=[0, 2, 1, 3])
    net.apply("Reshape", [joined, net.integers(1, length, width)], shape)


def recurrence(net: Network, x: str) -> None:
    """A recurrent layer over the last axis of a sequence or image, as exporters write it.

    What comes back of a state is less than it was: others double rounding errors with every step.
    """
    shape, random = net.shapes[x], net.random
    if len(shape) not in (3, 4) or prod(shape[1:-1]) > 400 or shape[-1] > 5:
        return
    batch, *features, steps = shape
    width, hidden = prod(features), random.choice((1, 3, 8, 33))
    kind, gates = random.choice((("RNN", 1), ("GRU", 3), ("LSTM", 4)))
    direction = random.choice(("forward", "reverse", "bidirectional"))
    count = 2 if direction == "bidirectional" else 1
    first = (steps, batch, *features)
    data = net.apply("Transpose", [x], first, perm=[len(shape) - 1, *range(len(shape) - 1)])
    if len(features) > 1:
        data = net.apply("Reshape", [data, net.integers(steps, batch, width)], (steps, batch, width))
    recurrent = net.numbers.standard_normal((count, gates * hidden, hidden)) / (2 * hidden**0.5)
    inputs = [data, net.weights((count, gates * hidden, width), width), net.constant(recurrent.astype(np.float32))]
    if random.random() < 0.7:
        inputs.append(net.weights((count, 2 * gates * hidden), 4))
    attributes = {"linear_before_reset": random.randrange(2)} if kind == "GRU" else {}
    state = (count, batch, hidden)
    results = [(steps, count, batch, hidden), state, state][: 3 if kind == "LSTM" else 2]
    net.apply(kind, inputs, *results, hidden_size=hidden, direction=direction, **attributes)


def iteration(net: Network, x: str) -> None:
    """A loop of a fixed number of iterations, whose body reads a value around it."""
    shape, random = net.shapes[x], net.random
    index, count = len(net.nodes), random.randint(1, 3)
    names = {name: f"b{index}.{name}" for name in ("number", "going", "carried", "goes on", "sum", "next")}
    kinds = {"number": (onnx.TensorProto.INT64, []), "going": (onnx.TensorProto.BOOL, [])}
    kinds |= {
        "goes on": kinds["going"],
        "carried": (onnx.TensorProto.FLOAT, shape),
        "next": (onnx.TensorProto.FLOAT, shape),
    }
    values = {name: onnx.helper.make_tensor_value_info(names[name], *kind) for name, kind in kinds.items()}
    body = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Identity", [names["going"]], [names["goes on"]]),
            onnx.helper.make_node("Add", [names["carried"], x], [names["sum"]]),
            onnx.helper.make_node(random.choice(("Tanh", "Sigmoid", "Neg")), [names["sum"]], [names["next"]]),
        ],
        f"body{index}",
        [values["number"], values["going"], values["carried"]],
        [values["goes on"], values["next"], values["next"]],
    )
    limit = net.constant(np.array(count, np.int64))
    net.apply("Loop", [limit, "", x], shape, (count, *shape), body=body)


BLOCKS: tuple[tuple[int, Callable[[Network, str], None]], ...] = (
    (1, recurrence),
    (1, iteration),
    (1, on_host),
    (1, sums_and_logarithms),
    (1, choosing),
    (1, embedding),
    (1, masking),
    (1, gelu),
    (1, squeeze_excite),
    (1, heads),
)
"""How often each is drawn, beside the layers of single operators."""
