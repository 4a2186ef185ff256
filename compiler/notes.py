"""What the compiler notes in a program for its report: written by the driver, read back and checked by `measure`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any, cast

from ..backends.manifest import Fields
from ..backends.program import Program
from ..backends.target import Target
from ..backends.timing.duration import instruction_timing
from ..dialects.core.operation import Module, Value
from ..dialects.nn.convolution import Conv2dOp
from ..dialects.nn.matmul import MatmulOp
from ..dialects.tile.instruction import InstructionOp
from ..dialects.tile.movement import MoveOp
from ..dialects.tile.types import BufferType
from ..passes.framework.environment import Remark
from .report import Product

LARGEST = 2**62


@dataclass(frozen=True, slots=True)
class ShuffleNote:
    """A shuffle of the model: its ONNX nodes, what became of it, and what it would cost as a move.

    `cycles_before` is None where nothing tried to rewrite it: then it costs what its moves cost.
    """

    name: str
    nodes: tuple[str, ...]
    outcome: str
    mechanism: str
    absorbed_into: tuple[str, ...]
    cycles_before: int | None


@dataclass(frozen=True, slots=True)
class Notes:
    """Everything a report needs that instructions do not tell.

    `layer_nodes` are the ONNX nodes of every layer, `products` is by the name of an ONNX node.
    """

    opt_level: int | None = None
    pipeline: str | None = None
    layer_nodes: tuple[tuple[str, ...], ...] = ()
    sram: Mapping[str, int] = field(default_factory=dict[str, int])
    products: Mapping[str, Product] = field(default_factory=dict[str, Product])
    shuffles: tuple[ShuffleNote, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a JSON object for the program's manifest."""
        return {
            "opt_level": self.opt_level,
            "pipeline": self.pipeline,
            "layer_nodes": [{"nodes": list(nodes)} for nodes in self.layer_nodes],
            "sram": dict(self.sram),
            "products": [{"node": node, **_lists(asdict(product))} for node, product in self.products.items()],
            "shuffles": [_lists(asdict(shuffle)) for shuffle in self.shuffles],
            "warnings": list(self.warnings),
            "remarks": list(self.remarks),
        }


def read_notes(program: Program) -> Notes:
    """The notes of a program, empty where it has none; CompileError names what is not as `to_json` writes it."""
    if not program.report:
        return Notes()
    fields = Fields(dict(program.report), "report")
    level = None if fields.raw("opt_level") is None else fields.integer("opt_level", 0, 3)
    pipeline = None if fields.raw("pipeline") is None else fields.text("pipeline")
    sram = fields.object("sram")
    return Notes(
        opt_level=level,
        pipeline=pipeline,
        layer_nodes=tuple(_texts(item, "nodes") for item in fields.objects("layer_nodes")),
        sram={name: sram.integer(name, 0, LARGEST) for name in sram.data},
        products=dict(_read_product(item) for item in fields.objects("products")),
        shuffles=tuple(_read_shuffle(item) for item in fields.objects("shuffles")),
        warnings=_texts(fields, "warnings"),
        remarks=_texts(fields, "remarks"),
    )


def product_shapes(module: Module) -> dict[str, Product]:
    """The convolutions and matrix products of a module, by the ONNX nodes that they come from."""
    found: dict[str, Product] = {}
    for op in module.walk():
        if isinstance(op, Conv2dOp):
            height, width, in_channels, channels = op.weight.type.shape
            rows = op.result.type.size // channels
            product = Product(in_channels, channels // op.groups, op.groups, (height, width), rows)
        elif isinstance(op, MatmulOp):
            columns = op.result.type.shape[-1] if op.rhs.type.rank > 1 else 1
            product = Product(op.lhs.type.shape[-1], columns, 1, (1, 1), op.result.type.size // columns)
        else:
            continue
        found.update(dict.fromkeys(op.location.nodes, product))
    return found


def shuffle_notes(remarks: Iterable[Remark], target: Target) -> tuple[ShuffleNote, ...]:
    """What became of every shuffle: the remarks of `rewrite-shuffles`, priced as moves on a target.

    A shuffle that `canonicalize` has found and that pass has not seen is moved as it stands.
    """
    found = [remark for remark in remarks if remark.kind == "shuffle"]
    notes = [
        ShuffleNote(
            name=remark.data["name"],
            nodes=remark.location.nodes,
            outcome=remark.data["outcome"],
            mechanism=remark.data["mechanism"],
            absorbed_into=tuple(remark.data["absorbed_into"]),
            cycles_before=move_cycles(tuple(remark.data["shape"]), remark.data["groups"], target),
        )
        for remark in found
        if remark.pass_name == "rewrite-shuffles"
    ]
    known = {node for note in notes for node in note.nodes}
    for remark in found:
        nodes = remark.location.nodes
        if remark.pass_name != "rewrite-shuffles" and known.isdisjoint(nodes):
            known.update(nodes)
            notes.append(ShuffleNote(nodes[0] if nodes else "shuffle", nodes, "moved", "moves", (), None))
    return tuple(notes)


def move_cycles(shape: tuple[int, ...], groups: int | None, target: Target) -> int:
    """Cycles of the vector unit to permute the last axis of an int8 tensor of `shape`, channel by channel.

    A regular shuffle of `groups` groups is one strided move. Any other permutation has as many bytes that lie apart,
    and is priced as two groups.
    """
    channels = shape[-1]
    parts = groups or 2
    each = -(-channels // parts)
    move: InstructionOp = MoveOp(
        [Value(BufferType("sram", 1)), Value(BufferType("sram", 1))],
        (),
        {
            "size1": prod(shape[:-1]),
            "size2": each,
            "size3": parts,
            "input_stride1": channels,
            "input_stride2": 1,
            "input_stride3": each,
            "output_stride1": channels,
            "output_stride2": parts,
        },
    )
    other = target.group_bytes if target.groups > 1 else 0
    return instruction_timing(move, target, {"input": 0, "output": other}).occupancy


def _lists(fields: dict[str, Any]) -> dict[str, Any]:
    """Tuples as lists, as they come back from JSON."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}  # pyright: ignore[reportUnknownArgumentType]


def _read_product(fields: Fields) -> tuple[str, Product]:
    height, width = fields.integers("kernel", 2, 1, LARGEST)
    channels, outputs, groups, rows = (
        fields.integer(name, 1, LARGEST) for name in ("in_channels", "out_channels", "groups", "rows")
    )
    return fields.text("node"), Product(channels, outputs, groups, (height, width), rows)


def _read_shuffle(fields: Fields) -> ShuffleNote:
    return ShuffleNote(
        name=fields.text("name"),
        nodes=_texts(fields, "nodes"),
        outcome=fields.text("outcome"),
        mechanism=fields.text("mechanism"),
        absorbed_into=_texts(fields, "absorbed_into"),
        cycles_before=None if fields.raw("cycles_before") is None else fields.integer("cycles_before", 0, LARGEST),
    )


def _texts(fields: Fields, key: str) -> tuple[str, ...]:
    values: Any = fields.raw(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in cast(list[Any], values)):
        fields.fail(key, "a list of texts")
    return tuple(cast(list[str], values))
