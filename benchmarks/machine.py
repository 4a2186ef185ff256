"""What a measurement depends on, in words: processor, versions, BLAS. Names no person, folder or host."""

from __future__ import annotations

import ctypes
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

import accelc

FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "neon",
    "asimd",
    "asimddp",
    "i8mm",
)
"""The features of a processor that decide how fast BLAS and onnxruntime are."""

CORE_NAME_FUNCTIONS = ("scipy_openblas_get_corename64_", "scipy_openblas_get_corename", "openblas_get_corename")


def describe(pinned: str) -> dict[str, str]:
    """The surroundings of a run, name by name; `pinned` says how it was kept on one core."""
    facts = _processor_facts()
    flags = facts.get("flags", facts.get("Features", "")).split()
    model = facts.get("model name", platform.processor() or platform.machine())
    family = facts.get("cpu family")
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "processor": f"{model} (family {family}, model {facts.get('model', '?')})" if family else model,
        "vector instructions": ", ".join(flag for flag in FLAGS if flag in flags) or "unknown",
        "cores": f"{os.cpu_count()}, {pinned}",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": f"{np.__version__} with {blas['name']} {blas.get('version', '')}".strip(),
        "OPENBLAS_CORETYPE": f"{os.environ.get('OPENBLAS_CORETYPE', 'not set')}, kernels in use: {_openblas_core()}",
        **{name: version(name) for name in ("onnx", "onnxruntime")},
        "accelc": accelc.__version__,
        **{name: _version(name) for name in ("numkong", "numba")},
    }


def _version(package: str) -> str:
    """The version of an optional package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor_facts() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def _openblas_core() -> str:
    """The processor whose kernels OpenBLAS chose, as it calls it."""
    core = np._core if hasattr(np, "_core") else np.core
    try:
        library = ctypes.CDLL(core._multiarray_umath.__file__)
    except OSError:
        return "unknown"
    for name in CORE_NAME_FUNCTIONS:
        function = getattr(library, name, None)
        if function is not None:
            function.restype = ctypes.c_char_p
            return function().decode()
    return "unknown"
