"""What variants answer to the test samples, kept in a file between runs: only what may have changed is measured."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from accelc.passes.quantization.accuracy import sqnr_db

ROOT = Path(__file__).parents[1]
SOURCES = ("compiler", "passes", "dialects", "backends")

REDISTRIBUTIONS = 200
"""How often errors are given to other samples, with random signs."""


@dataclass(frozen=True)
class Answer:
    """The class of every sample, the noise of the logits, and what noise like this costs on average.

    `chance` is the loss in points, mean and standard deviation, when the same errors fall on other samples: a loss
    that is far from it comes from the errors, one near it from the samples that happen to lie at a border. `noise` is
    the power of the error of each sample's logits.
    """

    classes: list[int]
    sqnr_db: float | None
    chance: tuple[float, float] | None
    seconds: float
    noise: list[float] = field(default_factory=list[float])


class Answers:
    """Answers by key, in the JSON file `path` (None: not kept). A key names everything that an answer depends on."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, dict[str, object]] = {}
        if path is not None and path.exists():
            self._known = json.loads(path.read_text(encoding="utf-8"))

    def get(self, key: str, make: Callable[[], Answer]) -> Answer:
        """The answer that is known, or what `make` measures."""
        if key not in self._known:
            self._known[key] = asdict(make())
            if self._path is not None:
                beside = self._path.with_suffix(".new")
                beside.write_text(json.dumps(self._known), encoding="utf-8")
                beside.replace(self._path)
        found: dict[str, object] = dict(self._known[key])
        chance = found.pop("chance")
        return Answer(**found, chance=None if chance is None else tuple(chance))  # type: ignore[arg-type]


def digest(*parts: object) -> str:
    """A name for everything that `parts` say; files count by their content, arrays by theirs."""
    found = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part.tobytes() if isinstance(part, np.ndarray) else part
        found.update(hashlib.sha256(data if isinstance(data, bytes) else repr(data).encode()).digest())
    return found.hexdigest()[:24]


def source_digest() -> str:
    """A name for the state of the compiler: its sources and targets."""
    files = sorted(file for folder in SOURCES for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".toml"))
    return digest(*(part for file in files for part in (file.relative_to(ROOT).as_posix(), file)))


def answer(outputs: np.ndarray, logits: np.ndarray, reference: np.ndarray, labels: np.ndarray, start: float) -> Answer:
    """Of a variant with these `outputs` and `logits` [N, classes]; `reference` are the logits of the float model."""
    noise = sqnr_db(reference, logits)
    quiet = not np.isfinite(noise)
    return Answer(
        classes=outputs.argmax(axis=1).tolist(),
        sqnr_db=None if quiet else noise,
        chance=None if quiet else chance(reference, logits - reference, labels),
        seconds=time.perf_counter() - start,
        noise=[float(f"{power:.6g}") for power in np.square(logits - reference).mean(axis=1)],
    )


def chance(reference: np.ndarray, errors: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the loss in points when `errors` [N, classes] fall on other samples."""
    random = np.random.default_rng(0)
    before = (reference.argmax(axis=1) == labels).mean()
    losses = []
    for _ in range(REDISTRIBUTIONS):
        moved = errors[random.permutation(len(errors))] * random.choice([-1.0, 1.0], (len(errors), 1))
        losses.append(100.0 * (before - ((reference + moved).argmax(axis=1) == labels).mean()))
    return float(np.mean(losses)), float(np.std(losses))
