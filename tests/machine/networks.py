"""Hypothesis strategies for odd quantized networks: what `lower-to-tile` is given."""

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from accelc.dialects.core.operation import Operation, Value
from accelc.dialects.core.types import TensorType
from accelc.dialects.nn import (
    AddOp,
    AveragePoolOp,
    ConcatOp,
    DivOp,
    GatherOp,
    MaxPoolOp,
    MulOp,
    PadOp,
    PermuteChannelsOp,
    ReduceMeanOp,
    ReshapeOp,
    SubOp,
    TransposeOp,
)

from .quantized import COMMON, OTHER, QuantizedNetwork, Width, bits_of

LARGEST = 12_000
"""No tensor has more elements."""

SIZES = st.sampled_from([1, 1, 2, 3, 5, 7, 8, 11, 13, 19, 29])
CHANNELS = st.sampled_from([1, 2, 3, 4, 6, 8, 12, 16, 17, 31, 32, 47, 64, 94])


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    operations: int = 6,
    all_widths: tuple[tuple[Width, ...], ...] = ((8,), (8,), (16,), (8, 16), (16, 8), ("bf16",)),
    steps: tuple[Any, ...] | None = None,
) -> QuantizedNetwork:
    """A network of up to `operations` operations on one image; several values may be returned, some are not used.

    One of `all_widths` is drawn: the width of its numbers, or those that change within it. `steps` are what operations
    are drawn from, by default all.
    """
    batch = draw(st.sampled_from([1, 1, 1, 2]))
    shape = (batch, draw(SIZES), draw(SIZES), draw(CHANNELS))
    if math.prod(shape) > LARGEST:
        shape = (*shape[:3], 3)
    widths = draw(st.sampled_from(all_widths))
    network = QuantizedNetwork(shape, seed=draw(st.integers(0, 5)), widths=widths)
    values = [network.inputs[0]]
    for _ in range(draw(st.integers(1, operations))):
        chosen = values[-draw(st.integers(1, min(3, len(values))))]
        step = draw(st.sampled_from(steps or _STEPS))
        result = step(draw, network, chosen, values)
        if result is not None and 0 < result.type.size <= LARGEST:
            values.append(result)
        elif result is not None:
            network.drop(result, values)
    returned = [values[-1], *(value for value in values[:-1] if draw(st.integers(0, 5)) == 0)]
    network.finish(*returned)
    return network


def _window(draw: st.DrawFn, shape: tuple[int, ...], *, inside: bool) -> dict[str, Any] | None:
    """Kernel, strides, pads and dilations that give at least one output; `inside`: every window touches the image."""
    kernel = tuple(draw(st.sampled_from([1, 1, 2, 3, 3, 5])) for _ in range(2))
    strides = tuple(draw(st.sampled_from([1, 1, 2, 3, 4])) for _ in range(2))
    dilations = tuple(draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in range(2))
    pads = []
    for index in (0, 1, 0, 1):
        limit = (kernel[index] - 1) * dilations[index]
        pads.append(draw(st.integers(0, limit if inside else limit + 3)))
    for index in (0, 1):
        span = shape[1 + index] + pads[index] + pads[index + 2]
        if span < (kernel[index] - 1) * dilations[index] + 1:
            return None
    return {"kernel": kernel, "strides": strides, "pads": tuple(pads), "dilations": dilations}


