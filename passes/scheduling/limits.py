"""Whether scheduled instructions can be encoded: every field has a width, and the host's tensors may be too large."""

from __future__ import annotations

from ...dialects.core.diagnostics import Diagnostic
from ...dialects.tile.instruction import InstructionOp


def oversized_fields(op: InstructionOp) -> list[Diagnostic]:
    """An error for every attribute that does not fit the bits an instruction has for it."""
    errors: list[Diagnostic] = []
    for field in op.attribute_fields.values():
        value = op.attribute_or_default(field.name)
        if not field.bits or field.kind is not int or not isinstance(value, int):
            continue
        low = -(1 << (-field.bits - 1)) if field.bits < 0 else 0
        high = (1 << (-field.bits - 1)) - 1 if field.bits < 0 else (1 << field.bits) - 1
        if not low <= value <= high:
            message = f"{field.name} is {value}, expected {low} to {high}, which is what an instruction can hold"
            errors += op.error(message).diagnostics
    return errors
