"""The ways to run a program, by name; this file imports nothing, so that a command line can offer them at once."""

from __future__ import annotations

MODES = ("fast", "plain", "checked")

BF16_SUMS = ("exact", "blas")
"""How products of bfloat16 are added: in the order of the machine, or in that of BLAS."""
