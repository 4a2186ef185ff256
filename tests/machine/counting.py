"""The cost of a matmul counted block by block, pixel by pixel and byte by byte, straight from the rules."""

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from types import SimpleNamespace


@dataclass
class Count:
    """Cycles, SRAM lines read and MAC slots.

    `accesses` are the lines of the input by bank (group, bank within the group); weights lie in `weight_groups`.
    """

    occupancy: int = 0
    bank_stall: int = 0
    lines: int = 0
    weight_lines: int = 0
    weight_groups: tuple[int, ...] = ()
    accesses: Counter = field(default_factory=Counter)
    slots: Counter = field(default_factory=Counter)


BYTES = {"i8": 1, "i16": 2, "bf16": 2}


def bank_of(line, target):
    """The bank of a line: (group, bank within the group)."""
    sram = target.sram
    group, line = divmod(line, sram.interleave * sram.bank_lines)
    if not sram.swizzle:
        return group, line % sram.interleave
    digits = [line // sram.interleave**i % sram.interleave for i in range(3)]
    return group, digits[0] ^ digits[1] ^ digits[2]


def vectors_of(op, lanes):
    """The reduction vectors as lists of (kernel row, kernel column, channel)."""
    taps = [(i, j) for i in range(op.kernel_h) for j in range(op.kernel_w)]
    if op.diagonal:
        return [[(i, j, 0)] for i, j in taps]
    elements = [(i, j, c) for i, j in taps for c in range(op.in_c)]
    unit = {"none": op.in_c, "row": op.in_c * op.kernel_w, "window": len(elements)}[op.fold]
    rows = [elements[start : start + unit] for start in range(0, len(elements), unit)]
    return [row[start : start + lanes] for row in rows for start in range(0, len(row), lanes)]


def count_matmul(op: SimpleNamespace, target, addresses) -> Count:
    """Everything `instruction_timing` says of a matmul whose useful macs are all its macs."""
    array, line_bytes = target.array, target.sram.line_bytes
    block = array.lanes * array.columns
    vectors = vectors_of(op, array.lanes)
    size, weight_size = BYTES[op.element], BYTES[op.weights_element]
    products = size * weight_size  # 8-bit products in one of these numbers
    fraction = Fraction(array.int16_rate).limit_denominator(1000) * 4 / products if size > 1 else 1
    if op.element == "bf16":
        fraction = Fraction(array.bf16_rate).limit_denominator(1000)
    step = -(-1 // min(fraction, 1))
    tiles = [
        list(range(first, min(first + op.tile_columns, op.out_c))) for first in range(0, op.out_c, op.tile_columns)
    ]
    result = Count()
    streams, loads = [], []
    for group in range(op.groups):
        for first_tile in range(0, len(tiles), op.split_n):
            step_tiles = tiles[first_tile : first_tile + op.split_n]
            for first_vector in range(0, len(vectors), op.split_k):
                step_vectors = vectors[first_vector : first_vector + op.split_k]
                depth = sum(map(len, step_vectors))
                lines = sum(-(-depth * len(tile) * weight_size // line_bytes) for tile in step_tiles)
                if op.weights_stride:
                    lines = sum(_stored_lines(op, v, t, line_bytes) for v in step_vectors for t in step_tiles)
                rate = min(array.weight_lines_per_cycle, target.sram.interleave * target.sram.read_ports)
                loads.append(-(-lines // rate))
                result.lines += lines
                result.weight_lines += lines
                streams.append(0)
                for first_pixel in range(0, op.out_h * op.out_w, op.split_m):
                    pixels = range(first_pixel, min(first_pixel + op.split_m, op.out_h * op.out_w))
                    cycles, read = _pixel_step(op, target, addresses["input"], group, step_vectors, step_tiles, pixels)
                    cycles = max(cycles, step)
                    result.lines += len(read)
                    result.accesses.update(bank_of(line, target) for line in read)
                    streams[-1] += cycles
                    result.bank_stall += cycles - step
                    result.slots["wide_numbers"] += (step - 1) * array.blocks * block
                    _charge(result.slots, op, array, step_vectors, step_tiles, len(pixels))
    result.weight_groups = tuple(target.groups_of(addresses["weights"], _weight_span(op, sum(map(len, vectors)))))
    shared = set(target.groups_of(addresses["input"], _span(op))) & set(result.weight_groups)
    overlapped = loads[0] + sum(max(t, w) for t, w in zip(streams, [*loads[1:], 0], strict=True))
    result.occupancy = sum(loads) + sum(streams) if shared else overlapped
    result.slots["weight_load"] = (overlapped - sum(streams)) * array.blocks * block
    result.bank_stall += result.occupancy - overlapped
    result.slots["bank_stall"] = result.bank_stall * array.blocks * block
    return result


def _stored_lines(op, vector, tile, line_bytes):
    """Lines of the rows of an activation that fill one block: the rows of the vector, or of the columns."""
    rows, run = (tile, len(vector)) if op.transposed else (vector, len(tile))
    starts_anywhere = run > 1 and op.weights_stride % line_bytes
    return sum(-(-run * BYTES[op.weights_element] // line_bytes) + bool(starts_anywhere) for _ in rows)


def _weight_span(op, depth):
    if not op.weights_stride:
        return depth * op.out_c * op.groups * BYTES[op.weights_element]
    rows, run = (op.out_c, op.in_c) if op.transposed else (op.in_c, op.out_c)
    return (rows - 1) * op.weights_stride + run * BYTES[op.weights_element]


def _span(op):
    pixel = (op.groups - 1) * op.input_group_stride + op.in_c * BYTES[op.element]
    return (op.in_h - 1) * op.input_row_stride + (op.in_w - 1) * op.input_pixel_stride + pixel


def _pixel_step(op, target, address, group, vectors, tiles, pixels):
    widest, every = 0, set()
    for vector in vectors:
        for tile in tiles if op.diagonal else [[0]]:
            for pixel in pixels:
                lines = set()
                for i, j, channel in vector:
                    y = pixel // op.out_w * op.stride_h + i * op.dilation_h - op.pad_top
                    x = pixel % op.out_w * op.stride_w + j * op.dilation_w - op.pad_left
                    if not (0 <= y < op.in_h and 0 <= x < op.in_w):
                        continue
                    base = address + group * op.input_group_stride + y * op.input_row_stride + x * op.input_pixel_stride
                    channels = tile if op.diagonal else [channel]
                    size = BYTES[op.element]
                    places = {base + c * size + byte for c in channels for byte in range(size)}
                    lines |= {place // target.sram.line_bytes for place in places}
                widest = max(widest, len(lines))
                every |= lines
    busiest = max(Counter(bank_of(line, target) for line in every).values(), default=0)
    cycles = max(1, -(-widest // target.crossbar.lines_per_vector), -(-busiest // target.sram.read_ports))
    return cycles, every


def _charge(slots, op, array, vectors, tiles, pixels):
    """One cycle of a pixel step: every lane of every column of every block."""
    block = array.lanes * array.columns
    for m in range(op.split_m):
        for k in range(op.split_k):
            for n in range(op.split_n):
                if m >= pixels:
                    slots["edge_rows"] += block
                elif k >= len(vectors):
                    slots["reduction_padding"] += block
                elif n >= len(tiles):
                    slots["column_padding"] += block
                else:
                    width = len(tiles[n])
                    depth = width if op.diagonal else len(vectors[k])
                    slots["column_padding"] += (array.columns - width) * array.lanes
                    slots["reduction_padding"] += (array.lanes - depth) * width
                    slots["useful_mac"] += width if op.diagonal else depth * width
                    slots["depthwise_diagonal"] += width * (width - 1) if op.diagonal else 0
    slots["edge_rows"] += (array.blocks - op.split_m * op.split_k * op.split_n) * block
