"""How a command ends: its exit status, and one message instead of a traceback, whatever happened."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ..dialects.core.diagnostics import CompileError
from .usage import FAILED, INTERRUPTED, OK, USAGE, UsageError


def exit_status(work: Callable[[], int | None]) -> int:
    """Do the work of a command; returns its exit status: that of `work`, 1, 2 (usage) or 130 (Ctrl-C)."""
    try:
        status = work()
        sys.stdout.flush()
        return status or OK
    except UsageError as error:
        print(error, file=sys.stderr)
        return USAGE
    except CompileError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has what it wants (accelc ... | head). Python must not complain when it flushes at exit.
        _drop_output()
        return OK
    except OSError as error:
        # Files have messages of their own; what is left is standard output on a full disk.
        _drop_output()
        what = error.filename or "standard output"
        print(f"error: {what}: cannot be written: {error.strerror or error}", file=sys.stderr)
        return FAILED
    except MemoryError as error:
        reason = str(error) or "nothing is left"
        print(f"error: not enough memory: {reason[:1].lower()}{reason[1:]}", file=sys.stderr)
        return FAILED


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
