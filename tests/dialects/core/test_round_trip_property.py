"""parse(print(m)) == m for generated modules: any operation, attribute, type, constant, location and name."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelc.dialects.builtin import ReturnOp
from accelc.dialects.core.diagnostics import Location
from accelc.dialects.core.equality import difference
from accelc.dialects.core.fields import REQUIRED, AttributeField
from accelc.dialects.core.operation import Module, Operation, Value
from accelc.dialects.core.parser import parse_module
from accelc.dialects.core.printer import elided_constants, print_module
from accelc.dialects.core.types import ElementType, ScalarType, TensorType, Type
from accelc.dialects.quant.types import QuantizedType
from accelc.dialects.registry import CONTEXT

SCALARS = ("f32", "f64", "f16", "bf16", "i1", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
ODD = [
    "0",
    "12",
    "x",
    "a.b",
    "conv1/weight:0",
    "a b",
    'quote"d',
    "back\\slash",
    "new\nline",
    "tab\t",
    "{",
    "é",
    "",
    "%",
    "@",
    "-",
    ".",
    "x:",
    "loc",
    "f32",
    "//",
    "'",
    "\u2028",
    "\x00",
    "\r",
    "a\x85b",
]

names = st.one_of(st.sampled_from(ODD), st.text(max_size=6))
scalars = st.sampled_from(SCALARS).map(ScalarType)
quantized = st.builds(
    lambda name, scale, zero: QuantizedType(ScalarType(name), scale, zero if name == "i8" else 0),
    st.sampled_from(["i8", "i16"]),
    st.floats(min_value=1e-30, max_value=1e30, allow_nan=False),
    st.integers(-128, 127),
)
elements: st.SearchStrategy[ElementType] = st.one_of(scalars, quantized)
tensors = st.builds(TensorType, st.lists(st.integers(0, 9), max_size=4).map(tuple), elements)
integers = st.one_of(st.integers(-5, 5), st.integers(-(2**63), 2**64))
floats = st.floats(allow_nan=False)
leaves: dict[type, st.SearchStrategy[Any]] = {
    int: integers,
    float: st.one_of(floats, integers),
    bool: st.booleans(),
    str: names,
    Type: tensors,
}
attributes = st.recursive(
    st.one_of(st.none(), integers, floats, st.booleans(), names, tensors, elements),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Any array: random bits of any type, so also infinities, denormal and negative zeros; sometimes all equal."""
    name = draw(st.sampled_from(SCALARS))
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    dtype = ScalarType(name).dtype
    size = int(np.prod(shape, dtype=np.int64))
    if name == "i1":
        values = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), dtype=np.bool_)
    else:
        raw = draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
        values = np.frombuffer(raw, dtype=dtype).copy()
        if name.startswith(("f", "b")):
            with np.errstate(invalid="ignore"):
                values[np.isnan(values.astype(np.float64))] = 1.5
    if size and draw(st.booleans()):
        values[:] = values[0]
    return values.reshape(shape)


def attribute_value(field: AttributeField[Any]) -> st.SearchStrategy[Any]:
    """A value of the declared kind, which the verifier would accept."""
    if field.item is not None:
        return st.lists(leaves.get(field.item, attributes), max_size=3).map(tuple)
    return st.sampled_from(field.choices) if field.choices else leaves.get(field.kind, attributes)


@st.composite
def modules(draw: st.DrawFn) -> Module:
    """A module whose text is well formed; its operations need not mean anything."""
    module = Module(
        draw(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_-]{0,5}", fullmatch=True), attributes, max_size=2))
    )
    for array in draw(st.lists(arrays(), max_size=3)):
        module.add_constant(draw(names), array)
    for function_name in draw(st.lists(names, min_size=1, max_size=2, unique=True)):
        arguments = [(name, draw(tensors)) for name in draw(st.lists(names, max_size=2, unique=True))]
        function = module.add_function(function_name, arguments, draw(st.lists(tensors, max_size=2)))
        if draw(st.booleans()):
            function.attributes["outputs"] = tuple(draw(st.lists(names, max_size=2)))
        values: list[Value[Any]] = [*function.arguments, *module.constants.values()]
        for kind in draw(st.lists(st.sampled_from(list(CONTEXT.operations.values())), max_size=4)):
            chosen = draw(st.lists(st.sampled_from(values), max_size=3)) if values else []
            given_values = {
                name: draw(attribute_value(field))
                for name, field in kind.attribute_fields.items()
                if field.default is REQUIRED or draw(st.booleans())
            }
            nodes = tuple(draw(st.lists(names, max_size=2)))
            op: Operation = kind(chosen, draw(st.lists(tensors, max_size=2)), given_values, Location(nodes))
            for result in op.results:
                result.name = draw(st.one_of(st.none(), names))
            function.body.append(op)
            values += op.results
        function.body.append(ReturnOp.build(*draw(st.lists(st.sampled_from(values), max_size=2)) if values else ()))
    return module


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(modules())
def test_parsing_what_was_printed_gives_the_same_module(module: Module) -> None:
    text = print_module(module)
    elided = {
        name: array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array
        for name, array in elided_constants(module).items()
    }
    again = parse_module(text, CONTEXT, constants=elided)
    assert difference(module, again) is None
    assert print_module(again) == text
    assert [op.attributes for op in again.walk()] == [op.attributes for op in module.walk()]
    assert [op.location for op in again.walk()] == [op.location for op in module.walk()]
    assert list(again.functions) == list(module.functions)
    assert again.attributes == module.attributes
    assert difference(module, module.clone()) is None
