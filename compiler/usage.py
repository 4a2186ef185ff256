"""What the commands promise before anything heavy is loaded: exit statuses, choices, defaults."""

from __future__ import annotations

from ..dialects.core.diagnostics import CompileError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses: done, the input is at fault, the command line is at fault, Ctrl-C."""

OPT_LEVELS = (0, 1, 2, 3)
DEFAULT_OPT_LEVEL = 2
PRECISIONS = ("int8", "int16", "int16x8")


class UsageError(CompileError):
    """The command line contradicts itself: exit status 2."""
