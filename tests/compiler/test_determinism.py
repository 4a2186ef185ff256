"""The same input gives the same bytes, in every process, under every hash seed, with any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).parents[2] / "examples"
CODE = """
import sys
from accelc.compiler.cli import run_cli
model, data, folder = sys.argv[1:]
common = [model, "-O1", "--calibration-data", data]
dumps = ["--report-json", f"{folder}/report.json", "--print-ir-tree-dir", f"{folder}/tree"]
assert run_cli([*common, "--emit=program", "-o", f"{folder}/model.accel", *dumps]) == 0
assert run_cli([f"{folder}/model.accel", "--emit=asm", "-o", f"{folder}/model.s"]) == 0
"""


def test_equal_bytes_across_processes(tmp_path):
    samples = tmp_path / "samples.npz"
    np.savez(samples, input=np.load(EXAMPLES / "data/digits.calibration.npz")["input"][:16])
    written: list[dict[str, bytes]] = []
    for seed, threads in (("0", "1"), ("271828", "2")):
        folder = tmp_path / seed
        folder.mkdir()
        line = [EXAMPLES / "models/digits_shufflenet.onnx", samples, folder]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OPENBLAS_NUM_THREADS": threads}
        subprocess.run([sys.executable, "-c", CODE, *map(str, line)], check=True, env=environment, timeout=300)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        written.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    first, second = written
    assert len(first) > 15
    assert list(second) == list(first)
    assert [name for name in first if second[name] != first[name]] == []
