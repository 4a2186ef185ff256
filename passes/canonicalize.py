"""Brings the tensor graph into a form in which equal things look equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..dialects.core.operation import Module
from .canonical.arithmetic import ARITHMETIC
from .canonical.masking import MASKING
from .canonical.movement import MOVEMENT
from .canonical.normalization import NORMALIZATION
from .canonical.pooling import POOLING
from .canonical.products import PRODUCTS
from .canonical.shuffles import RecogniseShuffle
from .framework.base import Pass
from .framework.environment import Environment
from .framework.rewriting import apply_patterns


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Simplify movement, arithmetic, pooling and products to one form each; recognise shuffles and normalisations.

    After it a reshape-transpose-reshape that shuffles channels is one `nn.permute_channels` on the last axis (between
    layout transposes that `propagate-layouts` removes), with the names of all its ONNX nodes and a remark `shuffle`.
    """

    name: ClassVar[str] = "canonicalize"

    def run(self, module: Module, environment: Environment) -> None:
        apply_patterns(
            module,
            [RecogniseShuffle(environment), *MOVEMENT, *ARITHMETIC, *POOLING, *PRODUCTS, *NORMALIZATION, *MASKING],
        )
