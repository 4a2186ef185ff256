"""A program of its own: it reads ONNX models and writes what the shape inference of the onnx package makes of them.

It is started by its path, with the onnx package on the module path, and imports nothing of accelc. A request is one
byte (bit 0: strict, with types checked; bit 1: the data of shapes is followed; bit 2: the checker comes first), the
length of a serialized model in 8 bytes, little endian, and the model. The answer is one byte (1: a model follows, 0:
the reason why there is none), the length of the data, and the data.
"""

import os
import sys
from typing import Any

from onnx import checker, shape_inference

MEMORY = 2**33
"""Inference may use so many bytes of address space, where the system can bound it; the libraries take 1 GiB of it."""

_CHECKER: Any = checker
REFUSED = (RuntimeError, ValueError, MemoryError, checker.ValidationError, shape_inference.InferenceError)


def main() -> None:
    """Answer requests until the input ends."""
    _bound_resources()
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between answers
    while header := source.read(9):
        found, data = _answer(source.read(int.from_bytes(header[1:], "little")), header[0])
        sink.write(bytes([found]) + len(data).to_bytes(8, "little") + data)
        sink.flush()


def _answer(model: bytes, flags: int) -> tuple[bool, bytes]:
    strict, data_prop = bool(flags & 1), bool(flags & 2)
    try:
        if flags & 4:
            _CHECKER.check_model(model)
        return True, shape_inference.infer_shapes(model, strict, strict, data_prop).SerializeToString()
    except REFUSED as error:
        lines = str(error).splitlines() or [type(error).__name__]
        return False, lines[-1].strip().encode("utf-8", "replace")


def _bound_resources() -> None:
    try:
        import resource
    except ImportError:  # not a Unix
        return
    for kind, limit in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0)):
        try:
            resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
        except (ValueError, OSError):  # the system is stricter already
            continue


if __name__ == "__main__":
    main()
