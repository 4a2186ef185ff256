"""ONNX files with bytes or fields changed: imported or refused; what is imported verifies and prints."""

from __future__ import annotations

from random import Random
from typing import Any

from onnx import AttributeProto, ModelProto

from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.equality import difference
from accelc.dialects.core.parser import parse_module
from accelc.dialects.core.printer import print_module
from accelc.dialects.core.verifier import verify
from accelc.dialects.registry import CONTEXT

from .networks import random_network
from .problems import MismatchError

NUMBERS = (0, 1, -1, 2, 3, 5, 127, 255, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, -(2**63))


def mutated_bytes(data: bytes, random: Random) -> bytes:
    """Bits flipped, bytes replaced, parts cut, doubled, moved or left out."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5))):
        if not changed:
            break
        place = random.randrange(len(changed))
        end = min(len(changed), place + random.choice((1, 2, 8, 64)))
        match random.randrange(7):
            case 0 | 1:
                changed[place] ^= 1 << random.randrange(8)
            case 2:
                changed[place] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 3:
                del changed[place:end]
            case 4:
                changed[place:place] = changed[place:end]
            case 5:
                part = changed[place:end]
                del changed[place:end]
                other = random.randrange(len(changed) + 1)
                changed[other:other] = part
            case _:
                if random.random() < 0.3:
                    del changed[place:]
    return bytes(changed)


def mutated_model(random: Random) -> bytes:
    """A random network with one to three fields of its message changed."""
    model = random_network(random)
    for _ in range(random.choice((1, 1, 2, 3))):
        _change(model, random)
    return model.SerializeToString()


def _change(model: ModelProto, random: Random) -> None:
    graph = model.graph
    if not graph.node:
        return
    node = random.choice(graph.node)
    names = [*(n for each in graph.node for n in (*each.input, *each.output)), "", "nowhere"]
    match random.randrange(10):
        case 0:
            graph.node.remove(node)
        case 1 if node.input:
            node.input[random.randrange(len(node.input))] = random.choice(names)
        case 2:
            node.output[random.randrange(len(node.output))] = random.choice(names)
        case 3:
            node.op_type = random.choice((*(n.op_type for n in graph.node), *OTHERS))
        case 4 if node.attribute:
            _change_attribute(random.choice(node.attribute), random)
        case 5 if graph.initializer:
            tensor = random.choice(graph.initializer)
            if tensor.dims and random.random() < 0.6:
                tensor.dims[random.randrange(len(tensor.dims))] = random.choice(NUMBERS)
            else:
                tensor.data_type = random.randrange(30)
        case 6:
            kind = random.choice([*graph.input, *graph.output]).type.tensor_type
            if kind.shape.dim and random.random() < 0.7:
                random.choice(kind.shape.dim).dim_value = random.choice(NUMBERS)
            else:
                kind.elem_type = random.randrange(20)
        case 7:
            model.opset_import[0].version = random.choice((6, 7, 9, 11, 13, 18, 20, 21, 23, 25))
        case 8 if node.input:
            node.input.append(random.choice(names))
        case _:
            graph.node.add().CopyFrom(node)


OTHERS = ("Erf", "Exp", "Gelu", "If", "MatMul", "Resize", "Shape", "TopK", "Where")


def _change_attribute(attribute: AttributeProto, random: Random) -> None:
    match random.randrange(4):
        case 0:
            attribute.type = random.randrange(1, 14)
        case 1:
            attribute.name = random.choice(("axis", "axes", "pads", "strides", "group", "alpha"))
        case 2 if attribute.ints:
            attribute.ints[random.randrange(len(attribute.ints))] = random.choice(NUMBERS)
        case _:
            attribute.i = random.choice(NUMBERS)
            attribute.f = random.choice((0.0, -1.0, float("inf"), float("nan"), 1e38))


def check_model(data: bytes) -> str:
    """Import; what became of it. Raises anything but CompileError."""
    try:
        module = import_model(data)
    except CompileError as error:
        assert str(error)
        return "refused"
    verify(module)
    text = print_module(module, elide_above=1 << 30) if _is_small(module) else ""
    if text and (found := difference(module, parse_module(text, CONTEXT))) is not None:
        raise MismatchError(f"printing and parsing changes the module: {found}")
    return "imported"


def _is_small(module: Any) -> bool:
    return sum(constant.type.size for constant in module.constants.values()) < 10_000


def serialized(random: Random) -> bytes:
    """The bytes of a random network."""
    return random_network(random).SerializeToString()
