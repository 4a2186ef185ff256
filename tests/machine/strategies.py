"""Hypothesis strategies: instructions of every class with fields anywhere in their declared range."""

from typing import Any

from hypothesis import strategies as st

from accelc.backends.encoding import OPCODES, Instruction, layout
from accelc.dialects.tile.instruction import ENGINES


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    op_class = draw(st.sampled_from(list(OPCODES.values())))
    plan = layout(op_class)
    fields: dict[str, Any] = {}
    for place in plan.fields:
        if place.choices:
            fields[place.name] = draw(st.sampled_from(place.choices))
        elif place.is_bool:
            fields[place.name] = draw(st.booleans())
        else:
            fields[place.name] = draw(st.integers(*place.limits))
    addresses = {place.name: draw(st.integers(*place.limits)) for place in plan.addresses}
    wait, signal = (tuple(e for e in ENGINES if draw(st.booleans())) for _ in range(2))
    return Instruction(op_class, addresses, fields, wait, signal)
