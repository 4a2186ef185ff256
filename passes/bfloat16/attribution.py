"""Where the error of a bf16 network comes from: each layer's roundings left out one by one, and measured.

As `quantization.attribution`, with two causes: a product is executed once more with its float32 weights, its result
rounded (weight rounding), and every operation without the rounding of its result (activation rounding). What is not
rounded is float32; the operations that read it do in float32 what they do in bf16, with their own weights and rounding.
An operation other than a product takes its constants and its function from the float network then, so that their
rounding counts with that of the result. Nothing is clipped or requantized. The machine's order of sums is kept wherever
all operands are bf16.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ...dialects.core.operation import Module, Operation, Terminator, Value
from ...dialects.core.types import BF16, Array
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.quant.bfloat16 import BFLOAT16, rounded
from ...dialects.quant.ops import QuantizeOp
from ..framework.environment import Baseline, Progress, silent_progress
from ..quantization.attribution import (
    TOGETHER,
    Attribution,
    RoundingStep,
    Values,
    Walk,
    array_of,
    attribute_steps,
    computed,
)
from ..quantization.grouping import MOVING
from ..quantization.stored import fixed_array, is_fixed


def attribute_bf16_error(module: Module, baseline: Baseline, *, progress: Progress = silent_progress) -> Attribution:
    """Measure every step of a module as `insert-bf16` left it; costs 3 runs of the rest of the network for each."""
    return attribute_steps(module, baseline, BrainFloatWalk, bf16_step, progress)


def bf16_step(op: Operation, baseline: Baseline) -> RoundingStep | None:
    """What is known of an operation that rounds to bf16; None if it does not, or stands for a part of a float one."""
    if op.has_trait(Terminator) or isinstance(op, MOVING) or op.result.type.element != BF16:
        return None
    origin = baseline.origins.get(op.result)
    if isinstance(op, QuantizeOp):
        return RoundingStep(op, None, None, None)
    if origin is None or computed(op.operands) != computed(origin.operands):
        return None
    product = op if isinstance(op, (Conv2dOp, MatmulOp)) and type(origin) is type(op) else None
    weighted = product is not None and is_fixed(product.operands[1])
    return RoundingStep(op, origin, product, origin if weighted else None)


class BrainFloatWalk(Walk):
    """Executes one run of a module in bf16, and in float32 what reads a result that was not rounded."""

    def step(self, index: int, values: Values) -> Array:
        """The result of operation `index`: as `evaluate` says for bf16, rounded for float32."""
        op = self.ops[index]
        arguments = [array_of(value, values) for value in op.operands]
        unrounded = [_is_unrounded(v, a) for v, a in zip(op.operands, arguments, strict=True)]
        if not any(unrounded) or isinstance(op, MOVING):
            return cast(Array, op.evaluate(*arguments))
        step = self.known[index]
        if step is None:
            pairs = zip(arguments, unrounded, strict=True)
            return cast(Array, op.evaluate(*(rounded(array) if real else array for array, real in pairs)))
        return rounded(_real(step, op, arguments))

    def variants(self, index: int, values: Values, result: Array) -> dict[str, Array]:
        """What step `index` gives instead of `result` without each cause, and without both together."""
        op, step = self.ops[index], self.known[index]
        assert step is not None
        arguments = [array_of(value, values) for value in op.operands]
        plain = exact = _real(step, op, arguments)
        found = {"weight rounding": result, "clipping": result, "requantization": result}
        if step.source is not None:
            weights = [fixed_array(value) for value in step.source.operands[1:]]
            exact = _real(step, op, [arguments[0], *weights])
            found["weight rounding"] = rounded(exact)
        return found | {"activation rounding": plain, TOGETHER: exact}

    def product_operands(self, index: int) -> tuple[Value[Any], ...]:
        """Nothing: the operation that rounds is the product itself."""
        return ()


def _real(step: RoundingStep, op: Operation, arguments: list[Array]) -> Array:
    """The result before it is rounded, float32."""
    if step.origin is None:
        return np.asarray(arguments[0], np.float32)
    reals = [np.asarray(array, np.float32) for array in arguments]
    if step.product is None:
        given = (real for value, real in zip(op.operands, reals, strict=True) if not is_fixed(value))
        reals = [fixed_array(v) if is_fixed(v) else next(given) for v in step.origin.operands]
    return np.asarray(step.origin.evaluate(*reals), np.float32)


def _is_unrounded(value: Value[Any], array: Array) -> bool:
    """True if `array` holds float32 where the type of `value` says bf16."""
    return value.type.element == BF16 and array.dtype != BFLOAT16
