"""Operators of the standard that are refused with a better reason than that nobody has written them."""

from __future__ import annotations

from . import quantized

_ORDER = "the order of its result depends on the data, which a program with a fixed schedule cannot follow"
_SIZE = "the size of its result depends on the data, a program has fixed sizes"
_RECURRENT = "recurrent layers are not supported: export the network unrolled, or one step with its state as input"
_INDEX = "its result is an index, a program returns 8- or 16-bit numbers: take the index of the output on the host"
_SEQUENCE = "sequences and optional values are not supported, only tensors"
_TEXT = "texts are not supported, only numbers"

REASONS = {
    **quantized.REASONS,
    "ArgMax": _INDEX,
    "ArgMin": _INDEX,
    "Compress": _SIZE,
    "GRU": _RECURRENT,
    "LSTM": _RECURRENT,
    "NonMaxSuppression": _SIZE,
    "NonZero": _SIZE,
    "Optional": _SEQUENCE,
    "RNN": _RECURRENT,
    "SequenceConstruct": _SEQUENCE,
    "SequenceEmpty": _SEQUENCE,
    "StringNormalizer": _TEXT,
    "TfIdfVectorizer": _TEXT,
    "TopK": f"{_ORDER}: return what it sorts, and sort on the host",
    "Unique": _SIZE,
}
"""By operator. Those of dynamic quantization are told beside the operators of static quantization."""
