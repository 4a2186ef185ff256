"""The pass `pad-channels`: channel counts grow to a multiple of the machine's lanes where that pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..dialects.core.operation import Module, Operation
from ..dialects.nn import Conv2dOp, MatmulOp
from .framework.base import Pass, at_least
from .framework.environment import Environment
from .padding.plan import pad_everything, pad_where_free
from .padding.propagation import Padding


@dataclass(frozen=True)
class PadChannels(Pass):
    """Pad channels of quantized tensors to a multiple of the lanes.

    Weights get rows and columns of zeros, so that what an added channel holds never matters; element-wise operations,
    pooling and concat carry it along, and it is cut off (nn.slice) only before operations that cannot: outputs, softmax
    and LRN over channels, grouped convolutions. Results stay the same bit for bit, and `macs` on widened operations
    remembers the multiply-accumulates of the model, so that padding never counts as useful.

    `multiple` is the number of channels to reach multiples of (0: the lanes of the target). `mode` decides where:
    `always` pads the inputs (nn.pad) and outputs of every dense product; `auto` pads only results that a channel
    concat would otherwise place across lanes on a machine without lane rotation, if no reduction becomes longer;
    `never` does nothing.
    """

    name: ClassVar[str] = "pad-channels"

    multiple: int = at_least(0, 0)
    mode: Literal["auto", "always", "never"] = "auto"

    def run(self, module: Module, environment: Environment) -> None:
        if self.mode == "never":
            return
        multiple = self.multiple or environment.require_target(self.name).array.lanes
        if self.mode == "always":
            layouts = pad_everything(module.main, multiple)
        else:
            layouts = pad_where_free(module.main, multiple, environment.require_target(self.name))
        padding = Padding(module, layouts, multiple if self.mode == "always" else 0)
        for op in list(module.main.body):
            padding.rewrite(op)
        for op in padding.retired:
            if isinstance(op, (Conv2dOp, MatmulOp)):
                self._report(op, padding, environment)
        for op in reversed(padding.retired):
            op.erase()
        module.drop_unused_constants()

    def _report(self, op: Operation, padding: Padding, environment: Environment) -> None:
        before = [op.operands[0].type.shape[-1], op.result.type.shape[-1]]
        layouts = [padding.layout(op.operands[0]), padding.layout(op.result)]
        after = [layout.width if layout else width for layout, width in zip(layouts, before, strict=True)]
        message = f"{before[0]} to {before[1]} channels run as {after[0]} to {after[1]}"
        environment.remark(self.name, "applied", message, location=op.location, before=before, after=after)
