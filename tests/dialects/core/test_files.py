"""Files: whole or not at all, links and devices stay what they are, nobody else's file is replaced."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.files import read_constants, read_module, write_atomically, write_module, write_npz
from accelc.dialects.core.operation import Module
from accelc.dialects.registry import CONTEXT


@pytest.fixture
def module() -> Module:
    module = Module()
    module.add_constant("large", np.arange(100, dtype=np.float32))
    return module


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"old")

    def fail(_: object) -> None:
        raise OSError("full")

    with pytest.raises(CompileError, match="kept: cannot be written: full"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    link.symlink_to(target)
    write_atomically(link, lambda file: file.write(b"new"))
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(pipe, lambda file: file.write(b"new"))
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_constants_replace_only_those_of_the_same_text(tmp_path: Path, module: Module) -> None:
    path, companion = tmp_path / "a.air", tmp_path / "a.npz"
    np.savez(companion, input=np.zeros(3))
    with pytest.raises(CompileError, match=r"a\.air: cannot be written: its constants would replace .*a\.npz"):
        write_module(path, module)
    assert list(read_constants(path)) == ["input"]
    companion.unlink()
    write_module(path, module)
    write_module(path, module)
    assert read_module(path, CONTEXT).constants["large"].array[7] == 7


def test_damaged_constants_are_refused(tmp_path: Path, module: Module) -> None:
    path, companion = tmp_path / "a.air", tmp_path / "a.npz"
    write_module(path, module)
    whole = companion.read_bytes()
    with companion.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(CompileError, match=r"a\.npz: a single array, expected the constants of a\.air"):
        read_constants(path)
    for damaged in (b"", b"text", whole[:200], whole[:150] + b"\xff" + whole[151:]):
        companion.write_bytes(damaged)
        with pytest.raises(CompileError, match=r"a\.npz: damaged, or not an .npz file"):
            read_constants(path)


@pytest.mark.parametrize("name", ["file", "allow_pickle", "a/b.weight", 'a "b"\n'])
def test_constants_may_have_any_name(tmp_path: Path, name: str) -> None:
    module = Module()
    module.add_constant(name, np.arange(100, dtype=np.float32))
    write_module(tmp_path / "a.air", module)
    assert read_module(tmp_path / "a.air", CONTEXT).constants[name].array[7] == 7


def test_equal_arrays_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_npz(tmp_path / name, {"x": np.arange(3), "y": np.ones((2, 2), np.float32)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
