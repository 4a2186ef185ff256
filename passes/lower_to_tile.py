"""Operations on quantized or bf16 tensors become instructions on whole-layer buffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.host import HOST_OPERATIONS
from ..dialects.core.diagnostics import CompileError, Diagnostic
from ..dialects.core.operation import Function, Module, Operation, Terminator, Value
from ..dialects.core.types import TensorType
from ..dialects.nn import (
    ArgMaxOp,
    AveragePoolOp,
    Conv2dOp,
    EmbeddingOp,
    LayerNormOp,
    LrnOp,
    MaskedSoftmaxOp,
    MatmulOp,
    MaxPoolOp,
    PReluOp,
    ReduceMeanOp,
    SoftmaxOp,
)
from ..dialects.nn.elementwise import BinaryOperation
from ..dialects.nn.onnx import HostOp
from ..dialects.quant.ops import DequantizeOp, LookupOp, QuantizeOp, RequantizeOp
from ..dialects.quant.types import QuantizedType, is_brain_float, is_number
from ..dialects.tile.elements import ELEMENTS
from ..dialects.tile.memory import AllocOp, HostReadOp, HostWriteOp
from ..dialects.tile.types import BufferType
from .framework.base import Pass, at_least
from .framework.environment import Environment
from .lowering.activations import emit_activation_product
from .lowering.channelwise import emit_layer_norm, emit_lrn, emit_softmax
from .lowering.elementwise import (
    emit_average_pool,
    emit_binary,
    emit_lookup,
    emit_max_pool,
    emit_prelu,
    emit_reduce_mean,
    emit_rescale,
)
from .lowering.emission import Emitter
from .lowering.host_calls import Mailboxes
from .lowering.indexing import emit_arg_max, emit_embedding
from .lowering.mapping_search import Decision, MappingSearch
from .lowering.masking import emit_masked_softmax
from .lowering.matmul import Product, emit_product
from .lowering.movement import emit_input, emit_movement, emit_output
from .lowering.placement import Placement


@dataclass(frozen=True)
class LowerToTile(Pass):
    """Choose how every layer runs on the machine and turn it into instructions.

    The result holds one group of instructions a layer, on buffers as large as whole tensors: it can be executed, but
    `schedule` still has to cut it into strips that fit. From here on there are instructions, buffers, and the steps
    that the host takes around them: quantize, dequantize, and transposes and reshapes of floats.

    `effort` is how many mappings are tried for a product: 0 the first legal one, 1 those that use all blocks, 2 all of
    them. Equal layers are searched once, in all modules of a process.
    """

    name: ClassVar[str] = "lower-to-tile"

    effort: int = at_least(0, 1, maximum=2)

    def run(self, module: Module, environment: Environment) -> None:
        """Lower @main; raises CompileError listing every operation that has no instruction."""
        target = environment.require_target(self.name)
        function = module.main
        _check_legal(function)
        emitter = Emitter(module, target, Placement.of(function, target))
        search = MappingSearch(target, self.effort)
        mailboxes = Mailboxes.of(function)
        old = list(function.body)
        for op in old:
            op.detach()
        errors: list[Diagnostic] = []
        failed: set[Value[Any]] = set()
        for op in old:
            if not failed.isdisjoint(op.operands):
                failed |= set(op.results)
                continue
            try:
                _lower(emitter, op, search, mailboxes)
            except (CompileError, ValueError) as error:
                found = error if isinstance(error, CompileError) else op.error(str(error))
                errors += found.diagnostics
                failed |= set(op.results)
        if errors:
            raise CompileError(errors)
        for decision in search.decisions:
            _remark(environment, self.name, decision)
        for op in (*emitter.placement.allocations, *emitter.operations):
            function.body.append(op)
        kept = set(function.body)
        for op in reversed(old):
            if op not in kept:
                op.erase()
        for op in emitter.placement.allocations:
            if op.buffer.is_unused:
                op.erase()
        module.drop_unused_constants()
        module.attributes |= {
            "layers": tuple(layer.name for layer in emitter.layers),
            "layer_kinds": tuple(layer.kind for layer in emitter.layers),
            "layer_macs": tuple(layer.macs for layer in emitter.layers),
        }


def _remark(environment: Environment, name: str, decision: Decision) -> None:
    """What a product runs as, and every candidate as (mapping, estimated cycles or None, why it is not possible)."""
    candidates = [
        (str(mapping), None, price) if isinstance(price, str) else (str(mapping), price.cycles, "")
        for mapping, price in decision.candidates.items()
    ]
    message = f"runs as '{decision.chosen}', of {len(candidates)} mappings considered"
    location, chosen = decision.operation.location, str(decision.chosen)
    environment.remark(name, "mapping", message, location=location, candidates=candidates, chosen=chosen)


def _lower(emitter: Emitter, op: Operation, search: MappingSearch, mailboxes: Mailboxes) -> None:
    match op:
        case HostOp():
            mailboxes.emit_call(emitter, op)
        case QuantizeOp() if op in mailboxes.offsets:
            mailboxes.emit_result(emitter, op)
        case QuantizeOp():
            kind = op.out.type
            buffer = AllocOp((), (BufferType("dram", kind.size * kind.element.dtype.itemsize),))
            buffer.buffer.name = "input"
            emitter.operations += [op, buffer, HostWriteOp([op.out, buffer.buffer])]
            emit_input(emitter, op, buffer.buffer)
        case DequantizeOp():
            kind = op.data.type
            buffer = AllocOp((), (BufferType("dram", kind.size * kind.element.dtype.itemsize),))
            buffer.buffer.name = "output"
            emitter.operations.append(buffer)
            emit_output(emitter, op, buffer.buffer)
            read = HostReadOp([buffer.buffer], (kind,))
            emitter.operations += [read, op]
            op.set_operand(0, read.data)
        case MatmulOp() if _has_numbers(op) and not op.has_weights:
            emit_activation_product(emitter, op, search)
        case Conv2dOp() | MatmulOp() if _has_numbers(op):
            emit_product(emitter, Product.of(op), search)
        case RequantizeOp():
            if not isinstance(op.data.defining_op, (Conv2dOp, MatmulOp)):
                emit_rescale(emitter, op)
        case BinaryOperation() if _has_numbers(op):
            emit_binary(emitter, op)
        case LookupOp():
            emit_lookup(emitter, op)
        case PReluOp() if _has_numbers(op):
            emit_prelu(emitter, op)
        case MaxPoolOp() if _has_numbers(op):
            emit_max_pool(emitter, op)
        case AveragePoolOp() if _has_numbers(op):
            emit_average_pool(emitter, op)
        case ReduceMeanOp() if _has_numbers(op):
            emit_reduce_mean(emitter, op)
        case SoftmaxOp() if _has_numbers(op):
            emit_softmax(emitter, op)
        case MaskedSoftmaxOp() if _has_numbers(op):
            emit_masked_softmax(emitter, op)
        case LayerNormOp() if _has_numbers(op):
            emit_layer_norm(emitter, op)
        case LrnOp() if _has_numbers(op):
            emit_lrn(emitter, op)
        case EmbeddingOp() if _has_numbers(op):
            emit_embedding(emitter, op)
        case ArgMaxOp() if _has_numbers(op):
            emit_arg_max(emitter, op)
        case _ if _has_numbers(op):
            if not emit_movement(emitter, op):
                raise op.error(f"reads {op.operands[0].type}, for which it has no instruction")
        case _:
            if op.name not in HOST_OPERATIONS and not op.has_trait(Terminator):
                raise op.error(f"runs on the host, which does {', '.join(HOST_OPERATIONS)} only")
            emitter.operations.append(op)


def _check_legal(function: Function) -> None:
    """Everything between quantize and dequantize must be integer, or bf16, and have an instruction."""
    errors: list[Diagnostic] = []
    for op in function.body:
        if isinstance(op, (Conv2dOp, MatmulOp)) and _has_numbers(op) and not is_brain_float(op.out):
            users = op.result.users
            if len(users) != 1 or not isinstance(users[0], RequantizeOp):
                found = ", ".join(user.name for user in users) or "nothing"
                errors += op.error(f"accumulators are read by {found}, expected one quant.requantize").diagnostics
        if isinstance(op, _ONE_ELEMENT) and _has_numbers(op) and len(kinds := _storages(op)) > 1:
            errors += op.error(f"works on {' and '.join(kinds)}, expected one; insert quant.requantize").diagnostics
        for value in op.operands:
            element = value.type.element if isinstance(value.type, TensorType) else None
            if isinstance(element, QuantizedType) and str(element.storage) not in ELEMENTS:
                errors += op.error(f"reads {value.type}, expected elements of type !quant.i8 or !quant.i16").diagnostics
            elif element is not None and is_number(element) and not value.type.size:
                errors += op.error(f"reads {value.type}, expected at least one element").diagnostics
    if errors:
        raise CompileError(errors)


_ONE_ELEMENT = (BinaryOperation, LookupOp, AveragePoolOp, ReduceMeanOp, LrnOp, LayerNormOp)
"""Operations whose instructions read and write numbers of one element type."""


def _storages(op: Operation) -> list[str]:
    values = [value for value in (*op.operands, *op.results) if isinstance(value.type, TensorType)]
    found = [str(v.type.element.storage) for v in values if isinstance(v.type.element, QuantizedType)]
    return list(dict.fromkeys(found))


def _has_numbers(op: Operation) -> bool:
    """True for an operation of the machine: on quantized data or bf16."""
    data = op.operands[0].type if op.operands else None
    return isinstance(data, TensorType) and is_number(data.element)
