"""Every dump of a whole pipeline parses, verifies, prints again as it was, and computes the same bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from endtoend.agreement import LEVELS, Outputs, machine_start
from endtoend.networks import DIGITS, SHARED_DATA, SMALL_LIGHT, UnavailableError, network
from oracle.execution import execute

from accelc.backends.target import load_target
from accelc.compiler.importer import import_model
from accelc.dialects.core.files import read_module
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.dialects.core.printer import print_module
from accelc.dialects.core.verifier import verify
from accelc.dialects.registry import CONTEXT
from accelc.passes.framework.base import Pass
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.framework.pass_manager import Instrumentation, PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.framework.printing import PrintIr
from accelc.passes.pipelines import PIPELINES
from accelc.passes.registry import PASSES

TRAINED = (*DIGITS, *SHARED_DATA)
TURNS = [
    *((name, LEVELS[row]) for row, name in enumerate(DIGITS)),
    ("resnet8_cifar10", "O3"),
    ("kws_dscnn", "O2"),
]
FULL = [(name, level) for name in (*TRAINED, *SMALL_LIGHT) for level in LEVELS]


@dataclass
class Recording(Instrumentation):
    """What every dumped module prints and computes before it goes to a file, and the oracle's outputs."""

    inputs: Outputs
    machine_start: int
    texts: list[str] = field(default_factory=list)
    outputs: list[Outputs] = field(default_factory=list)
    expected: Outputs = field(default_factory=dict)
    integers_from: int = 0

    def before_pipeline(self, module: Module, environment: Environment) -> None:
        self._record(module)

    def after_pass(self, index: int, running: Pass, module: Module) -> None:
        self._record(module)
        if index + 1 == self.machine_start:
            self.expected, self.integers_from = execute(module, self.inputs), index + 1

    def _record(self, module: Module) -> None:
        self.texts.append(print_module(module))
        self.outputs.append(run(module, self.inputs))


def every_dump_runs(name: str, level: str, target: str, folder: Path) -> None:
    """Dump a pipeline, then read every file back."""
    try:
        given = network(name)
    except UnavailableError as error:
        pytest.skip(str(error))
    passes = parse_pipeline(PIPELINES[level], PASSES)
    recording, dumps = Recording({given.input: given.test[:1]}, machine_start(passes)), PrintIr(tree_dir=folder)
    environment = Environment(load_target(target), CalibrationData({given.input: given.calibration}))
    PassManager(passes, instrumentation=[recording, dumps]).run(import_model(given.model), environment)

    names = ["input", *(each.name for each in passes)]
    assert [path.name for path in dumps.written] == [f"{i:02}-{name}.air" for i, name in enumerate(names)]
    for index, path in enumerate(dumps.written):
        module = read_module(path, CONTEXT)
        verify(module)
        assert print_module(module) == recording.texts[index], path.name
        outputs = run(module, recording.inputs)
        assert same_bits(outputs, recording.outputs[index]), path.name
        assert index < recording.integers_from or same_bits(outputs, recording.expected), path.name


def same_bits(actual: Outputs, expected: Outputs) -> bool:
    """Equal names in equal order, equal types and shapes, equal bytes."""
    return list(actual) == list(expected) and all(
        actual[name].dtype == array.dtype
        and actual[name].shape == array.shape
        and np.ascontiguousarray(actual[name]).tobytes() == np.ascontiguousarray(array).tobytes()
        for name, array in expected.items()
    )


@pytest.mark.parametrize(("name", "level"), TURNS)
def test_every_dump_runs(name: str, level: str, tmp_path: Path) -> None:
    every_dump_runs(name, level, "tile32", tmp_path)


@pytest.mark.full
@pytest.mark.parametrize(("name", "level"), FULL)
def test_every_dump_runs_at_every_level(name: str, level: str, tmp_path: Path) -> None:
    every_dump_runs(name, level, "tile16", tmp_path)
