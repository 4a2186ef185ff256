"""The nn dialect: the tensor graph of a network, channels last, in float or in quantized integers."""

from __future__ import annotations

from ..core.context import Dialect
from .activation import ClipOp, HardSigmoidOp, HardSwishOp, LeakyReluOp, PReluOp, ReluOp, SigmoidOp, TanhOp
from .cast import CastOp
from .chain import ChainOp
from .comparison import COMPARISONS
from .convolution import Conv2dOp
from .elementwise import AddOp, DivOp, MulOp, SubOp
from .functions import FUNCTIONS
from .indexing import ArgMaxOp, EmbeddingOp
from .layer_normalization import LayerNormOp
from .matmul import MatmulOp
from .movement import ConcatOp, GatherOp, PadOp, PermuteChannelsOp, ReshapeOp, SliceOp, TransposeOp
from .normalization import BatchNormOp, LrnOp
from .onnx import HostOp, OnnxOp
from .pooling import AveragePoolOp, MaxPoolOp
from .reduction import ReduceMeanOp
from .softmax import MaskedSoftmaxOp, SoftmaxOp
from .trigonometry import TRIGONOMETRY

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
        *TRIGONOMETRY,
        *COMPARISONS,
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
        EmbeddingOp,
        ArgMaxOp,
        CastOp,
        OnnxOp,
        HostOp,
    ),
)
