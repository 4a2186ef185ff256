"""The ONNX exporter: from integers to QuantizeLinear and DequantizeLinear around float operators."""

from __future__ import annotations

from .exporting import export, export_model

__all__ = ["export", "export_model"]
