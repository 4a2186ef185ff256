"""Compile a network from Python, run it, compare it with the float model, and keep the program.

python examples/python_api.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import accelc

EXAMPLES = Path(__file__).parent


def main() -> None:
    """Print the accuracy and the largest losses of one network."""
    calibration = np.load(EXAMPLES / "data" / "digits.calibration.npz")
    test = np.load(EXAMPLES / "data" / "digits.test.npz")
    program = accelc.compile(EXAMPLES / "models" / "digits_cnn.onnx", target="tile32", calibration=calibration)

    logits = program.run({"input": test["input"]})["output"]
    print(f"{(logits.argmax(axis=1) == test['labels']).mean():.1%} of {len(logits)} digits are recognised in integers")

    accuracy = program.evaluate({"input": test["input"]}, test["labels"])
    print(f"{accuracy['float']:.1%} in float; {accuracy['flips']} digits change their class")

    report = program.report()
    print(f"{report['cycles']:,} cycles, {report['utilization']:.1%} of the MACs of {report['target']}")
    slowest = max(report["layers"], key=lambda layer: layer["cycles"])
    loss = slowest["losses"][0]
    print(f"slowest layer: {slowest['name']}, {slowest['cycles']:,} cycles, mostly {loss['cause']}")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits_cnn.accel"
        program.save(path)
        again = accelc.load(path).run({"input": test["input"][:8]})["output"]
    print("the saved program gives the same bits:", np.array_equal(again, logits[:8]))


if __name__ == "__main__":
    main()
