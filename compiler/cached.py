"""A compilation through a cache: taken where it is known, kept where it is not. Without a cache it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..backends.program import Program
from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Module
from .cache import Cache
from .driver import Compiled, Settings, Source, emit, float_reference
from .mixed import TradeOff


@dataclass(frozen=True)
class Built:
    """What a compilation came to.

    `program` is None where the settings stop before there is one, `compiled` where it was taken from a cache, `found`
    where nothing was searched. `reference` is the float module to evaluate against, where there is one and it is known.
    """

    program: Program | None
    compiled: Compiled | None
    reference: Module | None
    found: TradeOff | None


@dataclass(frozen=True)
class Steps:
    """How a compilation is done: `run_passes` as `compile_module` with what was imported; `search` chooses layers.

    `warn` says in one line what the user must know and what is no reason to stop.
    """

    run_passes: Callable[[Settings, Module | None], Compiled]
    search: Callable[[Settings], TradeOff] | None
    warn: Callable[[str], None]


def build(
    source: Source, settings: Settings, cache: Cache, steps: Steps, *, anew: bool = False, keep_reference: bool = False
) -> Built:
    """Search if that is asked for, then take the program from the cache or compile and keep it.

    With `anew` it is compiled and kept whether it is known or not. CompileError as `compile_module` and `emit`; that a
    program cannot be kept is a warning.
    """
    entry = cache.entry(source, settings)
    found = None if steps.search is None else steps.search(settings)
    imported = None
    if found is not None:
        chosen, imported = replace(settings, promoted=found.chosen.promoted), found.imported
        # In this order: whatever has changed since the search began shows in the second hash or at the end.
        promoted = cache.entry(source, chosen)
        entry = promoted if cache.entry(source, settings) == entry else None
        settings = chosen
    kept = None if anew else cache.find(entry)
    if kept is not None:
        reference = float_reference(source, settings, imported) if keep_reference else None
        if reference is None or cache.entry(source, settings) == entry:
            return Built(kept, None, reference, found)
    compiled = steps.run_passes(settings, imported)
    if settings.stop is not None:
        return Built(None, compiled, compiled.reference, found)
    program = emit(compiled)
    # Files that have changed while they were read are not what the entry is named after.
    if entry is not None and cache.entry(source, settings) == entry:
        try:
            cache.keep(entry, program)
        except CompileError as error:
            steps.warn(f"the program is not kept: {error.diagnostics[0].message}")
    return Built(program, compiled, compiled.reference, found)
