"""The accuracy of programs and of onnxruntime's quantized models on the same samples, row by row."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnxruntime
import rivals
from answers import Answer, Answers, answer, digest, source_digest
from catalogue import NETWORKS
from draws import Drawn, compare_draws, halves
from topologies import TOPOLOGIES, inputs_for, write

from accelc.backends.target import load_target
from accelc.compiler.api import Program
from accelc.compiler.driver import Settings, compile_module, emit
from accelc.compiler.evaluation import run_float
from accelc.compiler.mixed import Goal, explore
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.operation import Module
from accelc.passes.framework.base import Pass
from accelc.passes.framework.pass_manager import Instrumentation
from accelc.passes.quantization.accuracy import paired_interval
from accelc.passes.quantization.measure import expose_logits

MADE_SAMPLES = 200
"""Of a network with random weights: to test on, and at most to calibrate on."""

LIMITS = {"int8": 0.3, "int16": 0.1, "bf16": 0.1}
"""Points of top-1 that a precision may lose; a network may have its own for int8."""


@dataclass
class Row:
    """One variant of one network. `low` and `high` bound `loss`; `limit` is in points, None where there is none.

    `chance` is what noise like this one's costs on average, and its standard deviation: see `answers.Answer`.
    """

    network: str
    variant: str
    top1: float
    loss: float
    low: float
    high: float
    flips: int
    sqnr_db: float | None
    chance: tuple[float, float] | None
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
    drawn: list[Drawn] = []
    kept = Answers(options.cache)
    skipped: dict[str, str] = {}
    print(
        f"{'network':22} {'variant':29} {'top-1':>7} {'loss':>6} {'95 % interval':>16} flips SQNR dB  by chance      s"
    )
    for name in options.networks:
        try:
            with tempfile.TemporaryDirectory() as folder:
                subject = _subject(name, Path(folder), options)
                rows += _network(name, subject, options, kept)
                if options.draws:
                    drawn += _draws(name, subject, options.draws, kept)
        except (CompileError, FileNotFoundError) as error:
            skipped[name] = str(error).splitlines()[0]
            print(f"{name:22} skipped: {skipped[name]}", flush=True)
    missed = [row for row in (*rows, *drawn) if row.verdict not in ("", "yes")]
    for row in missed:
        print(f"missed: {row.network} {row.variant}: {row.verdict}")
    if options.json:
        data = {
            "rows": [asdict(row) for row in rows],
            "draws": [asdict(row) for row in drawn],
            "skipped": skipped,
            "options": _plain(options),
        }
        options.json.write_text(json.dumps(data, indent=1), encoding="utf-8")
    return 1 if missed or not rows else 0


@dataclass(frozen=True)
class Subject:
    """A model with labelled samples and others to calibrate on."""

    path: Path
    samples: np.ndarray
    labels: np.ndarray
    calibration: np.ndarray
    int8_limit: float | None


def _subject(name: str, folder: Path, options: argparse.Namespace) -> Subject:
    if name in TOPOLOGIES:
        path, tested = write(name, folder), inputs_for(name, options.samples or MADE_SAMPLES, 1)
        labels = rivals.answers(path, tested)[0].argmax(axis=1)
        return Subject(path, tested, labels, inputs_for(name, min(options.calibration, MADE_SAMPLES), 2), None)
    network = NETWORKS[name]
    if network.path is None or network.calibration is None or network.test is None:
        raise FileNotFoundError(f"{name} has no labelled samples")
    with np.load(network.test) as test, np.load(network.calibration) as calibration:
        tested, labels = test["input"][: options.samples], test["labels"][: options.samples].reshape(-1)
        return Subject(network.path, tested, labels, calibration["input"][: options.calibration], network.int8_limit)


def _network(name: str, subject: Subject, options: argparse.Namespace, kept: Answers) -> list[Row]:
    labels = subject.labels
    bench = Bench(subject, kept)
    judge = Judge(name, bench.reference, labels)
    rows = [_show(judge.row("float32, onnxruntime", bench.reference))]
    programs: dict[str, np.ndarray] = {}
    for precision in options.precisions:
        try:
            found = bench.program(precision)
        except CompileError as error:
            print(f"{name:22} {precision:29} skipped: {str(error).splitlines()[0]}", flush=True)
            continue
        row = judge.row(precision, found)
        if subject.int8_limit is not None:
            row.limit = subject.int8_limit if precision == "int8" else LIMITS.get(precision)
        within = row.limit is None or row.loss <= row.limit + 1e-9
        row.verdict = "yes" if within else f"loses {row.loss:.2f} points, expected at most {row.limit}"
        programs[precision] = np.asarray(found.classes) == labels
        rows.append(_show(row))
    best: tuple[float, float] = (-1.0, 0.0)
    best_hits: np.ndarray | None = None
    for variant, found in bench.rivals(options.rivals):
        row = judge.row(variant, found)
        rows.append(_show(row))
        if (row.top1, row.sqnr_db or 0.0) > best:
            best, best_hits = (row.top1, row.sqnr_db or 0.0), np.asarray(found.classes) == labels
    if best_hits is not None and "int8" in programs:
        rows.append(_show(_against(name, programs["int8"], best_hits)))
    return rows


def _draws(name: str, subject: Subject, count: int, kept: Answers) -> list[Drawn]:
    """The comparison over `count` random halves of the calibration samples, printed."""
    benches = [Bench(replace(subject, calibration=half), kept) for half in halves(subject.calibration, count)]
    ours = [bench.program("int8") for bench in benches]
    found: dict[str, list[Answer]] = {}
    for bench in benches:
        for variant, rival in bench.rivals("min-max"):
            found.setdefault(variant, []).append(rival)
    signal = benches[0].signal
    return compare_draws(name, benches[0].reference, ours, found, subject.labels, signal)


def _against(name: str, hits: np.ndarray, best: np.ndarray) -> Row:
    low, high = paired_interval(best, hits)
    change = float(hits.mean() - best.mean())
    row = Row(
        network=name,
        variant="int8 less best onnxruntime",
        top1=change,
        loss=-100.0 * change,
        low=-100.0 * high,
        high=-100.0 * low,
        flips=int((hits != best).sum()),
        sqnr_db=None,
        chance=None,
        seconds=0.0,
    )
    row.verdict = "yes" if high >= 0.0 else "worse than onnxruntime beyond the interval"
    return row


class Bench:
    """One network with its samples: measures what is not in `kept`."""

    def __init__(self, subject: Subject, kept: Answers) -> None:
        self._path, self._samples, self._labels = subject.path, subject.samples, subject.labels
        self._calibration, self._kept = subject.calibration, kept
        self._subject = digest(self._path, self._samples, self._labels, onnxruntime.__version__)
        self.reference = kept.get(
            digest(self._subject, "float32"), lambda: self._measured(*self._float, time.perf_counter())
        )

    @cached_property
    def _float(self) -> tuple[np.ndarray, np.ndarray]:
        return rivals.answers(self._path, self._samples)

    @property
    def signal(self) -> float:
        """The mean power of the logits of the float model."""
        return float(np.square(self._float[1]).mean())

    def _measured(self, outputs: np.ndarray, logits: np.ndarray, start: float) -> Answer:
        return answer(outputs, logits, self._float[1], self._labels, start)

    def program(self, precision: str) -> Answer:
        """What the compiled program answers."""

        def make() -> Answer:
            start = time.perf_counter()
            return self._measured(*_program(self._path, precision, self._calibration, self._samples), start)

        return self._kept.get(digest(self._subject, self._calibration, precision, source_digest()), make)

    def rivals(self, wanted: str) -> Iterator[tuple[str, Answer]]:
        """The answers of every wanted variant of onnxruntime."""
        if wanted == "none":
            return
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            for per_channel in (False, True):
                for method in rivals.METHODS if wanted == "all" else ("min-max",):
                    name = f"ort {'channel' if per_channel else 'tensor'}, {method}"
                    key = digest(self._subject, self._calibration, name)
                    yield name, self._kept.get(key, partial(self._rival, place, per_channel, method))

    def _rival(self, place: Path, per_channel: bool, method: str) -> Answer:
        start, ready = time.perf_counter(), place / f"{self._path.stem}.prepared.onnx"
        if not ready.exists():
            ready = rivals.prepared(self._path, place)
        quantized = rivals.quantized(ready, place, self._calibration, per_channel=per_channel, method=method)
        found = self._measured(*rivals.answers(quantized, self._samples), start)
        quantized.unlink()
        return found


class Judge:
    """Compares what a variant answers with the float model and the labels."""

    def __init__(self, network: str, reference: Answer, labels: np.ndarray) -> None:
        self.network, self.labels = network, labels
        self.classes = np.asarray(reference.classes)

    def row(self, variant: str, found: Answer) -> Row:
        """The figures of one variant."""
        classes = np.asarray(found.classes)
        before, after = self.classes == self.labels, classes == self.labels
        low, high = paired_interval(before, after)
        return Row(
            network=self.network,
            variant=variant,
            top1=float(after.mean()),
            loss=100.0 * float(before.mean() - after.mean()),
            low=-100.0 * high,
            high=-100.0 * low,
            flips=int((classes != self.classes).sum()),
            sqnr_db=found.sqnr_db,
            chance=found.chance,
            seconds=found.seconds,
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


def _show(row: Row) -> Row:
    by_chance = "-" if row.chance is None else f"{row.chance[0]:.2f}+-{row.chance[1]:.2f}"
    interval = f"[{row.low:.2f}, {row.high:.2f}]"
    sqnr = "-" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"
    print(
        f"{row.network:22} {row.variant:29} {row.top1:7.2%} {row.loss:6.2f} {interval:>16} {row.flips:5} {sqnr:>7} "
        f"{by_chance:>10} {row.seconds:6.0f}  {row.verdict}",
        flush=True,
    )
    return row


def _plain(options: argparse.Namespace) -> dict[str, object]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
