"""The meaning of every integer operation, from the numeric contract: one function an operation, int64 throughout.

A function takes the operation (its attributes and types are read, nothing of it is called) and int64 arrays of stored
integers. No function uses a float on the way from integers to integers; scales are exact fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from itertools import product
from math import isqrt
from typing import Any

import numpy as np

from accelc.dialects.core.operation import Operation, Value

from .rounding import common_fixed_point, divided, fixed_point, rounded, shifted

Meaning = Callable[..., np.ndarray]


def attribute(op: Operation, name: str) -> Any:
    """An attribute as written, or its declared default."""
    return op.attribute_or_default(name)


def element(value: Value[Any]) -> Any:
    """The element type of a tensor value."""
    return value.type.element


def is_quantized(value: Value[Any]) -> bool:
    """True for `!quant...` elements."""
    return hasattr(element(value), "zero_point")


def zero(value: Value[Any]) -> int:
    """The zero point; plain integers have 0."""
    return element(value).zero_point if is_quantized(value) else 0


def scale(value: Value[Any]) -> Fraction:
    """The scale, exactly."""
    return Fraction(element(value).scale)


def limits(value: Value[Any]) -> tuple[int, int]:
    """The least and the largest stored integer."""
    bounds = np.iinfo(element(value).dtype)
    return int(bounds.min), int(bounds.max)


def stored(value: Value[Any], real: float) -> int:
    """The integer that stands for a real number, within the type; infinities saturate."""
    low, high = limits(value)
    if real in (float("inf"), float("-inf")):
        return high if real > 0 else low
    return min(max(rounded(Fraction(real) / scale(value)) + zero(value), low), high)


def finished(op: Operation, steps: np.ndarray) -> np.ndarray:
    """Steps of the result's scale as stored integers: the zero point, then the range or the fused clamp."""
    low, high = limits(op.result)
    if "clamp_min" in op.attribute_fields:
        least, most = attribute(op, "clamp_min"), attribute(op, "clamp_max")
        low = low if least is None else stored(op.result, least)
        high = high if most is None else stored(op.result, most)
    return np.clip(steps + zero(op.result), low, high)


