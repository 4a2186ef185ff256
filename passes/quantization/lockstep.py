"""Runs the float network and its integer form side by side, layer by layer, on many samples at once.

What a pass changes about a layer on the way is seen by all later layers: one walk from front to back is enough to
adjust every layer to what the layers before it really compute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ...dialects.core.interpreter import last_uses
from ...dialects.core.operation import Constant, Module, Operation, Terminator, Value
from ...dialects.core.types import I32, I64, Array, TensorType
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.elements import ClampedOperation
from ...dialects.nn.matmul import MatmulOp
from ...dialects.quant.ops import RequantizeOp
from ...dialects.quant.types import quantized_element
from ..framework.environment import Baseline, CalibrationData
from .sampling import Run, Samples, runs

LOCKSTEP_ELEMENTS = 1 << 26
"""Elements of the widest activation over all samples, at most: a few of these are alive at once, up to 4 bytes each."""

WALK_MACS = 1 << 37
"""Multiply-accumulates that one side of a walk may cost: some seconds on one core."""

FEWEST_SAMPLES = 8
"""Samples that a walk takes, where it may and memory allows, whatever they cost."""

Layer = Conv2dOp | MatmulOp


def weighted_layers(module: Module, baseline: Baseline) -> dict[Layer, Layer]:
    """The integer convolutions and products of @main with constant weights, and the float operation of each, in order.

    Only those whose accumulators one `quant.requantize` alone reads.
    """
    found: dict[Layer, Layer] = {}
    for op in module.main.body:
        source = baseline.layers.get(op)
        if source is not None and _has_weights(op):
            assert isinstance(op, (Conv2dOp, MatmulOp))
            assert isinstance(source, (Conv2dOp, MatmulOp))
            if op.out.type.element in (I32, I64) and op.out.has_one_use and isinstance(op.out.users[0], RequantizeOp):
                found[op] = source
    return found


def _has_weights(op: Operation) -> bool:
    """True for a convolution, and for a product with one constant matrix."""
    return op.has_weights if isinstance(op, MatmulOp) else isinstance(op, Conv2dOp)


def requantization(layer: Layer) -> RequantizeOp:
    """The operation that reads the accumulators of a layer of `weighted_layers`."""
    (user,) = layer.out.users
    assert isinstance(user, RequantizeOp)
    return user


def accumulator_scales(layer: Layer) -> Array:
    """The real number that one step of each output channel's accumulator stands for, float64 [C]."""
    narrow = requantization(layer)
    assert isinstance(narrow.scale, Constant)
    factors = narrow.scale.array.astype(np.float64) * quantized_element(narrow.out.type).scale
    return np.broadcast_to(factors, layer.out.type.shape[-1:])


@dataclass(frozen=True)
class Visit:
    """One integer layer, its float `source`, and what both see of the samples, in order.

    `pairs` holds (integer inputs of the layer, float results of the source before its clamp), cut along the first axis.
    """

    layer: Layer
    source: Layer
    pairs: list[tuple[Array, Array]]


def walk(module: Module, baseline: Baseline, data: CalibrationData) -> Iterator[Visit]:
    """Every layer of `weighted_layers` in order, with inputs as the layers before it compute them at that time.

    The constants of the layer and of its requantization may be replaced (set_operand) until the next layer is asked
    for; nothing else may change. CompileError if the samples do not fit.
    """
    assert baseline.module is not None
    layers = weighted_layers(module, baseline)
    real, integer = _Side(baseline.module, data, set(layers.values())), _Side(module, data, set())
    for layer, source in layers.items():
        integer.run_to(layer)
        real.run_past(source)
        yield Visit(layer, source, _paired(integer.operand(layer, 0), real.unclamped.pop(source)))


def walk_capacity(module: Module) -> int:
    """How many samples a walk through `module` may take by its memory and its time, at least one."""
    tensors = [r.type.size for op in module.main.body for r in op.results if isinstance(r.type, TensorType)]
    macs = sum(getattr(op, "macs_total", 0) for op in module.main.body)
    affordable = max(WALK_MACS // max(macs, 1), FEWEST_SAMPLES)
    return max(1, min(affordable, LOCKSTEP_ELEMENTS // max(tensors, default=1)))


def _paired(data: list[Array], expected: list[Array]) -> list[tuple[Array, Array]]:
    """Arrays of the same samples; one pair if the two modules were run on differently many at once."""
    if [len(each) for each in data] != [len(each) for each in expected]:
        data, expected = [np.concatenate(data)], [np.concatenate(expected)]
    return list(zip(data, expected, strict=True))


class _Side:
    """One of the two modules, executed one operation at a time for all runs."""

    def __init__(self, module: Module, data: CalibrationData, unclamped: set[Layer]) -> None:
        self._wanted: set[Operation] = set(unclamped)
        self.unclamped: dict[Operation, list[Array]] = {}
        # A module of one sample would be run as it is, and must not be changed under the feet of this.
        private = module.clone()
        self._pending = list(module.main.body)
        self._states = [_State(each) for each in runs(private, Samples(module.main, data))]

    def run_to(self, op: Operation) -> None:
        """Execute everything before `op`."""
        while self._pending[0] is not op:
            self._step()

    def run_past(self, op: Operation) -> None:
        """Execute everything up to and with `op`, if that has not been done yet."""
        if op in self._pending:
            self.run_to(op)
            self._step()

    def operand(self, op: Operation, index: int) -> list[Array]:
        """What the next operation `op` reads."""
        return [state.operands(op)[index] for state in self._states]

    def _step(self) -> None:
        op = self._pending.pop(0)
        if op.has_trait(Terminator):
            return
        raw = [state.step(op, keep=op in self._wanted) for state in self._states]
        if op in self._wanted:
            self.unclamped[op] = [array for array in raw if array is not None]


class _State:
    """The values of one run."""

    def __init__(self, given: Run) -> None:
        main = given.module.main
        self._pending = list(main.body)
        self._last = last_uses(main)
        self._values: dict[Value[Any], Array] = {a: given.inputs[str(a.name)] for a in main.arguments}

    def operands(self, op: Operation) -> list[Array]:
        """Constants as the original `op` has them now, the rest as computed."""
        twin = self._pending[0]
        return [
            value.array if isinstance(value, Constant) else self._values[twin.operands[index]]
            for index, value in enumerate(op.operands)
        ]

    def step(self, op: Operation, *, keep: bool) -> Array | None:
        """Execute the twin of `op`; with `keep` returns its result as it is before the clamp."""
        arguments = self.operands(op)
        twin = self._pending.pop(0)
        raw = None
        with np.errstate(all="ignore"):
            if keep and isinstance(twin, ClampedOperation):
                bounds = {name: twin.attributes.pop(name, None) for name in ("clamp_min", "clamp_max")}
                raw = twin.evaluate(*arguments)
                twin.attributes.update({name: bound for name, bound in bounds.items() if bound is not None})
                results = (twin.clamp(raw),)
            else:
                found = cast("Array | tuple[Array, ...]", twin.evaluate(*arguments))
                results = found if isinstance(found, tuple) else (found,)
        self._values.update(zip(twin.results, results, strict=True))
        for value in self._last.get(twin, ()):
            self._values.pop(value, None)
        return raw
