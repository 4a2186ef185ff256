"""Binds every instruction of a program to the memories: what is left for each run is a list of calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ...dialects.core.types import Array
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.host import CallHostOp
from ...dialects.tile.indexing import GatherOp
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import TransferOp
from ...dialects.tile.movement import FillOp, MoveOp
from ...dialects.tile.normalization import ChannelwiseOp
from ...dialects.tile.pooling import AveragePoolOp, DepthwiseOp, MaxPoolOp
from ...dialects.tile.residual import RequantizeAddOp
from ...dialects.tile.vector import BinaryOp, LookupOp, RequantizeOp, RescaleOp
from ..encoding import Instruction, space_of
from ..program import Program
from .analysis import Analysis, Product
from .direct import SHORTEST_RUN, direct_product, has_direct_products
from .elementwise import binary_step, channelwise_step, copy_step, fill_step, lookup_step, region_view, rescale_step
from .floats import drain_step, ordered_product
from .host import Host
from .integer import integer_product
from .memory import Memory, Scratch
from .plain import Step, plain_step
from .pooling import average_pool_step, depthwise_step, max_pool_step
from .products import dense_product
from .requantization import requantization, residual_requantization
from .taps import tap_product


def bind_plain(program: Program, memory: Memory, host: Host) -> list[tuple[int, Step]]:
    """(instruction index, step) in order of execution, each instruction by its `evaluate`."""

    def bind(instruction: Instruction) -> Step:
        if instruction.op_class is CallHostOp:
            return host.step(instruction)
        return plain_step(instruction, memory)

    return [(index, bind(program.instructions[index])) for index in program.order]


def bind_fast(
    program: Program,
    analysis: Analysis,
    memory: Memory,
    host: Host,
    *,
    compiled: bool = False,
    ordered: bool = True,
) -> list[tuple[int, Step]]:
    """As `bind_plain`, with the same bits, but vectorised over samples and without the loads nobody needs.

    With `compiled` machine code takes the place of numpy where there is some (kernels.py). Unless `ordered`, BLAS adds
    the products of floats in an order of its own: then bits differ.
    """
    binder = _Binder(program, analysis, memory, host, Scratch(compiled), ordered=ordered)
    return [(index, binder.step(index)) for index in program.order if index not in analysis.dead_loads]


class _Binder:
    def __init__(
        self, program: Program, analysis: Analysis, memory: Memory, host: Host, scratch: Scratch, *, ordered: bool
    ) -> None:
        self.program, self.host, self.ordered = program, host, ordered
        self.analysis = analysis
        self.memory = memory
        self.scratch = scratch
        self.direct = scratch.compiled and has_direct_products()
        self.slots = [np.empty(memory.samples * size, np.int8) for size in analysis.slots]

    def step(self, index: int) -> Step:
        op = self.analysis.operations[index]
        if isinstance(op, CallHostOp):
            return self.host.step(self.program.instructions[index])
        if index in self.analysis.whole:
            return self.evaluated(op)
        if index in self.analysis.plain:
            return plain_step(self.program.instructions[index], self.memory)
        if isinstance(op, MatmulOp):
            return self.matmul(index, op)
        if isinstance(op, RequantizeOp):
            return self.requantize(index, op)
        if isinstance(op, (TransferOp, MoveOp)):
            return self.copy(op)
        if isinstance(op, GatherOp):
            return partial(op.evaluate, self.program.constants, self.memory.sram, self.memory.sram)
        if isinstance(op, ChannelwiseOp):
            return channelwise_step(op, self.memory.sram)
        return _VECTOR_STEPS[type(op)](self, index, op)

    def known(self, index: int, operand: str) -> Array:
        return self.analysis.constants[index][operand].data

    def accumulators(self, product: Product) -> Array:
        """The buffer of a product: [samples, groups, rows, out_c]."""
        dtype = np.dtype(np.int32) if self.is_direct(product) else product.dtype
        shape = (self.memory.samples, product.groups, product.rows, product.out_c)
        size = dtype.itemsize * product.size * self.memory.samples
        return self.slots[product.slot][:size].view(dtype).reshape(shape)

    def is_direct(self, product: Product) -> bool:
        """True if machine code computes all of a product in integers."""
        return self.direct and product.integer and product.depth >= SHORTEST_RUN

    def evaluated(self, op: InstructionOp) -> Step:
        """The definition of an instruction in SRAM, for all samples at once."""
        return partial(op.evaluate, *(self.memory.sram for _ in op.operands))

    def matmul(self, index: int, op: MatmulOp) -> Step:
        product = self.analysis.products[index]
        result = self.accumulators(product)
        weights = self.analysis.weights.get(index)
        if self.is_direct(product) and weights is not None:
            return direct_product(op, weights, self.memory.sram, result, self.scratch)
        if op.element_of("input").is_float and self.ordered:
            return ordered_product(op, weights, self.memory.sram, result, self.scratch)
        if op.diagonal and weights is not None:
            image = result.reshape(self.memory.samples, op.out_h, op.out_w, op.out_c)
            matrix, padding = weights.matrix[0], op.zero_point
            return tap_product(
                op, matrix, self.memory.sram, image, self.scratch, padding=padding, accumulate=op.accumulate
            )
        if result.dtype == np.int32 and weights is not None:
            return integer_product(op, weights.packed, self.memory.sram, result, self.scratch)
        return dense_product(op, weights, self.memory.sram, result, self.scratch)

    def requantize(self, index: int, op: RequantizeOp) -> Step:
        product = self.analysis.products[index]
        group = (op.accumulator_offset - product.base) // (product.tiles * product.rows)
        columns = slice(op.first_column, op.first_column + op.out_c)
        values = self.accumulators(product)[:, group : group + op.groups, :, columns]
        image = values.reshape(self.memory.samples, op.groups, op.out_h, op.out_w, op.out_c)
        if op.element_of("accumulator").is_float:
            return drain_step(op, self.known(index, "parameters"), image, self.memory.sram)
        shape = (op.groups, 1, 1, op.out_c)
        out = op.grouped_output_view(self.memory.sram)
        parameters = self.known(index, "parameters")
        if isinstance(op, RequantizeAddOp):
            return residual_requantization(op, parameters, image, self.memory.sram, out, self.scratch)
        return requantization(op, parameters, image, out, shape, self.scratch)

    def copy(self, op: InstructionOp) -> Step:
        views: list[Array] = []
        for region in op.regions():
            space = space_of(type(op), region.operand)
            memory, base, _ = self.memory.locate(space, region.offset)
            views.append(region_view(region, memory, base))
        return copy_step(views[0], views[1])

    def fill(self, index: int, op: FillOp) -> Step:
        return fill_step(op, self.memory.sram)

    def binary(self, index: int, op: BinaryOp) -> Step:
        return binary_step(op, self.memory.sram, self.scratch)

    def lookup(self, index: int, op: LookupOp) -> Step:
        return lookup_step(op, self.known(index, "table"), self.memory.sram)

    def rescale(self, index: int, op: RescaleOp) -> Step:
        return rescale_step(op, self.known(index, "parameters"), self.memory.sram, self.scratch)

    def max_pool(self, index: int, op: MaxPoolOp) -> Step:
        return max_pool_step(op, self.memory.sram, self.scratch)

    def average_pool(self, index: int, op: AveragePoolOp) -> Step:
        return average_pool_step(op, self.known(index, "multipliers"), self.memory.sram, self.scratch)

    def depthwise(self, index: int, op: DepthwiseOp) -> Step:
        weights, parameters = self.known(index, "weights"), self.known(index, "parameters")
        return depthwise_step(op, weights, parameters, self.memory.sram, self.scratch)


_VECTOR_STEPS: dict[type[InstructionOp], Callable[..., Step]] = {
    FillOp: _Binder.fill,
    BinaryOp: _Binder.binary,
    LookupOp: _Binder.lookup,
    RescaleOp: _Binder.rescale,
    MaxPoolOp: _Binder.max_pool,
    AveragePoolOp: _Binder.average_pool,
    DepthwiseOp: _Binder.depthwise,
}
