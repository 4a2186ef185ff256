"""What was measured of one network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stopwatch import Timing


@dataclass
class Row:
    """All that is known of one network. `timings` is by what was measured, in seconds a call or a sample."""

    name: str
    calibrated: int
    batch: int
    timings: dict[str, Timing] = field(default_factory=dict)
    passes: list[tuple[str, float]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    equal: bool = False
    batched_runtime: bool = False

    def seconds(self, name: str) -> float | None:
        """The median of a measurement, None if it was not made."""
        return self.timings[name].seconds if name in self.timings else None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "calibration_samples": self.calibrated,
            "batch": self.batch,
            "onnxruntime_takes_batches": self.batched_runtime,
            "equal_to_interpreter": self.equal,
            "seconds": {name: timing.to_json() for name, timing in self.timings.items()},
            "passes": [{"name": name, "seconds": seconds} for name, seconds in self.passes],
            "report": self.report,
        }
