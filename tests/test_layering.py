"""The house rules: imports only go down, stay at the top of a file and never run in circles."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("dialects", "backends", "passes", "compiler")  # the ground first
LINE_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name, as `from ..dialects.core import Operation` in `passes/fold.py`."""

    path: Path
    line: int
    importer: str  # passes.fold
    module: str  # dialects.core, or dialects.core.operation where the name is a module
    relative: bool
    star: bool
    local: bool
    typing_only: bool

    def at(self, sentence: str) -> str:
        """The sentence behind the place, as an editor can open it."""
        return f"{self.path.as_posix()}:{self.line}: {sentence}"


class ImportCollector(ast.NodeVisitor):
    """Collects the imports of one module and remembers what encloses them."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root = root
        self.path = path.relative_to(root)
        self.parts = self.path.with_suffix("").parts
        self.local = self.typing_only = False
        self.found: list[Import] = []

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Everything inside a function is local."""
        outer, self.local = self.local, True
        self.generic_visit(node)
        self.local = outer

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_If(self, node: ast.If) -> None:
        """The body of `if TYPE_CHECKING:` never runs."""
        outer, self.typing_only = self.typing_only, ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING"
        for child in node.body:
            self.visit(child)
        self.typing_only = outer
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        """`import accelc.passes` is absolute; a relative one has no such form."""
        for alias in node.names:
            self.add(node, alias.name, relative=False)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Resolve the dots against the place of this file."""
        base = ".".join(self.parts[: len(self.parts) - node.level]) if node.level else ""
        module = ".".join(part for part in (base, node.module) if part)
        for alias in node.names:
            inner = f"{module}.{alias.name}".lstrip(".")
            is_module = node.level > 0 and alias.name != "*" and module_file(self.root, inner) is not None
            self.add(node, inner if is_module else module, relative=node.level > 0, star=alias.name == "*")

    def visit_Call(self, node: ast.Call) -> None:
        """`import_module(".x", __package__)` puts an import off; it still must not close a circle."""
        match node:
            case ast.Call(func=ast.Name("import_module"), args=[ast.Constant(str(name)), *_]) if name[:1] == ".":
                outer, self.local = self.local, False
                self.add(node, ".".join([*self.parts[:-1], name[1:]]), relative=True)
                self.local = outer
        self.generic_visit(node)

    def add(self, node: ast.expr | ast.stmt, module: str, *, relative: bool, star: bool = False) -> None:
        """Record one import."""
        importer = ".".join(self.parts).removesuffix(".__init__")
        self.found.append(
            Import(self.path, node.lineno, importer, module, relative, star, self.local, self.typing_only)
        )


def module_file(root: Path, module: str) -> Path | None:
    """The file that `module` is loaded from, or None where there is none."""
    base = root.joinpath(*module.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


def collect(root: Path) -> list[Import]:
    """Every import of every module on the four floors."""
    found: list[Import] = []
    for floor in FLOORS:
        for path in sorted((root / floor).rglob("*.py")):
            collector = ImportCollector(root, path)
            collector.visit(ast.parse(path.read_text(encoding="utf-8"), path))
            found += collector.found
    return found


def floor_of(module: str) -> int | None:
    """How high a module of ours lies; None for other people's modules and for the root package."""
    name = module.split(".")[0]
    return FLOORS.index(name) if name in FLOORS else None


def upward(imports: list[Import]) -> Iterator[str]:
    """Imports that go up a floor."""
    for item in imports:
        target, own = floor_of(item.module), floor_of(item.importer)
        if item.relative and target is not None and own is not None and target > own:
            yield item.at(f"{FLOORS[own]} must not import {item.module}")


def local(imports: list[Import]) -> Iterator[str]:
    """Imports of our own modules inside a function."""
    for item in imports:
        if item.relative and item.local and not item.typing_only:
            yield item.at(f"move the import of {item.module} to the top of the file")


def star(imports: list[Import]) -> Iterator[str]:
    """Imports that do not say what they import."""
    for item in imports:
        if item.star:
            yield item.at(f"name what is imported from {item.module}")


