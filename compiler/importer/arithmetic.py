"""Element-wise arithmetic with numpy broadcasting, matrix products, and the operators that change nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...dialects.core.operation import Operation
from ...dialects.nn.elementwise import AddOp, DivOp, MulOp, SubOp
from ...dialects.nn.matmul import MatmulOp
from .lowering import Imported, Known, Lowering, Unsupported, shape_of
from .masking import finite_mask


def binary(kind: type[Operation]) -> Callable[[Lowering], Imported]:
    """A handler for a broadcasting operator of two inputs."""

    def lower_binary(lowering: Lowering) -> Imported:
        _check_broadcast(lowering, lowering.shape(0), lowering.shape(1))
        left, right = lowering.input(0), lowering.input(1)
        if kind is AddOp:
            left, right = finite_mask(left), finite_mask(right)
        return lowering.emit(kind, left, right)

    return lower_binary


lower_add = binary(AddOp)
lower_sub = binary(SubOp)
lower_mul = binary(MulOp)
lower_div = binary(DivOp)


def lower_sum(lowering: Lowering) -> Imported:
    """Sum of any number of inputs = a chain of nn.add."""
    total = lowering.input(0)
    for index in range(1, len(lowering.inputs)):
        _check_broadcast(lowering, shape_of(total), lowering.shape(index))
        total = lowering.emit(AddOp, total, lowering.input(index))
    return total


def lower_mean(lowering: Lowering) -> Imported:
    """Mean of any number of inputs: their sum over their number."""
    return _scaled(lowering, lower_sum(lowering), 1 / len(lowering.inputs))


def lower_matmul(lowering: Lowering) -> Imported:
    """MatMul with numpy's rules; a vector operand is a matrix for the product and loses that axis afterwards."""
    lhs, rhs = lowering.input(0), lowering.input(1)
    left, right = shape_of(lhs), shape_of(rhs)
    if not left or not right:
        raise lowering.error("an operand is a scalar, expected at least one axis")
    if left[-1] != right[-2 if len(right) > 1 else 0]:
        raise lowering.error(f"shapes {list(left)} and {list(right)} do not multiply")
    if len(left) > 2 or len(right) > 2:
        _check_broadcast(lowering, left[:-2], right[:-2])
    product: Imported = lowering.emit(
        MatmulOp,
        lowering.reshaped(lhs, (1, *left)) if len(left) == 1 else lhs,
        lowering.reshaped(rhs, (*right, 1)) if len(right) == 1 else rhs,
    )
    shape = list(shape_of(product))
    if len(right) == 1:
        del shape[-1]
    if len(left) == 1:
        del shape[-1 if len(right) == 1 else -2]
    return lowering.reshaped(product, shape)


def lower_gemm(lowering: Lowering) -> Imported:
    """Gemm, alpha * op(A) @ op(B) + beta * C: factors go into constant operands, a C of one row becomes the bias."""
    node = lowering.node
    lhs, rhs = lowering.input(0), lowering.input(1)
    for what, operand in (("A", lhs), ("B", rhs)):
        if len(shape_of(operand)) != 2:
            raise lowering.error(f"{what} has shape {list(shape_of(operand))}, expected two axes")
    if node.integer("transA", 0):
        lhs = lowering.transposed(lhs, (1, 0))
    if node.integer("transB", 0):
        rhs = lowering.transposed(rhs, (1, 0))
    (rows, inner), (inner_right, columns) = shape_of(lhs), shape_of(rhs)
    if inner != inner_right:
        raise lowering.error(f"A has {inner} columns, B has {inner_right} rows")
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    if isinstance(rhs, Known) or not isinstance(lhs, Known):
        scaled_late = not isinstance(rhs, Known)
        rhs = rhs if scaled_late else _scaled(lowering, rhs, alpha)
    else:
        scaled_late, lhs = False, _scaled(lowering, lhs, alpha)
    addend = lowering.optional(2)
    if addend is None or beta == 0.0:
        product: Imported = lowering.emit(MatmulOp, lhs, rhs)
        return _scaled(lowering, product, alpha) if scaled_late else product
    shape = shape_of(addend)
    if len(shape) > 2 or any(n not in (1, size) for n, size in zip(shape[::-1], (columns, rows), strict=False)):
        raise lowering.error(f"C has shape {list(shape)}, which does not broadcast to [{rows}, {columns}]")
    addend = _scaled(lowering, addend, beta)
    one_row = len(shape) < 2 or shape[0] == 1
    if isinstance(addend, Known) and one_row and not (scaled_late and alpha != 1.0):
        row = addend.moved(lambda array: array.reshape(-1))
        bias = row if row.array.size == columns else row.moved(lambda array: np.broadcast_to(array, (columns,)))
        return lowering.emit(MatmulOp, lhs, rhs, bias)
    product = lowering.emit(MatmulOp, lhs, rhs)
    return lowering.emit(AddOp, _scaled(lowering, product, alpha) if scaled_late else product, addend)


def lower_identity(lowering: Lowering) -> Imported:
    """The input itself."""
    return lowering.input(0)


def lower_dropout(lowering: Lowering) -> Imported:
    """Inference: the input itself; the mask and training mode are not available."""
    if len(lowering.node.outputs) > 1 and lowering.node.outputs[1]:
        raise Unsupported("the output mask is not supported")
    if lowering.has(2) and bool(lowering.array(2, "training_mode").any()):
        raise Unsupported("training_mode is true, expected false: export the model in evaluation mode")
    return lowering.input(0)


def _scaled(lowering: Lowering, value: Imported, factor: float) -> Imported:
    if factor == 1.0:
        return value
    if isinstance(value, Known):
        with np.errstate(over="ignore", invalid="ignore"):  # the constant is checked when it is made
            scaled = np.asarray(value.array * value.array.dtype.type(factor))
            return Known(value.name, scaled, None if value.steps is None else value.steps.scaled(factor))
    return lowering.emit(MulOp, value, Known("factor", np.full((), factor, np.float32)))


def _check_broadcast(lowering: Lowering, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    try:
        np.broadcast_shapes(left, right)
    except ValueError:
        raise lowering.error(f"shapes {list(left)} and {list(right)} do not broadcast") from None
