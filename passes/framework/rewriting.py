"""Pattern rewriting: small rules applied to a module until none of them applies any more."""

from __future__ import annotations

import types
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

from ...dialects.core.operation import Module, Operation, Pure, Value

OpT = TypeVar("OpT", bound=Operation)
NewOpT = TypeVar("NewOpT", bound=Operation)

REWRITES_PER_OP = 64
"""Rules that apply more often than this, per operation of the module, are taken for a loop."""


class RewritePattern(Generic[OpT]):
    """A rule for operations of class `OpT` (or a union of classes); a subclass is a frozen dataclass.

    Its docstring is the equation; `rewrite` guards first and ends in one replacement.
    """

    op_classes: ClassVar[tuple[type[Operation], ...]] = ()

    def __init_subclass__(cls) -> None:
        """Remember which operation classes `RewritePattern[...]` names, unless the subclass lists them itself."""
        if "op_classes" in cls.__dict__:
            return
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is RewritePattern:
                (argument,) = get_args(base)
                members = get_args(argument) if isinstance(argument, types.UnionType) else (argument,)
                cls.op_classes = tuple(m for m in members if isinstance(m, type))

    def rewrite(self, op: OpT, rewriter: Rewriter) -> None:
        """Change the graph around `op` through `rewriter` only, or return without touching anything."""
        raise NotImplementedError(type(self).__name__)


