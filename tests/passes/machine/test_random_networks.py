"""Random quantized networks on presets and tiny machines: same integers, sound memory, sound order, exact books."""

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from machine.networks import networks
from machine.quantized import QuantizedNetwork
from machine.scheduled import (
    check_addresses,
    check_macs,
    check_order,
    check_tokens,
    completed_before,
    instructions_of,
    run_at_addresses,
)
from machine.targets import targets

from accelc.backends.emitter import emit
from accelc.backends.target import Target
from accelc.backends.timing.duration import instruction_timing, matmul_problem, operand_addresses
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.verifier import verify
from accelc.dialects.tile.array import MatmulOp
from accelc.passes.allocate_banks import AllocateBanks
from accelc.passes.framework.environment import Environment
from accelc.passes.fuse_residuals import FuseResiduals
from accelc.passes.insert_tokens import InsertTokens
from accelc.passes.lower_to_tile import LowerToTile
from accelc.passes.schedule import Schedule
from accelc.passes.split_rows import SplitRows
from accelc.passes.split_stacks import SplitStacks

LONGEST = 1500
"""Instructions of a program that the checkers, which take quadratic time, look at."""

EVERY = 2**30
"""The share of the SRAM, 1/EVERY, from which on a stack of matrices is large, where every one is."""


def compile_and_check(network: QuantizedNetwork, target: Target, effort: int, lookahead: float, share: int) -> bool:
    """Run the passes with all checks; False if the network does not fit, which must be a located error."""
    module, inputs = network.module, network.samples()
    expected = run(module, inputs)
    environment = Environment(target)
    try:
        fused = (FuseResiduals(),) if effort else ()
        for step in (
            LowerToTile(effort),
            *fused,
            SplitStacks(share),
            SplitRows(),
            Schedule(lookahead),
            AllocateBanks(),
            InsertTokens(),
        ):
            step.run(module, environment)
            verify(module)
            if not isinstance(step, InsertTokens):
                assert_same(run(module, inputs), expected, step.name)
    except CompileError as error:
        assert all(diagnostic.location.nodes for diagnostic in error.diagnostics), error
        return False
    check_macs(module)
    assume(len(instructions_of(module)) <= LONGEST)
    check_addresses(module, target)
    before = completed_before(instructions_of(module))
    check_order(module, before)
    check_tokens(module)
    assert_same(run_at_addresses(module, inputs, target), expected, "program order")
    for seed in range(2):
        assert_same(run_at_addresses(module, inputs, target, before, seed), expected, f"order {seed}")
    for op in instructions_of(module):
        instruction_timing(op, target, operand_addresses(op))
        if isinstance(op, MatmulOp):
            assert not (problem := matmul_problem(op, target, operand_addresses(op))), problem
    emit(module, target)
    return True


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], where: str) -> None:
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes(), f"{where}: {name} differs"


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(networks(), targets(), st.integers(0, 2), st.sampled_from([0.0, 1.0]), st.sampled_from([4, EVERY]))
def test_the_passes_keep_results_memory_and_order_sound(
    network: QuantizedNetwork, target: Target, effort: int, lookahead: float, share: int
) -> None:
    compile_and_check(network, target, effort, lookahead, share)
