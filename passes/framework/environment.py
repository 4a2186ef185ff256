"""What a pass may know besides the module: target, calibration data, precision, and where its remarks go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from ...backends.target import Target
from ...dialects.core.diagnostics import UNKNOWN, CompileError, Location
from ...dialects.core.operation import Module, Operation, Value
from ...dialects.core.types import Array
from ..quantization.calibration_table import CalibrationTable

Advance = Callable[[int], None]
Progress = Callable[[str, int], AbstractContextManager[Advance]]


def silent_progress(title: str, total: int) -> AbstractContextManager[Advance]:
    """A progress bar that nobody sees: `with progress("calibrating", 128) as advance: advance(1)`."""
    return nullcontext(lambda count: None)


@dataclass(frozen=True)
class Remark:
    """What a pass wants a report to say: `kind` is a word such as `applied`, `missed` or `analysis`; `data` is JSON."""

    pass_name: str
    location: Location
    kind: str
    message: str
    data: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        where = f" [{self.location.layer}]" if self.location.nodes else ""
        return f"remark: {self.pass_name}: {self.message}{where}"


@dataclass(frozen=True)
class CalibrationData:
    """Sample inputs by input name; the first axis of every array counts samples, and all arrays hold equally many.

    Raises CompileError if the arrays disagree about the number of samples or hold none.
    """

    samples: Mapping[str, Array]

    def __post_init__(self) -> None:
        counts = {name: len(array) if array.ndim else 0 for name, array in self.samples.items()}
        if len(set(counts.values())) != 1 or 0 in counts.values():
            found = ", ".join(f"'{name}' {count}" for name, count in counts.items()) or "nothing"
            raise CompileError(f"calibration data must hold the same number of samples for every input, found {found}")

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(next(iter(self.samples.values())))

    def batch(self, start: int, size: int) -> dict[str, Array]:
        """Samples start .. start + size - 1 of every input, the last one repeated where the data end."""
        last = self.count - 1
        indices = [min(start + offset, last) for offset in range(size)]
        return {name: array[indices] for name, array in self.samples.items()}


@dataclass
class Baseline:
    """What integers are compared with: `insert-quantization` sets it, passes behind it read it.

    `module` is the float network just before it was quantized; its values and constants bear the names that those of
    the integer network derive from. `calibration` are the samples that decide about numbers, `measured` those that are
    held back to judge the decisions (`quantization.measure.Fidelity`). All are None in a pipeline that starts behind
    (`is_known` is False), and where a quantized model left nothing to decide.
    """

    is_known: bool = False
    module: Module | None = None
    calibration: CalibrationData | None = None
    measured: CalibrationData | None = None
    table: CalibrationTable | None = None
    """What calibration found out, for `--save-calibration`."""
    factors: tuple[float, ...] = ()
    """By what `equalize-channels` has divided the channels, class by class; empty where it has not."""
    layers: dict[Operation, Operation] = field(default_factory=dict[Operation, Operation])
    """The operation of `module` that each integer convolution or product with constant weights stands for."""
    origins: dict[Value[Any], Operation] = field(default_factory=dict[Value[Any], Operation])
    """The operation of `module` whose result each integer value stands for."""
    judge: object = None
    """What one refinement has measured with, for the next one (`quantization.refinement.Judge`)."""


@dataclass(frozen=True)
class Environment:
    """The surroundings of a pipeline. Remarks are only ever appended.

    `table` holds the results of an earlier calibration, which then take the place of those from `calibration`.
    """

    target: Target | None = None
    calibration: CalibrationData | None = None
    table: CalibrationTable | None = None
    precision: str = "int8"
    promoted: frozenset[str] = frozenset()
    """The layers that work in int16 where the precision is mixed."""
    allow_host: bool = False
    """What has no integer form may run on the host."""
    remarks: list[Remark] = field(default_factory=list[Remark])
    progress: Progress = silent_progress
    baseline: Baseline = field(default_factory=Baseline)

    def remark(self, pass_name: str, kind: str, message: str, *, location: Location = UNKNOWN, **data: Any) -> None:
        """Append one remark."""
        self.remarks.append(Remark(pass_name, location, kind, message, data))

    def require_target(self, pass_name: str) -> Target:
        """The target, or a CompileError saying which pass needs one."""
        if self.target is None:
            raise CompileError(f"pass '{pass_name}' needs a target, expected --target NAME or FILE")
        return self.target
