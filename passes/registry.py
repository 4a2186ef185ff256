"""All passes, in one explicit list."""

from __future__ import annotations

from .framework.base import Pass

PASSES: tuple[type[Pass], ...] = ()
