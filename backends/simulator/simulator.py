"""Runs a program on arrays: host steps, chunks of samples, the instructions in an order that the tokens allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cached_property
from threading import Lock

import numpy as np

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.types import Array, TensorType
from ..host import InputPort
from ..program import Program
from .analysis import Analysis, analyse
from .binder import bind_fast, bind_plain
from .hazards import check_hazards
from .host import Host
from .kernels import WORTHWHILE, has_kernels, load_kernels
from .leftovers import CLEARED_BYTES, Leftovers, leftovers
from .memory import Memory, extents
from .modes import BF16_SUMS, MODES
from .plain import Step
from .threads import in_threads

CHUNK_BYTES = 16 << 20
"""Samples run together as long as their state stays below this."""
CHUNK_SAMPLES = 64

Progress = Callable[[int, int], None]

Bound = tuple[Memory, Host, list[tuple[int, Step]]]
"""Memories, the host beside them, and (instruction index, step) in order of execution."""


class Simulator:
    """The functional model of one program.

    `fast` (the default) computes whole batches of samples in BLAS; `plain` executes the definition of every
    instruction, sample by sample: the reference, equal in every bit. `checked` is `fast` after a proof that the
    program never reads memory that nothing has written and that tokens order all conflicting accesses.
    `compiled` says whether machine code takes the place of numpy where there is some: None (the default) from the run
    on whose work, with that of the runs before, is worth loading it, where Numba is installed. The bits are the same.
    With `bf16_sums` "blas", products of bfloat16 are added by BLAS in float32, in whatever order it likes: faster, but
    the results are those of no machine.
    CompileError if the program is not valid or, in checked mode, not clean.
    """

    def __init__(
        self,
        program: Program,
        *,
        mode: str = "fast",
        bf16_sums: str = "exact",
        chunk: int | None = None,
        compiled: bool | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode is '{mode}', expected one of {', '.join(MODES)}")
        if bf16_sums not in BF16_SUMS:
            raise ValueError(f"bf16_sums is '{bf16_sums}', expected one of {', '.join(BF16_SUMS)}")
        if mode == "plain" and bf16_sums != "exact":
            raise ValueError(f"bf16_sums is '{bf16_sums}' in mode plain, expected exact")
        self.program, self.bf16_sums = program, bf16_sums
        self.extents = extents(program)
        if mode == "checked":
            check_hazards(program)
        self.analysis: Analysis | None = None if mode == "plain" else analyse(program)
        per_sample = self.extents.sample_bytes
        if self.analysis is not None:
            per_sample += sum(self.analysis.slots)
            if not self.analysis.needs_accumulators:
                per_sample -= 8 * self.extents.accumulators
        self._limit = chunk or max(1, min(CHUNK_SAMPLES, CHUNK_BYTES // max(per_sample, 1)))
        self.compiled = bool(compiled) and load_kernels()
        self._hesitates = compiled is None and mode != "plain" and has_kernels()
        self._work = self._cleared = 0
        self._leftovers: Leftovers | None = None
        self._bound: dict[int, dict[int, Bound]] = {}
        self._running = Lock()

    def run(self, inputs: Mapping[str, Array], *, jobs: int = 1, progress: Progress | None = None) -> dict[str, Array]:
        """Arrays named after the outputs from arrays named after the inputs.

        The first axis counts samples: an input of type [B, ...] takes [samples * B, ...]; outputs likewise. Inputs of
        another float or integer type are not converted. `progress(done, samples)` is called after every chunk.
        With `jobs` threads as many chunks run side by side; results do not depend on it. Calls from several threads
        take turns, as the memories are kept from run to run.
        CompileError for missing, unknown, misshapen or NaN inputs.
        """
        arrays = self._checked_inputs(inputs)
        samples = len(next(iter(arrays.values()))) if arrays else 1
        size = self._chunk(samples)
        starts = range(0, samples, size)
        chunks = [{name: a[start : start + size] for name, a in arrays.items()} for start in starts]
        parts: list[list[Array]] = []
        with self._running:
            self._consider_kernels(samples)
            self._consider_clearing(samples)
            for part in in_threads(self._run_chunk, chunks, jobs):
                parts.append(part)
                if progress is not None:
                    progress(min(len(parts) * size, samples), samples)
        outputs: dict[str, Array] = {}
        for index, port in enumerate(self.program.outputs):
            whole = np.concatenate([part[index] for part in parts]) if parts else np.zeros((0, *port.type.shape))
            shape = port.type.shape
            joined = (len(whole) * shape[0], *shape[1:]) if shape else (len(whole),)
            outputs[port.name] = whole.reshape(joined).astype(port.type.element.dtype, copy=False)
        return outputs

    def _chunk(self, samples: int) -> int:
        """How many samples run together: of up to half as few as fit, a number that leaves no rest.

        A rest would need memories of its own beside the others in the cache.
        """
        sizes = range(self._limit, self._limit // 2, -1)
        return next((size for size in sizes if samples % size == 0), self._limit) if samples else 1

    def _consider_kernels(self, samples: int) -> None:
        """Turn to machine code if this run and those before it are worth loading it."""
        if self._hesitates:
            self._work += samples * self._results
            if self._work >= WORTHWHILE:
                self.compiled, self._hesitates = load_kernels(), False
                self._bound.clear()

    def _consider_clearing(self, samples: int) -> None:
        """Find out what has to be cleared once that takes no longer than clearing everything has taken."""
        if self._leftovers is None and self.analysis is not None:
            if self._cleared >= CLEARED_BYTES * len(self.program.instructions):
                self._leftovers = leftovers(self.program, self.analysis.operations, self.extents)
            self._cleared += samples * (self.extents.sram + self.extents.dram)

    @cached_property
    def _results(self) -> int:
        """What the vector unit writes for one sample, in elements."""
        vector = (each for each in self.program.instructions if each.op_class.engine == "vector")
        return sum(region.size for each in vector for region in each.regions() if region.writes)

    def _run_chunk(self, worker: int, inputs: Mapping[str, Array]) -> list[Array]:
        samples = len(next(iter(inputs.values()))) if inputs else 1
        memory, host, steps = self._bind(self._bound.setdefault(worker, {}), samples)
        memory.reset(self._leftovers)
        host.begin(self.program.inputs, inputs)
        index = -1
        # Infinities of bf16 are results like others.
        quiet = np.errstate(all="ignore") if self.bf16_sums == "blas" else nullcontext()
        try:
            with quiet:
                for index, step in steps:  # noqa: B007
                    step()
        except (ValueError, IndexError, TypeError, OverflowError) as error:
            raise CompileError(f"{self.program.describe(index)}: cannot be executed: {error}") from error
        return [host.read(port) for port in self.program.outputs]

    def _bind(self, kept: dict[int, Bound], samples: int) -> Bound:
        """A worker's memories, host and steps for a number of samples; kept, since a run uses at most two sizes."""
        bound = kept.get(samples)
        if bound is None:
            if len(kept) > 1:
                kept.clear()
            whole = self.analysis is None or self.analysis.needs_accumulators
            memory = Memory.allocate(self.program, self.extents, samples, accumulators=whole)
            host = Host(self.program, memory, compiled=self.compiled)
            if self.analysis is None:
                steps = bind_plain(self.program, memory, host)
            else:
                ordered, compiled = self.bf16_sums == "exact", self.compiled
                steps = bind_fast(self.program, self.analysis, memory, host, compiled=compiled, ordered=ordered)
            bound = kept[samples] = memory, host, steps
        return bound

    def _checked_inputs(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        known = {port.name: port for port in self.program.inputs}
        for name in inputs:
            if name not in known:
                names = ", ".join(f"'{name}'" for name in known)
                raise CompileError(f"input '{name}' is not an input of the model, expected {names}")
        arrays = {name: _samples(port, inputs) for name, port in known.items()}
        counts = {name: len(array) for name, array in arrays.items()}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"'{name}' {count}" for name, count in counts.items())
            raise CompileError(f"inputs have different numbers of samples: {found}")
        return arrays


