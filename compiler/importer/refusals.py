"""Why operators of the standard are refused, in words that say what to do instead."""

from __future__ import annotations

from . import quantized

_CONTROL = "a sequence decides how often it runs: write it as Loop or Scan over a tensor"
_ORDER = "the order of its result depends on the data, which a program with a fixed schedule cannot follow"
_SIZE = "the size of its result depends on the data, a program has fixed sizes"
_SEQUENCE = "sequences and optional values are not supported, only tensors"
_TEXT = "texts are not supported, only numbers"
_RANDOM = "random numbers are not supported: a program gives the same result for the same input"
_PLACE = "it reads or writes at places that depend on the data, which a program with a fixed schedule cannot follow"
_BITS = "bits are not computed at run time, only real numbers and truth values"
_SIGNAL = "signal processing belongs in front of the network: compute it on the host"
_TRAINING = "it belongs to training, a program computes inference"
_DETECTION = "it belongs behind the network: return what it reads, and compute it on the host"
_RARE = "the operator is not supported on activations, only on inputs that are known at import"
_TREES = "it branches on the data, as a program with a fixed schedule cannot: only linear models are supported"
_KERNELS = "it compares with support vectors, which is not supported: only linear models are"
_MAPS = "dictionaries are no tensors: export without it, as skl2onnx does with options={'zipmap': False}"
_IMAGE = "images are not decoded: give the pixels as an array"

_GROUPS: dict[str, str] = {
    _CONTROL: "SequenceMap",
    _SIZE: "Compress NonMaxSuppression NonZero Unique",
    _SEQUENCE: "ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct "
    "SequenceEmpty SequenceErase SequenceInsert SequenceLength SplitToSequence",
    _TEXT: "RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer",
    _RANDOM: "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike",
    _PLACE: "DeformConv GatherElements GatherND GridSample MaxUnpool RotaryEmbedding Scatter ScatterElements ScatterND "
    "TensorScatter",
    _BITS: "BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor IsInf",
    _SIGNAL: "BlackmanWindow DFT HammingWindow HannWindow MelWeightMatrix STFT",
    _TRAINING: "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    _DETECTION: "MaxRoiPool RoiAlign",
    _IMAGE: "ImageDecoder",
    _TREES: "TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor",
    _KERNELS: "SVMClassifier SVMRegressor",
    _MAPS: "CastMap DictVectorizer ZipMap",
    f"{_ORDER}: return what it sorts, and sort on the host": "TopK",
    _RARE: "AffineGrid CausalConvWithState CenterCropPad Col2Im CumProd Det EyeLike FlexAttention GlobalLpPool "
    "Hardmax LinearAttention LpPool Mod Range ReduceProd Shrink SwiGLU",
}

REASONS = {
    **quantized.REASONS,
    **{name: reason for reason, names in _GROUPS.items() for name in names.split()},
}
"""By operator. Those of onnxruntime's own domain are told beside the operators of static quantization."""


FOLDED_ONLY = frozenset(_GROUPS[_RARE].split())
"""Operators whose inputs may turn out to be known once what failed before them is mended."""


def reason_of(op_type: str) -> str:
    """Why an operator that the importer's table does not have is refused."""
    return REASONS.get(op_type, "the operator is not supported")
