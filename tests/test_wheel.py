"""The wheel installs `accelc` and nothing else, and leaves no file of the four folders behind."""

import importlib.util
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("backends", "compiler", "dialects", "passes")
ROOT_FILES = ("LICENSE", "README.md", "__init__.py", "py.typed", "pyproject.toml", "setup.py")
SETUPTOOLS = 77  # the first that reads an SPDX license expression


def shipped(folder: Path) -> set[str]:
    """The files that belong into the wheel: all but caches and what an editor leaves."""
    return {
        path.relative_to(folder.parent).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what the build reads, so that the build folder lands there and an old one is not picked up."""
    copy = tmp_path_factory.mktemp("wheel") / "source"
    copy.mkdir()
    for name in ROOT_FILES:
        shutil.copy(ROOT / name, copy)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return copy


@pytest.fixture(scope="module")
def names(source):
    """The names of all files in the wheel."""
    if importlib.util.find_spec("setuptools") is None or int(version("setuptools").split(".")[0]) < SETUPTOOLS:
        pytest.skip(f"building without network access needs setuptools >= {SETUPTOOLS} in this environment")
    target = source.parent / "dist"
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", target, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = target.iterdir()
    return set(ZipFile(wheel).namelist())


def test_top_level_names(names):
    package, metadata = sorted({name.split("/")[0] for name in names}, key=len)
    assert package == "accelc"
    assert fnmatch(metadata, "accelc-*.dist-info")


def test_root_package_holds_three_things(names):
    own = {name.split("/")[1] for name in names if name.startswith("accelc/")}
    assert own == {"__init__.py", "py.typed", *FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_is_inside(source, names, folder):
    expected = {f"accelc/{name}" for name in shipped(source / folder)}
    inside = {name for name in names if name.startswith(f"accelc/{folder}/")}
    assert inside == expected


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_code_folder_is_a_package(folder):
    holding = {path.parent for path in (ROOT / folder).rglob("*.py")}
    assert sorted(path.relative_to(ROOT).as_posix() for path in holding if not (path / "__init__.py").exists()) == []


def test_commands(names, source):
    (wheel,) = (source.parent / "dist").iterdir()
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    text = ZipFile(wheel).read(entry_points).decode()
    assert "accelc = accelc.compiler.start:accelc" in text
    assert "accelc-opt = accelc.compiler.start:accelc_opt" in text
    assert "accelc-pack = accelc.compiler.start:accelc_pack" in text
