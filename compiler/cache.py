"""Whole compilations kept on disk: an entry is a program file, named after a hash of all that it follows from.

Several processes may share a folder: an entry appears whole, by renaming, and one that is damaged counts as absent and
is written again. Nothing is ever deleted here; any entry, and the folder, may be removed at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import ModelProto, TensorProto

from .. import __version__
from ..backends.program import Program, load_program
from ..dialects.core.diagnostics import CompileError
from ..dialects.core.files import write_atomically
from ..dialects.core.types import Array
from ..passes.framework.environment import CalibrationData
from ..passes.framework.pipeline import format_pipeline
from ..passes.registry import PASSES
from .driver import Settings, Source, kind_of, word_for
from .notes import read_notes

SOURCES = (".py", ".lark", ".toml")
SAMPLES = (".npz", ".npy")
WATCHING = ("stop", "verify_each", "instrumentation", "progress")
"""The settings that do not change a program."""


@dataclass(frozen=True)
class Cache:
    """A folder of compiled programs, made for its first entry; None keeps nothing. CompileError if it is a file."""

    folder: Path | None

    def __post_init__(self) -> None:
        if self.folder is not None and os.path.exists(self.folder) and not os.path.isdir(self.folder):
            raise CompileError(f"{self.folder}: cannot be a cache folder: File exists")

    def entry(self, source: Source, settings: Settings) -> Path | None:
        """The file that the program of a compilation is kept in; None where a hash cannot tell what it follows from.

        That is a module, a pass that is not accelc's own, and a compilation that stops before there is a program. What
        cannot be read or has a wrong type has no entry either: to say so is for the compilation.
        """
        own = settings.passes is None or all(type(each) in PASSES for each in settings.passes)
        if self.folder is None or not own or settings.stop is not None:
            return None
        try:
            model = _model(source)
            facts = {
                "versions": [__version__, *(each.__version__ for each in (np, onnx, ml_dtypes))],
                "machine": [platform.machine(), sys.byteorder],
                "compiler": _own_sources(),
                "model": model,
                "name": Path(word_for(source)).stem,
                "settings": {f.name: _content(f.name, getattr(settings, f.name)) for f in fields(settings)},
            }
            name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        except (CompileError, OSError, TypeError, ValueError):
            return None
        return None if model is None else self.folder / f"{name}.accel"

    def find(self, entry: Path | None) -> Program | None:
        """The program of an entry; None if it is absent, unreadable or damaged."""
        try:
            if entry is None or not entry.is_file():
                return None
            program = load_program(entry)
            read_notes(program)
        except (CompileError, OSError):
            return None
        return program

    def keep(self, entry: Path | None, program: Program) -> None:
        """Write an entry, whole or not at all; CompileError if that fails."""
        if entry is None:
            return
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CompileError(f"{entry.parent}: cannot be a cache folder: {error.strerror or error}") from None
        data = program.to_bytes()
        write_atomically(entry, lambda file: file.write(data))


@cache
def _own_sources() -> str:
    """A hash of everything that accelc is made of."""
    root = Path(__file__).parents[1]
    floors = ("backends", "compiler", "dialects", "passes")
    files = sorted(path for floor in floors for path in (root / floor).rglob("*") if path.suffix in SOURCES)
    return _together((str(path.relative_to(root)), path.read_bytes()) for path in files)


def _model(source: Source) -> Any:
    """What the model is, by content; None for a module."""
    if isinstance(source, ModelProto):
        return _bytes(source.SerializeToString(deterministic=True))
    if isinstance(source, bytes):
        return _bytes(source)
    if not isinstance(source, (str, Path)):
        return None
    path = Path(source)
    beside = {path.with_suffix(".npz")} if kind_of(path) == "air" else set(_external_files(path))
    return [_file(path), *(_file(each) if each.is_file() else None for each in sorted(beside))]


def _external_files(path: Path) -> Iterator[Path]:
    """The files in which an ONNX model keeps tensors."""
    try:
        data = path.read_bytes()
        if b"location" not in data:  # the key that names such a file
            return
        model = onnx.load_from_string(data)
    except Exception:  # noqa: BLE001 (protobuf raises many kinds; what is wrong with the model is for the importer to say)
        return
    for tensor in _tensors(model):
        for pair in tensor.external_data:
            if pair.key == "location":
                yield path.parent / pair.value


def _tensors(message: Message) -> Iterator[TensorProto]:
    """All tensors of a model, wherever they stand: initializers, attributes, the two parts of a sparse tensor."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in (value,) if isinstance(value, Message) else value:
                yield from _tensors(each)


def _content(name: str, value: Any) -> Any:
    """What a field of the settings comes to: files by what is in them, None for what does not change the program."""
    if name in WATCHING:
        return None
    if name == "target":
        return [value.fingerprint, value.description]
    if name == "passes":
        return None if value is None else format_pipeline(value)
    if name == "calibration":
        return _calibration(value)
    if name == "input_shapes":
        return sorted([each, list(sizes)] for each, sizes in value.items())
    if name == "input_values":
        return sorted([each, str(np.asarray(given).dtype), np.asarray(given).tolist()] for each, given in value.items())
    if name == "load_calibration":
        return None if value is None else _file(Path(value))
    return value if isinstance(value, (str, int)) or value is None else sorted(value)


def _calibration(given: Any) -> Any:
    if given is None:
        return None
    if isinstance(given, CalibrationData):
        return {"checked": _calibration(given.samples)}
    if isinstance(given, Mapping):
        arrays: dict[str, Array] = {str(name): np.asarray(array) for name, array in given.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return [[name, str(a.dtype), list(a.shape), _bytes(a.tobytes())] for name, a in arrays.items()]
    path = Path(given)
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix in SAMPLES)
        return [[each.name, _file(each)] for each in files]
    return _file(path)


def _file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _together(parts: Iterator[tuple[str, bytes]]) -> str:
    return _bytes(json.dumps([[name, _bytes(data)] for name, data in parts]).encode())
