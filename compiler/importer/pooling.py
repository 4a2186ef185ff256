"""Pooling: MaxPool, AveragePool and their global forms."""

from __future__ import annotations

from ...dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from .lowering import Imported, Lowering, Unsupported
from .reductions import global_mean
from .windows import WINDOW_LIMIT, Window, resolve_window, spatial_rank


def lower_max_pool(lowering: Lowering) -> Imported:
    """MaxPool of one or two spatial axes; the Indices output is not available."""
    if len(lowering.node.outputs) > 1 and lowering.node.outputs[1]:
        raise Unsupported("the output Indices is not supported")
    rank, window = _window(lowering)
    image = lowering.emit(
        MaxPoolOp,
        lowering.channels_last(lowering.input(0)),
        kernel=window.kernel,
        strides=window.strides,
        pads=window.pads,
        dilations=window.dilations,
    )
    return lowering.channels_first(image, rank + 2)


def lower_average_pool(lowering: Lowering) -> Imported:
    """AveragePool; with count_include_pad the divisor counts the declared padding, never the one ceil_mode adds."""
    rank, window = _window(lowering)
    counted = window.declared_pads if lowering.node.integer("count_include_pad", 0) else (0, 0, 0, 0)
    image = lowering.emit(
        AveragePoolOp,
        lowering.channels_last(lowering.input(0)),
        kernel=window.kernel,
        strides=window.strides,
        pads=window.pads,
        dilations=window.dilations,
        counted_pads=counted,
    )
    return lowering.channels_first(image, rank + 2)


def lower_global_max_pool(lowering: Lowering) -> Imported:
    """GlobalMaxPool = a max pool whose window is the whole image."""
    rank = spatial_rank(lowering)
    height, width = (1, *lowering.shape(0)[2:])[-2:]
    if max(height, width) > WINDOW_LIMIT:
        raise Unsupported(f"the image is {height}x{width}, at most {WINDOW_LIMIT} along an axis are accepted")
    image = lowering.emit(MaxPoolOp, lowering.channels_last(lowering.input(0)), kernel=(height, width))
    return lowering.channels_first(image, rank + 2)


def lower_global_average_pool(lowering: Lowering) -> Imported:
    """GlobalAveragePool = the mean over all spatial axes, kept as ones."""
    rank = len(lowering.shape(0))
    if rank < 3:
        raise lowering.error(f"data has rank {rank}, expected at least 3")
    return global_mean(lowering, tuple(range(2, rank)), keep=True)


def _window(lowering: Lowering) -> tuple[int, Window]:
    rank = spatial_rank(lowering)
    kernel = lowering.node.integers("kernel_shape")
    if kernel is None:
        raise lowering.error("attribute 'kernel_shape' is missing")
    window = resolve_window(lowering, kernel)
    extents = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    if any(pad >= extents[side % 2] for side, pad in enumerate(window.declared_pads)):
        raise lowering.error(f"pads {list(window.declared_pads)} are not smaller than the window {extents}")
    return rank, window
