"""`--accuracy-report`: which layers the error of integers or bf16 comes from, and why, as data and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Module
from ..passes.bfloat16.attribution import attribute_bf16_error
from ..passes.framework.base import Pass
from ..passes.framework.environment import Baseline, Environment, Progress
from ..passes.framework.pass_manager import Instrumentation
from ..passes.quantization.attribution import CAUSES, Attribution, attribute_error
from ..passes.quantization.measure import decibels
from .driver import MACHINE_PASSES, Compiled

HEADINGS = ("share", "weights", "rounding", "clipping", "requant.", "interplay")
NAME_COLUMNS = 56

LEGEND = (
    "share: how much of the error goes when the layer alone computes in reals; then when only its weights are\n"
    "not rounded, its results not rounded, not clipped, or rescaled by the real factor; interplay: the rest of the\n"
    "share. Negative: makes up for errors of other layers. The shares of all layers need not add up to 100 %.\n"
    "bf16 has no ranges and no factors: nothing is clipped or rescaled."
)


@dataclass
class MeasureLosses(Instrumentation):
    """Measures the integers, or bf16, of a pipeline just before the passes for the machine change them.

    `source` is the word for the model in messages. CompileError before the first pass without calibration samples.
    """

    source: str
    progress: Progress
    baseline: Baseline | None = None
    precision: str = ""
    result: Attribution | None = None

    def before_pipeline(self, module: Module, environment: Environment) -> None:
        if environment.calibration is None:
            raise CompileError(
                f"{self.source}: no calibration samples, which the accuracy report measures on; "
                "give --calibration-data FILE.npz"
            )
        self.baseline, self.precision = environment.baseline, environment.precision

    def before_pass(self, index: int, running: Pass, module: Module) -> None:
        known = self.baseline
        if self.result is None and running.name in MACHINE_PASSES and known and known.module and known.measured:
            attribute = attribute_bf16_error if self.precision == "bf16" else attribute_error
            self.result = attribute(module, known, progress=self.progress)


def measured_losses(compiled: Compiled) -> dict[str, Any]:
    """What the `MeasureLosses` of a compilation found, as the report's key `accuracy_report`.

    `error` is the power of the error of the outputs over the power of the outputs, or of the logarithms of the
    probabilities where they are a softmax; `sqnr_db` the same in decibels. `layers`, the largest first, have their
    `share` of the error and what each cause is of it, as fractions of `error`; share == the sum of the four causes and
    `interplay`. Raises CompileError if there was no float network to compare with.
    """
    found = next((w.result for w in compiled.settings.instrumentation if isinstance(w, MeasureLosses)), None)
    if found is None:
        raise CompileError(
            f"{compiled.source}: nothing was quantized here, so there is no float network to compare with, which "
            "the accuracy report needs; give a float model and insert-quantization in the pipeline"
        )
    whole = found.error or 1.0
    layers: list[dict[str, Any]] = []
    for loss in found.losses:
        parts = {cause.replace(" ", "_"): loss.causes[cause] / whole for cause in CAUSES}
        share = loss.together / whole
        rest = {"interplay": share - sum(parts.values())}
        layers.append({"name": loss.layer, "nodes": list(loss.nodes), "share": share, **parts, **rest})
    return {"samples": found.samples, "error": found.error, "sqnr_db": decibels(found.error), "layers": layers}


def loss_table(facts: Mapping[str, Any]) -> str:
    """The result of `measured_losses` as lines for a terminal."""
    title = (
        f"where the accuracy went: SQNR {facts['sqnr_db']:.1f} dB on {facts['samples']} held-back samples, "
        "of this error in %"
    )
    rows = [[_name(layer)] + [f"{100 * part:.1f}" for part in _parts(layer)] for layer in facts["layers"]]
    return "\n".join([title, _line(("layer", *HEADINGS)), *map(_line, rows), LEGEND])


def _parts(layer: Mapping[str, Any]) -> list[float]:
    return [layer[name] for name in ("share", *(cause.replace(" ", "_") for cause in CAUSES), "interplay")]


def _name(layer: Mapping[str, Any]) -> str:
    """The first ONNX node and how many more; an input has its own word."""
    first, more = layer["name"].split("+", 1)[0], len(layer["nodes"]) - 1
    text = first if more < 1 or first.startswith("input ") else f"{first} +{more}"
    return text if len(text) <= NAME_COLUMNS else f"...{text[3 - NAME_COLUMNS :]}"


def _line(cells: Sequence[str]) -> str:
    return f"{cells[0]:{NAME_COLUMNS}}" + "".join(f"{cell:>10}" for cell in cells[1:])
