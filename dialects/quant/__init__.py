"""The quant dialect: quantized element types, their arithmetic, and the operations that convert between numbers."""

from __future__ import annotations

from ..core.context import Dialect
from .ops import DequantizeOp, LookupOp, QuantizeOp, RequantizeOp
from .types import QuantizedType

QUANT = Dialect("quant", (QuantizeOp, DequantizeOp, RequantizeOp, LookupOp), (QuantizedType,))
