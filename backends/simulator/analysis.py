"""What is known about a program before it runs: constant operands, matrix products as a whole, loads nobody needs.

A product is one matmul, or several that accumulate into the same place, and the requantizations that read it. If all
of them agree on its geometry it gets a buffer of its own in the layout that suits the host; its element type is
int32 where integer kernels compute all of it and a reduction fills at least one register, else float32 where the bound
of the accumulators proves that exact (128 * sum of |weights| <= 2^24 for int8), else float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ...dialects.core.types import Array
from ...dialects.nn.integer_kernels import KERNEL_DEPTH, has_integer_kernels, packed_weights
from ...dialects.quant.arithmetic import MULTIPLIER_BITS
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.elements import ELEMENTS, ElementOp
from ...dialects.tile.host import CallHostOp
from ...dialects.tile.indexing import ArgMaxOp, GatherOp
from ...dialects.tile.instruction import InstructionOp, Region
from ...dialects.tile.memory import LoadOp, TransferOp
from ...dialects.tile.movement import FillOp, MoveOp
from ...dialects.tile.normalization import ChannelwiseOp
from ...dialects.tile.pooling import AveragePoolOp, DepthwiseOp, MaxPoolOp
from ...dialects.tile.records import RECORD_BYTES
from ...dialects.tile.residual import RequantizeAddOp
from ...dialects.tile.types import strided_view
from ...dialects.tile.vector import BinaryOp, LookupOp, RequantizeOp, RescaleOp
from ..encoding import Instruction, space_of
from ..program import Program
from .constants import ConstantMap, Known

EXACT_FLOAT32 = 2**24
"""float32 adds integers exactly, in any order, while the sum of their magnitudes is at most this."""
LARGEST_INPUT = 128
"""The largest magnitude of an int8 input or weight."""
ACCUMULATOR_LIMIT = 2**31
"""Below this an accumulator times a multiplier of at most 2^22 is exact in float64, as `rescale` requires."""
WIDE_LIMIT = 2**52
"""Below this a wide accumulator and its bias are exact in float64; the multiplier comes after the pre-shift."""
WINDOW_LIMIT = 2**27
"""Up to a sum of this magnitude an average pool times its multiplier is exact in float64."""

_CONSTANT_OPERANDS: dict[type[InstructionOp], tuple[str, ...]] = {
    MatmulOp: ("weights",),
    DepthwiseOp: ("weights", "parameters"),
    RequantizeOp: ("parameters",),
    RequantizeAddOp: ("parameters",),
    RescaleOp: ("parameters",),
    LookupOp: ("table",),
    AveragePoolOp: ("multipliers",),
}
"""Operands that the fast path wants to know before the program runs."""


@dataclass(eq=False)
class Weights:
    """Constant weights, integers [groups, depth, out_c] ([1, taps, out_c] if diagonal), shared by all samples.

    `bound` is the largest magnitude that any partial sum of products can reach, `dtype` the float type of products.
    """

    stored: Array
    dtype: Any
    bound: int
    forms: dict[tuple[int, ...], list[Any]] = field(default_factory=dict[tuple[int, ...], list[Any]])

    @cached_property
    def matrix(self) -> Array:
        """The weights in the float type of the products."""
        return self.stored.astype(self.dtype)

    @cached_property
    def packed(self) -> list[Any]:
        """The weights as the integer kernels want them, one matrix a group."""
        return [packed_weights(matrix) for matrix in self.stored]

    def kept(self, form: tuple[int, ...], make: Callable[[Array], Any]) -> list[Any]:
        """The weights in another form, `make` of the matrix of each group, made once."""
        if form not in self.forms:
            self.forms[form] = [make(matrix) for matrix in self.stored]
        return self.forms[form]


@dataclass(eq=False)
class Product:
    """Accumulators that belong together: [groups, rows, out_c] from accumulator row `base` on."""

    base: int
    groups: int
    rows: int
    out_c: int
    tiles: int
    first: int
    last: int = 0
    bound: int = 0
    regular: bool = True
    element: str = "i8"
    integer: bool = True
    depth: int = 0
    slot: int = 0

    @property
    def end(self) -> int:
        """One past its last accumulator row."""
        return self.base + self.groups * self.tiles * self.rows

    @property
    def size(self) -> int:
        """Elements for one sample."""
        return self.groups * self.rows * self.out_c

    @property
    def dtype(self) -> Any:
        """float32 of floats; of integers int32 if kernels compute all, else float32 if every sum is exact in it."""
        if ELEMENTS[self.element].is_float:
            return np.dtype(np.float32)
        if self.integer and self.depth >= KERNEL_DEPTH and has_integer_kernels():
            return np.dtype(np.int32)
        return np.dtype(np.float32 if self.bound <= EXACT_FLOAT32 else np.float64)


@dataclass(eq=False)
class Analysis:
    """The result, by instruction index: operations with absolute offsets, constants, products.

    `plain` are the instructions that only `evaluate` executes, sample by sample; `whole` those that `evaluate` executes
    for all samples at once; `dead_loads` bring constants that nothing reads from memory, because
    every reader has them already.
    """

    operations: list[InstructionOp]
    constants: dict[int, dict[str, Known]] = field(default_factory=dict[int, dict[str, Known]])
    weights: dict[int, Weights] = field(default_factory=dict[int, Weights])
    products: dict[int, Product] = field(default_factory=dict[int, Product])
    plain: set[int] = field(default_factory=set[int])
    whole: set[int] = field(default_factory=set[int])
    dead_loads: set[int] = field(default_factory=set[int])
    slots: list[int] = field(default_factory=list[int])

    def product(self, index: int) -> Product | None:
        """The product that a matmul or requantize works on, if it is regular."""
        found = self.products.get(index)
        return found if found is not None and found.regular else None

    @property
    def needs_accumulators(self) -> bool:
        """True if some instruction needs the accumulators in the machine's own layout."""
        return not all(p.regular for p in self.products.values())