class Rewriter:
    """Every change a pattern makes. Keeps the worklist, and sees to it that no ONNX node name is lost."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.changes = 0
        self._queue: deque[Operation] = deque()
        self._queued: set[Operation] = set()
        self._names = Counter(name for op in module.walk() for name in op.location.nodes)
        self._heirs: dict[Operation, Operation] = {}

    def insert_before(self, anchor: Operation, op: NewOpT) -> NewOpT:
        """Put a new operation before `anchor`; without a location of its own it takes that of `anchor`."""
        assert anchor.parent is not None
        self._adopt(anchor, op)
        return anchor.parent.insert_before(anchor, op)

    def insert_after(self, anchor: Operation, op: NewOpT) -> NewOpT:
        """Put a new operation after `anchor`; without a location of its own it takes that of `anchor`."""
        assert anchor.parent is not None
        self._adopt(anchor, op)
        return anchor.parent.insert_after(anchor, op)

    def replace(self, op: Operation, replacement: Operation | Value[Any] | Sequence[Value[Any]]) -> None:
        """Let the users of `op` read `replacement` instead, and erase `op`.

        A replacing operation is inserted before `op` if it is nowhere yet, and its location becomes the union of both:
        it now does the work of `op` (and must not read its results). Replacing values only inherit the ONNX node names
        that no other operation bears.
        """
        if isinstance(replacement, Operation):
            if replacement.parent is None:
                self.insert_before(op, replacement)
            self._relocate(replacement, op.location.nodes)
            for new, old in zip(replacement.results, op.results, strict=True):
                new.name = new.name or old.name
            values: Sequence[Value[Any]] = replacement.results
        else:
            values = [replacement] if isinstance(replacement, Value) else replacement
        heirs = [heir for value in values if (heir := value.defining_op) is not None]
        for old, new in zip(op.results, values, strict=True):
            for user in old.users:
                self.enqueue(user)
            old.replace_all_uses_with(new)
        heirs += [user for value in values for user in value.users][: 0 if heirs else 1]
        if heirs:
            self._bequeath(op, heirs[0])
        self.erase(op)

    def erase_unused(self, op: Operation) -> None:
        """Remove an operation that nothing reads any more; what replaced its reader inherits its orphaned names."""
        heir = self._heirs.pop(op, None)
        if heir is not None and heir.parent is not None:
            self._bequeath(op, heir)
        self.erase(op)

    def erase(self, op: Operation) -> None:
        """Remove an operation whose results are unused."""
        self.changes += 1
        for value in op.operands:
            if value.defining_op is not None:
                self.enqueue(value.defining_op)
                self._enqueue_sole_user(value, op)
        self._names.subtract(op.location.nodes)
        op.erase()

    def set_operand(self, op: Operation, index: int, value: Value[Any]) -> None:
        """Let operand `index` of `op` read `value`."""
        before = op.operands[index].defining_op
        op.set_operand(index, value)
        self.notify(op)
        if before is not None:
            self.enqueue(before)

    def merge_location(self, op: Operation, *others: Operation) -> None:
        """Add the ONNX node names of `others` to those of `op`."""
        for other in others:
            self._relocate(op, other.location.nodes)

    def notify(self, op: Operation) -> None:
        """Say that `op` was changed in place (an attribute, a result type)."""
        self.changes += 1
        self.enqueue(op)
        for result in op.results:
            for user in result.users:
                self.enqueue(user)

    def enqueue(self, op: Operation) -> None:
        """Visit `op` (again)."""
        if op not in self._queued:
            self._queued.add(op)
            self._queue.append(op)

    def next_operation(self) -> Operation | None:
        """The next operation to visit that is still in a block."""
        while self._queue:
            op = self._queue.popleft()
            self._queued.discard(op)
            if op.parent is not None:
                return op
        return None

    def _adopt(self, anchor: Operation, op: Operation) -> None:
        if not op.location.nodes:
            op.location = op.location.merged(anchor.location)
        elif op.location.position is None:
            op.location = op.location.merged(type(anchor.location)((), anchor.location.position))
        self._names.update(op.location.nodes)
        self.changes += 1
        self.enqueue(op)

    def _bequeath(self, op: Operation, heir: Operation) -> None:
        """Pass on the names that only `op` bears, and those of the operations that nothing but `op` reads."""
        orphans = [name for name in op.location.nodes if self._names[name] == 1]
        if orphans:
            self._relocate(heir, orphans)
        for value in op.operands:
            producer = value.defining_op
            if producer is not None and producer is not heir and value.has_one_use:
                self._heirs[producer] = heir

    def _relocate(self, op: Operation, nodes: Sequence[str]) -> None:
        self._names.subtract(op.location.nodes)
        op.location = op.location.merged(type(op.location)(tuple(nodes)))
        self._names.update(op.location.nodes)

    def _enqueue_sole_user(self, value: Value[Any], leaving: Operation) -> None:
        users = value.users
        if len(users) == 2:
            self.enqueue(users[0] if users[1] is leaving else users[1])


def apply_patterns(module: Module, patterns: Sequence[RewritePattern[Any]]) -> int:
    """Apply `patterns` (earlier ones first) to every operation until nothing changes; returns how many applied.

    Pure operations that become unused are erased on the way. Raises CompileError naming the busiest pattern if the
    patterns undo each other.
    """
    rewriter = Rewriter(module)
    for op in module.walk():
        rewriter.enqueue(op)
    limit = REWRITES_PER_OP * (16 + sum(1 for _ in module.walk()))
    by_class: dict[type[Operation], tuple[RewritePattern[Any], ...]] = {}
    applied: Counter[str] = Counter()
    while (op := rewriter.next_operation()) is not None:
        if op.results and op.has_trait(Pure) and all(result.is_unused for result in op.results):
            rewriter.erase_unused(op)
            continue
        kind = type(op)
        if kind not in by_class:
            by_class[kind] = tuple(p for p in patterns if issubclass(kind, p.op_classes))
        for pattern in by_class[kind]:
            before = rewriter.changes
            pattern.rewrite(op, rewriter)
            if rewriter.changes != before:
                applied[type(pattern).__name__] += 1
                if op.parent is not None:
                    rewriter.enqueue(op)
                break
        if applied.total() > limit:
            busiest, count = applied.most_common(1)[0]
            raise op.error(
                f"the rewrite patterns do not come to an end: {applied.total()} rewrites, {count} of them by {busiest}"
            )
    return applied.total()
