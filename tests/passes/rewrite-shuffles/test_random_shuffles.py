"""Random networks of convolutions and channel movement: same results, and nothing left that an order can absorb."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from accelc.dialects.builtin import ReturnOp
from accelc.dialects.core.diagnostics import Location
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module, Operation, Value
from accelc.dialects.core.types import F32, TensorType
from accelc.dialects.nn.activation import PReluOp, ReluOp
from accelc.dialects.nn.convolution import Conv2dOp
from accelc.dialects.nn.elementwise import AddOp, MulOp
from accelc.dialects.nn.matmul import MatmulOp
from accelc.dialects.nn.movement import ConcatOp, GatherOp, PermuteChannelsOp, ReshapeOp, SliceOp, TransposeOp
from accelc.dialects.nn.normalization import BatchNormOp
from accelc.dialects.nn.pooling import AveragePoolOp
from accelc.dialects.nn.reduction import ReduceMeanOp
from accelc.passes.framework.environment import Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.rewrite_shuffles import RewriteShuffles


class Network:
    """A module under construction; every value is [1, 2, 2, C] and every operation has a name."""

    def __init__(self, channels: int) -> None:
        self.module = Module()
        self.random = np.random.default_rng(channels)
        self.function = self.module.add_function("main", [("input", TensorType((1, 2, 2, channels), F32))])
        self.input: Value[Any] = self.function.arguments[0]
        self.count = 0

    def add(self, op_class: type[Operation], *operands: Value[Any], **attributes: Any) -> Value[Any]:
        self.count += 1
        location = Location((f"{op_class.name}_{self.count}",))
        return self.function.body.append(op_class.build(*operands, location=location, **attributes)).result

    def constant(self, *shape: int) -> Value[Any]:
        return self.module.add_constant("c", self.random.standard_normal(shape).astype(np.float32))

    def conv(self, data: Value[Any], outputs: int, groups: int = 1) -> Value[Any]:
        weight = self.constant(1, 1, data.type.shape[-1] // groups, outputs)
        return self.add(Conv2dOp, data, weight, self.constant(outputs), groups=groups)

    def cut(self, data: Value[Any], start: int, stop: int, step: int = 1) -> Value[Any]:
        bounds = {"starts": (0, 0, 0, start), "stops": (1, 2, 2, stop), "steps": (1, 1, 1, step)}
        return self.add(SliceOp, data, **bounds)

    def lower_rows(self, data: Value[Any]) -> Value[Any]:
        """Rows 1 and 2."""
        stops = (1, 3, 2, data.type.shape[-1])
        return self.add(SliceOp, data, starts=(0, 1, 0, 0), stops=stops, steps=(1, 1, 1, 1))

    def finish(self, *values: Value[Any]) -> Module:
        self.function.body.append(ReturnOp.build(*values))
        self.function.result_types = tuple(value.type for value in values)
        return self.module


def rewritten(module: Module, **options: Any) -> tuple[Module, Environment]:
    """The module after the pass; checks that the outputs are those from before, and that no node name is lost."""
    environment, after = Environment(), module.clone()
    PassManager([RewriteShuffles(**options)]).run(after, environment)
    argument = module.main.arguments[0]
    inputs = {"input": np.random.default_rng(1).standard_normal(argument.type.shape).astype(np.float32)}
    expected, actual = run(module, inputs), run(after, inputs)
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=1e-4, atol=1e-4 * np.abs(array).max(initial=1.0))
    live = {name for op in live_operations(module) for name in op.location.nodes}
    assert live <= {name for op in after.main for name in op.location.nodes}
    return after, environment


def live_operations(module: Module) -> list[Operation]:
    live: set[Operation] = set()
    for op in reversed(module.main.body):
        if isinstance(op, ReturnOp) or any(user in live for result in op.results for user in result.users):
            live.add(op)
    return [op for op in module.main if op in live]


def moves_channels(op: Operation | None) -> bool:
    """Written apart from the code under test: rows are cut and stacked on axis 1 only."""
    if isinstance(op, SliceOp):
        return op.starts[1] == 0
    return (isinstance(op, ConcatOp | GatherOp) and op.axis == 3) or isinstance(op, PermuteChannelsOp)


def movement_of(module: Module) -> list[Operation]:
    return [op for op in module.main if moves_channels(op)]


def count_ranges(module: Module) -> int:
    return sum(len(op.operands) for op in movement_of(module) if isinstance(op, ConcatOp))


def assert_normal(module: Module) -> None:
    """Slices are contiguous and of computed values, concats join those and computed values, permutations are last."""
    for op in movement_of(module):
        makers = [maker for value in op.operands if moves_channels(maker := value.defining_op)]
        if isinstance(op, SliceOp):
            assert op.steps[-1] == 1 and not makers
        elif isinstance(op, ConcatOp):
            assert all(isinstance(maker, SliceOp) for maker in makers)
        else:
            assert isinstance(op, PermuteChannelsOp)
            assert all(isinstance(maker, SliceOp | ConcatOp) for maker in makers)


@st.composite
def movements(draw: st.DrawFn, network: Network, pool: Sequence[Value[Any]]) -> Value[Any]:
    """One more value that moves channels of the values in the pool."""
    value = draw(st.sampled_from(pool))
    length = value.type.shape[-1]
    kind = draw(st.sampled_from(("permute", "slice", "concat", "gather")))
    if kind == "permute":
        return network.add(PermuteChannelsOp, value, permutation=tuple(draw(st.permutations(range(length)))))
    if kind == "slice":
        start = draw(st.integers(0, length - 1))
        return network.cut(value, start, draw(st.integers(start + 1, length)), draw(st.integers(1, 2)))
    if kind == "concat":
        others = draw(st.lists(st.sampled_from(pool), min_size=0, max_size=2))
        return network.add(ConcatOp, value, *others, axis=3)
    indices = draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=6))
    return network.add(GatherOp, value, axis=3, indices=tuple(indices))


@st.composite
def computations(draw: st.DrawFn, network: Network, pool: Sequence[Value[Any]]) -> Value[Any]:
    """One more value that is computed from values in the pool."""
    value = draw(st.sampled_from(pool))
    length = value.type.shape[-1]
    same = [other for other in pool if other.type == value.type]
    groups = draw(st.sampled_from([g for g in range(1, length + 1) if length % g == 0]))
    makers: dict[str, Callable[[], Value[Any]]] = {
        "conv": lambda: network.conv(value, draw(st.integers(1, 8))),
        "grouped": lambda: network.conv(value, groups * draw(st.integers(1, 3)), groups),
        "depthwise": lambda: network.conv(value, length, length),
        "relu": lambda: network.add(ReluOp, value),
        "prelu": lambda: network.add(PReluOp, value, network.constant(length)),
        "pool": lambda: network.add(AveragePoolOp, value, kernel=(1, 1)),
        "mean": lambda: network.add(AddOp, value, network.add(ReduceMeanOp, value, axes=(1, 2))),
        "scale": lambda: network.add(MulOp, value, network.constant(1, 1, length)),
        "norm": lambda: network.add(BatchNormOp, value, *(network.constant(length) for _ in range(3)), ones(length)),
        "add": lambda: network.add(AddOp, value, draw(st.sampled_from(same))),
        "matmul": lambda: network.add(MatmulOp, value, network.constant(length, 4), network.constant(4)),
        "space": lambda: network.add(TransposeOp, value, permutation=(0, 2, 1, 3)),
        "swap": lambda: network.add(ReshapeOp, value, shape=(1, 2, 2, length)),
        "stack": lambda: network.lower_rows(network.add(ConcatOp, value, draw(st.sampled_from(same)), axis=1)),
    }

    def ones(length: int) -> Value[Any]:
        return network.module.add_constant("variance", np.ones(length, np.float32))

    return makers[draw(st.sampled_from(sorted(makers)))]()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_network_keeps_its_meaning_and_becomes_normal(data: st.DataObject) -> None:
    network = Network(data.draw(st.integers(1, 6)))
    pool = [network.input, network.conv(network.input, data.draw(st.integers(1, 8)))]
    for computes in data.draw(st.lists(st.booleans(), min_size=1, max_size=12)):
        small = [value for value in pool if value.type.shape[-1] <= 12]
        source = computations(network, small) if computes else movements(network, small)
        pool.append(data.draw(source))
    results = [pool[-1], *data.draw(st.lists(st.sampled_from(pool[1:]), max_size=1))]
    module = network.finish(*results)
    shuffles = sum(isinstance(op, PermuteChannelsOp | GatherOp) for op in live_operations(module))

    rewritten(module, max_ranges=data.draw(st.integers(1, 4)))  # fewer ranges and more moves mean the same
    after, environment = rewritten(module)

    assert_normal(after)
    assert len(environment.remarks) == shuffles
    again, _ = rewritten(after)
    assert count_ranges(again) <= count_ranges(after)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nothing_is_left_between_two_ungrouped_convolutions(data: st.DataObject) -> None:
    network = Network(3)
    value = network.conv(network.input, data.draw(st.integers(1, 10)))
    for _ in range(data.draw(st.integers(1, 5))):
        length = value.type.shape[-1]
        at = data.draw(st.integers(0, length))
        if 0 < at < length and data.draw(st.booleans()):
            value = network.add(ConcatOp, network.cut(value, at, length), network.cut(value, 0, at), axis=3)
        else:
            value = network.add(PermuteChannelsOp, value, permutation=tuple(data.draw(st.permutations(range(length)))))
            value = network.add(ReluOp, value)
    module = network.finish(network.conv(value, 4))

    after, environment = rewritten(module)

    assert movement_of(after) == []
    assert {remark.data["outcome"] for remark in environment.remarks} <= {"absorbed"}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_channels_that_readers_share_out_are_one_range_each(data: st.DataObject) -> None:
    """Convolutions read disjoint parts of two roots: a part becomes contiguous, so each takes at most two ranges."""
    network = Network(3)
    sizes = data.draw(st.tuples(st.integers(2, 6), st.integers(2, 6)))
    joined = network.add(ConcatOp, *(network.conv(network.input, size) for size in sizes), axis=3)
    order = data.draw(st.permutations(range(sum(sizes))))
    at = data.draw(st.integers(1, sum(sizes) - 1))
    parts = [network.add(GatherOp, joined, axis=3, indices=tuple(part)) for part in (order[:at], order[at:])]
    module = network.finish(*(network.conv(part, 3) for part in parts))

    after, _ = rewritten(module)

    for op in after.main:
        if isinstance(op, ConcatOp):
            assert len(op.operands) == 2


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_limit_on_ranges_leaves_one_permutation_of_contiguous_parts(data: st.DataObject) -> None:
    network = Network(3)
    groups = data.draw(st.integers(2, 4))
    width = groups**2 * data.draw(st.integers(1, 2))
    root = network.conv(network.conv(network.input, width), width, groups)
    shuffled = np.arange(width).reshape(groups, -1).T.reshape(-1)
    permuted = network.add(PermuteChannelsOp, root, permutation=tuple(shuffled.tolist()))
    module = network.finish(network.conv(permuted, width, groups))

    after, environment = rewritten(module, max_ranges=1)
    (remark,) = environment.remarks
    assert [type(op) for op in movement_of(after)] == [PermuteChannelsOp]
    assert (remark.data["outcome"], remark.data["mechanism"]) == ("moved", "moves")

    after, environment = rewritten(module)
    (remark,) = environment.remarks
    assert not any(isinstance(op, PermuteChannelsOp) for op in after.main)
    assert remark.data["ranges"] == groups**2
    assert (remark.data["outcome"], remark.data["groups"]) == ("absorbed", groups)
