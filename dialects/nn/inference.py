"""Shape inference of the onnx package, in a process of its own: it is native code that hostile nodes can crash."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from pathlib import Path
from threading import Lock, Timer
from typing import Any

SECONDS = 60.0
"""Inference of one model may take so long; a node takes less than a millisecond."""

_SERVER = Path(__file__).with_name("inference_server.py")


def infer_shapes(model: Any, *, strict: bool = False, data_prop: bool = False, check: bool = False) -> Any:
    """The ModelProto with the types of all values that can be told.

    With `strict` types are checked too; with `data_prop` the data of computed shapes is followed; with `check` the
    package's checker looks at the model first.
    ValueError with the reason where inference fails, crashes or does not end.
    """
    import onnx  # slow to import, and few modules need it

    return onnx.load_model_from_string(_SHARED.ask(model.SerializeToString(), strict | 2 * data_prop | 4 * check))


class _Inference:
    """The process; it starts with the first question, again after a crash, and ends with this one."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0

    def ask(self, model: bytes, flags: int) -> bytes:
        """The serialized answer to a serialized model; ValueError with the reason why there is none."""
        with self.lock:
            process = self._running()
            timer = Timer(SECONDS, process.kill)
            timer.daemon = True
            timer.start()
            try:
                found, data = _exchange(process, bytes([flags]) + len(model).to_bytes(8, "little") + model)
            except (EOFError, OSError):
                process.kill()
                self.close()
                raise ValueError("the shape inference of the onnx package crashes on it") from None
            except BaseException:
                process.kill()  # an answer that nobody reads would be taken for the next one
                self.close()
                raise
            finally:
                timer.cancel()
        if not found:
            raise ValueError(data.decode("utf-8", "replace"))
        return data

    def close(self) -> None:
        """End the process, if this one has started it."""
        process, self.process = self.process, None
        if process is None or self.owner != os.getpid():
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what is still buffered has no reader
                    continue
        process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.owner != os.getpid() or self.process.poll() is not None:
            self.close()
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self.owner = os.getpid()
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(_SERVER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        return self.process


def _exchange(process: subprocess.Popen[bytes], request: bytes) -> tuple[bool, bytes]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(request)
    process.stdin.flush()
    header = process.stdout.read(9)
    data = process.stdout.read(int.from_bytes(header[1:], "little"))
    if len(header) < 9 or len(data) < int.from_bytes(header[1:], "little"):
        raise EOFError
    return bool(header[0]), data


_SHARED = _Inference()
atexit.register(_SHARED.close)
