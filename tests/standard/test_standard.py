"""The standard's own tests: those on the list pass, no others do, and docs/operators.md says so."""

from __future__ import annotations

import onnx
import pytest
from onnx import defs
from standard.cases import cases
from standard.document import DOCUMENT, rendered
from standard.passing import FLOAT, INT8, counts, listed
from standard.running import result_of

from accelc.compiler.importer import OPERATORS, reason_of

VERSION, PASSED = listed()
SHARES = 12
"""The tests are dealt out to so many of ours, which run side by side."""

needs_the_version = pytest.mark.skipif(
    onnx.__version__ != VERSION, reason=f"the list is of the tests of onnx {VERSION}, installed is {onnx.__version__}"
)


@needs_the_version
@pytest.mark.parametrize("share", range(SHARES))
def test_what_is_listed_passes_and_nothing_else(share):
    results = {case.name: result_of(case) for case in cases()[share::SHARES]}
    passed = {name: result.passed for name, result in results.items() if result.passed}
    fallen = {name: results[name].reason for name in results.keys() & PASSED if passed.get(name) != PASSED[name]}
    assert {name: result.reason for name, result in results.items() if result.wrong} == {}
    assert not fallen
    assert not passed.keys() - PASSED.keys(), "run `make docs`"


@needs_the_version
def test_the_list_names_tests_of_the_standard():
    assert not PASSED.keys() - {case.name for case in cases()}, "run `make docs`"


@needs_the_version
def test_the_document_is_current():
    assert DOCUMENT.read_text(encoding="utf-8") == rendered(PASSED), "run `make docs`"


def test_the_count_does_not_fall(capsys):
    found = counts(PASSED)
    with capsys.disabled():
        print(f"\n{len(cases())} tests of the standard: {dict(found)}")
    assert found[FLOAT] >= 532 and found[INT8] >= 519


def test_every_unsupported_operator_has_a_reason():
    known = {operator.op_type for operator in OPERATORS}
    standard = {schema.name for schema in defs.get_all_schemas() if not schema.domain}
    assert [name for name in standard - known if reason_of(name) == reason_of("")] == []


def test_there_are_tests_of_every_kind():
    assert len({case.kind for case in cases()}) == 4 and len(cases()) > 1000
