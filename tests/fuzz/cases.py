"""One case from a kind and a seed: builds its input, runs its check, tells what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import onnx

from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.printer import print_module
from accelc.passes.framework.environment import Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.registry import PASSES

from .comparison import check_network
from .models import check_model, mutated_bytes, mutated_model, serialized
from .networks import random_network
from .programs import check_program, mode_of, mutated_program
from .texts import check_text, derived_text, mutated_text

TEXTS = 30
STAGES = ("", "canonicalize", "canonicalize,fold-constants,propagate-layouts,insert-quantization")


@dataclass(frozen=True)
class Kind:
    """`build` makes the input, as the bytes of a file with `suffix`; `check` tells what became of it."""

    name: str
    suffix: str
    build: Callable[[Random], bytes]
    check: Callable[[bytes, Random], str]


@cache
def original_text(index: int) -> str:
    """The text of a small module: float, canonical, or in integers."""
    random = Random(index)
    while True:
        module = import_model(random_network(random), allow_host=True)
        try:
            PassManager(parse_pipeline(STAGES[index % len(STAGES)], PASSES)).run(module, Environment())
        except CompileError:
            continue
        text = print_module(module, elide_above=1 << 30)
        if len(text) < 8000:
            return text


def _network(data: bytes, random: Random) -> str:
    return check_network(onnx.load_model_from_string(data), random)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("network", "onnx", serialized, _network),
        Kind("model bytes", "onnx", lambda r: mutated_bytes(serialized(r), r), lambda data, _: check_model(data)),
        Kind("model fields", "onnx", mutated_model, lambda data, _: check_model(data)),
        Kind("program", "accel", mutated_program, lambda data, r: check_program(data, mode_of(r))),
        Kind("derived text", "air", lambda r: derived_text(r).encode(), lambda data, _: check_text(data.decode())),
        Kind(
            "changed text",
            "air",
            lambda r: mutated_text(original_text(r.randrange(TEXTS)), r).encode(),
            lambda data, _: check_text(data.decode()),
        ),
    )
}
"""`network` is compared end to end; the others are mutations: refused with a reason, or sound."""

MUTATIONS = tuple(name for name in KINDS if name != "network")


def run_case(kind: Kind, seed: int, keep: Path | None = None) -> str:
    """What became of case `seed`. Where it raises, its input is in `keep`, named after kind and seed."""
    random = Random(f"{kind.name}/{seed}")
    data = kind.build(random)
    try:
        return kind.check(data, random)
    except BaseException:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{kind.name.replace(' ', '-')}-{seed}.{kind.suffix}").write_bytes(data)
        raise
