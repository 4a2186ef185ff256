"""Compiles float ONNX networks to a small-matrix-block accelerator and runs them bit-exactly."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compiler.api import Program, compile, load
    from .dialects.core.diagnostics import CompileError

__version__ = "0.1.0"
__all__ = ["CompileError", "Program", "__version__", "compile", "load"]

_HOMES = {
    "CompileError": ".dialects.core.diagnostics",
    "Program": ".compiler.api",
    "compile": ".compiler.api",
    "load": ".compiler.api",
}


def __getattr__(name: str) -> Any:
    """Import the public name on first use, so that `import accelc` stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
