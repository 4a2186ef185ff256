"""The accuracy of programs and of onnxruntime's quantized models on the same samples, row by row."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import rivals
from catalogue import NETWORKS, Network

from accelc.backends.target import load_target
from accelc.compiler.api import Program
from accelc.compiler.driver import Settings, compile_module, emit
from accelc.compiler.evaluation import run_float
from accelc.compiler.mixed import Goal, explore
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.operation import Module
from accelc.passes.framework.base import Pass
from accelc.passes.framework.pass_manager import Instrumentation
from accelc.passes.quantization.accuracy import paired_interval, sqnr_db
from accelc.passes.quantization.measure import expose_logits

LIMITS = {"int8": 0.3, "int16": 0.1, "bf16": 0.1}
"""Points of top-1 that a precision may lose; a network may have its own for int8."""


@dataclass
class Row:
    """One variant of one network. `low` and `high` bound `loss`; `limit` is in points, None where there is none."""

    network: str
    variant: str
    top1: float
    loss: float
    low: float
    high: float
    flips: int
    sqnr_db: float | None
    seconds: float
    limit: float | None = None
    verdict: str = ""


class KeepIntegers(Instrumentation):
    """Keeps the quantized module as it is before it is lowered."""

    def __init__(self) -> None:
        self.module: Module | None = None

    def before_pass(self, index: int, running: Pass, module: Module) -> None:
        if running.name in ("pad-channels", "lower-to-tile") and self.module is None:
            self.module = module.clone()


def compare(options: argparse.Namespace) -> int:
    """Print the table; 1 if a limit is missed or onnxruntime is better."""
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    print(f"{'network':22} {'variant':29} {'top-1':>7} {'loss':>6} {'95 % interval':>16} {'flips':>5} SQNR dB     s")
    for name in options.networks:
        try:
            rows += _network(name, NETWORKS[name], options)
        except (CompileError, FileNotFoundError) as error:
            skipped[name] = str(error).splitlines()[0]
            print(f"{name:22} skipped: {skipped[name]}", flush=True)
    missed = [row for row in rows if row.verdict not in ("", "yes")]
    for row in missed:
        print(f"missed: {row.network} {row.variant}: {row.verdict}")
    if options.json:
        data = {"rows": [asdict(row) for row in rows], "skipped": skipped, "options": _plain(options)}
        options.json.write_text(json.dumps(data, indent=1), encoding="utf-8")
    return 1 if missed or not rows else 0


def _network(name: str, network: Network, options: argparse.Namespace) -> list[Row]:
    if network.path is None or network.calibration is None or network.test is None:
        raise FileNotFoundError(f"{name} has no labelled samples")
    with np.load(network.test) as test, np.load(network.calibration) as calibration:
        samples, labels = test["input"][: options.samples], test["labels"][: options.samples]
        seen = calibration["input"][: options.calibration]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        outputs, logits = rivals.answers(network.path, samples)
        judge = Judge(name, outputs, logits, labels)
        rows = [_show(judge.row("float32, onnxruntime", outputs, logits, start))]
        programs: dict[str, np.ndarray] = {}
        for precision in options.precisions:
            start = time.perf_counter()
            try:
                found, real = _program(network.path, precision, seen, samples)
            except CompileError as error:
                print(f"{name:22} {precision:29} skipped: {str(error).splitlines()[0]}", flush=True)
                continue
            row = judge.row(precision, found, real, start)
            row.limit = network.int8_limit if precision == "int8" else LIMITS.get(precision)
            within = row.limit is None or row.loss <= row.limit + 1e-9
            row.verdict = "yes" if within else f"loses {row.loss:.2f} points, expected at most {row.limit}"
            programs[precision] = found.argmax(axis=1) == labels
            rows.append(_show(row))
        best: tuple[float, float] = (-1.0, 0.0)
        best_hits: np.ndarray | None = None
        for variant, found, real, begin in _rivals(network.path, Path(folder), seen, samples, options.rivals):
            row = judge.row(variant, found, real, begin)
            rows.append(_show(row))
            if (row.top1, row.sqnr_db or 0.0) > best:
                best, best_hits = (row.top1, row.sqnr_db or 0.0), found.argmax(axis=1) == labels
        if best_hits is not None and "int8" in programs:
            low, high = paired_interval(best_hits, programs["int8"])
            change = float(programs["int8"].mean() - best_hits.mean())
            against = Row(
                network=name,
                variant="int8 less best onnxruntime",
                top1=change,
                loss=-100.0 * change,
                low=-100.0 * high,
                high=-100.0 * low,
                flips=int((programs["int8"] != best_hits).sum()),
                sqnr_db=None,
                seconds=0.0,
            )
            against.verdict = "yes" if high >= 0.0 else "worse than onnxruntime beyond the interval"
            rows.append(_show(against))
    return rows


class Judge:
    """Compares what a variant answers with the float model and the labels."""

    def __init__(self, network: str, outputs: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> None:
        self.network, self.labels, self.logits = network, labels.reshape(-1), logits
        self.classes = outputs.argmax(axis=1)

    def row(self, variant: str, outputs: np.ndarray, logits: np.ndarray, start: float) -> Row:
        """The figures of one variant."""
        classes = outputs.argmax(axis=1)
        before, after = self.classes == self.labels, classes == self.labels
        low, high = paired_interval(before, after)
        sqnr = sqnr_db(self.logits, logits)
        return Row(
            network=self.network,
            variant=variant,
            top1=float(after.mean()),
            loss=100.0 * float(before.mean() - after.mean()),
            low=-100.0 * high,
            high=-100.0 * low,
            flips=int((classes != self.classes).sum()),
            sqnr_db=sqnr if np.isfinite(sqnr) else None,
            seconds=time.perf_counter() - start,
        )


def _program(
    model: Path, precision: str, calibration: np.ndarray, samples: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(outputs, logits) of the compiled program, float64 [N, classes]."""
    keep = KeepIntegers()
    target = load_target("tile32")
    settings = Settings(target, precision=precision, calibration={"input": calibration})
    if precision == "mixed":
        settings = replace(settings, promoted=explore(model, settings, Goal()).chosen.promoted)
    compiled = compile_module(model, replace(settings, instrumentation=[keep]))
    (found,) = Program(emit(compiled)).run({"input": samples}).values()
    assert keep.module is not None
    (real,) = run_float(expose_logits(keep.module), {"input": samples}).values()
    return found.reshape(len(samples), -1).astype(np.float64), real.reshape(len(samples), -1).astype(np.float64)


def _rivals(
    model: Path, folder: Path, calibration: np.ndarray, samples: np.ndarray, wanted: str
) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """(name, outputs, logits, start time) of every wanted variant of onnxruntime."""
    if wanted == "none":
        return
    ready = rivals.prepared(model, folder)
    for per_channel in (False, True):
        for method in rivals.METHODS if wanted == "all" else ("min-max",):
            start = time.perf_counter()
            quantized = rivals.quantized(ready, folder, calibration, per_channel=per_channel, method=method)
            yield f"ort {'channel' if per_channel else 'tensor'}, {method}", *rivals.answers(quantized, samples), start
            quantized.unlink()


def _show(row: Row) -> Row:
    interval = f"[{row.low:.2f}, {row.high:.2f}]"
    sqnr = "-" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"
    print(
        f"{row.network:22} {row.variant:29} {row.top1:7.2%} {row.loss:6.2f} {interval:>16} {row.flips:5} {sqnr:>7} "
        f"{row.seconds:5.0f}  {row.verdict}",
        flush=True,
    )
    return row


def _plain(options: argparse.Namespace) -> dict[str, object]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
