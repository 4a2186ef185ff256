"""Arrays from and to .npz files: reads samples with located messages, writes the same bytes for the same arrays."""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.types import Array, ScalarType, TensorType

LABELS = "labels"
"""The name of the classes in a labelled file; such an array may lie beside the inputs anywhere."""


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of an .npz file; raises CompileError naming the file and, where one is at fault, the array."""
    try:
        loaded = np.load(path, allow_pickle=False)
    except OSError as error:
        raise CompileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise CompileError(f"{path}: not an .npz file, expected one written by numpy.savez") from None
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise CompileError(f"{path}: a single array, expected an .npz file with arrays named after the inputs")
    with loaded:
        return {name: _member(loaded, name, str(path)) for name in loaded.files}


def read_npy(path: Path) -> Array:
    """The array of an .npy file; raises CompileError naming the file."""
    try:
        loaded = np.load(path, allow_pickle=False)
    except OSError as error:
        raise CompileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, MemoryError) as error:
        raise CompileError(f"{path}: not an .npy file of numbers: {error}") from None
    if not isinstance(loaded, np.ndarray):
        raise CompileError(f"{path}: not an .npy file, expected one written by numpy.save")
    return cast(Array, loaded)


def read_samples(path: Path, inputs: Mapping[str, TensorType]) -> dict[str, Array]:
    """The arrays of an .npz file, or of a folder of .npz and .npy files joined along the samples in order of name.

    In a folder NAME.npy, NAME_0.npy, NAME-0.npy ... belong to input NAME; any .npy file does if there is one input.
    Raises CompileError; what the arrays must look like is for `checked_samples` to say.
    """
    if not path.is_dir():
        return read_npz(path)
    parts: dict[str, list[Array]] = {}
    files = sorted(entry for entry in path.iterdir() if entry.suffix in (".npz", ".npy"))
    if not files:
        raise CompileError(f"{path}: the folder holds no .npz or .npy file, expected sample inputs")
    for file in files:
        arrays = read_npz(file) if file.suffix == ".npz" else {_input_of(file, inputs): read_npy(file)}
        for name, array in checked_samples(arrays, inputs, str(file), partial=True).items():
            parts.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def checked_samples(
    arrays: Mapping[str, Array], inputs: Mapping[str, TensorType], source: str, *, partial: bool = False
) -> dict[str, Array]:
    """The inputs among `arrays`, as the model wants them: first axis samples, finite float32.

    float64 and float16 are converted; an array `labels` is left out; an input [B, ...] takes B rows at a time. With
    `partial` some inputs may be missing. Raises CompileError naming `source`, the array, what it is and what is
    expected: an unknown or missing name, a wrong shape or type, no samples, unequal counts, NaN or infinity.
    """
    kind: type = type(arrays)
    if not issubclass(kind, Mapping):
        raise CompileError(f"{source}: {kind.__name__}, expected arrays by input name")
    known = ", ".join(f"'{name}'" for name in inputs)
    for name in map(str, arrays):
        if name not in inputs and name != LABELS:
            near = difflib.get_close_matches(name, inputs, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise CompileError(f"{source}: array '{name}' is not an input of the model, expected {known}{hint}")
    missing = [name for name in inputs if name not in arrays]
    if missing and not partial:
        found = ", ".join(f"'{name}'" for name in arrays) or "no arrays"
        raise CompileError(f"{source}: input '{missing[0]}' is missing, found {found}")
    samples = {
        name: _checked(_array(arrays[name], name, source), name, type, source)
        for name, type in inputs.items()
        if name in arrays
    }
    runs = {name: len(array) / (inputs[name].shape[0] if inputs[name].rank else 1) for name, array in samples.items()}
    if len(set(runs.values())) > 1:
        counts = ", ".join(f"'{name}' {len(array)}" for name, array in samples.items())
        raise CompileError(f"{source}: the inputs hold different numbers of samples: {counts}")
    return samples


def filled_samples(samples: Mapping[str, Array], batch: int) -> dict[str, Array]:
    """The samples with the last one repeated until whole runs of `batch` are full; as they are where batch is 0."""
    missing = -len(next(iter(samples.values()))) % batch if batch else 0
    if not missing:
        return dict(samples)
    return {name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) for name, array in samples.items()}


def checked_labels(arrays: Mapping[str, Array], count: int, classes: int, source: str) -> Array:
    """The classes of `count` samples, int64 [count] from 0 to `classes` - 1.

    Raises CompileError, naming `source`, if they are missing or do not fit.
    """
    if LABELS not in arrays:
        found = ", ".join(f"'{name}'" for name in arrays) or "no arrays"
        raise CompileError(f"{source}: array '{LABELS}' is missing, found {found}; expected the class of every sample")
    labels = _array(arrays[LABELS], LABELS, source)
    if labels.dtype.kind not in "iu":
        raise CompileError(f"{source}: array '{LABELS}' is {labels.dtype}, expected integers")
    if labels.shape not in ((count,), (count, 1)):
        raise CompileError(f"{source}: array '{LABELS}' has shape {list(labels.shape)}, expected [{count}]")
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        sample = int(np.argmax(wrong))
        found = f"array '{LABELS}' holds {labels.flat[sample]} in sample {sample}"
        raise CompileError(f"{source}: {found}, expected 0 to {classes - 1} for the {classes} elements of the output")
    return labels.reshape(count).astype(np.int64)


def _array(values: Any, name: str, source: str) -> Array:
    try:
        return np.asarray(values)
    except ValueError:
        raise CompileError(f"{source}: array '{name}' has rows of different lengths, expected one shape") from None


def _checked(array: Array, name: str, type: TensorType, source: str) -> Array:
    what = f"{source}: array '{name}'"
    expected = ["samples", *type.shape[1:]] if type.rank else ["samples"]
    words = f"[{', '.join(map(str, expected))}]"
    wanted = type.element.dtype
    if array.shape[1:] != type.shape[1:] or array.ndim != max(type.rank, 1):
        hint = "; add a first axis for the samples" if array.shape == type.shape[1:] else ""
        raise CompileError(f"{what} has shape {list(array.shape)}, expected {words}{hint}")
    if not len(array):
        raise CompileError(f"{what} holds no samples")
    if isinstance(type.element, ScalarType) and not type.element.is_float:
        if array.dtype != wanted:
            raise CompileError(f"{what} is {array.dtype}, expected {wanted}")
        return array
    if array.dtype.kind != "f":
        hint = "; convert it the way the model was trained, such as x / 255" if array.dtype.kind in "iu" else ""
        raise CompileError(f"{what} is {array.dtype}, expected {wanted}{hint}")
    with np.errstate(over="ignore"):
        converted = array.astype(wanted, copy=False)
    _refuse_infinite(converted, what)
    return converted


def _refuse_infinite(array: Array, what: str) -> None:
    # A sum is finite unless an element is not or it overflows; only then is every element looked at.
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):
            return
    rows = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if not rows.all():
        first = int(np.argmin(rows))
        word = "NaN" if np.isnan(array[first]).any() else "infinity"
        raise CompileError(f"{what} holds {word} in sample {first}, expected numbers")


def _input_of(file: Path, inputs: Iterable[str]) -> str:
    names = list(inputs)
    matching = [name for name in names if file.stem == name or file.stem.startswith((f"{name}_", f"{name}-"))]
    if not matching and len(names) != 1:
        expected = ", ".join(f"{name}.npy" for name in names)
        raise CompileError(f"{file}: belongs to no input of the model, expected names such as {expected}")
    return max(matching, key=len) if matching else names[0]


def _member(archive: Any, name: str, source: str) -> Array:
    try:
        member: Any = archive[name]
    except (ValueError, EOFError, OSError, MemoryError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        reason = "python objects, expected numbers" if "allow_pickle" in str(error) else f"damaged data: {error}"
        raise CompileError(f"{source}: array '{name}' holds {reason}") from None
    if not isinstance(member, np.ndarray):
        raise CompileError(f"{source}: '{name}' is not an array, expected a file written by numpy.savez")
    return cast(Array, member)
