"""IR files: the text in `NAME.air`, elided constants beside it in `NAME.npz`; files appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
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

    A link is followed, and what is no file, such as /dev/null, is written to and stays what it is. Raises CompileError
    with the reason if the file cannot be written; nothing is left behind.
    """
    temporary: str | None = None
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open("wb") as device:
                write(device)
            return
        target = Path(os.path.realpath(path))
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            write(cast(BinaryIO, file))
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise CompileError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an .npz file, whole or not at all; equal arrays give equal bytes.

    Unlike numpy.savez it takes any names, `file` among them.
    """

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                # ZipInfo's default date is a constant, so that no clock gets into the file.
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)

    write_atomically(path, write)


IR_VERSION = 1
"""Of the text form and the dialects; goes up when text of the one before reads as something else, or no longer."""

_HEAD = "// accelc IR "


def write_module(path: Path, module: Module, *, elide_above: int = ELIDE_ABOVE) -> None:
    """Write the text, and beside it the elided constants if there are any.

    Raises CompileError if a file cannot be written, or if the one beside it is not the companion of an earlier text.
    """
    elided = elided_constants(module, elide_above=elide_above)
    text = print_module(module, elide_above=elide_above)
    if elided:
        companion = path.with_suffix(".npz")
        if companion == path:
            raise CompileError(f"{path}: cannot be written: its constants take that name, expected one such as .air")
        if companion.exists() and not path.exists():
            raise CompileError(
                f"{path}: cannot be written: its constants would replace {companion}, which belongs to something else"
            )
        stored = {name: _storable(array) for name, array in elided.items()}
        write_npz(companion, stored)
    write_atomically(path, lambda file: file.write(f"{_HEAD}{IR_VERSION}\n{text}".encode()))


def read_module(path: Path, context: Context) -> Module:
    """Read IR text and its companion constants; raises CompileError for anything unreadable."""
    return parse_module(read_text(path), context, file=str(path), constants=read_constants(path))


def read_text(path: Path) -> str:
    """The content of an IR file; CompileError if it cannot be read, is no text, or was written by another version.

    Files that say no version, such as those written by hand, are taken for this one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CompileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise CompileError(f"{path}: not a text file: byte {error.start} is not UTF-8") from None
    version = text.partition("\n")[0].removeprefix(_HEAD) if text.startswith(_HEAD) else str(IR_VERSION)
    if version != str(IR_VERSION):
        found = f"IR version {version}, this version of accelc reads {IR_VERSION}"
        raise CompileError(f"{path}:1:1: written by another version of accelc: {found}; dump it again from the model")
    return text


def read_constants(path: Path) -> dict[str, Array]:
    """The elided constants in the .npz file beside `path`, empty if there is none; CompileError if it is unreadable."""
    companion = path.with_suffix(".npz")
    if not companion.exists():
        return {}
    try:
        data = np.load(companion, allow_pickle=False)
        if isinstance(data, np.lib.npyio.NpzFile):
            with data:
                return {name: data[name] for name in data.files}
    except (OSError, MemoryError) as error:
        raise CompileError(f"{companion}: cannot be read: {error}") from None
    except (ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        raise CompileError(f"{companion}: damaged, or not an .npz file; dump the module again") from None
    raise CompileError(f"{companion}: a single array, expected the constants of {path.name}")


def _storable(array: Array) -> Array:
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array
