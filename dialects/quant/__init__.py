"""The quant dialect: quantized element types, their arithmetic, and the operations that convert between numbers."""

from __future__ import annotations

from ..core.context import Dialect
from .ops import DequantizeOp, LookupOp, QuantizeOp, RequantizeOp, ScaleOp
from .types import QuantizedType

QUANT = Dialect("quant", (QuantizeOp, DequantizeOp, ScaleOp, RequantizeOp, LookupOp), (QuantizedType,))