def absolute(imports: list[Import]) -> Iterator[str]:
    """Imports of our own modules by a name that only an installation provides."""
    for item in imports:
        if not item.relative and item.module.split(".")[0] in ("accelc", *FLOORS):
            yield item.at(f"import {item.module} relatively")


def circular(imports: list[Import]) -> Iterator[str]:
    """Circles of imports that run when the modules are loaded."""
    graph = nx.DiGraph()
    for item in imports:
        if item.relative and not item.typing_only:
            graph.add_edge(item.importer, item.module, item=item)
    for circle in nx.strongly_connected_components(graph):
        for source, target in sorted(graph.subgraph(circle).edges):
            yield graph.edges[source, target]["item"].at(f"{target} imports {source} back")


RULES = (upward, local, star, absolute, circular)


@pytest.mark.parametrize("rule", RULES)
def test_imports(rule):
    assert list(rule(collect(ROOT))) == []


@pytest.mark.parametrize(
    ("rule", "path", "source", "line"),
    [
        (upward, "dialects/bad.py", "import os\nfrom ..passes import good\n", 2),
        (upward, "backends/bad.py", "from ..passes.good import Good\n", 1),
        (upward, "passes/deep/bad.py", "from ...compiler import good\n", 1),
        (local, "passes/bad.py", "def f():\n    from . import good\n", 2),
        (local, "passes/bad.py", "class A:\n    async def f(self):\n        from .good import Good\n", 3),
        (star, "passes/bad.py", "from .good import *\n", 1),
        (star, "passes/bad.py", "from numpy import *\n", 1),
        (absolute, "passes/bad.py", "from accelc.dialects import good\n", 1),
        (absolute, "passes/bad.py", "import accelc.dialects.good as g\n", 1),
        (absolute, "passes/bad.py", "import dialects.good\n", 1),
        (circular, "passes/bad.py", "from . import bad\n", 1),
    ],
)
def test_rule_names_the_place(tmp_path, rule, path, source, line):
    for floor in FLOORS:
        (tmp_path / floor).mkdir()
        (tmp_path / floor / "__init__.py").touch()
        (tmp_path / floor / "good.py").write_text("class Good: ...\n")
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(source)
    messages = list(rule(collect(tmp_path)))
    assert [message.startswith(f"{path}:{line}: ") for message in messages] == [True]


def test_circle_through_two_files(tmp_path):
    (tmp_path / "passes").mkdir()
    (tmp_path / "passes" / "__init__.py").touch()
    (tmp_path / "passes" / "a.py").write_text("from .b import B\n")
    (tmp_path / "passes" / "b.py").write_text("from . import a\n")
    assert list(circular(collect(tmp_path))) == [
        "passes/a.py:1: passes.b imports passes.a back",
        "passes/b.py:1: passes.a imports passes.b back",
    ]
    (tmp_path / "passes" / "b.py").write_text("if TYPE_CHECKING:\n    from . import a\n")
    assert list(circular(collect(tmp_path))) == []


def test_circle_through_a_deferred_import(tmp_path):
    (tmp_path / "passes").mkdir()
    (tmp_path / "passes" / "a.py").write_text("def f():\n    import_module('.b', __package__)\n")
    (tmp_path / "passes" / "b.py").write_text("from .a import f\n")
    messages = list(circular(collect(tmp_path)))
    assert messages[0] == "passes/a.py:2: passes.b imports passes.a back"
    assert list(local(collect(tmp_path))) == []


def test_downward_and_foreign_imports_pass(tmp_path):
    for floor in FLOORS:
        (tmp_path / floor).mkdir()
        (tmp_path / floor / "__init__.py").write_text('"""A floor."""\n')
    source = "import numpy as np\nfrom .. import __version__\nfrom ..dialects import core\nfrom ..backends import isa\n"
    (tmp_path / "passes" / "fold.py").write_text(source)
    imports = collect(tmp_path)
    assert len(imports) == 4
    assert [message for rule in RULES for message in rule(imports)] == []


def test_no_file_is_long():
    folders = (*FLOORS, "tests", "examples", "benchmarks")
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {path: length for path, length in lengths.items() if length > LINE_LIMIT} == {}
