"""Write a pass and run it in front of a pipeline: what would it cost in accuracy to clamp every ReLU?

python examples/custom_pass.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

import accelc
from accelc.dialects.core.operation import Module
from accelc.dialects.nn.activation import ClipOp, ReluOp
from accelc.passes.framework.base import Pass
from accelc.passes.framework.environment import Environment
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.framework.rewriting import RewritePattern, Rewriter, apply_patterns
from accelc.passes.pipelines import PIPELINES
from accelc.passes.registry import PASSES

EXAMPLES = Path(__file__).parent


@dataclass(frozen=True)
class ClampRelu(RewritePattern[ReluOp]):
    """relu(x) -> clip(x, 0, limit): not the same function, but one with a smaller range."""

    limit: float

    def rewrite(self, op: ReluOp, rewriter: Rewriter) -> None:
        """Replace one operation; its ONNX nodes go over to the new one."""
        rewriter.replace(op, ClipOp.build(op.data, min=0.0, max=self.limit))


@dataclass(frozen=True)
class LimitRelu(Pass):
    """Clamp every ReLU at a limit."""

    name: ClassVar[str] = "limit-relu"

    limit: float = 6.0

    def run(self, module: Module, environment: Environment) -> None:
        """Rewrite the module and leave a remark for the report."""
        count = apply_patterns(module, [ClampRelu(self.limit)])
        environment.remark(self.name, "applied", f"clamped {count} ReLUs at {self.limit:g}", count=count)


def main() -> None:
    """Compile one network with different limits and print the accuracy of each program."""
    calibration = np.load(EXAMPLES / "data" / "digits.calibration.npz")
    test = np.load(EXAMPLES / "data" / "digits.test.npz")
    for limit in (0.5, 2.0, 6.0):
        passes = parse_pipeline(f"limit-relu{{limit={limit}}},{PIPELINES['O2']}", [*PASSES, LimitRelu])
        program = accelc.compile(EXAMPLES / "models" / "digits_cnn.onnx", calibration=calibration, passes=passes)
        accuracy = program.evaluate({"input": test["input"]}, test["labels"])
        remark = next(text for text in program.report()["remarks"] if "limit-relu" in text)
        print(f"{remark}: top-1 {accuracy['program']:.1%}, without the clamp and in float {accuracy['float']:.1%}")


if __name__ == "__main__":
    main()
