"""How a product runs on the blocks: its geometry, what a mapping is, and the strips that fit the accumulators."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from ...backends.target import Target
from ...dialects.core.fields import AttributeValue
from ...dialects.tile.elements import ELEMENTS


@dataclass(frozen=True, slots=True)
class Geometry:
    """A convolution in instruction terms; in_c and out_c are per group. A matrix product has a 1x1 window."""

    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    groups: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int
    element: str = "i8"
    weights_element: str = "i8"

    @property
    def data_bytes(self) -> int:
        """Bytes of one number of the input."""
        return ELEMENTS[self.element].size

    @property
    def is_depthwise(self) -> bool:
        """One input and one output channel per group."""
        return self.groups > 1 and self.in_c == self.out_c == 1

    def trimmed(self) -> Geometry:
        """The geometry without rows and pixels of the input behind the last window."""
        rows = (self.out_h - 1) * self.stride_h + (self.kernel_h - 1) * self.dilation_h + 1 - self.pad_top
        pixels = (self.out_w - 1) * self.stride_w + (self.kernel_w - 1) * self.dilation_w + 1 - self.pad_left
        if rows <= 0 or pixels <= 0:
            return replace(self, in_h=1, in_w=1)
        return replace(self, in_h=min(self.in_h, rows), in_w=min(self.in_w, pixels))

    def columns(self, start: int, count: int) -> tuple[int, Geometry]:
        """The first input pixel that output columns [start, start + count) read, and the geometry from there on."""
        first = start * self.stride_w - self.pad_left
        if first >= self.in_w:  # all is padding: the input lies to the right of all windows' padding
            span = (count - 1) * self.stride_w + (self.kernel_w - 1) * self.dilation_w + 1
            return 0, replace(self, in_w=1, out_w=count, pad_left=span)
        pixel = max(first, 0)
        return pixel, replace(self, in_w=self.in_w - pixel, out_w=count, pad_left=pixel - first).trimmed()

    @property
    def is_sequence(self) -> bool:
        """True if there is one row of pixels: `split-rows` makes them rows of one pixel."""
        return self.out_h == 1 < self.out_w and (self.kernel_h, self.pad_top) == (1, 0)

    def turned(self) -> Geometry:
        """Rows for pixels and pixels for rows."""
        return replace(
            self,
            in_h=self.in_w,
            in_w=self.in_h,
            out_h=self.out_w,
            out_w=self.out_h,
            kernel_h=self.kernel_w,
            kernel_w=self.kernel_h,
            stride_h=self.stride_w,
            stride_w=self.stride_h,
            dilation_h=self.dilation_w,
            dilation_w=self.dilation_h,
            pad_top=self.pad_left,
            pad_left=self.pad_top,
        )

    def attributes(self) -> dict[str, AttributeValue]:
        """The geometry as attributes of tile.matmul."""
        return asdict(self)

    def window_attributes(self) -> dict[str, AttributeValue]:
        """The geometry as attributes of tile.depthwise, without the channels and the element of the output."""
        own = {
            name: value for name, value in asdict(self).items() if name not in ("in_c", "out_c", "groups", "element")
        }
        return own | {"input_element": self.element}


@dataclass(frozen=True, slots=True)
class Mapping:
    """One way to run a product; see tile.matmul. `pack` groups share a tile; `on_vector_unit` is for depthwise only."""

    fold: str = "none"
    split_k: int = 1
    split_n: int = 1
    split_m: int = 1
    pack: int = 1
    diagonal: bool = False
    on_vector_unit: bool = False

    def __str__(self) -> str:
        """In the words of the report: folding, diagonal, blocks over reduction (K), columns (N), pixels (M), groups."""
        if self.on_vector_unit:
            return "vector unit"
        parts = [self.fold] if self.fold != "none" else []
        parts += ["diagonal"] if self.diagonal else []
        counts = {"K": self.split_k, "N": self.split_n, "M": self.split_m, "pack": self.pack}
        return " ".join([*parts, *(f"{name}{count}" for name, count in counts.items() if count > 1)]) or "one block"

    def attributes(self) -> dict[str, AttributeValue]:
        """The mapping as attributes of tile.matmul."""
        names = ("fold", "split_k", "split_n", "split_m", "diagonal", "pack")
        return {name: getattr(self, name) for name in names}

    def packed(self, geometry: Geometry) -> Geometry:
        """The geometry once `pack` groups are one group (all channels, when diagonal)."""
        if self.diagonal:
            channels = geometry.groups
            return replace(geometry, groups=1, in_c=channels, out_c=channels)
        return replace(
            geometry,
            groups=geometry.groups // self.pack,
            in_c=geometry.in_c * self.pack,
            out_c=geometry.out_c * self.pack,
        )


def balanced(total: int, largest: int) -> int:
    """The smallest piece that needs no more pieces than `largest` does, so that pieces are nearly equal."""
    pieces = -(-total // largest)
    return -(-total // pieces)


def strip_shape(
    target: Target, geometry: Geometry, split_n: int, largest_rows: int | None = None
) -> tuple[int, int, int]:
    """(output rows, column tiles, groups) of one matmul so that two such results fit into the accumulators.

    Column tiles come in multiples of `split_n`; rows are as many as then fit (at least one image row, at most
    `largest_rows`, all strips about equal), then further tiles and groups.
    """
    columns = target.array.columns
    capacity = target.accumulators.rows // 2
    tiles = -(-geometry.out_c // columns)
    step = min(tiles, split_n)
    if geometry.out_w * step > capacity:
        capacity = target.accumulators.rows
        step = max(1, min(step, capacity // geometry.out_w))
    height = max(1, min(geometry.out_h, largest_rows or geometry.out_h, capacity // (geometry.out_w * step)))
    height = balanced(geometry.out_h, height)
    while step + split_n <= tiles and height * geometry.out_w * (step + split_n) <= capacity:
        step += split_n
    if height * geometry.out_w * tiles <= capacity:
        step = tiles
    groups = 1
    if step == tiles:
        groups = max(1, min(geometry.groups, capacity // (height * geometry.out_w * tiles)))
    return height, step, groups
