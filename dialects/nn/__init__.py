"""The nn dialect: the tensor graph of a network, channels last, in float or in quantized integers."""

from __future__ import annotations

from ..core.context import Dialect
from .activation import ClipOp, HardSigmoidOp, HardSwishOp, LeakyReluOp, PReluOp, ReluOp, SigmoidOp, TanhOp
from .chain import ChainOp
from .convolution import Conv2dOp
from .elementwise import AddOp, DivOp, MulOp, SubOp
from .functions import FUNCTIONS
from .layer_normalization import LayerNormOp
from .matmul import MatmulOp
from .movement import ConcatOp, GatherOp, PadOp, PermuteChannelsOp, ReshapeOp, SliceOp, TransposeOp
from .normalization import BatchNormOp, LrnOp
from .onnx import HostOp, OnnxOp
from .pooling import AveragePoolOp, MaxPoolOp
from .reduction import ReduceMeanOp
from .softmax import MaskedSoftmaxOp, SoftmaxOp

NN = Dialect(
    "nn",
    (
        Conv2dOp,
        MatmulOp,
        AddOp,
        SubOp,
        MulOp,
        DivOp,
        ReluOp,
        ClipOp,
        LeakyReluOp,
        SigmoidOp,
        HardSigmoidOp,
        HardSwishOp,
        TanhOp,
        PReluOp,
        *FUNCTIONS,
        ChainOp,
        MaxPoolOp,
        AveragePoolOp,
        ReduceMeanOp,
        BatchNormOp,
        LrnOp,
        LayerNormOp,
        SoftmaxOp,
        MaskedSoftmaxOp,
        ConcatOp,
        SliceOp,
        PadOp,
        GatherOp,
        ReshapeOp,
        TransposeOp,
        PermuteChannelsOp,
        OnnxOp,
        HostOp,
    ),
)
