"""The named pipelines and the order that passes must keep, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..dialects.core.diagnostics import CompileError, Diagnostic
from .framework.base import Pass
from .framework.pipeline import parse_pipeline

_GRAPH = (
    "fold-qdq,canonicalize,fold-constants,propagate-layouts,canonicalize,fold-batch-norm,fuse-activations,"
    "fuse-functions,fold-constants,eliminate-common-subexpressions,eliminate-dead-code"
)

_INSERT = "insert-bf16,insert-quantization"

_QUANTIZE = f"outline-host,equalize-channels,{_INSERT},round-weights,correct-bias"

_PLAIN = f"outline-host,{_INSERT}"

_PLACE = "allocate-banks,insert-tokens"

_SPLIT = "split-stacks,split-rows"

_RUN = f"fuse-residuals,{_SPLIT},schedule,{_PLACE}"

_RUN_BEST = f"fuse-residuals,{_SPLIT},schedule{{effort=1}},{_PLACE}"

PIPELINES: dict[str, str] = {
    "O0": f"{_GRAPH},{_PLAIN},lower-to-tile{{effort=0}},{_SPLIT},schedule{{lookahead=0.0 fuse=0}},{_PLACE}",
    "O1": f"{_GRAPH},rewrite-shuffles,{_QUANTIZE},lower-to-tile{{effort=1}},{_RUN}",
    "O2": f"{_GRAPH},rewrite-shuffles,{_QUANTIZE},pad-channels,lower-to-tile{{effort=1}},{_RUN}",
    "O3": f"{_GRAPH},rewrite-shuffles,{_QUANTIZE},pad-channels,lower-to-tile{{effort=2}},{_RUN_BEST}",
}
"""Pipeline text by name; a name may stand in a pipeline wherever a pass may.

