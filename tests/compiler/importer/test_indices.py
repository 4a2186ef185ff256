"""Indices that are computed or come in: embeddings, ArgMax and ArgMin, and programs that take and give them."""

import numpy as np
import onnx.parser
import pytest
from reference import assert_close, reference_outputs

import accelc
from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.verifier import verify

RNG = np.random.default_rng(4)
TABLE = RNG.standard_normal((5, 3, 4)).astype(np.float32)


def parsed(inputs, outputs, body, opset=17, **constants):
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> graph ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    return model


def agrees(model, **arrays):
    module = import_model(model)
    verify(module)
    assert_close(run(module, arrays), reference_outputs(model, arrays))


@pytest.mark.parametrize(("axis", "result"), [(0, "2, 6, 3, 4"), (1, "5, 2, 6, 4"), (-1, "5, 3, 2, 6")])
def test_computed_indices_choose_from_a_constant_along_any_axis(axis, result):
    size = TABLE.shape[axis]
    indices = RNG.integers(-size, size, (2, 6))
    agrees(
        parsed("int64[2, 6] i", f"float[{result}] y", f"y = Gather <axis = {axis}> (table, i)", table=TABLE), i=indices
    )


def test_indices_are_moved_and_computed_before_they_are_used():
    body = """two = Constant <value_int = 2> () flat = Constant <value_ints = [6]> () row = Reshape(i, flat)
              further = Add(row, two) n = Cast <to = 6> (further)
              all = Concat <axis = 0> (cls, n) y = Gather(table, all)"""
    model = parsed("int64[1, 6] i", "float[7, 3, 4] y", body, table=TABLE, cls=np.int32([4]))
    agrees(model, i=RNG.integers(0, 3, (1, 6)))


@pytest.mark.parametrize(("axis", "result"), [(-1, "2, 6, 5"), (1, "2, 5, 6")])
def test_one_of_several_numbers_is_another_one(axis, result):
    model = parsed(
        "int64[2, 6] i", f"float[{result}] y", f"y = OneHot <axis = {axis}> (i, n, v)", n=np.array(5), v=ENDS
    )
    agrees(model, i=RNG.integers(-5, 5, (2, 6)))


ENDS = np.float32([-0.5, 2.0])


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("attributes", ["axis = 1", "axis = -1, keepdims = 0", "select_last_index = 1, axis = 2"])
def test_the_place_of_the_largest_or_smallest_element(op_type, attributes):
    x = RNG.integers(-2, 3, (2, 5, 7)).astype(np.float32)  # with many equal ones
    shape = {"axis = 1": "2, 1, 7", "axis = -1, keepdims = 0": "2, 5"}.get(attributes, "2, 5, 1")
    agrees(parsed("float[2, 5, 7] x", f"int64[{shape}] y", f"y = {op_type} <{attributes}> (x)"), x=x)


@pytest.mark.parametrize("precision", ["int8", "int16", "bf16"])
@pytest.mark.parametrize("level", [0, 2])
def test_a_program_reads_tables_by_ids_and_names_the_best_class(precision, level):
    vocabulary, length, width = 300, 7, 24
    table = RNG.standard_normal((vocabulary, width)).astype(np.float32)
    body = """h = Gather(table, ids) zero = Constant <value_int = 0> () pad = Equal(ids, zero) p = Cast <to = 1> (pad)
              last = Constant <value_ints = [-1]> () place = ArgMax <axis = 2, keepdims = 0> (h)
              again = Gather(table, place)"""
    rows = f"float[1, {length}, {width}]"
    model = parsed(
        f"int64[1, {length}] ids",
        f"{rows} h, float[1, {length}] p, int64[1, {length}] place, {rows} again",
        body,
        table=table,
    )
    ids = RNG.integers(0, vocabulary, (9, length))
    ids[:, -2:] = [0, -1]
    program = accelc.compile(model, precision=precision, opt_level=level, calibration={"ids": ids})
    found = program.run({"ids": ids})
    rows = table[ids]
    np.testing.assert_allclose(found["h"], rows, atol=np.abs(table).max() / 64)
    np.testing.assert_allclose(found["p"], ids == 0, atol=0.01)
    assert found["place"].dtype == np.int64
    best = rows.argmax(axis=-1)
    np.testing.assert_allclose(np.take_along_axis(rows, found["place"][..., None], -1)[..., 0], rows.max(-1), atol=0.06)
    assert (found["place"] == best).mean() > 0.9
    np.testing.assert_array_equal(found["again"], program.run({"ids": found["place"]})["h"])


def test_what_is_refused_of_indices():
    both = parsed("float[5, 4] x, int64[2] i", "float[2, 4] y", "y = Gather(x, i)")
    with pytest.raises(CompileError, match="'indices' is computed at run time and so is 'data'"):
        import_model(both)
    large = parsed("int64[2] i", "float[2, 1] y", "y = Gather(t, i)", t=np.zeros((2**15 + 1, 1), np.float32))
    with pytest.raises(CompileError, match="axis 0 has 32769 elements, at most 32768 are chosen from at run time"):
        import_model(large)
