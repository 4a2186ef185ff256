"""All passes, in one explicit list."""

from __future__ import annotations

from .allocate_banks import AllocateBanks
from .canonicalize import Canonicalize
from .correct_bias import CorrectBias
from .eliminate_common_subexpressions import EliminateCommonSubexpressions
from .eliminate_dead_code import EliminateDeadCode
from .equalize_channels import EqualizeChannels
from .fold_batch_norm import FoldBatchNorm
from .fold_constants import FoldConstants
from .fold_qdq import FoldQdq
from .framework.base import Pass
from .fuse_activations import FuseActivations
from .fuse_functions import FuseFunctions
from .fuse_residuals import FuseResiduals
from .insert_bf16 import InsertBf16
from .insert_quantization import InsertQuantization
from .insert_tokens import InsertTokens
from .lower_to_tile import LowerToTile
from .outline_host import OutlineHost
from .pad_channels import PadChannels
from .propagate_layouts import PropagateLayouts
from .rewrite_shuffles import RewriteShuffles
from .round_weights import RoundWeights
from .schedule import Schedule
from .split_rows import SplitRows
from .split_stacks import SplitStacks

PASSES: tuple[type[Pass], ...] = (
    Canonicalize,
    FoldConstants,
    FoldQdq,
    PropagateLayouts,
    FoldBatchNorm,
    FuseActivations,
    FuseFunctions,
    EliminateCommonSubexpressions,
    EliminateDeadCode,
    RewriteShuffles,
    OutlineHost,
    EqualizeChannels,
    InsertBf16,
    InsertQuantization,
    RoundWeights,
    CorrectBias,
    PadChannels,
    LowerToTile,
    FuseResiduals,
    SplitStacks,
    SplitRows,
    Schedule,
    AllocateBanks,
    InsertTokens,
)
