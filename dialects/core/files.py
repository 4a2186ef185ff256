"""IR files: the text in `NAME.air`, elided constants beside it in `NAME.npz`; files appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from .context import Context
from .diagnostics import CompileError
from .operation import Module
from .parser import parse_module
from .printer import ELIDE_ABOVE, elided_constants, print_module
from .types import Array


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Call `write` with a temporary binary file beside `path`, then rename it into place.

    Raises CompileError with the reason if the file cannot be written; nothing is left behind.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent or ".", prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            write(cast(BinaryIO, file))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise CompileError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def write_module(path: Path, module: Module, *, elide_above: int = ELIDE_ABOVE) -> None:
    """Write the text, and beside it the elided constants if there are any."""
    elided = elided_constants(module, elide_above=elide_above)
    if elided:
        stored = {name: _storable(array) for name, array in elided.items()}
        write_atomically(path.with_suffix(".npz"), lambda file: np.savez(file, **cast(Any, stored)))
    text = print_module(module, elide_above=elide_above)
    write_atomically(path, lambda file: file.write(text.encode()))


def read_module(path: Path, context: Context) -> Module:
    """Read IR text and its companion constants; raises CompileError for anything unreadable."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CompileError(f"{path}: cannot be read: {error}") from None
    return parse_module(text, context, file=str(path), constants=read_constants(path))


def read_constants(path: Path) -> dict[str, Array]:
    """The elided constants in the .npz file beside `path`, empty if there is none; CompileError if it is unreadable."""
    companion = path.with_suffix(".npz")
    if not companion.exists():
        return {}
    try:
        with np.load(companion, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CompileError(f"{companion}: cannot be read: {error}") from None


def _storable(array: Array) -> Array:
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array
