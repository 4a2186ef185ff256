"""Packed parameters that vector instructions read from SRAM: biases, and fixed-point or float32 multipliers."""

from __future__ import annotations

import numpy as np

from ..core.types import Array

RECORD_BYTES = 4


def pack_multipliers(multiplier: Array, shift: Array) -> Array:
    """One 32-bit word a multiplier: bits 0-23 the signed multiplier, bits 24-31 the shift. Returns uint32."""
    words = (np.asarray(multiplier, np.int64) & 0xFFFFFF) | (np.asarray(shift, np.int64) << 24)
    return words.astype("<u4")


def unpack_multipliers(memory: Array, offset: int, count: int) -> tuple[Array, Array]:
    """`count` packed words at a byte offset (on the last axis): signed multipliers and shifts, both int64."""
    words = _words(memory, offset, count, "<u4").astype(np.int64)
    multiplier = words & 0xFFFFFF
    return multiplier - ((multiplier & 0x800000) << 1), words >> 24


def pack_requantization(bias: Array, multiplier: Array, shift: Array, size: int = 8) -> Array:
    """One record of `size` bytes a channel: the bias in 32 (size 8) or 64 bits (size 12), a packed multiplier.

    Returns int8 bytes.
    """
    stored = np.asarray(bias).astype("<i4" if size == 8 else "<i8")
    halves = stored.view("<u4").reshape(*stored.shape, (size - RECORD_BYTES) // 4)
    words = np.concatenate([halves, pack_multipliers(multiplier, shift)[..., None]], axis=-1)
    return words.reshape(-1).view(np.int8)


def unpack_requantization(memory: Array, offset: int, count: int, size: int = 8) -> tuple[Array, Array, Array]:
    """`count` records of `size` bytes at a byte offset: bias, multiplier and shift, each int64 [count]."""
    step = size // RECORD_BYTES
    multiplier, shift = unpack_multipliers(memory, offset, step * count)
    words = _words(memory, offset, step * count, "<i4").astype(np.int64)
    bias = words[..., 0::step]
    if size > 8:
        bias = (bias & 0xFFFFFFFF) | (words[..., 1::step] << 32)
    return bias, multiplier[..., step - 1 :: step], shift[..., step - 1 :: step]


def pack_factors(bias: Array, factor: Array) -> Array:
    """One record of 8 bytes a channel of floats: the bias and the factor, float32. Returns int8 bytes."""
    return np.stack([bias, factor], axis=-1).astype("<f4").reshape(-1).view(np.int8)


def unpack_factors(memory: Array, offset: int, count: int) -> tuple[Array, Array]:
    """`count` records of floats at a byte offset: bias and factor, each float32 [count]."""
    words = unpack_floats(memory, offset, 2 * count)
    return words[..., 0::2], words[..., 1::2]


def unpack_floats(memory: Array, offset: int, count: int) -> Array:
    """`count` float32 words at a byte offset (on the last axis)."""
    return _words(memory, offset, count, "<f4")


def _words(memory: Array, offset: int, count: int, dtype: str) -> Array:
    span = memory[..., offset : offset + RECORD_BYTES * count]
    if span.shape[-1] != RECORD_BYTES * count:
        raise ValueError(f"{count} words at offset {offset} are outside a buffer of {memory.shape[-1]}")
    return np.ascontiguousarray(span).view(dtype)
