"""Compiles a synthetic transformer of growing depth and prints what it takes: memory beyond the weights, and seconds.

    python benchmarks/large_models.py [--hidden 256] [--layers 2 4 8 16] [--tokens 16] [--opt-level 1]

Weights are random float32 beside the model (external data), 12 * hidden^2 a layer: `--hidden 2048 --layers 20` has a
billion parameters and needs 4 GB of disk. Every size is compiled in a process of its own, for tile32 with enough DRAM;
`import` and `compile` are the peak of its resident memory less Python's own and the size of the weights, of which pages
that the system has mapped count too. Seconds are the processor's.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MEGABYTE = 1 << 20
HEADS = 4


def main() -> int:
    """Print the table, or, in the process of one size, one measurement."""
    options = arguments()
    if options.measure:
        print(*measured(options.measure, options.opt_level))
        return 0
    print("layers   parameters  weights MB  import MB  compile MB  seconds  a layer")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for layers in options.layers:
            path = Path(folder) / f"transformer{layers}.onnx"
            parameters = write_transformer(path, layers, options.hidden, options.tokens)
            line = [sys.executable, __file__, "--measure", path, "--opt-level", str(options.opt_level)]
            done = subprocess.run(list(map(str, line)), capture_output=True, text=True)
            if done.returncode:
                print(f"{layers:6}  failed: {done.stderr.strip().splitlines()[-1]}")
                return 1
            start, imported, compiled, seconds = map(float, done.stdout.split())
            weights = parameters * 4 / MEGABYTE
            beyond = (imported - start - weights, compiled - start - weights)
            print(
                f"{layers:6} {parameters:12,} {weights:11,.0f} {beyond[0]:10,.0f} {beyond[1]:11,.0f} {seconds:8.1f} "
                f"{seconds / layers:8.2f}",
                flush=True,
            )
            for file in Path(folder).iterdir():
                file.unlink()
    return 0


def measured(path: Path, opt_level: int) -> tuple[float, float, float, float]:
    """Peak megabytes before, after the import and after compiling, and processor seconds of compiling."""
    import accelc
    from accelc.backends.target import DramSection, load_target
    from accelc.compiler.importer import import_model

    target = replace(load_target("tile32"), dram=DramSection(4095))
    start = peak()
    import_model(path)
    imported = peak()
    began = time.process_time()
    accelc.compile(path, target, opt_level=opt_level)
    return start, imported, peak(), time.process_time() - began


def peak() -> float:
    """The largest resident memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_transformer(path: Path, layers: int, hidden: int, tokens: int) -> int:
    """Write model and weights, one tensor after the other; returns the number of parameters in matrices."""
    numbers = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    tensors: list[TensorProto] = []
    offset = 0
    data = path.with_suffix(".data")
    with data.open("wb") as file:

        def matrix(rows: int, columns: int) -> str:
            nonlocal offset
            tensor = TensorProto(name=f"w{len(tensors)}", data_type=TensorProto.FLOAT, dims=[rows, columns])
            array = numbers.standard_normal((rows, columns), np.float32) / np.float32(rows**0.5)
            file.write(array.tobytes())
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", data.name), ("offset", offset), ("length", array.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            offset += array.nbytes
            return tensor.name

        def constant(array: np.ndarray) -> str:
            tensors.append(numpy_helper.from_array(array, f"w{len(tensors)}"))
            return tensors[-1].name

        def apply(op_type: str, *inputs: str, **attributes: object) -> str:
            nodes.append(helper.make_node(op_type, inputs, [f"v{len(nodes)}"], name=f"n{len(nodes)}", **attributes))
            return nodes[-1].output[0]

        def normalized(x: str) -> str:
            ones, zeros = (constant(np.full(hidden, value, np.float32)) for value in (1, 0))
            return apply("LayerNormalization", x, ones, zeros, axis=-1)

        split = constant(np.array([1, tokens, HEADS, hidden // HEADS], np.int64))
        joined = constant(np.array([1, tokens, hidden], np.int64))
        scale = constant(np.float32((HEADS / hidden) ** 0.5))
        x = "x"
        for _ in range(layers):
            inner = normalized(x)
            query, key, value = (apply("Reshape", apply("MatMul", inner, matrix(hidden, hidden)), split) for _ in "qkv")
            query, value = (apply("Transpose", each, perm=[0, 2, 1, 3]) for each in (query, value))
            scores = apply("MatMul", query, apply("Transpose", key, perm=[0, 2, 3, 1]))
            mixed = apply("MatMul", apply("Softmax", apply("Mul", scores, scale), axis=-1), value)
            heads = apply("Reshape", apply("Transpose", mixed, perm=[0, 2, 1, 3]), joined)
            x = apply("Add", x, apply("MatMul", heads, matrix(hidden, hidden)))
            wide = apply("Gelu", apply("MatMul", normalized(x), matrix(hidden, 4 * hidden)))
            x = apply("Add", x, apply("MatMul", wide, matrix(4 * hidden, hidden)))
    shape = [1, tokens, hidden]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", x)]
    graph = helper.make_graph(nodes, "transformer", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return offset // 4


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compile a synthetic transformer of growing depth.")
    parser.add_argument("--hidden", type=int, default=256, help="width; 12 * hidden^2 parameters a layer (default 256)")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4, 8, 16], help="depths (default 2 4 8 16)")
    parser.add_argument("--tokens", type=int, default=16, help="length of the sequence (default 16)")
    parser.add_argument("--opt-level", type=int, default=1, help="(default 1)")
    parser.add_argument("--folder", type=Path, help="where models and weights are written meanwhile")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
