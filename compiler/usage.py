"""What the commands promise before anything heavy is loaded: exit statuses, choices, defaults."""

from __future__ import annotations

from ..dialects.core.diagnostics import CompileError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses: done, the input is at fault, the command line is at fault, Ctrl-C."""

OPT_LEVELS = (0, 1, 2, 3)
DEFAULT_OPT_LEVEL = 2
PRECISIONS = ("int8", "int16", "int16x8", "bf16", "mixed")
DEFAULT_PRECISION = "int8"
PARETO_SUFFIXES = (".json", ".csv", ".png")


CALIBRATION_METHODS = (
    "auto",
    "min-max",
    "mean-min-max",
    "percentile-99.99",
    "percentile-99.999",
    "mse",
    "entropy",
)


class UsageError(CompileError):
    """The command line contradicts itself: exit status 2."""
