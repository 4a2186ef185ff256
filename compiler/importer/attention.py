"""Attention of the standard: two products with a softmax between them, head by head."""

from __future__ import annotations

import math

import numpy as np

from ...dialects.nn.activation import TanhOp
from ...dialects.nn.elementwise import AddOp, MulOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import GatherOp
from ...dialects.nn.softmax import SoftmaxOp
from .lowering import Imported, Known, Lowering, Unsupported, shape_of
from .masking import MASKED, finite_mask


def lower_attention(lowering: Lowering) -> Imported:
    """Attention: softmax(scale * Q K^T + mask) V; heads of keys and values may be shared by several queries."""
    node = lowering.node
    if any(node.outputs[1:]):
        raise Unsupported("the outputs present_key, present_value and qk_matmul_output are not supported")
    if lowering.has(4) or lowering.has(5) or lowering.has(6):
        raise Unsupported("past keys and values are not supported")
    for side in ("left_window_size", "right_window_size"):
        if node.integer(side, -1) >= 0:
            raise Unsupported(f"{side} is {node.integer(side, -1)}, windows are not supported: mask what lies outside")
    flat = len(lowering.shape(0)) == 3
    counts = [node.integer(name, 0) for name in ("q_num_heads", "kv_num_heads", "kv_num_heads")]
    query, key, value = (_heads(lowering, index, counts[index]) for index in range(3))
    heads, shared = shape_of(query)[1], shape_of(key)[1]
    if heads % shared:
        raise lowering.error(f"{heads} heads of queries do not share {shared} heads of keys evenly")
    if heads != shared:
        spread = tuple(head // (heads // shared) for head in range(heads))
        key, value = (lowering.emit(GatherOp, each, axis=1, indices=spread) for each in (key, value))
    scale = node.number("scale", 0.0) or 1 / math.sqrt(shape_of(query)[-1])
    scores: Imported = lowering.emit(MatmulOp, query, key, transpose_rhs=True, factor=scale)
    softcap = node.number("softcap", 0.0)
    if softcap:
        inner = lowering.emit(MulOp, scores, Known("softcap.reciprocal", np.array(1 / softcap, np.float32)))
        scores = lowering.emit(MulOp, lowering.emit(TanhOp, inner), Known("softcap", np.array(softcap, np.float32)))
    scores = _masked(lowering, scores)
    weights = lowering.emit(SoftmaxOp, scores, axis=3)
    mixed = lowering.emit(MatmulOp, weights, value)
    if not flat:
        return mixed
    batch, _, rows, width = shape_of(mixed)
    return lowering.reshaped(lowering.transposed(mixed, (0, 2, 1, 3)), (batch, rows, heads * width))


def _heads(lowering: Lowering, index: int, count: int) -> Imported:
    """Input as [batch, heads, rows, width]."""
    data, shape = lowering.input(index), lowering.shape(index)
    if len(shape) == 4:
        return data
    if len(shape) != 3 or count < 1 or shape[2] % count:
        raise lowering.error(f"input {index} has shape {list(shape)}, which does not have {count} heads")
    split = lowering.reshaped(data, (*shape[:2], count, shape[2] // count))
    return lowering.transposed(split, (0, 2, 1, 3))


def _masked(lowering: Lowering, scores: Imported) -> Imported:
    rows, columns = shape_of(scores)[-2:]
    if lowering.has(3):
        mask = lowering.input(3)
        if isinstance(mask, Known) and mask.array.dtype == bool:
            causal = np.tri(rows, columns, dtype=bool) if lowering.node.integer("is_causal", 0) else True
            if not (mask.array & causal).any(axis=-1).all():
                raise Unsupported("a row of the mask lets nothing through, expected one key at least")
            mask = Known(mask.name, np.where(mask.array, np.float32(0), np.float32(MASKED)))
        scores = lowering.emit(AddOp, scores, finite_mask(mask))
    if lowering.node.integer("is_causal", 0):
        causal = np.where(np.tri(rows, columns, dtype=bool), np.float32(0), np.float32(MASKED))
        scores = lowering.emit(AddOp, scores, Known("causal", causal))
    return scores