def _samples(port: InputPort, inputs: Mapping[str, Array]) -> Array:
    """The input as [samples, *type.shape], checked."""
    if port.name not in inputs:
        raise CompileError(f"input '{port.name}' is missing, expected {_expected(port.type)}")
    array = np.asarray(inputs[port.name])
    shape, dtype = port.type.shape, port.type.element.dtype
    fits = array.ndim == max(len(shape), 1) and array.shape[1:] == shape[1:]
    if not fits or array.dtype != dtype or (shape and array.shape[0] % shape[0]):
        found = f"{array.dtype}{list(array.shape)}"
        raise CompileError(f"input '{port.name}' is {found}, expected {_expected(port.type)}")
    samples = array.reshape(len(array) // shape[0] if shape else len(array), *shape)
    if dtype.kind == "f" and samples.size and np.isnan(samples.min()):
        bad = np.isnan(samples.reshape(len(samples), -1)).any(axis=1)
        sample = int(np.flatnonzero(bad)[0])
        place = np.argwhere(np.isnan(samples[sample]))[0].tolist()
        raise CompileError(f"input '{port.name}' is NaN in sample {sample} at {place}")
    return samples


def _expected(type: TensorType) -> str:
    shape = type.shape or (1,)
    first = "samples" if shape[0] == 1 else f"{shape[0]} * samples"
    return f"{type.element.dtype}[{', '.join([first, *map(str, shape[1:])])}]"
