"""Text to module: lark reads the uniform syntax, this builds values, operations and located errors from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .context import Context
from .deferred import DeferredModule
from .diagnostics import CompileError, Diagnostic, Location, Position
from .fields import AttributeValue
from .operation import Function, Module, Operation, Value
from .types import Array, ElementType, ScalarType, TensorType, Type

if TYPE_CHECKING:
    import lark
else:
    lark = DeferredModule("lark")

_EXPECTED_WORDS = {
    "VALUE": "%value",
    "SYMBOL": "@symbol",
    "NAME": "name",
    "COLON": "':'",
    "RBRACE": "'}'",
    "LBRACE": "'{'",
    "EQUAL": "'='",
    "COMMA": "','",
    "RPAR": "')'",
    "LPAR": "'('",
    "MORETHAN": "'>'",
    "LESSTHAN": "'<'",
    "RSQB": "']'",
    "LSQB": "'['",
    "SCALAR": "element type",
    "INTEGER": "integer",
    "FLOAT": "number",
    "STRING": "string",
    "TENSOR": "tensor type",
    "DIALECT_NAME": "dialect type",
    "DIMENSION": "dimension",
    "__ANON_0": "'->'",
    "$END": "end of text",
}


INTEGER_DIGITS = 100
"""No integer of the text form is longer; Python refuses to read those of a few thousand digits."""

_Tree = Any
"""A lark tree; its stubs leave the children unknown, and the grammar fixes what they are."""


@dataclass(frozen=True, slots=True)
class _Elided:
    """Marks a constant whose data stands beside the text."""


@dataclass(frozen=True, slots=True)
class _OperationText:
    results: list[lark.Token]
    name: lark.Token
    operands: list[lark.Token]
    attributes: dict[str, AttributeValue]
    operand_types: list[Type]
    result_types: list[Type]
    nodes: tuple[str, ...]


def parse_module(
    text: str, context: Context, *, file: str = "<text>", constants: Mapping[str, Array] | None = None
) -> Module:
    """Parse IR text; `constants` holds the elided arrays by name. Raises CompileError with every place it knows."""
    return _Builder(text, context, file, constants or {}).build()


@cache
def _grammar() -> lark.Lark:
    text = resources.files(__package__ or __name__).joinpath("syntax.lark").read_text(encoding="utf-8")
    return lark.Lark(text, start="module", parser="lalr", lexer="contextual", propagate_positions=True)


class _Builder:
    """One parse: holds the text for carets and collects the errors found while building."""

    def __init__(self, text: str, context: Context, file: str, constants: Mapping[str, Array]) -> None:
        self.text = text
        self.lines = text.rstrip("\n").split("\n")
        self.context = context
        self.file = file
        self.constants = constants
        self.errors: list[Diagnostic] = []
        self.absent: list[lark.Token] = []

    def build(self) -> Module:
        try:
            tree: _Tree = cast(Any, _grammar()).parse(self.text)
            return self._module(tree)
        except lark.UnexpectedInput as error:
            raise CompileError(self._syntax_error(error)) from None
        except RecursionError:
            raise CompileError(f"{self.file}: attributes are nested too deeply to be read") from None

    def _module(self, tree: _Tree) -> Module:
        module = Module()
        for child in tree.children:
            if not isinstance(child, lark.Tree):
                continue
            if child.data == "attributes":
                module.attributes = self._attributes(child)
            elif child.data == "constant":
                self._constant(module, child)
        if self.absent:
            first, *others = self.absent
            more = f", and so is that of {len(others)} more" if others else ""
            note = "a file written with -o or --print-ir-tree-dir has it in an .npz beside it; printed text has not"
            self._fail(first, f"the data of elided constant @{_unquote(first)} is missing beside the text{more}", note)
        for child in tree.children:
            if isinstance(child, lark.Tree) and child.data == "function":
                self._function(module, child)
        if self.errors:
            raise CompileError(self.errors)
        return module

    # places and errors

    def _position(self, line: int, column: int) -> Position:
        return Position(self.file, line, column, self.lines[line - 1] if 0 < line <= len(self.lines) else "")

    def _fail(self, token: lark.Token, message: str, *notes: str) -> None:
        location = Location(position=self._position(token.line or 1, token.column or 1))
        self.errors.append(Diagnostic(message, location, notes))

    def _syntax_error(self, error: lark.UnexpectedInput) -> Diagnostic:
        line, column = max(error.line, 1), max(error.column, 1)
        if isinstance(error, lark.UnexpectedToken):
            token = cast(Any, error).token
            found = "end of text" if token.type == "$END" else repr(str(token))
            if token.type == "$END":
                line, column = max(len(self.lines), 1), len(self.lines[-1]) + 1 if self.lines else 1
            expected = sorted(_EXPECTED_WORDS.get(name, name.lower()) for name in error.accepts or error.expected)
        else:
            found = repr(self.lines[line - 1][column - 1]) if line <= len(self.lines) else "end of text"
            expected = []
            if isinstance(error, lark.UnexpectedCharacters):
                expected = sorted(_EXPECTED_WORDS.get(name, name.lower()) for name in error.allowed or ())
        wanted = f", expected {' or '.join(dict.fromkeys(expected))}" if expected else ""
        return Diagnostic(f"unexpected {found}{wanted}", Location(position=self._position(line, column)))

    # module level

    def _constant(self, module: Module, tree: _Tree) -> None:
        symbol, type_tree, literal = tree.children
        name, type = _unquote(symbol), self._type(type_tree)
        if not isinstance(type, TensorType):
            return self._fail(symbol, f"constant @{name} has type {type}, expected a tensor")
        if name in module.constants:
            return self._fail(symbol, f"constant @{name} is defined twice")
        value: Any = self._literal(literal)
        if isinstance(value, _Elided):
            if name not in self.constants:
                # A stand-in of the right type, so that its uses are no errors of their own.
                self.absent.append(symbol)
                module.add_constant(name, np.zeros(1, type.element.dtype), type)
                return None
            array = self.constants[name]
            if type.element.dtype.name == "bfloat16" and array.dtype == np.uint16:
                array = array.view(type.element.dtype)
            if array.shape != type.shape or array.dtype != type.element.dtype:
                actual = f"{array.dtype}{list(array.shape)}"
                return self._fail(symbol, f"data of constant @{name} is {actual}, expected {type}")
        else:
            values = cast(list[Any], value) if isinstance(value, list) else [value]
            if isinstance(value, list) and len(values) != type.size:
                return self._fail(symbol, f"constant @{name} lists {len(values)} elements, expected {type.size}")
            elements = _elements(values, type.element.dtype)
            if elements is None:
                return self._fail(symbol, f"constant @{name} does not fit {type}")
            try:
                array = np.broadcast_to(elements, (type.size,)).reshape(type.shape).copy()
            except (MemoryError, ValueError):
                return self._fail(symbol, f"constant @{name} of type {type} does not fit into memory")
        module.add_constant(name, array, type)

    def _literal(self, tree: _Tree) -> Any:
        if tree.data == "elided":
            return _Elided()
        if tree.data == "number_list":
            return [self._attribute(child) for child in tree.children if child is not None]
        return self._attribute(tree)

    def _function(self, module: Module, tree: _Tree) -> None:
        children: list[Any] = list(tree.children)
        symbol = cast(lark.Token, children[0])
        trees: list[_Tree] = [child for child in children[1:] if isinstance(child, lark.Tree)]
        name = _unquote(symbol)
        if name in module.functions:
            self._fail(symbol, f"function @{name} is defined twice")
        types = next(self._types(t) for t in trees if t.data == "types")
        attributes = next((self._attributes(t) for t in trees if t.data == "attributes"), None)
        arguments = [t for t in trees if t.data == "argument"]
        function = module.add_function(
            name, [(_unquote(a.children[0]), self._type(a.children[1])) for a in arguments], types, attributes
        )
        function.location = Location(position=self._position(symbol.line or 1, symbol.column or 1))
        scope: dict[str, Value[Any]] = {}
        for argument, value in zip(arguments, function.arguments, strict=True):
            if f"%{value.name}" in scope:
                self._fail(argument.children[0], f"%{value.name} is defined twice")
            scope[f"%{value.name}"] = value
        for child in trees:
            if child.data == "operation":
                self._operation(function, scope, self._operation_text(child))

    def _operation_text(self, tree: _Tree) -> _OperationText:
        results: list[lark.Token] = []
        operands: list[lark.Token] = []
        attributes: dict[str, AttributeValue] = {}
        types: list[list[Type]] = []
        nodes: tuple[str, ...] = ()
        name: lark.Token | None = None
        for child in tree.children:
            if child is None:
                continue
            if isinstance(child, lark.Token):
                name = child
            elif child.data == "results":
                results = cast(list[lark.Token], child.children)
            elif child.data == "operands":
                operands = cast(list[lark.Token], child.children)
            elif child.data == "attributes":
                attributes = self._attributes(child)
            elif child.data == "types":
                types.append(self._types(child))
            else:
                nodes = tuple(json.loads(token) for token in child.children if token is not None)
        assert name is not None
        return _OperationText(results, name, operands, attributes, types[0], types[1], nodes)

    def _operation(self, function: Function, scope: dict[str, Value[Any]], text: _OperationText) -> None:
        operands: list[Value[Any]] = []
        if len(text.operands) != len(text.operand_types):
            counts = f"{len(text.operand_types)} operand types for {len(text.operands)} operands"
            self._fail(text.name, f"'{text.name}': {counts}")
        for token, type in zip(text.operands, text.operand_types, strict=False):
            key = token[0] + _unquote(token)
            value = function.module.constants.get(key[1:]) if key[0] == "@" else scope.get(key)
            if value is None:
                self._fail(token, f"use of undefined {'constant' if key[0] == '@' else 'value'} {key}")
                value = Value[Any](type, key[1:])
            elif value.type != type:
                self._fail(token, f"{token} has type {value.type}, but is used as {type}")
            operands.append(value)
        if text.results and len(text.results) != len(text.result_types):
            self._fail(
                text.name, f"'{text.name}': {len(text.result_types)} result types for {len(text.results)} results"
            )
        op_class = self.context.operations.get(str(text.name))
        if op_class is None:
            near = self.context.similar_operation(str(text.name))
            hint = f"; did you mean '{near}'?" if near else ""
            self._fail(text.name, f"unknown operation '{text.name}'{hint}")
            op_class = Operation
        position = self._position(text.name.line or 1, text.name.column or 1)
        op = op_class(operands, text.result_types, text.attributes, Location(text.nodes, position))
        for token, value in zip(text.results, op.results, strict=False):
            key = "%" + _unquote(token)
            if key in scope:
                self._fail(token, f"{key} is defined twice")
            value.name = None if re.fullmatch("[0-9]+", key[1:]) else key[1:]
            scope[key] = value
        function.body.append(op)

    # attributes and types

    def _attributes(self, tree: _Tree) -> dict[str, AttributeValue]:
        found: dict[str, AttributeValue] = {}
        for entry in tree.children:
            if entry is None:
                continue
            name, value = entry.children
            if str(name) in found:
                self._fail(name, f"attribute '{name}' is given twice")
            found[str(name)] = self._attribute(value)
        return found

    def _attribute(self, tree: _Tree) -> AttributeValue:
        kind = tree.data
        if kind == "number":
            token = cast(lark.Token, tree.children[0])
            return self._integer(token, str(token)) if token.type == "INTEGER" else float(token)
        if kind == "bool":
            return tree.children[0] == "true"
        if kind == "string":
            return json.loads(cast(str, tree.children[0]))
        if kind == "none":
            return None
        if kind == "list":
            return tuple(self._attribute(child) for child in tree.children if child is not None)
        return self._type(tree)

    def _integer(self, token: lark.Token, digits: str) -> int:
        if len(digits) > INTEGER_DIGITS:
            self._fail(token, f"an integer of {len(digits)} digits, expected at most {INTEGER_DIGITS}")
            return 0
        return int(digits)

    def _types(self, tree: _Tree) -> list[Type]:
        return [self._type(child) for child in tree.children if child is not None]

    def _type(self, tree: _Tree) -> Type:
        if tree.data == "scalar":
            return ScalarType(str(tree.children[0]))
        if tree.data == "tensor":
            *dimensions, element = tree.children
            shape = tuple(self._integer(token, token[:-1]) for token in dimensions)
            return TensorType(shape, cast(ElementType, self._type(element)))
        token, *parameters = tree.children
        dialect_name = str(token)[1:]
        for type_class in self.context.types:
            namespace, _, keyword = dialect_name.partition(".")
            if type_class.name == namespace and type_class.accepts(keyword):
                values = [self._parameter(p) for p in parameters if isinstance(p, lark.Tree)]
                try:
                    return type_class.from_parameters(keyword, values)
                except ValueError as error:
                    self._fail(token, f"{token}: {error}")
                    return ScalarType("f32")
        self._fail(token, f"unknown type {token}")
        return ScalarType("f32")

    def _parameter(self, tree: _Tree) -> int | float | str:
        if tree.data == "keyword_parameter":
            return str(tree.children[0])
        return cast(float, self._attribute(tree.children[0]))


def _elements(values: list[Any], dtype: np.dtype[Any]) -> Array | None:
    """Written numbers as a vector of `dtype`; None if one of them is of another kind or out of range."""
    if dtype.kind == "b":
        return np.array(values, dtype) if all(isinstance(v, bool) for v in values) else None
    if any(isinstance(v, bool) for v in values):
        return None
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        fits = all(isinstance(v, int) and bounds.min <= v <= bounds.max for v in values)
        return np.array(values, dtype) if fits else None
    try:
        wide = np.array(values, np.float64)
    except OverflowError:
        return None
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype)
    return narrow if bool(np.isfinite(narrow).all()) or np.array_equal(np.isinf(wide), np.isinf(narrow)) else None


def _unquote(token: lark.Token | Any) -> str:
    text = str(token)[1:]
    return json.loads(text) if text.startswith('"') else text
