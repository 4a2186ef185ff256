"""Compile seconds against depth: ResNets of 50, 101, 152 and 302 layers with seeded random weights.

Bottleneck networks after He et al., Deep Residual Learning, CVPR 2016, table 1 (302 continues the third stage), an
eighth of the width, so that what grows is the number of operations and not the bytes of weights.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from mobilenet import ChainBuilder
from stopwatch import Stopwatch, Timing

from accelc.backends.target import load_target
from accelc.compiler.driver import Settings, compile_module, emit

STAGES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 302: (3, 8, 86, 3)}
"""Blocks of three layers in each stage, by layers."""

FEWEST_ROUNDS = 5
"""Medians of fewer rounds differ from run to run by as much as the goal allows."""

WIDTH = 8
EXPANSION = 4


def resnet(layers: int) -> onnx.ModelProto:
    """A ResNet whose batch normalizations are folded."""
    builder = ChainBuilder(seed=layers)
    builder.convolve("stem", 3, WIDTH, kernel=7, stride=2)
    builder.add("MaxPool", "stem.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = WIDTH
    for stage, blocks in enumerate(STAGES[layers]):
        inner = WIDTH << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            builder.residual(f"stage{stage}.{block}", channels, inner, inner * EXPANSION, stride)
            channels = inner * EXPANSION
    builder.classify(channels)
    return builder.model(f"resnet{layers}")


def compile_seconds(rounds: int, target: str, folder: Path, advance: Callable[[int], None]) -> dict[int, Timing]:
    """ONNX file to program at the default level without calibration data, by layers, in turns.

    One compilation that does not count comes first, as it loads what is loaded once; before each one garbage is
    collected, so that none pays for another's.
    """
    paths = {layers: folder / f"resnet{layers}.onnx" for layers in STAGES}
    for layers, path in paths.items():
        onnx.save(resnet(layers), path)
    timings = {layers: Timing() for layers in paths}
    emit(compile_module(paths[min(paths)], Settings(load_target(target))))
    for _ in range(rounds):
        for layers, path in paths.items():
            gc.collect()
            with Stopwatch() as watch:
                emit(compile_module(path, Settings(load_target(target))))
            timings[layers].add(watch.processor, watch.wall)
            advance(1)
    return timings


def deviation(seconds: dict[int, float]) -> float:
    """The largest share by which a time differs from the straight line through all of them (least squares)."""
    layers, taken = np.array(list(seconds)), np.array(list(seconds.values()))
    slope, start = np.polyfit(layers, taken, 1, w=1 / taken)
    return float(np.abs((slope * layers + start) / taken - 1).max())
