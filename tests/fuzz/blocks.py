"""Layers of random networks of several nodes, as transformers and mobile networks have them; and what the host runs."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .networks import Network

HOST_OPERATORS = frozenset({"Atan", "Asinh", "CumSum", "LogSoftmax", "TopK", "Trilu"})
"""What the layers of `on_host` consist of: continuous functions, on which evaluators agree."""


def on_host(net: Network, x: str) -> None:
    """An operator without an integer form."""
    shape, random = net.shapes[x], net.random
    axis = random.randrange(-len(shape), len(shape)) if shape else 0
    kind = random.choice(sorted(HOST_OPERATORS))
    if kind in ("Atan", "Asinh"):
        net.apply(kind, [x], shape)
    elif kind == "CumSum" and shape:
        net.apply(kind, [x, net.constant(np.array(axis, np.int64))], shape, reverse=random.randrange(2))
    elif kind == "LogSoftmax" and shape:
        net.apply(kind, [x], shape, axis=axis)
    elif kind == "TopK" and shape:
        count = random.randint(1, shape[axis])
        result = tuple(count if i == axis % len(shape) else n for i, n in enumerate(shape))
        net.apply(kind, [x, net.integers(count)], result, axis=axis)
        net.nodes[-1].output.append(f"{net.nodes[-1].output[0]}.places")
    elif kind == "Trilu" and len(shape) > 1:
        net.apply(kind, [x], shape, upper=random.randrange(2))


def masking(net: Network, x: str) -> None:
    """Where with a condition that follows from constants, and scores with a mask as exporters write it."""
    shape, random = net.shapes[x], net.random
    if len(shape) < 2 or prod(shape) < 2:
        return
    rows, columns = shape[-2:]
    if random.random() < 0.5:
        mask = np.tril(np.ones((rows, columns), np.float32), columns - 1 if random.random() < 0.2 else 0)
        hidden = net.constant(np.where(mask > 0, 0, random.choice((-1e4, -1e9, -np.inf))).astype(np.float32))
        net.apply("Softmax", [net.apply("Add", [x, hidden], shape)], shape, axis=-1)
        return
    condition = net.constant(net.numbers.random((rows, columns)) < 0.6)
    other = net.constant(np.array(random.choice((0.0, 1.0, -2.5)), np.float32))
    operands = [x, other] if random.random() < 0.5 else [other, x]
    net.apply("Where", [condition, *operands], shape)


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


BLOCKS: tuple[tuple[int, Callable[[Network, str], None]], ...] = (
    (1, on_host),
    (1, masking),
    (1, gelu),
    (1, squeeze_excite),
    (1, heads),
)
"""How often each is drawn, beside the layers of single operators."""
