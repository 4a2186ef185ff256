"""The example scripts and the README's commands run and say what they promise."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from accelc.compiler.cli import run_cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROMISES = {
    "python_api": ["digits are recognised in integers", "the saved program gives the same bits: True"],
    "custom_pass": ["clamped 4 ReLUs at 0.5", "clamped 4 ReLUs at 6: top-1 9"],
    "custom_target": ["digits_shufflenet   my_tile", "digits_cnn          tile32"],
}


def blocks(language: str) -> list[str]:
    """The code blocks of the README in one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_script_has_a_promise():
    assert sorted(path.stem for path in (ROOT / "examples").glob("*.py")) == sorted(PROMISES)


@pytest.mark.parametrize("name", sorted(PROMISES))
def test_script(name, capsys):
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert [promise for promise in PROMISES[name] if promise not in printed] == []


def test_readme_main_command(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    (command,) = [line for block in blocks("sh") for line in block.splitlines() if "bin/accelc " in line]
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install . && ")
    words = shlex.split(command.split("bin/accelc ")[1])
    assert run_cli(words) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = {line.rstrip() for line in printed.out.splitlines()}
    (excerpt,) = blocks("text")
    assert [line for line in excerpt.splitlines() if line not in lines | {"..."}] == []


def test_readme_python(monkeypatch):
    monkeypatch.chdir(ROOT)
    (block,) = blocks("python")
    names: dict[str, object] = {}
    exec(block, names)
    assert names["logits"].shape == (8, 10)
