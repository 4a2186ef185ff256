"""The large transformer is written beside its weights, compiled from there, and measured."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from large_models import write_transformer
from reference import assert_close, random_inputs, reference_outputs

from accelc.compiler.importer import import_model
from accelc.dialects.core.interpreter import run

ROOT = Path(__file__).parents[1]


def test_weights_in_external_data_are_mapped_and_exact(tmp_path):
    path = tmp_path / "small.onnx"
    assert write_transformer(path, 1, 16, 3) == 12 * 16**2
    module = import_model(path)
    mapped = [each for each in module.constants.values() if isinstance(_owner(each.array), np.memmap)]
    assert len(mapped) == 6, "no matrix is copied by the import"
    inputs = random_inputs(module)
    assert_close(run(module, inputs), reference_outputs(path, inputs))


def _owner(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def test_the_table_has_a_row_for_every_depth():
    command = [sys.executable, "benchmarks/large_models.py", "--hidden", "32", "--layers", "1", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [["1", "12,288"], ["2", "24,576"]]
