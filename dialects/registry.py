"""The dialects of accelc in one explicit list, and the context that knows them all."""

from __future__ import annotations

from .builtin import BUILTIN
from .core.context import Context
from .nn import NN
from .quant import QUANT
from .tile import TILE

CONTEXT = Context((BUILTIN, NN, QUANT, TILE))