def conv2d(op: Operation, data: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """sum((x - zero point) * w) + b: one multiplication of the image per tap; padding adds 0."""
    groups = attribute(op, "groups")
    kernel_h, kernel_w, depth, channels = weight.shape
    image = padded(data - zero(op.operands[0]), attribute(op, "pads"), 0)
    image = image.reshape(*image.shape[:3], groups, depth)
    weight = weight.reshape(kernel_h, kernel_w, depth, groups, channels // groups)
    total = np.zeros((*op.result.type.shape[:3], groups, channels // groups), np.int64)
    for row, column in product(range(kernel_h), range(kernel_w)):
        tap = np.ascontiguousarray(weight[row, column].transpose(1, 2, 0))
        pixels = window_tap(op, image, row, column)
        total += np.einsum("nhwgi,goi->nhwgo", np.ascontiguousarray(pixels), tap)
    return accumulated(op, total.reshape(op.result.type.shape), bias)


def matmul(op: Operation, lhs: np.ndarray, rhs: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """The sum over k of (a - its zero point) * (b - its zero point), plus the bias."""
    left, right = lhs - zero(op.operands[0]), rhs - zero(op.operands[1])
    if attribute(op, "transpose_rhs"):
        right = np.moveaxis(right, -1, -2)
    return accumulated(op, np.einsum("...mk,...kn->...mn", left, right), bias)


def accumulated(op: Operation, total: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """The accumulator with its bias; the contract keeps it within 32 bits, or 48 for 16-bit data."""
    if bias is not None:
        total = total + bias
    bits = {"i32": 32, "i64": 48}[str(element(op.result))]
    assert np.abs(total).max(initial=0) < 2 ** (bits - 1), f"an accumulator leaves {bits} bits"
    return total


def requantize(op: Operation, data: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """clip(rint((x - zp_in) * M * 2^-s) + zp_out, low, high), one (M, s) per channel.

    A 48-bit x is first divided by 2^pre_shift and rounded, ties up: the multiplier takes 32 bits.
    """
    assert scales.dtype == np.float32
    drop = 2 ** attribute(op, "pre_shift")
    pairs = [fixed_point(Fraction(float(factor)) * drop) for factor in scales]
    multipliers, shifts = np.array(pairs, np.int64).T
    low, high = limits(op.result)
    least, most = attribute(op, "low"), attribute(op, "high")
    x = (data - zero(op.operands[0]) + drop // 2) // drop
    assert np.abs(x).max(initial=0) < 2**31, "the multiplier takes 32 bits"
    steps = shifted(x * multipliers, shifts)
    return np.clip(steps + zero(op.result), low if least is None else least, high if most is None else most)


def add(op: Operation, lhs: np.ndarray, rhs: np.ndarray, sign: int = 1) -> np.ndarray:
    """Both sides with one common shift, one rounding."""
    first, second = op.operands
    out = scale(op.result)
    (left, right), shift = common_fixed_point([scale(first) / out, scale(second) / out])
    return finished(op, shifted((lhs - zero(first)) * left + sign * (rhs - zero(second)) * right, shift))


def sub(op: Operation, lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    """As `add`, the right side negated."""
    return add(op, lhs, rhs, -1)


def mul(op: Operation, lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    """The exact product, one rounding."""
    first, second = op.operands
    multiplier, shift = fixed_point(scale(first) * scale(second) / scale(op.result))
    return finished(op, shifted((lhs - zero(first)) * (rhs - zero(second)) * multiplier, shift))


def div(op: Operation, lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    """The quotient a * M / (b * 2^s), one rounding; x / 0 saturates by sign, 0 / 0 is 0."""
    first, second = op.operands
    multiplier, shift = fixed_point(scale(first) / (scale(second) * scale(op.result)))
    a, b = np.broadcast_arrays((lhs - zero(first)) * multiplier, rhs - zero(second))
    exact = np.where(b == 0, 1, np.abs(b)).astype(object) * 2**shift  # may need more than 64 bits
    quotient = divided(np.where(b < 0, -a, a).astype(object), exact).astype(np.int64)
    return finished(op, np.where(b == 0, np.sign(a) << 20, quotient))


def prelu(op: Operation, data: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Either x * M or x * M[slope], all with one shift."""
    ratio = scale(op.operands[0]) / scale(op.result)
    slopes = [Fraction(float(value)) * ratio for value in slope.reshape(-1)]
    (positive, *negative), shift = common_fixed_point([ratio, *slopes])
    x = data - zero(op.operands[0])
    below = x * np.array(negative, np.int64).reshape(slope.shape)
    return finished(op, shifted(np.where(x >= 0, x * positive, below), shift))


def lookup(op: Operation, data: np.ndarray, table: np.ndarray) -> np.ndarray:
    """table[q - low]; for 16 bits a straight line between every 128th, rounded to nearest, ties up."""
    place = data - limits(op.operands[0])[0]
    if element(op.operands[0]).dtype.itemsize == 1:
        return table[place]
    knot, rest = place // 128, place % 128
    return (table[knot] * (128 - rest) + table[knot + 1] * rest + 64) // 128


def max_pool(op: Operation, data: np.ndarray) -> np.ndarray:
    """The largest pixel of each window."""
    image = padded(data, attribute(op, "pads"), -(2**62))
    rows, columns = attribute(op, "kernel")
    best = np.full(op.result.type.shape, -(2**62), np.int64)
    for row, column in product(range(rows), range(columns)):
        best = np.maximum(best, window_tap(op, image, row, column))
    return best


def average_pool(op: Operation, data: np.ndarray) -> np.ndarray:
    """sum(x - zp) over the pixels of a window, divided by the taps that lie in the image or its counted frame."""
    pads, counted = attribute(op, "pads"), attribute(op, "counted_pads")
    rows, columns = attribute(op, "kernel")
    x = padded(data - zero(op.operands[0]), pads, 0)
    inside = np.zeros((1, *x.shape[1:3], 1), np.int64)
    height, width = data.shape[1:3]
    top, left = max(pads[0] - counted[0], 0), max(pads[1] - counted[1], 0)
    inside[:, top : pads[0] + height + counted[2], left : pads[1] + width + counted[3]] = 1
    total, counts = np.zeros(op.result.type.shape, np.int64), np.int64(0)
    for row, column in product(range(rows), range(columns)):
        total += window_tap(op, x, row, column)
        counts = counts + window_tap(op, inside, row, column)
    return mean(op, total, np.broadcast_to(counts, total.shape))


def reduce_mean(op: Operation, data: np.ndarray) -> np.ndarray:
    """The exact sum, one rounding."""
    axes = tuple(attribute(op, "axes"))
    total = (data - zero(op.operands[0])).sum(axis=axes, dtype=np.int64).reshape(op.result.type.shape)
    return mean(op, total, np.full(total.shape, data.size // total.size, np.int64))


def mean(op: Operation, total: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums over `counts` elements each, divided and rescaled with one rounding."""
    ratio = scale(op.operands[0]) / scale(op.result)
    if "factor" in op.attribute_fields:
        ratio *= Fraction(attribute(op, "factor"))
    steps = np.zeros_like(total)
    for count in np.unique(counts):
        multiplier, shift = fixed_point(ratio / int(count))
        steps = np.where(counts == count, shifted(total * multiplier, shift), steps)
    return finished(op, steps)


def softmax(op: Operation, data: np.ndarray, table: np.ndarray) -> np.ndarray:
    """256 * e / sum(e) with e = table[maximum - q]; the table itself is compared with decimal arithmetic.

    For 16 bits 2^15 * e / sum(e), where e is the rounded product of an entry for each byte of the distance.
    """
    return masked(op, data, np.ones_like(data), table, attribute(op, "axis"))


def masked_softmax(op: Operation, data: np.ndarray, mask: np.ndarray, table: np.ndarray) -> np.ndarray:
    """As if the hidden elements were not there, and 0 in their place; 0 everywhere if nothing is shown."""
    return masked(op, data, np.broadcast_to(mask, data.shape), table, -1)


def masked(op: Operation, data: np.ndarray, mask: np.ndarray, table: np.ndarray, axis: int) -> np.ndarray:
    """The softmax of the elements where the mask is not 0."""
    step, shown = scale(op.operands[0]), mask != 0
    highest = np.where(shown, data, limits(op.operands[0])[0]).max(axis=axis, keepdims=True)
    distance = np.where(shown, highest - data, 0)
    if element(op.operands[0]).dtype.itemsize == 1:
        expected = exponentials(step, sum_bits(data.shape[axis]))
        powers, one, least = table[distance], 256, -128
    else:
        expected = np.append(exponentials(256 * step, sum_bits(data.shape[axis])), exponentials(step, 20))
        powers, one, least = (table[distance // 256] * table[256 + distance % 256] + 2**19) // 2**20, 2**15, 0
    np.testing.assert_array_equal(table, expected, "softmax table")
    powers = np.where(shown, powers, 0)
    total = powers.sum(axis=axis, keepdims=True)
    steps = divided(one * powers, np.where(total == 0, 1, total))
    assert scale(op.result) == Fraction(1, one) and zero(op.result) == least
    return np.minimum(steps, one - 1) + least


def embedding(op: Operation, indices: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Row by row; a negative index counts from the end, and none leaves the table."""
    last = len(table) - 1
    rows = [min(max(i if i >= 0 else i + last + 1, 0), last) for i in indices.ravel().tolist()]
    return table[rows].reshape(*indices.shape, table.shape[1])


def arg_max(op: Operation, data: np.ndarray) -> np.ndarray:
    """Channel by channel: the place of the best so far changes for a larger one, or for one as large if `last`."""
    best, place = data[..., 0], np.zeros(data.shape[:-1], np.int64)
    for channel in range(1, data.shape[-1]):
        value = data[..., channel]
        better = value >= best if attribute(op, "last") else value > best
        best, place = np.where(better, value, best), np.where(better, channel, place)
    return place


def sum_bits(length: int) -> int:
    """The scale of exponentials: 2^20, or so little that `length` of them fit 31 bits."""
    bits = 20
    while (length << bits) >= 2**31:
        bits -= 1
    return bits


@cache
def exponentials(step: Fraction, bits: int) -> np.ndarray:
    """rint(2^bits * exp(-step * d)) for d = 0 .. 255, to 40 digits."""
    with localcontext() as context:
        context.prec = 40
        exact = Decimal(step.numerator) / Decimal(step.denominator)
        powers = [Decimal(2) ** bits * (-exact * distance).exp() for distance in range(256)]
        return np.array([int(power.to_integral_value("ROUND_HALF_EVEN")) for power in powers], np.int64)


def lrn(op: Operation, data: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The product x * G(sum of squares of the neighbours), G by straight lines between the entries of the table."""
    size, x = attribute(op, "size"), data - zero(op.operands[0])
    before = (size - 1) // 2
    channels = data.shape[-1]
    squares = np.pad(x * x, [(0, 0)] * (data.ndim - 1) + [(before, size - 1 - before)])
    sums = sum(squares[..., first : first + channels] for first in range(size))
    gains = {int(value): gain(int(value), table) for value in np.unique(sums)}
    factors = np.vectorize(gains.__getitem__, otypes=[np.int64])(sums)
    return finished(op, shifted(x * factors, attribute(op, "shift")))


def gain(total: int, table: np.ndarray) -> int:
    """The entry of one sum: 0 .. 31 one by one, then 32 equal steps in every octave, linear between them.

    The highest 26 bits of the place between two entries count.
    """
    if total < 32:
        return int(table[total])
    octave = total.bit_length() - 6
    entry = 32 * octave + (total >> octave)
    here, following = int(table[entry]), int(table[entry + 1])
    place, bits = total - (total >> octave << octave), min(octave, 26)
    return here + ((following - here) * (place >> octave - bits) >> bits)


def layer_norm(op: Operation, data: np.ndarray, scales: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Exact sums, the reciprocal of the root in 22 bits, the row with 16 bits behind the point, one rounding more."""
    x, length = data - zero(op.operands[0]), data.shape[-1]
    out = scale(op.result)
    gains = [Fraction(float(value)) / out for value in scales]
    shifts = [Fraction(float(value)) / out for value in offsets]
    fixed, shift = common_fixed_point([*gains, *(value / 512 for value in shifts)])
    moved = [rounded(value * 2**shift) for value in shifts]
    least = rounded(Fraction(attribute(op, "epsilon")) * length**2 / scale(op.operands[0]) ** 2)
    epsilon = min(max(least, 1), 2**52)
    rows = x.reshape(-1, length)
    results = np.empty_like(rows)
    for index, row in enumerate(rows):
        total = int(row.sum()) if attribute(op, "centred") else 0
        multiplier, exponent = reciprocal_root(length * int((row * row).sum()) - total**2 + epsilon)
        steps = shifted((length * row - total) * multiplier, np.int64(exponent - 16))
        results[index] = shifted(
            steps * np.array(fixed[:length], np.int64) + np.array(moved, np.int64) * 2**16, shift + 16
        )
    return finished(op, results.reshape(data.shape))


@cache
def reciprocal_root(square: int) -> tuple[int, int]:
    """(m, e) with m * 2^-e = 1 / sqrt(square), where root and 2^21 / fraction are rounded to 53 bits."""
    root = isqrt(square << 120)
    inexact = root * root != square << 120
    rounded_root = double(Fraction(2 * root + inexact, 2**61))
    exponent = 0
    while rounded_root >= 2**exponent:
        exponent += 1
    return rounded(double(Fraction(2**21) / (rounded_root / 2**exponent))), 21 + exponent


def double(value: Fraction) -> Fraction:
    """A positive number rounded to 53 significant bits, ties to even."""
    exponent = 53 - (value.numerator // value.denominator).bit_length()
    return Fraction(rounded(value * Fraction(2) ** exponent)) / Fraction(2) ** exponent


def concat(op: Operation, *inputs: np.ndarray) -> np.ndarray:
    """One after the other."""
    return np.concatenate(inputs, axis=attribute(op, "axis"))


def cut(op: Operation, data: np.ndarray) -> np.ndarray:
    """start:stop:step on every axis."""
    ranges = zip(attribute(op, "starts"), attribute(op, "stops"), attribute(op, "steps"), strict=True)
    return data[np.ix_(*(range(*bounds) for bounds in ranges))]


def pad(op: Operation, data: np.ndarray) -> np.ndarray:
    """A frame of the real number `value`."""
    real = attribute(op, "value")
    filler = stored(op.operands[0], real) if is_quantized(op.operands[0]) else real
    frame = zip(attribute(op, "low"), attribute(op, "high"), strict=True)
    return np.pad(data, list(frame), constant_values=filler)


def gather(op: Operation, data: np.ndarray) -> np.ndarray:
    """The chosen entries of one axis."""
    return data.take(attribute(op, "indices"), axis=attribute(op, "axis"))


def reshape(op: Operation, data: np.ndarray) -> np.ndarray:
    """Row-major order in another shape."""
    return data.reshape(attribute(op, "shape"))


def transpose(op: Operation, data: np.ndarray) -> np.ndarray:
    """Axis i of the result is axis permutation[i] of the data."""
    return data.transpose(attribute(op, "permutation"))


def permute_channels(op: Operation, data: np.ndarray) -> np.ndarray:
    """out[..., i] = data[..., permutation[i]]."""
    return data[..., list(attribute(op, "permutation"))]


def quantize(op: Operation, data: np.ndarray) -> np.ndarray:
    """The border into the integers: clip(rint(x / scale) + zero point), by definition in float32."""
    steps = np.rint(data / np.float32(element(op.result).scale))
    assert steps.dtype == np.float32
    return np.clip(steps + np.float32(zero(op.result)), *limits(op.result)).astype(np.int64)


def dequantize(op: Operation, data: np.ndarray) -> np.ndarray:
    """The border out of the integers: (q - zero point) * scale in float32."""
    return (data - zero(op.operands[0])).astype(np.float32) * np.float32(element(op.operands[0]).scale)


def padded(image: np.ndarray, pads: Sequence[int], filler: int) -> np.ndarray:
    """NHWC with a frame of top, left, bottom, right pixels."""
    top, left, bottom, right = pads
    return np.pad(image, [(0, 0), (top, bottom), (left, right), (0, 0)], constant_values=filler)


def window_tap(op: Operation, image: np.ndarray, row: int, column: int) -> np.ndarray:
    """The pixels [n, oh, ow, ...] that one tap sees in all windows of a padded image."""
    (step_h, step_w), (wide_h, wide_w) = attribute(op, "strides"), attribute(op, "dilations")
    height, width = op.result.type.shape[1:3]
    top, left = row * wide_h, column * wide_w
    found = image[:, top : top + (height - 1) * step_h + 1 : step_h, left : left + (width - 1) * step_w + 1 : step_w]
    assert found.shape[1:3] == (height, width)
    return found


MEANINGS: dict[str, Meaning] = {
    "nn.conv2d": conv2d,
    "nn.matmul": matmul,
    "nn.add": add,
    "nn.sub": sub,
    "nn.mul": mul,
    "nn.div": div,
    "nn.prelu": prelu,
    "nn.max_pool": max_pool,
    "nn.average_pool": average_pool,
    "nn.reduce_mean": reduce_mean,
    "nn.softmax": softmax,
    "nn.masked_softmax": masked_softmax,
    "nn.embedding": embedding,
    "nn.arg_max": arg_max,
    "nn.lrn": lrn,
    "nn.layer_norm": layer_norm,
    "nn.concat": concat,
    "nn.slice": cut,
    "nn.pad": pad,
    "nn.gather": gather,
    "nn.reshape": reshape,
    "nn.transpose": transpose,
    "nn.permute_channels": permute_channels,
    "quant.quantize": quantize,
    "quant.dequantize": dequantize,
    "quant.requantize": requantize,
    "quant.lookup": lookup,
}
