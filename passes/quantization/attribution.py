"""Where the error of an integer network comes from: each layer's causes switched off one by one, and measured.

A step of the network that rounds computes clip(rint(t)), t being its result in steps of its type. It is executed once
more with one cause of error away, and everything behind it runs on:

- weight rounding: t from the float weights and bias, then rounded and clipped;
- activation rounding: t is not rounded;
- clipping: rint(t) is kept within the activation's own clamp, but not within the range of the type;
- requantization: t from the real factor instead of M * 2^-s.

What is not rounded or not clipped does not fit integers: the operations that read it compute the same in float64, each
with its own integer weights, factors, rounding and range, and whatever reads integers computes in integers. A step
without weights (a sum, a table) computes t by its float operation, so that there the factors or the table go with the
rounding; one that has no float operation rounds what it reads. Shares are drops of the error with one step changed and
all others as they are: they need not add up to 1, and a negative one makes up for errors elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ...dialects.core.operation import Constant, Module, Operation, Terminator, Value
from ...dialects.core.types import F32, Array
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.elements import ClampedOperation
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.products import convolve
from ...dialects.quant.arithmetic import half_of, pre_shifted
from ...dialects.quant.ops import DequantizeOp, QuantizeOp, RequantizeOp
from ...dialects.quant.types import QuantizedType, quantized_element
from ..framework.environment import Baseline, Progress, silent_progress
from .grouping import MOVING
from .measure import Fidelity, compared, return_logits
from .sampling import Run
from .stored import fixed_array, is_fixed

CAUSES = ("weight rounding", "activation rounding", "clipping", "requantization")
TOGETHER = "together"

Values = dict[Value[Any], Array]


@dataclass(frozen=True)
class Loss:
    """What one step adds to the error: by how much the error drops without each of its causes, and without all.

    Errors are those of `Fidelity`. `nodes` are the ONNX nodes, `layer` is the word for them or for the input.
    """

    layer: str
    nodes: tuple[str, ...]
    causes: Mapping[str, float]
    together: float


@dataclass(frozen=True)
class Attribution:
    """The error of the whole network on `samples` held-back samples, and the losses, the largest first."""

    error: float
    samples: int
    losses: tuple[Loss, ...]


@dataclass(frozen=True)
class RoundingStep:
    """An operation that rounds: the float operation it stands for, the product whose sums it reads, if it reads sums.

    `source` is the float operation of the product, where its weights were rounded here.
    """

    op: Operation
    origin: Operation | None
    product: Conv2dOp | MatmulOp | None
    source: Operation | None


def attribute_error(module: Module, baseline: Baseline, *, progress: Progress = silent_progress) -> Attribution:
    """Measure every step of an integer module that stands as its passes left it, before any pass for the machine.

    Costs at most 5 runs of the rest of the network for each step and sample; a cause that changes nothing costs none.
    """
    return attribute_steps(module, baseline, Walk, rounding_step, progress)


def attribute_steps(
    module: Module, baseline: Baseline, kind: type[Walk], step_of: StepOf, progress: Progress
) -> Attribution:
    """`attribute_error` for the steps that `step_of` finds, executed and varied by a `kind` of walk."""
    assert baseline.module is not None and baseline.measured is not None
    fidelity = Fidelity(baseline.module, baseline.measured)
    copy = module.clone()
    twins = dict(zip(copy.main.body, module.main.body, strict=True))
    axes = return_logits(copy)
    known = [step_of(twins.get(op, op), baseline) for op in copy.main.body]
    count = sum(step is not None for step in known)
    found: dict[tuple[int, str], list[list[Array]]] = {}
    with progress("switching causes of error off", count * fidelity.count) as advance, np.errstate(all="ignore"):
        for run in fidelity.runs(copy):
            walk = kind(run, known, axes)
            base = walk.finish(-1, walk.inputs())
            found.setdefault((-1, ""), []).append(base)
            values = walk.inputs()
            for index, step in enumerate(known):
                if step is not None:
                    result = walk.step(index, values)
                    for cause, variant in walk.variants(index, values, result).items():
                        same = np.array_equal(variant, result)
                        outputs = base if same else walk.finish(index, walk.replaced(index, values, variant))
                        found.setdefault((index, cause), []).append(outputs)
                    advance(run.size)
                walk.advance(index, values)
    errors = {
        key: float(fidelity.errors_of([np.concatenate(rows) for rows in zip(*runs, strict=True)]).mean())
        for key, runs in found.items()
    }
    error = errors[-1, ""]
    losses = [
        Loss(
            _label(step.op),
            step.op.location.nodes,
            {cause: error - errors[index, cause] for cause in CAUSES},
            error - errors[index, TOGETHER],
        )
        for index, step in enumerate(known)
        if step is not None
    ]
    return Attribution(error, fidelity.count, tuple(sorted(losses, key=lambda loss: -loss.together)))


def _label(op: Operation) -> str:
    """The ONNX nodes, or which input it quantizes."""
    source = op.operands[0]
    while isinstance(source.defining_op, MOVING):
        source = source.defining_op.operands[0]
    return f"input '{source.name}'" if isinstance(op, QuantizeOp) and source.defining_op is None else op.location.layer


StepOf = Callable[[Operation, Baseline], RoundingStep | None]
"""Finds out whether an operation rounds, as `rounding_step` does."""


def rounding_step(op: Operation, baseline: Baseline) -> RoundingStep | None:
    """What is known of an operation of the module if it rounds; None if it only moves, sums or converts back."""
    if op.has_trait(Terminator) or isinstance(op, MOVING) or not isinstance(op.result.type.element, QuantizedType):
        return None
    origin = baseline.origins.get(op.result)
    if isinstance(op, RequantizeOp):
        product = op.data.defining_op
        if isinstance(product, (Conv2dOp, MatmulOp)):
            return RoundingStep(op, origin, product, baseline.layers.get(product))
        return RoundingStep(op, origin, None, None)
    if isinstance(op, QuantizeOp) or (origin is not None and computed(op.operands) == computed(origin.operands)):
        return RoundingStep(op, origin, None, None)
    return None


def computed(values: Iterable[Value[Any]]) -> int:
    """How many of the values are no constants."""
    return sum(not is_fixed(value) for value in values)


class Walk:
    """Executes one run of the module, in integers wherever the operands are.

    `axes` are those that `return_logits` found.
    """

    def __init__(self, run: Run, steps: list[RoundingStep | None], axes: list[int | None]) -> None:
        self._run, self.known, self._axes = run, steps, axes
        self.ops = list(run.module.main.body)
        final: dict[Value[Any], int] = {}
        for index, op in enumerate(self.ops):
            final.update(dict.fromkeys((*op.operands, *op.results, *self.product_operands(index)), index))
        self._unread: dict[int, list[Value[Any]]] = {index: [] for index in range(len(self.ops))}
        for value, index in final.items():
            self._unread[index].append(value)

    def inputs(self) -> Values:
        """The values before the first operation."""
        return {a: self._run.inputs[str(a.name)] for a in self._run.module.main.arguments}

    def finish(self, index: int, values: Values) -> list[Array]:
        """What is compared of the outputs, from the `values` after operation `index`, which are used up."""
        for later in range(index + 1, len(self.ops)):
            self.advance(later, values)
        returned = [array_of(value, values) for value in self._run.module.main.returns]
        return compared(returned, self._axes, self._run.size)

    def replaced(self, index: int, values: Values, result: Array) -> Values:
        """The values after operation `index` if it gave `result`."""
        return values | {self.ops[index].result: result}

    def advance(self, index: int, values: Values) -> None:
        """Execute operation `index`, and forget what nobody reads any more."""
        op = self.ops[index]
        if op.has_trait(Terminator):
            return
        values[op.result] = self.step(index, values)
        for value in self._unread[index]:
            values.pop(value, None)

    def step(self, index: int, values: Values) -> Array:
        """The result of operation `index`: as `evaluate` says for integers, rounded and clipped for reals."""
        op = self.ops[index]
        arguments = [array_of(value, values) for value in op.operands]
        if not any(_is_real(v, a) for v, a in zip(op.operands, arguments, strict=True)):
            return cast(Array, op.evaluate(*arguments))
        if isinstance(op, MOVING):
            return cast(Array, op.evaluate(*arguments))
        if isinstance(op, DequantizeOp):
            return _real(op.data, arguments[0]).astype(np.float32)
        if isinstance(op, (Conv2dOp, MatmulOp)):
            return _accumulated(op, [_centred(v, a) for v, a in zip(op.operands, arguments, strict=True)])
        step = self.known[index]
        if step is None:
            return cast(Array, op.evaluate(*(_stored(v, a) for v, a in zip(op.operands, arguments, strict=True))))
        return _rounded(op, self._steps(step, op, arguments))

    def variants(self, index: int, values: Values, result: Array) -> dict[str, Array]:
        """What step `index` gives instead of `result` without each cause, and without all of them together."""
        op, step = self.ops[index], self.known[index]
        assert step is not None
        arguments = [array_of(value, values) for value in op.operands]
        low, high = _clamp(op, step)
        element = quantized_element(op.result.type)
        plain, exact = self._steps(step, op, arguments), self._steps(step, op, arguments, exact=True)
        unclipped = np.rint(np.clip(plain, low, high))
        found = {
            "weight rounding": result,
            "activation rounding": np.clip(np.clip(plain, low, high), *_bounds(op)),
            "clipping": np.where(unclipped == np.clip(unclipped, *_bounds(op)), result, unclipped),
            "requantization": _rounded(op, exact),
        }
        real = exact
        if step.source is not None:
            product = self.ops[index].operands[0].defining_op
            assert isinstance(product, (Conv2dOp, MatmulOp))
            data = product.operands[0]
            weights = [fixed_array(value).astype(np.float64) for value in step.source.operands[1:]]
            sums = _accumulated(product, [_real(data, values[data]), *weights])
            real = sums / element.scale + element.zero_point
            found["weight rounding"] = _rounded(op, real)
        return found | {TOGETHER: np.clip(real, low, high)}

    def product_operands(self, index: int) -> tuple[Value[Any], ...]:
        """What `variants` of operation `index` reads besides its own operands."""
        step, op = self.known[index], self.ops[index]
        product = op.operands[0].defining_op if step is not None and step.source is not None else None
        return () if product is None else product.operands

    def _steps(self, step: RoundingStep, op: Operation, arguments: list[Array], *, exact: bool = False) -> Array:
        """The result in steps of its type, zero point included, before it is rounded and clipped; float64.

        `exact` takes the real factor of a requantization.
        """
        element = quantized_element(op.result.type)
        if isinstance(op, QuantizeOp):
            return arguments[0] / np.float64(element.scale) + element.zero_point
        if isinstance(op, RequantizeOp):
            return _requantized(op, *arguments, exact=exact) + element.zero_point
        assert step.origin is not None
        reals = (_real(v, a) for v, a in zip(op.operands, arguments, strict=True) if not isinstance(v, Constant))
        operands = [fixed_array(v) if is_fixed(v) else next(reals).astype(np.float32) for v in step.origin.operands]
        result = cast(Array, step.origin.evaluate(*operands))
        return result.astype(np.float64) / element.scale + element.zero_point


def _requantized(op: RequantizeOp, data: Array, scale: Array, *, exact: bool) -> Array:
    """Steps of the result without its zero point; the shift before the multiplication belongs to the factor."""
    values = _centred(op.data, data)
    if exact:
        return values * scale.astype(np.float64)
    multiplier, shift = op.multipliers(scale)
    factor = np.ldexp(multiplier.astype(np.float64), -shift)
    if op.pre_shift and not _is_real(op.data, data):
        return pre_shifted(data + half_of(op.pre_shift), op.pre_shift) * factor
    return values * np.ldexp(factor, -op.pre_shift)


def _clamp(op: Operation, step: RoundingStep) -> tuple[float, float]:
    """The activation's own clamp in steps, zero point included, without regard to the range of the type."""
    if not isinstance(op, RequantizeOp) or not isinstance(step.origin, ClampedOperation):
        return -np.inf, np.inf
    element = quantized_element(op.out.type)
    limits = ((step.origin.clamp_min, -np.inf), (step.origin.clamp_max, np.inf))
    low, high = (end if v is None else v / element.scale + element.zero_point for v, end in limits)
    return low, high


