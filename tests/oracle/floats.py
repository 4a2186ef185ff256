"""The meaning of every operation on bfloat16, from the numeric contract: float32 arithmetic, one addition at a time.

Arrays hold bfloat16 numbers as float32. Nothing is called that the code under test calls: rounding works on bit
patterns, sums are loops over their terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from itertools import product
from typing import Any

import numpy as np

from accelc.dialects.core.operation import Operation

from .operations import arg_max, attribute, embedding, padded, window_tap

NAN = 0x7FC0
F32 = np.float32


def patterns(reals: np.ndarray) -> np.ndarray:
    """The 16 bits of the nearest numbers, ties to an even pattern; one NaN."""
    bits = np.asarray(reals, F32).view(np.uint32).astype(np.int64)
    high, low = bits >> 16, bits & 0xFFFF
    up = (low > 0x8000) | ((low == 0x8000) & (high % 2 == 1))
    return np.where(np.isnan(reals), NAN, high + up)


def numbers(bits: np.ndarray) -> np.ndarray:
    """The float32 with these upper 16 bits."""
    return (np.asarray(bits, np.int64) << 16).astype(np.uint32).view(F32)


def rank(reals: np.ndarray) -> np.ndarray:
    """Integers that order numbers: magnitudes below NaN's, -0 below +0."""
    bits = patterns(reals)
    return np.where(bits < 0x8000, bits, -(bits - 0x8000) - 1)


def finished(op: Operation, reals: np.ndarray) -> np.ndarray:
    """Rounded, then not below the rounded lower bound and not above the upper one."""
    result = numbers(patterns(reals))
    bounds = [attribute(op, name) if name in op.attribute_fields else None for name in ("clamp_min", "clamp_max")]
    for bound, sign in zip(bounds, (1, -1), strict=True):
        if bound is not None:
            limit = numbers(patterns(np.full(result.shape, bound, F32)))
            result = np.where(sign * rank(result) < sign * rank(limit), limit, result)
    return result


