"""What calibration found out, by the names of the ONNX model: kept in a JSON file, and read again in place of data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from ...backends.manifest import Fields
from ...dialects.core.diagnostics import CompileError
from ...dialects.core.files import read_text, write_atomically
from ...dialects.core.operation import Operation, Value
from .ranges import Range
from .statistics import HISTOGRAM_BINS, TensorStatistics

FORMAT = "accelc calibration 2"
MOST_COUNTED = 2**62


@dataclass(frozen=True)
class CalibratedTensor:
    """A tensor's statistics, the range it has been given, and the method that this came from."""

    statistics: TensorStatistics
    range: Range
    method: str


@dataclass
class CalibrationTable:
    """Every calibrated tensor by `tensor_names`, and how many samples were seen.

    `factors` are those by which `equalize-channels` has divided the channels, empty where it has not: the ranges are
    those of the network after it.
    """

    samples: int = 0
    tensors: dict[str, CalibratedTensor] = field(default_factory=dict[str, CalibratedTensor])
    factors: tuple[float, ...] = ()

    def save(self, path: Path) -> None:
        """Write a JSON file, whole or not at all; CompileError if it cannot be written."""
        head = {"format": FORMAT, "samples": self.samples, "factors": list(self.factors)}
        lines = [f"{_json(name)}: {_json(_written(tensor))}" for name, tensor in self.tensors.items()]
        text = "{" + _json(head)[1:-1] + ', "tensors": {\n' + ",\n".join(lines) + "\n}}\n"
        write_atomically(path, lambda file: file.write(text.encode()))


def load_table(path: Path) -> CalibrationTable:
    """Read what `CalibrationTable.save` wrote; CompileError names the file and the field that is wrong."""
    text = read_text(path)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CompileError(f"{path}: not valid JSON: {error}; expected a file of --save-calibration") from None
    if not isinstance(data, dict) or "format" not in data:
        raise CompileError(f"{path}: not a calibration file, expected one of --save-calibration")
    fields = Fields(data, "", str(path))
    fields.text("format", (FORMAT,))
    tensors = fields.object("tensors")
    table = CalibrationTable(
        samples=fields.integer("samples", 1, MOST_COUNTED),
        tensors={name: _read(tensors.object(name)) for name in tensors.data},
        factors=tuple(_numbers(fields, "factors")),
    )
    if any(not factor > 0.0 for factor in table.factors):
        fields.fail("factors", "positive numbers")
    fields.finish()
    return table


def tensor_names(values: Iterable[Value[Any]], prologue: Iterable[Operation]) -> dict[Value[Any], str]:
    """The name of each value: an input of the model by its own, a result by the last ONNX node that it comes from.

    Inputs that the operations `prologue` only rearrange keep their names; a name that is taken gets `#2`, `#3`, ...
    """
    rearranged: dict[Value[Any], Value[Any]] = {op.results[0]: op.operands[0] for op in prologue}
    names: dict[Value[Any], str] = {}
    count: dict[str, int] = {}
    for value in values:
        source = value
        while source in rearranged:
            source = rearranged[source]
        op = source.defining_op
        name = str(source.name) if op is None else (*op.location.nodes, op.name)[len(op.location.nodes) - 1]
        count[name] = count.get(name, 0) + 1
        names[value] = name if count[name] == 1 else f"{name}#{count[name]}"
    return names


def _written(tensor: CalibratedTensor) -> dict[str, Any]:
    seen = tensor.statistics
    (occupied,) = np.nonzero(seen.counts)
    first, last = (int(occupied[0]), int(occupied[-1]) + 1) if occupied.size else (0, 0)
    return {
        "method": tensor.method,
        "range": [tensor.range.low, tensor.range.high],
        "limits": [seen.limits.low, seen.limits.high],
        "mean_limits": [seen.mean_limits.low, seen.mean_limits.high],
        "samples": seen.samples,
        "peaks": seen.peaks,
        "radius": seen.radius,
        "first_bin": first,
        "counts": seen.counts[first:last].tolist(),
    }


def _read(fields: Fields) -> CalibratedTensor:
    limits, means, chosen = (_range(fields, key) for key in ("limits", "mean_limits", "range"))
    samples = fields.integer("samples", 0, MOST_COUNTED)
    (radius,) = _numbers(fields, "radius")
    if radius < 0.0 or (radius and math.frexp(radius)[0] != 0.5):
        fields.fail("radius", "0 or a power of two")
    if limits.magnitude > radius:
        fields.fail("radius", "at least the magnitude of the limits")
    first = fields.integer("first_bin", 0, HISTOGRAM_BINS - 1)
    found = fields.integers("counts", None, 0, MOST_COUNTED)
    if first + len(found) > HISTOGRAM_BINS:
        fields.fail("counts", f"at most {HISTOGRAM_BINS - first} counts from bin {first} on")
    counts = np.zeros(HISTOGRAM_BINS, np.int64)
    counts[first : first + len(found)] = found
    seen = TensorStatistics(
        low=limits.low if samples else math.inf,
        high=limits.high if samples else -math.inf,
        low_sum=means.low * samples,
        high_sum=means.high * samples,
        samples=samples,
        peaks=fields.integer("peaks", 0, MOST_COUNTED),
        radius=radius,
        counts=counts,
    )
    tensor = CalibratedTensor(seen, chosen, fields.text("method"))
    fields.finish()
    return tensor


def _range(fields: Fields, key: str) -> Range:
    values = _numbers(fields, key)
    if len(values) != 2 or values[0] > values[1]:
        fields.fail(key, "two numbers, the smaller one first")
    return Range(values[0], values[1])


def _numbers(fields: Fields, key: str) -> list[float]:
    """One finite number or a list of them."""
    value: Any = fields.raw(key)
    values = cast(list[Any], value if isinstance(value, list) else [value])
    if not all(type(value) in (int, float) and abs(value) <= 1e300 for value in values):
        fields.fail(key, "finite numbers")
    return [float(value) for value in values]


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False)