def _bounds(op: Operation) -> tuple[int, int]:
    if isinstance(op, RequantizeOp):
        return op.bounds
    if isinstance(op, ClampedOperation):
        return op.integer_bounds
    element = quantized_element(op.result.type)
    return element.low, element.high


def _rounded(op: Operation, steps: Array) -> Array:
    """Stored integers."""
    return np.clip(np.rint(steps), *_bounds(op)).astype(quantized_element(op.result.type).dtype)


def array_of(value: Value[Any], values: Values) -> Array:
    """A constant's array, or what was computed."""
    return value.array if isinstance(value, Constant) else values[value]


def _is_real(value: Value[Any], array: Array) -> bool:
    """True if `array` holds fractions of steps, or unbounded steps, where the type of `value` says integers."""
    return array.dtype.kind == "f" and value.type.element != F32


def _stored(value: Value[Any], array: Array) -> Array:
    """The integers of the type of `value` that are nearest."""
    element = value.type.element
    if not _is_real(value, array) or not isinstance(element, QuantizedType):
        return array
    return np.clip(np.rint(array), element.low, element.high).astype(element.dtype)


def _centred(value: Value[Any], array: Array) -> Array:
    """Steps less the zero point, float64."""
    element = value.type.element
    return np.subtract(array, element.zero_point if isinstance(element, QuantizedType) else 0, dtype=np.float64)


def _real(value: Value[Any], array: Array) -> Array:
    """What stored steps stand for, float64; a float array is what it is."""
    element = value.type.element
    return _centred(value, array) * (element.scale if isinstance(element, QuantizedType) else 1.0)


def _accumulated(op: Conv2dOp | MatmulOp, arguments: list[Array]) -> Array:
    """Data * weight + bias of float64 arrays without zero points."""
    data, weight, *bias = arguments
    if isinstance(op, Conv2dOp):
        total = convolve(data, weight, op.strides, op.pads, op.dilations, op.groups)
    else:
        total = np.matmul(data, weight.swapaxes(-1, -2) if op.transpose_rhs else weight)
    return total + bias[0] if bias else total
