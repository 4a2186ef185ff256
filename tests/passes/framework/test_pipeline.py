"""Pipelines as text: options, errors with their column, named pipelines, order constraints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from accelc.dialects.core.diagnostics import CompileError
from accelc.passes.framework.base import Pass, at_least
from accelc.passes.framework.pipeline import format_pipeline, parse_pipeline
from accelc.passes.pipelines import CONSTRAINTS, PIPELINES, Constraint, check_order, check_tables
from accelc.passes.registry import PASSES


@dataclass(frozen=True)
class PadRows(Pass):
    """Pad rows.

    More words.
    """

    name: ClassVar[str] = "pad-rows"
    multiple: int = 8
    ratio: float | None = None
    mode: Literal["zero", "edge"] = "zero"
    label: str = ""
    keep_name: bool = False


@dataclass(frozen=True)
class CutRows(Pass):
    """Cut rows."""

    name: ClassVar[str] = "cut-rows"
    rows: int
    share: float = at_least(0, 1.0)
    effort: int = at_least(0, 1, maximum=2)


OWN = (PadRows, CutRows)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", ()),
        ("pad-rows", (PadRows(),)),
        (" pad-rows { multiple=16  ratio=2 } , cut-rows{rows=-1}", None),
        ("pad-rows{ratio=none keep-name=true},pad-rows", (PadRows(keep_name=True), PadRows())),
        ('pad-rows{mode=edge label="a, \\"b\\" }" ratio=1e-3}', (PadRows(ratio=0.001, mode="edge", label='a, "b" }'),)),
        ("twice,cut-rows{rows=1}", (PadRows(multiple=2), PadRows(multiple=2), CutRows(1))),
    ],
)
def test_reading(text: str, passes: tuple[Pass, ...] | None) -> None:
    pipelines = {"twice": "pad-rows{multiple=2},pad-rows{multiple=2}"}
    if passes is None:
        with pytest.raises(CompileError, match=r":11: error: unexpected '{', expected ',' or the end"):
            parse_pipeline(text, OWN)
        return
    found = parse_pipeline(text, OWN, pipelines=pipelines)
    assert found == passes
    assert parse_pipeline(format_pipeline(found), OWN) == passes


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("pad-row", 1, "unknown pass 'pad-row'; did you mean 'pad-rows'?"),
        ("pad-rows,O9", 10, "unknown pass 'O9'"),
        ("pad-rows{multple=3}", 10, "pass 'pad-rows' has no option 'multple', expected multiple, ratio, mode, label"),
        ("pad-rows{multiple=3.5}", 19, "option 'multiple' of pass 'pad-rows' is '3.5', expected int"),
        ("pad-rows{ratio=x}", 16, "option 'ratio' of pass 'pad-rows' is 'x', expected float or none"),
        ("pad-rows{mode=wrap}", 15, "option 'mode' of pass 'pad-rows' is 'wrap', expected one of zero, edge"),
        ("pad-rows{keep_name=1}", 20, "option 'keep_name' of pass 'pad-rows' is '1', expected true or false"),
        ("pad-rows{multiple=1 multiple=2}", 21, "option 'multiple' of pass 'pad-rows' is given twice"),
        ("pad-rows{multiple}", 18, "option 'multiple' of pass 'pad-rows' has no value, expected '='"),
        ("pad-rows{multiple=}", 19, "expected a value"),
        ("pad-rows{multiple=1", 20, "unexpected the end, expected an option or '}'"),
        ("pad-rows,", 10, "unexpected the end, expected the name of a pass"),
        ("pad-rows pad-rows", 10, "unexpected 'p', expected ',' or the end"),
        ("cut-rows", 1, "pass 'cut-rows' needs option 'rows'"),
        ("cut-rows{rows=1 share=-0.5}", 23, "option 'share' of pass 'cut-rows' is '-0.5', expected float, at least 0"),
        ("cut-rows{rows=1 share=nan}", 23, "option 'share' of pass 'cut-rows' is 'nan', expected float, at least 0"),
        ("cut-rows{rows=1 share=inf}", 23, "option 'share' of pass 'cut-rows' is 'inf', expected float, at least 0"),
        ("cut-rows{effort=3}", 17, "option 'effort' of pass 'cut-rows' is '3', expected int from 0 to 2"),
        ("O1{x=1}", 3, "pipeline 'O1' has no options"),
    ],
)
def test_mistakes(text: str, column: int, message: str) -> None:
    with pytest.raises(CompileError) as error:
        parse_pipeline(text, OWN, pipelines={"O1": "pad-rows"})
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.location.position is not None
    assert diagnostic.location.position.column == column
    assert diagnostic.message.startswith(message)


def test_limits_hold_in_python_too() -> None:
    assert CutRows(1, share=0.0, effort=2).effort == 2
    with pytest.raises(CompileError, match="option 'effort' of pass 'cut-rows' is -1, expected int from 0 to 2"):
        CutRows(1, effort=-1)


def test_an_option_that_text_cannot_give_is_refused() -> None:
    @dataclass(frozen=True)
    class Wrong(Pass):
        """Wrong."""

        name: ClassVar[str] = "wrong"
        sizes: tuple[int, ...] = ()

    with pytest.raises(TypeError, match=r"Wrong\.sizes"):
        Wrong.options()


def test_order_constraints() -> None:
    rows = [Constraint("a", "b", "b spoils a")]
    assert check_order(["a", "b", "a"], rows) == []
    assert check_order(["b"], rows) == []
    assert check_order(["b", "a"], rows) == ["'a' must run before 'b': b spoils a"]
    with pytest.raises(ValueError, match="unknown pass 'a'"):
        check_tables({}, rows, OWN)
    wrong = Constraint("pad-rows", "cut-rows", "nothing is left to pad")
    with pytest.raises(ValueError, match="P: 'pad-rows' must run before 'cut-rows': nothing is left to pad"):
        check_tables({"P": "cut-rows{rows=1},pad-rows"}, [wrong], OWN)
    check_tables(PIPELINES, CONSTRAINTS, PASSES)


@pytest.mark.parametrize("kind", PASSES, ids=lambda kind: kind.name)
def test_registered_passes_have_help_and_options_and_a_matching_name(kind: type[Pass]) -> None:
    assert kind.help().endswith(".")
    assert kind.options() is not None
    assert kind.name == "".join(f"-{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("-")
    assert kind.__module__.split(".")[-1] == kind.name.replace("-", "_")
    assert len({p.name for p in PASSES}) == len(PASSES)
