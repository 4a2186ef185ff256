"""The ONNX importer: `import_model`, and the table of the operators it knows."""

from __future__ import annotations

from .importing import import_model
from .refusals import reason_of
from .table import LEARNING_OPERATORS, OPERATORS, RUNTIME_OPERATORS, Operator

__all__ = ["LEARNING_OPERATORS", "OPERATORS", "RUNTIME_OPERATORS", "Operator", "import_model", "reason_of"]
