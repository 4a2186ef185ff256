"""Where a convolution or pooling window falls: kernel, strides, dilations and pads of a node, resolved to numbers."""

from __future__ import annotations

from dataclasses import dataclass

from .lowering import Lowering, Unsupported

WINDOW_LIMIT = 2**12
"""The largest extent, stride and pad of a window along one axis."""


@dataclass(frozen=True, slots=True)
class Window:
    """A resolved window over the two spatial axes of NHWC data.

    `pads` (top, left, bottom, right) are extended so that floor((size + pads - extent) / stride) + 1 is the output
    size, also with ceil_mode; `declared_pads` are those that the node asks for, without that extension.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    declared_pads: tuple[int, int, int, int]


def resolve_window(lowering: Lowering, kernel: tuple[int, ...]) -> Window:
    """The window of a Conv or pooling node whose input 0 is N C W or N C H W; one-dimensional windows become 1 x W."""
    node = lowering.node
    spatial = lowering.shape(0)[2:]
    rank = len(spatial)
    strides = _per_axis(lowering, "strides", rank)
    dilations = _per_axis(lowering, "dilations", rank)
    if len(kernel) != rank or min(kernel) < 1:
        raise lowering.error(f"kernel {list(kernel)} does not fit data with {rank} spatial axes")
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    mode = node.text("auto_pad", "NOTSET") or "NOTSET"
    given = node.integers("pads")
    begins, ends = [0] * rank, [0] * rank
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        for axis, (size, extent, stride) in enumerate(zip(spatial, extents, strides, strict=True)):
            total = max((-(-size // stride) - 1) * stride + extent - size, 0)
            small, large = total // 2, total - total // 2
            begins[axis], ends[axis] = (small, large) if mode == "SAME_UPPER" else (large, small)
    elif mode == "NOTSET":
        if given is not None:
            if len(given) != 2 * rank or min(given) < 0:
                raise lowering.error(f"pads {list(given)} are malformed, expected {2 * rank} numbers of at least 0")
            begins, ends = list(given[:rank]), list(given[rank:])
    elif mode != "VALID":
        raise lowering.error(f"auto_pad is '{mode}', expected NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    if max(*begins, *ends, *extents, *strides) > WINDOW_LIMIT:
        raise Unsupported(f"kernel, strides or pads reach over more than {WINDOW_LIMIT} elements")
    declared = (begins, list(ends))
    for axis, (size, extent, stride) in enumerate(zip(spatial, extents, strides, strict=True)):
        room = size + begins[axis] + ends[axis] - extent
        if room < 0:
            raise lowering.error(f"the window covers {extent} elements of axis {axis + 2}, which has {room + extent}")
        if node.integer("ceil_mode", 0) and mode == "NOTSET":
            count = -(-room // stride) + 1
            # A window that would start in the padding behind the data is dropped (ONNX, pooling output shape).
            if (count - 1) * stride >= size + begins[axis]:
                count -= 1
            ends[axis] += max((count - 1) * stride - room, 0)
    lift = () if rank == 2 else (1,)
    flat = () if rank == 2 else (0,)
    return Window(
        kernel=_pair((*lift, *kernel)),
        strides=_pair((*lift, *strides)),
        dilations=_pair((*lift, *dilations)),
        pads=_quad((*flat, *begins, *flat, *ends)),
        declared_pads=_quad((*flat, *declared[0], *flat, *declared[1])),
    )


def spatial_rank(lowering: Lowering) -> int:
    """The number of spatial axes of input 0; Unsupported unless one or two."""
    rank = len(lowering.shape(0)) - 2
    if rank < 1:
        raise lowering.error(f"data has rank {rank + 2}, expected at least 3")
    if rank > 2:
        raise Unsupported(f"{rank} spatial axes, expected 1 or 2")
    return rank


def _per_axis(lowering: Lowering, name: str, rank: int) -> tuple[int, ...]:
    values = lowering.node.integers(name) or (1,) * rank
    if len(values) != rank or min(values) < 1:
        raise lowering.error(f"{name} {list(values)} are malformed, expected {rank} numbers of at least 1")
    return values


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    first, second = values
    return first, second


def _quad(values: tuple[int, ...]) -> tuple[int, int, int, int]:
    top, left, bottom, right = values
    return top, left, bottom, right