O0 is what legality needs: shuffles are executed, the first legal mapping is taken, nothing is loaded ahead.
"""


@dataclass(frozen=True)
class Constraint:
    """Pass `before` must not first stand behind the first `after` of a pipeline that has both, because of `reason`."""

    before: str
    after: str
    reason: str


CONSTRAINTS: tuple[Constraint, ...] = (
    Constraint("fold-qdq", "canonicalize", "conversions stand between the reshapes of a channel shuffle"),
    Constraint("fold-qdq", "fold-batch-norm", "weights that are scaled are no longer the integers of the model"),
    Constraint(
        "canonicalize", "propagate-layouts", "channel shuffles are recognised while their reshapes are adjacent"
    ),
    Constraint("propagate-layouts", "fold-batch-norm", "constants per channel are found on the last axis"),
    Constraint(
        "fold-batch-norm", "fuse-activations", "a convolution that already clamps cannot absorb a scale behind it"
    ),
    Constraint("fuse-activations", "fuse-functions", "a clamp behind a product belongs to the product, not to a table"),
    Constraint("fuse-functions", "insert-quantization", "a chain in integers is one table with one rounding"),
    Constraint("fuse-functions", "outline-host", "what is one table or one clamp has an integer form as a whole"),
    Constraint("rewrite-shuffles", "outline-host", "a shuffle is recognised as a whole"),
    Constraint("outline-host", "equalize-channels", "factors do not pass through what the host computes"),
    Constraint("outline-host", "insert-bf16", "only what the machine computes is rounded"),
    Constraint("outline-host", "insert-quantization", "only what the machine computes is quantized"),
    Constraint("fold-qdq", "insert-quantization", "only what the model leaves in float is calibrated"),
    Constraint("rewrite-shuffles", "insert-quantization", "permuted weights are quantized in their final order"),
    Constraint("rewrite-shuffles", "equalize-channels", "channels are scaled in their final order"),
    Constraint("equalize-channels", "insert-quantization", "float weights take up the factors exactly"),
    Constraint("insert-quantization", "round-weights", "weights are rounded for the integers that they multiply"),
    Constraint("round-weights", "correct-bias", "biases make up for what rounding is left with"),
    Constraint("insert-quantization", "correct-bias", "biases are corrected by what integers compute"),
    Constraint("round-weights", "pad-channels", "layers are compared with the float network channel by channel"),
    Constraint("round-weights", "lower-to-tile", "layers are compared with the float network one by one"),
    Constraint("correct-bias", "pad-channels", "layers are compared with the float network channel by channel"),
    Constraint("correct-bias", "lower-to-tile", "layers are compared with the float network one by one"),
    Constraint("fuse-functions", "insert-bf16", "a chain is one table with one rounding"),
    Constraint("fold-qdq", "insert-bf16", "a quantized model is refused by name"),
    Constraint("rewrite-shuffles", "insert-bf16", "sums take the channels in their final order"),
    Constraint("insert-bf16", "insert-quantization", "what is rounded to bf16 needs no calibration"),
    Constraint("insert-bf16", "pad-channels", "sums are over channels of the model"),
    Constraint("insert-bf16", "lower-to-tile", "instructions exist for integers and bf16 only"),
    Constraint("insert-quantization", "pad-channels", "padding is filled with the zero point"),
    Constraint("insert-quantization", "lower-to-tile", "instructions exist for integers only"),
    Constraint("lower-to-tile", "fuse-residuals", "sums join the requantization of a product"),
    Constraint("fuse-residuals", "schedule", "whole layers are joined, not strips"),
    Constraint("lower-to-tile", "split-rows", "instructions have rows"),
    Constraint("lower-to-tile", "split-stacks", "matrices are rows of tensors of instructions"),
    Constraint("fuse-residuals", "split-stacks", "a sum joins all matrices of a product, or none"),
    Constraint("split-stacks", "split-rows", "rows of a stack are matrices"),
    Constraint("fuse-residuals", "split-rows", "a sum joins a product whose rows are the same"),
    Constraint("split-rows", "schedule", "strips are cut along rows"),
    Constraint("lower-to-tile", "schedule", "strips are cut from instructions"),
    Constraint("schedule", "allocate-banks", "only strips fit the memory"),
    Constraint("allocate-banks", "insert-tokens", "buffers that share an address must be kept in order"),
)


ONCE: dict[str, str] = {
    "lower-to-tile": "tensors become instructions once",
    "schedule": "layers are cut into strips once",
    "allocate-banks": "buffers get their addresses once",
    "insert-tokens": "queues are ordered once",
}
"""Passes that a pipeline has at most once, and why. Nothing that a constraint puts before one may stand behind it."""


def check_order(names: Iterable[str], constraints: Iterable[Constraint] = CONSTRAINTS) -> list[str]:
    """What is wrong with a sequence of passes, one sentence a violated constraint."""
    names = list(names)
    repeated = next((name for name in ONCE if names.count(name) > 1), None)
    if repeated:
        whole = f"{', '.join(PIPELINES)} are whole pipelines"
        return [f"'{repeated}' runs {names.count(repeated)} times: {ONCE[repeated]}; {whole}"]
    first = {name: names.index(name) for name in names}
    last = {name: index for index, name in enumerate(names)}
    return [
        f"'{c.before}' must run before '{c.after}': {c.reason}"
        for c in constraints
        if c.before in first and c.after in first
        if (last if c.after in ONCE else first)[c.before] > first[c.after]
    ]


def require_order(passes: Iterable[Pass]) -> None:
    """Raise CompileError if a pipeline somebody wrote violates a constraint; all violations in one message."""
    problems = check_order(each.name for each in passes)
    if problems:
        raise CompileError([Diagnostic(f"pipeline: {problem}") for problem in problems])


def check_tables(pipelines: Mapping[str, str], constraints: Iterable[Constraint], passes: Iterable[type[Pass]]) -> None:
    """Raise ValueError if a table names a pass that does not exist, or a pipeline violates a constraint."""
    rows, classes = tuple(constraints), tuple(passes)
    known = {p.name for p in classes}
    problems = [f"constraint names unknown pass '{n}'" for c in rows for n in (c.before, c.after) if n not in known]
    for name, text in pipelines.items():
        problems += [f"{name}: {p}" for p in check_order((p.name for p in parse_pipeline(text, classes)), rows)]
    if problems:
        raise ValueError("; ".join(problems))
