"""Sequences that are longer than the memory: cut into strips of steps, with the same bits in every form."""

from __future__ import annotations

import pytest
from endtoend.test_operators import agreed
from endtoend.transformers import causal_block, signal_network

from accelc.backends.target import load_target
from accelc.compiler.importer import import_model
from accelc.dialects.core.operation import Module
from accelc.dialects.tile.instruction import InstructionOp
from accelc.passes.framework.environment import Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.pipelines import PIPELINES
from accelc.passes.registry import PASSES

LONG = [
    (tokens, heads, target, level)
    for tokens, heads in ((376, 4), (1024, 4))
    for target in ("tile16", "tile32")
    for level in PIPELINES
]


def test_attention_of_which_the_scores_of_a_head_do_not_fit_twice() -> None:
    """Scores, mask and probabilities of a head take 91 kB each, tile16 has 256 KiB."""
    assert agreed(causal_block(tokens=300, channels=32, heads=2), "O2", "tile16") > 25


def test_a_chain_of_convolutions_over_a_signal_of_which_no_two_layers_fit() -> None:
    """A layer takes 160 kB."""
    assert agreed(signal_network(steps=10000), "O2", "tile16") > 17


@pytest.mark.full
@pytest.mark.parametrize(("tokens", "heads", "target", "level"), LONG)
def test_long_attention_on_all_machines(tokens: int, heads: int, target: str, level: str) -> None:
    assert agreed(causal_block(tokens=tokens, channels=32 * heads, heads=heads), level, target) > 25


@pytest.mark.parametrize("tokens", [1500])
def test_instructions_are_as_many_as_their_work_asks_for(tokens: int) -> None:
    """They are whole strips: none for a step."""
    module = compiled(causal_block(tokens=tokens, channels=64, heads=2), "tile32")
    instructions = [op for op in module.main.body if isinstance(op, InstructionOp)]
    assert len(instructions) < tokens


def compiled(model, target: str) -> Module:
    module = import_model(model)
    PassManager(parse_pipeline(PIPELINES["O1"], PASSES)).run(module, Environment(target=load_target(target)))
    return module
