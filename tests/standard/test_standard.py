"""The standard's own tests: those on the list pass, no others do, and docs/operators.md says so."""

from __future__ import annotations

import onnx
import pytest
from onnx import defs
from standard.cases import cases
from standard.document import DOCUMENT, rendered
from standard.passing import FLOAT, INT8, computed, counts, listed

from accelc.compiler.importer import OPERATORS, reason_of

VERSION, PASSED = listed()


@pytest.fixture(scope="module")
def results():
    if onnx.__version__ != VERSION:
        pytest.skip(f"the list is of the tests of onnx {VERSION}, installed is {onnx.__version__}")
    return computed()


def test_the_list_is_what_passes(results, capsys):
    passed = {name: result.passed for name, result in results.items() if result.passed}
    fallen = {name: results[name].reason for name in PASSED if passed.get(name) != PASSED[name]}
    risen = sorted(passed.keys() - PASSED.keys())
    with capsys.disabled():
        print(f"\n{len(results)} tests of the standard: {dict(counts(passed))}")
    assert not fallen
    assert not risen, "run `make docs`"


def test_no_test_is_accepted_and_wrong(results):
    assert {name: result.reason for name, result in results.items() if result.wrong} == {}


def test_the_document_is_current(results):
    assert DOCUMENT.read_text(encoding="utf-8") == rendered(PASSED), "run `make docs`"


def test_the_count_does_not_fall():
    found = counts(PASSED)
    assert found[FLOAT] >= 532 and found[INT8] >= 519


def test_every_unsupported_operator_has_a_reason():
    known = {operator.op_type for operator in OPERATORS}
    standard = {schema.name for schema in defs.get_all_schemas() if not schema.domain}
    assert [name for name in standard - known if reason_of(name) == reason_of("")] == []


def test_there_are_tests_of_every_kind():
    assert len({case.kind for case in cases()}) == 4 and len(cases()) > 1000
