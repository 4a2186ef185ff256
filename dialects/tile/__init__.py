"""The tile dialect: buffers, and one operation for every instruction of the machine."""

from __future__ import annotations

from ..core.context import Dialect
from .array import MatmulOp
from .host import CallHostOp
from .indexing import ArgMaxOp, GatherOp
from .instruction import InstructionOp
from .memory import AllocOp, HostReadOp, HostWriteOp, LoadOp, StoreOp
from .movement import FillOp, MoveOp
from .normalization import LayerNormOp, LrnOp, MaskedSoftmaxOp, SoftmaxOp
from .pooling import AveragePoolOp, DepthwiseOp, MaxPoolOp
from .residual import RequantizeAddOp
from .types import BufferType
from .vector import BinaryOp, LookupOp, RequantizeOp, RescaleOp

INSTRUCTIONS: tuple[type[InstructionOp], ...] = (
    LoadOp,
    StoreOp,
    MatmulOp,
    RequantizeOp,
    RequantizeAddOp,
    BinaryOp,
    LookupOp,
    RescaleOp,
    MaxPoolOp,
    AveragePoolOp,
    DepthwiseOp,
    MoveOp,
    FillOp,
    SoftmaxOp,
    LrnOp,
    LayerNormOp,
    MaskedSoftmaxOp,
    GatherOp,
    ArgMaxOp,
    CallHostOp,
)

TILE = Dialect("tile", (AllocOp, HostWriteOp, HostReadOp, *INSTRUCTIONS), (BufferType,))