def _conv(draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]) -> Value[Any] | None:
    if data.type.rank != 4:
        return network.matmul(data, draw(CHANNELS))
    window = _window(draw, data.type.shape, inside=False)
    if window is None:
        return None
    channels = data.type.shape[-1]
    groups = draw(st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0]))
    kind = draw(st.sampled_from(["plain", "plain", "depthwise", "grouped"]))
    groups = {"plain": 1, "depthwise": channels, "grouped": groups}[kind]
    outputs = channels if kind == "depthwise" else groups * draw(st.sampled_from([1, 2, 3, 8, 17, 47]))
    return network.conv(
        data, min(outputs, 94 // groups * groups or groups), window.pop("kernel"), groups=groups, **window
    )


def _attention(
    draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]
) -> Value[Any] | None:
    """A product of two activations: with itself, with another, with a stack of constants on either side."""
    shape = data.type.shape
    if data.type.rank < 2 or data.type.size * shape[-2] > 40 * LARGEST:
        return None
    kind = draw(st.sampled_from(["scores", "heads", "mixed", "constant right", "constant left"]))
    if kind == "heads" and data.type.rank == 3:
        heads = draw(st.sampled_from([n for n in (1, 2, 3, 4, 8) if shape[2] % n == 0]))
        split = network.add(ReshapeOp, [data], shape=(*shape[:2], heads, shape[2] // heads))
        data = network.add(TransposeOp, [split], permutation=(0, 2, 1, 3))
        scores = network.activation_product(data, data, transpose_rhs=True)
        mixed = network.activation_product(network.softmax(scores) if draw(st.booleans()) else scores, data)
        moved = network.add(TransposeOp, [mixed], permutation=(0, 2, 1, 3))
        return network.add(ReshapeOp, [moved], shape=shape)
    if kind == "constant right":
        stack = draw(st.sampled_from([(), shape[:-2]]))
        columns = draw(CHANNELS)
        transposed = draw(st.booleans())
        last = (columns, shape[-1]) if transposed else (shape[-1], columns)
        bits = draw(st.sampled_from([8 if bits_of(data) == 16 else bits_of(data), bits_of(data)]))
        element = draw(st.sampled_from([COMMON, OTHER]))[bits]
        other = network.constant(network.integers(*stack, *last, bits=bits), element)
        return network.activation_product(data, other, transpose_rhs=transposed)
    if kind == "constant left":
        bits = bits_of(data)
        other = network.constant(network.integers(draw(st.integers(1, 9)), shape[-2], bits=bits), OTHER[bits])
        return network.activation_product(other, data)
    partners = [v for v in values if v.type.rank == data.type.rank and v.type.shape == shape]
    return network.activation_product(data, draw(st.sampled_from(partners)), transpose_rhs=True)


def _max_pool(
    draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]
) -> Value[Any] | None:
    window = _window(draw, data.type.shape, inside=True) if data.type.rank == 4 else None
    return _pooled(network, MaxPoolOp, data, window)


def _average_pool(
    draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]
) -> Value[Any] | None:
    window = _window(draw, data.type.shape, inside=True) if data.type.rank == 4 else None
    if window is not None:
        window["counted_pads"] = tuple(draw(st.integers(0, pad)) for pad in window["pads"])
    return _pooled(network, AveragePoolOp, data, window)


def _pooled(
    network: QuantizedNetwork, op_class: type[Operation], data: Value[Any], window: dict[str, Any] | None
) -> Value[Any] | None:
    if window is None:
        return None
    kernel, strides, dilations, pads = (window[name] for name in ("kernel", "strides", "dilations", "pads"))
    for index, size in enumerate(data.type.shape[1:3]):
        count = (size + pads[index] + pads[index + 2] - (kernel[index] - 1) * dilations[index] - 1) // strides[index]
        for place in range(count + 1):
            taps = [place * strides[index] + tap * dilations[index] - pads[index] for tap in range(kernel[index])]
            if not any(0 <= tap < size for tap in taps):
                return None
    return network.add(op_class, [data], **window)


def _mean(draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]) -> Value[Any] | None:
    if data.type.rank != 4:
        return None
    axes = draw(st.sampled_from([(1,), (2,), (1, 2)]))
    kind = data.type.with_element(COMMON[bits_of(data)])
    keep = draw(st.booleans())
    shape = tuple(1 if i in axes else n for i, n in enumerate(kind.shape) if keep or i not in axes)
    factor = draw(st.sampled_from([1.0, 1.0, 4.0]))
    return network.add(ReduceMeanOp, [data], kind.with_shape(shape), axes=axes, keepdims=keep, factor=factor)


def _binary(draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]) -> Value[Any]:
    op_class = draw(st.sampled_from([AddOp, AddOp, SubOp, MulOp, DivOp]))
    shape = data.type.shape
    partners = [value for value in values if value.type.shape == shape]
    kind = draw(st.sampled_from(["value", "value", "full", "channels", "scalar", "image", "mean"]))
    if kind == "value":
        other = draw(st.sampled_from(partners))
    elif kind == "mean" and data.type.rank == 4:
        other = network.add(
            ReduceMeanOp,
            [data],
            TensorType((shape[0], 1, 1, shape[3]), COMMON[bits_of(data)]),
            axes=(1, 2),
            keepdims=True,
        )
    else:
        image = (*shape[:-1], 1)
        own = {"full": shape, "channels": shape[-1:], "scalar": (1,), "image": image}.get(kind, shape)
        bits = bits_of(data)
        other = network.constant(network.integers(*own, bits=bits), OTHER[bits])
    return network.binary(op_class, *((data, other) if draw(st.booleans()) else (other, data)))


