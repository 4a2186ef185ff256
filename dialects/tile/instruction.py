"""What all instructions share: the engine that runs them and the tokens that order them."""

from __future__ import annotations

from typing import ClassVar

from ..core.fields import AttributeField, attribute, list_attribute
from ..core.operation import Operation

ENGINES = ("load", "array", "vector", "store")
"""The four engines; each runs its own instructions in order."""


class InstructionOp(Operation):
    """One instruction. Before scheduling it spans a whole layer, after it what the machine does in one go.

    `wait` names the engines from which one token is taken before the start; `signal` those that get one at the end.
    Every operand called X that is a buffer has an attribute `X_offset`: bytes (rows in accumulators) from its start.
    `layer` is its index in the module's attribute `layers`, the names of the layers in order of execution.
    """

    engine: ClassVar[str]

    layer = attribute(int, default=0)
    wait = list_attribute(str, default=())
    signal = list_attribute(str, default=())


def offset_fields(op_class: type[InstructionOp]) -> dict[str, AttributeField[int]]:
    """The `X_offset` attribute of every operand X."""
    return {field.name: op_class.attribute_fields[f"{field.name}_offset"] for field in op_class.operand_fields}
