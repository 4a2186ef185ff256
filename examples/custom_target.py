"""Describe a machine in a file and compare it with a preset.

python examples/custom_target.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import accelc

EXAMPLES = Path(__file__).parent


def main() -> None:
    """Compile the three networks for both machines and print what each makes of them."""
    calibration = np.load(EXAMPLES / "data" / "digits.calibration.npz")
    print(f"{'network':<20}{'target':<10}{'cycles':>8}{'us':>8}{'useful MACs':>13}  largest loss")
    for model in sorted((EXAMPLES / "models").glob("*.onnx")):
        for target in ("tile32", str(EXAMPLES / "targets" / "my_tile.toml")):
            report = accelc.compile(model, target=target, calibration=calibration).report()
            losses = {cause: cycles for cause, cycles in report["ledger"].items() if cause != "useful_mac"}
            worst = max(losses, key=lambda cause: losses[cause])
            share = losses[worst] / (report["cycles"] * report["blocks"])
            figures = f"{report['cycles']:>8,}{report['seconds'] * 1e6:>8.1f}{report['utilization']:>13.1%}"
            print(f"{model.stem:<20}{report['target']:<10}{figures}  {worst} {share:.0%}")


if __name__ == "__main__":
    main()