def _unary(draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]) -> Value[Any]:
    kind = draw(st.sampled_from(["lookup", "prelu", "leaky", "rescale", "softmax", "masked", "lrn", "norm", "rms"]))
    if kind in ("norm", "rms"):
        return network.layer_norm(data, centred=kind == "norm")
    if kind == "masked":
        own = draw(st.sampled_from([data.type.shape, data.type.shape[-2:], data.type.shape[-1:]]))
        if data.type.rank == 4 and len(own) == 4:
            own = draw(st.sampled_from([own, (1, *own[1:]), (*own[:2], 1, own[3]), (*own[:3], 1)]))
        return network.masked_softmax(data, network.random.integers(0, 2, own))
    if kind == "softmax":
        return network.softmax(data, draw(st.sampled_from([data.type.rank - 1, data.type.rank - 1, 0, 1])))
    if kind == "lrn":
        return network.lrn(data, draw(st.sampled_from([1, 3, 5])))
    if kind == "rescale":
        return network.rescale(data, draw(st.sampled_from([COMMON, OTHER]))[network.width()])
    return network.lookup(data) if kind == "lookup" else network.prelu(data, per_channel=kind == "prelu")


def _index(draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]) -> Value[Any]:
    return network.named_rows(data, draw(st.sampled_from([1, 5, 64])), last=draw(st.booleans()))


def _shown(draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]) -> Value[Any] | None:
    repeat = draw(st.booleans())
    return None if bits_of(data) == "bf16" else network.softmax_of_shown(data, repeat=repeat)


def _concat(draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]) -> Value[Any]:
    axis = draw(st.sampled_from([data.type.rank - 1] * 4 + list(range(data.type.rank))))

    def outside(value: Value[Any]) -> tuple[int, ...]:
        return tuple(n for index, n in enumerate(value.type.shape) if index != axis)

    fitting = [
        value
        for value in values
        if value.type.rank == data.type.rank
        and value.type.element == data.type.element
        and outside(value) == outside(data)
    ]
    others = draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=2))
    return network.add(ConcatOp, [data, *others] if draw(st.booleans()) else [*others, data], axis=axis)


def _slice(draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]) -> Value[Any]:
    cuts: list[tuple[int, int, int]] = []
    only_channels = draw(st.booleans())
    for axis, size in enumerate(data.type.shape):
        if only_channels and axis != data.type.rank - 1:
            cuts.append((0, size, 1))
            continue
        start = draw(st.integers(0, min(size - 1, 20)))
        cuts.append((start, draw(st.integers(start + 1, size)), draw(st.sampled_from([1, 1, 1, 2, 3]))))
    return network.cut(data, *(list(column) for column in zip(*cuts, strict=True)))


def _pad(draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]) -> Value[Any]:
    rank = data.type.rank
    first = 1 if rank == 4 else 0
    low, high = (
        tuple(draw(st.integers(0, 3)) if axis >= first and draw(st.booleans()) else 0 for axis in range(rank))
        for _ in range(2)
    )
    return network.add(PadOp, [data], low=low, high=high, value=draw(st.sampled_from([0.0, 1.5])))


def _reorder(draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]) -> Value[Any]:
    shape, rank = data.type.shape, data.type.rank
    kind = draw(st.sampled_from(["shuffle", "permute", "gather", "transpose", "flatten", "reshape"]))
    channels = shape[-1]
    if kind == "shuffle":
        groups = draw(st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0]))
        order = np.arange(channels).reshape(groups, -1).T.reshape(-1)
        return network.add(PermuteChannelsOp, [data], permutation=tuple(order.tolist()))
    if kind == "permute":
        order = draw(st.permutations(range(channels)))
        return network.add(PermuteChannelsOp, [data], permutation=tuple(order))
    if kind == "gather":
        axis = draw(st.integers(1 if rank > 3 else 0, rank - 1))
        indices = draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=6))
        return network.add(GatherOp, [data], axis=axis, indices=tuple(indices))
    if kind == "transpose":
        return network.add(TransposeOp, [data], permutation=tuple(draw(st.permutations(range(rank)))))
    if kind == "flatten":
        return network.add(ReshapeOp, [data], shape=(shape[0], data.type.size // shape[0]))
    size = data.type.size
    rows = draw(st.sampled_from([n for n in range(1, min(size, 64) + 1) if size % n == 0]))
    columns = draw(st.sampled_from([n for n in range(1, min(size // rows, 64) + 1) if size // rows % n == 0]))
    forms = [
        (rows, size // rows),
        (rows, columns, size // rows // columns),
        (1, rows, columns, size // rows // columns),
    ]
    return network.add(ReshapeOp, [data], shape=draw(st.sampled_from(forms)))


def _constant(draw: st.DrawFn, network: QuantizedNetwork, data: Value[Any], values: list[Value[Any]]) -> Value[Any]:
    bits = bits_of(data)
    return network.constant(network.integers(*data.type.shape, bits=bits), COMMON[bits])


EXPRESSIBLE = (
    _conv,
    _conv,
    _conv,
    _attention,
    _attention,
    _max_pool,
    _average_pool,
    _mean,
    _binary,
    _unary,
    _concat,
    _concat,
    _slice,
    _pad,
    _reorder,
    _constant,
)
"""Steps of which most have a form in ONNX."""

_STEPS = (*EXPRESSIBLE, _index, _shown)
