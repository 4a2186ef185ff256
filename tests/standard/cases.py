"""The tests of the ONNX standard, as the onnx package ships them: one model with inputs and expected outputs each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
"""The kinds whose models and data are in the package; those of large networks are left to the endtoend tests."""


@dataclass(frozen=True, eq=False)
class Case:
    """One test. `inputs` are by name, `outputs` in order; `operators` are those of the model, the first one named."""

    name: str
    kind: str
    model: ModelProto
    inputs: Mapping[str, Any]
    outputs: Sequence[Any]
    rtol: float
    atol: float

    @property
    def operator(self) -> str:
        """The operator under test, or the kind for models of several."""
        nodes = self.model.graph.node
        return str(nodes[0].op_type) if self.kind == "node" and len(nodes) == 1 else self.kind


@cache
def cases() -> tuple[Case, ...]:
    """All tests, in order of name."""
    with warnings.catch_warnings():
        # Some expected outputs are computed with overflow on purpose.
        warnings.simplefilter("ignore")
        found = [case for kind in KINDS for case in _of_kind(kind)]
    return tuple(sorted(found, key=lambda case: case.name))


def _of_kind(kind: str) -> Iterator[Case]:
    for test in load_model_tests(kind=kind):
        if test.model is not None:
            model, (inputs, outputs) = test.model, test.data_sets[0]
        else:
            folder = Path(test.model_dir)
            model = onnx.load(folder / "model.onnx")
            data = folder / "test_data_set_0"
            inputs, outputs = (
                [_stored(data / f"{what}_{i}.pb") for i in range(len(list(data.glob(f"{what}_*.pb"))))]
                for what in ("input", "output")
            )
        stored = {tensor.name for tensor in model.graph.initializer}
        names = [value.name for value in model.graph.input if value.name not in stored]
        yield Case(test.name, kind, model, dict(zip(names, inputs, strict=False)), outputs, test.rtol, test.atol)


def _stored(path: Path) -> Any:
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        return numpy_helper.to_array(tensor)
    except Exception:  # noqa: BLE001 - sequences and optionals, which no test of ours reads
        return None


def bound(case: Case, *, constants: bool) -> tuple[ModelProto, dict[str, np.ndarray]] | None:
    """The model with its inputs of other types than float32 as constants, and with `constants` all but the first one.

    Compilers know shapes, axes and weights; the standard's tests hand them over at run time. Also the inputs that are
    left. None where an input is no tensor.
    """
    model = ModelProto()
    model.CopyFrom(case.model)
    left: dict[str, np.ndarray] = {}
    for name, value in case.inputs.items():
        if not isinstance(value, (np.ndarray, np.generic)) or value.dtype == object:
            return None
        array = np.asarray(value)
        if array.dtype == np.float32 and not (constants and left):
            left[name] = array
            continue
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    kept = [value for value in model.graph.input if value.name in left]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model, left
