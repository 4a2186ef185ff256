"""Writes docs/operators.md and the list of passing tests: `python -m standard.document` in the folder tests.

The document follows from the importer's table, the reasons of what it refuses, and the list of tests.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from onnx import defs

from accelc.compiler.importer import OPERATORS, reason_of

from .cases import cases
from .passing import FLOAT, FOLDED, FORMS, HOST, INT8, computed, counts, listed, write

DOCUMENT = Path(__file__).parents[2] / "docs" / "operators.md"

OPENING = """# ONNX operators

Opsets are those that the importer accepts. Any deterministic operator whose inputs are all known at import is computed
then (`folded`), whether it is in the table or not. The last columns count the tests of the ONNX standard for the
operator that pass: `float` is the imported module against what the test expects, `int8` the program for `tile32` at
`-O2`, calibrated on the test's inputs, with at most 5 % root mean square error. Tests hand over shapes, axes and
weights at run time; they are bound as constants. `host` counts those that are refused otherwise and pass where
`--allow-host` lets the reference evaluator of the onnx package compute them in float. `make docs` writes this page from
the importer's table; `accelc --list-ops` prints the same rows.
"""


def rendered(passed: Mapping[str, tuple[str, ...]]) -> str:
    """The page."""
    totals, found = Counter(case.operator for case in cases()), counts(passed)
    forms: Counter[tuple[str, str]] = Counter()
    for case in cases():
        forms.update((case.operator, form) for form in passed.get(case.name, ()))

    def tests(name: str) -> tuple[str, ...]:
        return (str(totals[name]), *(str(forms[name, form]) for form in FORMS))

    parts = [OPENING]
    parts.append(
        f"Of {len(cases())} tests of the standard {found[FLOAT]} pass in float, {found[INT8]} of them in int8 too, "
        f"{found[FOLDED]} more are computed at import, and {found[HOST]} others run on the host if it is allowed.\n"
    )
    head = ("operator", "opsets", "becomes", "restrictions", "tests", *FORMS)
    rows = [(o.op_type, o.opsets, o.becomes, o.restrictions, *tests(o.op_type)) for o in OPERATORS]
    parts += ["## Supported\n", _table(head, rows)]
    known = {operator.op_type for operator in OPERATORS}
    others = sorted({str(schema.name) for schema in defs.get_all_schemas() if not schema.domain} - known)
    parts += ["## Not supported at run time\n"]
    refused = [(n, reason_of(n), tests(n)[0], tests(n)[1], tests(n)[-1]) for n in others]
    parts += [_table(("operator", "reason", "tests", "folded", "host"), refused)]
    return "\n".join(parts)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = tuple(head)
    lines = [names, ("---",) * len(names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    """Write both files; 1 if a test was accepted and gave something else."""
    results = computed()
    write(results)
    DOCUMENT.write_text(rendered(listed()[1]), encoding="utf-8")
    found = counts({name: result.passed for name, result in results.items()})
    print(f"{len(results)} tests of the standard: {found[FOLDED]} folded, {found[FLOAT]} float, {found[INT8]} int8")
    wrong = {name: result.reason for name, result in results.items() if result.wrong}
    for name, reason in wrong.items():
        print(f"{name}: {reason}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