def analyse(program: Program) -> Analysis:
    """Follow the constants and the accumulators through a program, in its order of execution."""
    return _Analyser(program).run()


class _Analyser:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.result = Analysis([instruction.operation() for instruction in program.instructions])
        self.map = ConstantMap()
        self.live: list[tuple[int, int, Product]] = []
        self.converted: dict[tuple[Any, ...], tuple[Known, Weights]] = {}
        self.constant_loads: set[int] = set()

    def run(self) -> Analysis:
        for position, index in enumerate(self.program.order):
            op, instruction = self.result.operations[index], self.program.instructions[index]
            self.follow_constants(index, op, instruction)
            if isinstance(op, MatmulOp):
                self.follow_product(index, op, position)
            elif isinstance(op, RequantizeOp):
                self.follow_requantize(index, op, position)
        for product in self.result.products.values():
            limit = ACCUMULATOR_LIMIT if product.element == "i8" else WIDE_LIMIT
            product.regular = product.regular and product.bound < limit
        for index, op in enumerate(self.result.operations):
            if not self.is_fast(index, op):
                (self.result.whole if self.is_whole(op) else self.result.plain).add(index)
                known = self.result.constants.get(index, {})
                self.map.needed.update(load for operand in known.values() for load in operand.loads)
        self.result.dead_loads = self.constant_loads - self.map.needed
        self.assign_slots()
        return self.result

    def is_fast(self, index: int, op: InstructionOp) -> bool:
        if isinstance(op, RequantizeAddOp) and _shifts_in_place(op):
            return False
        if isinstance(op, (MatmulOp, RequantizeOp)):
            return self.result.product(index) is not None
        if isinstance(op, ElementOp) and op.element_of("output").is_float:
            return isinstance(op, (MoveOp, FillOp))
        if isinstance(op, (BinaryOp, LookupOp, RescaleOp)) and _shifts_in_place(op):
            return False
        if isinstance(op, BinaryOp):
            return op.kind != "div"
        if isinstance(op, ChannelwiseOp):
            return "table" in self.result.constants.get(index, {})
        if isinstance(op, AveragePoolOp) and op.kernel_h * op.kernel_w * largest_input(op) > WINDOW_LIMIT:
            return False
        if type(op) in _CONSTANT_OPERANDS:
            return self.result.constants.get(index, {}).keys() == set(_CONSTANT_OPERANDS[type(op)])
        if isinstance(op, GatherOp):
            return op.source_offset < self.program.constants.size
        return isinstance(op, (TransferOp, CallHostOp, MoveOp, FillOp, MaxPoolOp))

    def is_whole(self, op: InstructionOp) -> bool:
        """True if `evaluate` takes all samples at once: an instruction on floats in SRAM, or a search of one."""
        if isinstance(op, ArgMaxOp):
            return True
        return isinstance(op, ElementOp) and op.element_of("output").is_float and not op.spaces

    # constants

    def follow_constants(self, index: int, op: InstructionOp, instruction: Instruction) -> None:
        wanted = () if has_activation_weights(op) else _CONSTANT_OPERANDS.get(type(op), ())
        if isinstance(op, ChannelwiseOp):
            wanted = ("table",)
        regions = op.regions()
        for region in regions:
            if region.writes or not region.size or space_of(type(op), region.operand) != "sram":
                continue
            if region.operand in wanted:
                known = self.map.lookup(region.offset, region.end)
                if known is not None and not _is_exact(op, region.operand, known.data):
                    self.map.touch(region.offset, region.end)
                elif known is not None:
                    self.result.constants.setdefault(index, {})[region.operand] = known
                    if isinstance(op, ChannelwiseOp):  # it reads the table where it stands
                        self.map.touch(region.offset, region.end)
            else:
                self.map.touch(region.offset, region.end)
        for region in regions:
            if region.writes and region.size and space_of(type(op), region.operand) == "sram":
                data = self.loaded_constants(op, region)
                if data is None:
                    self.map.overwrite(region.offset, region.end, dense=region.is_dense)
                else:
                    self.map.load(region.offset, data, index)
                    self.constant_loads.add(index)

    def loaded_constants(self, op: InstructionOp, region: Region) -> Array | None:
        if not isinstance(op, LoadOp) or op.source_offset >= self.program.constants.size or not region.is_dense:
            return None
        strides = (op.source_outer_stride, op.source_inner_stride, 1)
        view = strided_view(self.program.constants, op.source_offset, (op.outer, op.inner, op.run), strides)
        return np.ascontiguousarray(view).reshape(-1)

    def convert(self, op: MatmulOp, known: Known) -> Weights:
        key = (known.key, op.groups, op.in_c, op.out_c, op.taps, op.diagonal, op.element, op.weights_element)
        if key not in self.converted:
            start = op.weights_offset
            op.weights_offset = 0
            matrix = op.diagonal_weights(known.data)[None] if op.diagonal else op.dense_weights(known.data)
            op.weights_offset = start
            if op.element_of("weights").is_float:
                self.converted[key] = known, Weights(matrix, product_type(op), 0)
                return self.converted[key][1]
            magnitudes = np.abs(matrix).view(f"u{matrix.itemsize}")  # the smallest number is its own absolute value
            sums = magnitudes.sum(axis=1, dtype=np.int64)
            bound = largest_input(op) * int(sums.max(initial=0))
            self.converted[key] = known, Weights(matrix, product_type(op), bound)
        return self.converted[key][1]

    # products

    def follow_product(self, index: int, op: MatmulOp, position: int) -> None:
        known = self.result.constants.get(index, {}).get("weights")
        bound = 0
        if not op.element_of("input").is_float:
            bound = magnitude(op, "input", op.input_zero) * magnitude(op, "weights", op.weights_zero) * op.depth
        if known is not None:
            self.result.weights[index] = weights = self.convert(op, known)
            bound = weights.bound
        elif op.diagonal:
            bound = -1
        base = op.accumulator_offset
        product = Product(base, op.groups, op.rows, op.out_c, op.column_tiles, position, element=op.element)
        if op.accumulate:
            found = self.covering(base, product.end)
            same = found is not None and (found.base, found.groups, found.rows, found.out_c, found.element) == (
                base,
                op.groups,
                op.rows,
                op.out_c,
                product.element,
            )
            if found is None or not same:
                self.spoil(base, product.end)
                product.regular = False
            if found is not None and same:
                product = found
        if product is not self.covering(base, product.end):
            self.live = [piece for span in self.live for piece in _without(span, base, product.end)]
            self.live.append((base, product.end, product))
        product.bound += max(bound, 0)
        narrow = known is not None and not op.diagonal and op.element == op.weights_element == "i8"
        product.integer = product.integer and narrow
        product.depth = min(product.depth or op.depth, op.depth)
        product.regular = product.regular and bound >= 0
        product.last = position
        self.result.products[index] = product

    def follow_requantize(self, index: int, op: RequantizeOp, position: int) -> None:
        base, end = op.accumulator_offset, op.accumulator_offset + op.accumulator_rows
        product = self.covering(base, end)
        rows, tiles = op.out_h * op.out_w, -(-op.group_columns // op.tile_columns)
        if product is not None:
            fits = (product.rows, product.tiles) == (rows, tiles) and op.first_column + op.out_c <= product.out_c
            aligned = (base - product.base) % (tiles * rows) == 0
            alike = product.element == op.accumulator_element
            if fits and aligned and alike and "parameters" in self.result.constants.get(index, {}):
                product.last = position
                self.result.products[index] = product
                return
        self.spoil(base, end)
        self.result.products[index] = Product(base, 1, rows, op.out_c, tiles, position, position, regular=False)

    def covering(self, base: int, end: int) -> Product | None:
        """The one product that covers accumulator rows [base, end)."""
        found = [span for span in self.live if span[0] < end and base < span[1]]
        if not found or any(span[2] is not found[0][2] for span in found):
            return None
        covered = sum(min(span[1], end) - max(span[0], base) for span in found)
        return found[0][2] if covered == end - base else None

    def spoil(self, base: int, end: int) -> None:
        """These rows are read in another geometry: the products in them need the machine's layout."""
        for start, stop, product in self.live:
            if start < end and base < stop:
                product.regular = False

    def assign_slots(self) -> None:
        """Buffers for products: two that live at the same time get different slots."""
        free_from: list[int] = []
        distinct = {id(product): product for product in self.result.products.values() if product.regular}
        for product in sorted(distinct.values(), key=lambda p: p.first):
            slot = next((s for s, end in enumerate(free_from) if end < product.first), len(free_from))
            if slot == len(free_from):
                free_from.append(0)
                self.result.slots.append(0)
            free_from[slot] = product.last
            product.slot = slot
            self.result.slots[slot] = max(self.result.slots[slot], product.size * product.dtype.itemsize)


def largest_input(op: ElementOp) -> int:
    """The largest magnitude of a number of the input."""
    return -op.element_of("input").low


def magnitude(op: ElementOp, operand: str, zero_point: int) -> int:
    """The largest magnitude of a number of an operand less a zero point."""
    element = op.element_of(operand)
    return max(abs(element.high - zero_point), abs(element.low - zero_point))


def has_activation_weights(op: InstructionOp) -> bool:
    """True for a matmul whose weights stand in rows, or with zero points: they are read as the program runs."""
    return isinstance(op, MatmulOp) and bool(op.weights_stride or op.input_zero or op.weights_zero)


def product_type(op: MatmulOp) -> Any:
    """The float type in which the products of an instruction are added: float64 for 16-bit integers, else float32."""
    return np.dtype(np.float64 if op.element == "i16" else np.float32)


def _is_exact(op: InstructionOp, operand: str, data: Array) -> bool:
    """False for multipliers beyond the range of the numeric contract, for which fast and plain bits might differ."""
    if isinstance(op, ElementOp) and op.element_of("output").is_float:
        return True
    if operand == "parameters" and isinstance(op, (RequantizeOp, DepthwiseOp)):
        step = op.record_bytes // RECORD_BYTES
        words = data.view("<u4")[step - 1 :: step]
    elif operand == "multipliers":
        words = data.view("<u4")
    else:
        return True
    magnitude = words & 0xFFFFFF
    return bool(np.all((magnitude <= 1 << MULTIPLIER_BITS) | (magnitude >= (1 << 24) - (1 << MULTIPLIER_BITS))))


def _shifts_in_place(op: InstructionOp) -> bool:
    """True if the output overlaps an input of another layout: then all must be read before anything is written."""
    *reads, output = op.regions()
    return any(
        read.offset < output.end
        and output.offset < read.end
        and (read.offset, _moving(read)) != (output.offset, _moving(output))
        for read in reads
        if read.operand in ("input", "lhs", "rhs", "residual")
    )


def _moving(region: Region) -> list[tuple[int, int]]:
    """(count, stride) of the axes along which there is more than one element."""
    return [axis for axis in zip(region.shape, region.strides, strict=True) if axis[0] > 1]


def _without(span: tuple[int, int, Product], start: int, end: int) -> list[tuple[int, int, Product]]:
    low, high, product = span
    parts = [(low, min(high, start), product), (max(low, end), high, product)]
    return [part for part in parts if part[0] < part[1]]