def times(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A product, +0 where the weight is 0."""
    return np.where(weight == 0, F32(0), data * weight).astype(F32)


def added(terms: Iterator[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """One after the other from +0."""
    total = np.zeros(shape, F32)
    for term in terms:
        total = (total + term).astype(F32)
    return total


def along(array: np.ndarray, axis: int) -> np.ndarray:
    """The ordered sum along an axis, which stays."""
    moved = np.moveaxis(array, axis, 0)
    return np.expand_dims(added(iter(moved), moved.shape[1:]), axis)


def biased(op: Operation, total: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """Sums times the factor, plus the bias, rounded."""
    factor = F32(attribute(op, "factor")) if "factor" in op.attribute_fields else F32(1)
    scaled = total * factor
    return finished(op, scaled if bias is None else scaled + bias)


def conv2d(op: Operation, data: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Kernel rows, kernel columns, input channels, in this order."""
    groups, (rows, columns, depth, outputs) = attribute(op, "groups"), weight.shape
    image, own = padded(data, attribute(op, "pads"), 0), outputs // groups

    def terms() -> Iterator[np.ndarray]:
        for row, column, channel in product(range(rows), range(columns), range(depth)):
            pixels = window_tap(op, image, row, column)
            seen = np.repeat(pixels[..., channel::depth], own, axis=-1)
            yield times(seen, weight[row, column, channel])

    return biased(op, added(terms(), op.result.type.shape), bias)


def matmul(op: Operation, lhs: np.ndarray, rhs: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """The elements of a row of the left side in order."""
    right = np.moveaxis(rhs, -1, -2) if attribute(op, "transpose_rhs") else rhs
    pairs = ((lhs[..., k, None], right[..., k, None, :]) for k in range(lhs.shape[-1]))
    return biased(op, added((times(*pair) for pair in pairs), op.result.type.shape), bias)


def binary(operator: Callable[[Any, Any], Any]) -> Callable[..., np.ndarray]:
    """One float32 operation, one rounding."""
    return lambda op, lhs, rhs: finished(op, np.asarray(operator(lhs, rhs)))


def prelu(op: Operation, data: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Numbers from 0 on as they are."""
    return finished(op, np.where(data >= 0, data, data * slope))


def lookup(op: Operation, data: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Sign and exponent choose a page and a base, the mantissa an entry, all in integers of 16 bits."""
    bits = patterns(data)
    segment, place = bits // 128, bits % 128
    return numbers((table[1024 + 128 * table[2 * segment] + place] + table[2 * segment + 1]) % 2**16)


def max_pool(op: Operation, data: np.ndarray) -> np.ndarray:
    """The highest rank of each window."""
    ranks = padded(rank(data), attribute(op, "pads"), -(2**20))
    best = np.full(op.result.type.shape, -(2**20), np.int64)
    for row, column in product(*map(range, attribute(op, "kernel"))):
        best = np.maximum(best, window_tap(op, ranks, row, column))
    return numbers(np.where(best < 0, 0x8000 - best - 1, best))


def average_pool(op: Operation, data: np.ndarray) -> np.ndarray:
    """The ordered sum times the float32 nearest to 1 / count."""
    pads, counted = attribute(op, "pads"), attribute(op, "counted_pads")
    taps = list(product(*map(range, attribute(op, "kernel"))))
    x, inside = padded(data, pads, 0), np.zeros((1, *padded(data, pads, 0).shape[1:3], 1), np.int64)
    top, left = pads[0] - counted[0], pads[1] - counted[1]
    inside[:, top : pads[0] + data.shape[1] + counted[2], left : pads[1] + data.shape[2] + counted[3]] = 1
    counts = sum(window_tap(op, inside, *tap) for tap in taps)
    total = added((window_tap(op, x, *tap) for tap in taps), op.result.type.shape)
    return finished(op, total * (1.0 / np.asarray(counts)).astype(F32))


def reduce_mean(op: Operation, data: np.ndarray) -> np.ndarray:
    """The ordered sum times the float32 nearest to factor / count."""
    axes = attribute(op, "axes")
    kept = [axis for axis in range(data.ndim) if axis not in axes]
    rows = data.transpose(*kept, *axes).reshape(-1, data.size // int(np.prod(op.result.type.shape)))
    factor = F32(attribute(op, "factor") / rows.shape[1])
    return finished(op, along(rows, 1).reshape(op.result.type.shape) * factor)


def softmax(op: Operation, data: np.ndarray, table: np.ndarray) -> np.ndarray:
    """See `masked`."""
    return masked(op, data, np.ones(data.shape, np.int64), table, attribute(op, "axis"))


def masked_softmax(op: Operation, data: np.ndarray, mask: np.ndarray, table: np.ndarray) -> np.ndarray:
    """See `masked`."""
    return masked(op, data, np.broadcast_to(mask, data.shape), table, -1)


def masked(op: Operation, data: np.ndarray, mask: np.ndarray, table: np.ndarray, axis: int) -> np.ndarray:
    """exp(x - maximum) from two entries and a polynomial of the rest, each step float32, then one division."""
    np.testing.assert_array_equal(table, np.append(exponentials(1), exponentials(256)), "softmax table")
    shown = mask != 0
    best = np.where(shown, rank(data), -(2**20)).max(axis=axis, keepdims=True)
    highest = np.where(best == -(2**20), F32(0), numbers(np.where(best < 0, 0x8000 - best - 1, best)))
    d = np.minimum(np.where(shown, highest - data, F32(0)), F32(255))
    steps = np.round(np.nan_to_num(d) * F32(256)).astype(np.int64)
    r = d - steps.astype(F32) / F32(256)
    e = table[steps // 256] * table[256 + steps % 256] * (F32(1) - r * (F32(1) - r * F32(0.5)))
    e = np.where(shown, e, F32(0)).astype(F32)
    total = along(e, axis)
    return finished(op, np.where(total == 0, F32(0), e / np.where(total == 0, F32(1), total)))


def exponentials(parts: int) -> np.ndarray:
    """exp(-i / parts) for i = 0 .. 255, from 40 digits."""
    with localcontext() as context:
        context.prec = 40
        return np.array([float((-Decimal(i) / parts).exp()) for i in range(256)]).astype(F32)


def lrn(op: Operation, data: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The power of bias + alpha / size * squares from a knot, a slope and a factor of the exponent."""
    size, channels = attribute(op, "size"), data.shape[-1]
    np.testing.assert_allclose(table, lrn_table(op), rtol=2.0**-20, err_msg="lrn table")
    before = (size - 1) // 2
    squares = np.pad(data * data, [(0, 0)] * (data.ndim - 1) + [(before, size - 1 - before)])
    total = added((squares[..., first : first + channels] for first in range(size)), data.shape)
    base = np.minimum(table[1] + table[0] * total, np.finfo(F32).max)
    bits = np.where(np.isnan(base), F32(1), base).view(np.uint32).astype(np.int64)
    assert (bits >> 23 > 0).all(), "normal numbers only"
    exponent, mantissa = (bits >> 23) - 126, (bits & 0x7FFFFF).astype(np.int64)
    piece, rest = mantissa >> 16, (mantissa & 0xFFFF).astype(F32) * F32(2.0**-24)
    power = (table[2 + piece] + rest * table[130 + piece]) * table[258 + exponent + 148]
    return finished(op, np.where(np.isnan(base), base, data * power))


def lrn_table(op: Operation) -> np.ndarray:
    """Two factors, 128 knots and slopes of f^-beta, the factors of the exponents -148 to 128."""
    beta = attribute(op, "beta")
    knots = np.array([(0.5 + i / 256) ** -beta for i in range(129)])
    scales = [2.0 ** (-beta * exponent) for exponent in range(-148, 129)]
    front = [attribute(op, "alpha") / attribute(op, "size"), attribute(op, "bias")]
    return np.concatenate([front, knots[:-1], (knots[1:] - knots[:-1]) * 256, scales]).astype(F32)


def layer_norm(op: Operation, data: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Mean, mean square, root, quotient, gain, offset: a float32 each."""
    length = F32(data.shape[-1])
    row = data - along(data, -1) / length if attribute(op, "centred") else data
    square = along(row * row, -1) / length
    return finished(op, row / np.sqrt(square + F32(attribute(op, "epsilon"))) * gain + offset)


def pad(op: Operation, data: np.ndarray) -> np.ndarray:
    """A frame of the rounded number `value`."""
    frame = zip(attribute(op, "low"), attribute(op, "high"), strict=True)
    return np.pad(data, list(frame), constant_values=numbers(patterns(F32(attribute(op, "value")))))


FLOAT_MEANINGS: dict[str, Callable[..., np.ndarray]] = {
    "nn.conv2d": conv2d,
    "nn.matmul": matmul,
    "nn.add": binary(np.add),
    "nn.sub": binary(np.subtract),
    "nn.mul": binary(np.multiply),
    "nn.div": binary(np.divide),
    "nn.prelu": prelu,
    "nn.max_pool": max_pool,
    "nn.average_pool": average_pool,
    "nn.reduce_mean": reduce_mean,
    "nn.softmax": softmax,
    "nn.masked_softmax": masked_softmax,
    "nn.embedding": embedding,
    "nn.arg_max": lambda op, data: arg_max(op, rank(data)),
    "nn.layer_norm": layer_norm,
    "nn.lrn": lrn,
    "nn.pad": pad,
    "quant.lookup": lookup,
    "quant.quantize": lambda op, data: numbers(patterns(data)),
    "quant.dequantize": lambda op, data: data,
}
