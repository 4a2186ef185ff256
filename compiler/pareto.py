"""The trade-off of mixed precision as text, JSON, CSV and a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.files import write_atomically
from .mixed import TradeOff
from .usage import PARETO_SUFFIXES


def records(found: TradeOff) -> list[dict[str, Any]]:
    """The rows as JSON data; `promoted` are the layers in int16 that `--promote` (or `promoted=`) builds it from."""
    return [
        {
            "promoted": list(row.promoted),
            "loss_points": row.loss,
            "sqnr_db": row.sqnr_db,
            "cycles": row.cycles,
            "energy_pj": row.energy_pj,
            "chosen": row == found.chosen,
        }
        for row in found.rows
    ]


def table(found: TradeOff) -> str:
    """The rows as text, the chosen one marked."""
    base = found.rows[0].cycles
    lines = [f"{'int16 layers':>12}  {'loss':>9}  {'SQNR':>8}  {'cycles':>11}  {'factor':>6}  {'energy':>10}"]
    for row in found.rows:
        energy = "unknown" if row.energy_pj is None else f"{row.energy_pj / 1e6:.3f} uJ"
        loss, noise, factor = f"{row.loss:.2f} pt", f"{row.sqnr_db:.1f} dB", f"{row.cycles / base:.2f}"
        mark = "  <- chosen" if row == found.chosen else ""
        cells = f"{len(row.promoted):12}  {loss:>9}  {noise:>8}  {row.cycles:11,}  {factor:>6}  {energy:>10}"
        lines.append(cells + mark)
    return "\n".join(lines)


def write_pareto(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `records` as the suffix says; CompileError for another suffix, or for a picture without matplotlib."""
    match path.suffix:
        case ".json":
            data = (json.dumps(list(rows), indent=1) + "\n").encode()
        case ".csv":
            data = _csv(rows)
        case ".png":
            data = _picture(rows)
        case suffix:
            raise CompileError(f"{path}: suffix is '{suffix}', expected one of {', '.join(PARETO_SUFFIXES)}")
    write_atomically(path, lambda file: file.write(data))


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0].keys())
    for row in rows:
        writer.writerow({**row, "promoted": "; ".join(row["promoted"])}.values())
    return text.getvalue().encode()


def _picture(rows: Sequence[Mapping[str, Any]]) -> bytes:
    try:
        pictures = import_module("matplotlib.figure")  # an extra, and slow to import
    except ImportError:
        raise CompileError("a picture needs matplotlib; pip install 'accelc[plot]', or write .json or .csv") from None
    figure: Any = pictures.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([row["cycles"] for row in rows], [row["sqnr_db"] for row in rows], marker="o")
    chosen = [row for row in rows if row["chosen"]]
    axes.plot([row["cycles"] for row in chosen], [row["sqnr_db"] for row in chosen], "s", label="chosen")
    axes.set_xlabel("cycles")
    axes.set_ylabel("signal to noise of the outputs (dB)")
    axes.legend()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    return image.getvalue()
