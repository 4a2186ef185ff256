"""Text that a lexer swallows and a reader chokes on: every fault is a located error, never a traceback."""

import pytest

from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.parser import INTEGER_DIGITS, parse_module
from accelc.dialects.core.printer import print_module
from accelc.dialects.registry import CONTEXT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'module {a = "\q"}', "<text>:1:13: error: unexpected '\"'"),
        ('module {a = "\t"}', "<text>:1:13: error: unexpected '\"'"),
        ('func @"\\u12"() -> () {}', "<text>:1:6: error: unexpected '@'"),
        (f"module {{a = {'9' * 5000}}}", "<text>:1:13: error: an integer of 5000 digits, expected at most 100"),
        (f"func @f(%x: tensor<{'9' * 5000}xf32>) -> () {{}}", "<text>:1:20: error: an integer of 5000 digits"),
        ("const @c : tensor<999999999999x999999xi8> = dense<1>", "<text>:1:7: error: constant @c of type"),
        (f"const @c : tensor<{'9' * 90}xi8> = dense<1>", "<text>:1:7: error: constant @c of type"),
        (f"module {{a = {'[' * 3000}{']' * 3000}}}", "error: <text>: attributes are nested too deeply"),
    ],
    ids=lambda value: value[:24],
)
def test_odd_text_is_refused_with_its_place(text, expected):
    with pytest.raises(CompileError) as caught:
        parse_module(text, CONTEXT)
    assert str(caught.value).startswith(expected)


def test_quoted_names_and_long_integers_survive():
    head = f"module {{a = {'9' * INTEGER_DIGITS}}}\n"
    text = head + 'func @"a\\"b\\n"(%"\\u00e9 x": tensor<f32>) -> () {\n  return : () -> ()\n}\n'
    printed = print_module(parse_module(text, CONTEXT))
    assert printed == text.replace("\\u00e9", "é")
