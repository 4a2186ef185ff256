"""Parts of the SRAM of a target, fewer banks or fewer lines of each, and where their addresses lie in the whole."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...backends.target import Target


@dataclass(frozen=True, slots=True)
class Part:
    """The first `banks` banks and the first `bank_lines` lines of each."""

    banks: int
    bank_lines: int

    def of(self, target: Target) -> Target:
        """A target that has this part of the memory only; the block ports reach the same share of its banks."""
        sram, crossbar = target.sram, target.crossbar
        reach = max(sram.interleave, crossbar.reach_banks * self.banks // sram.banks)
        return replace(
            target,
            sram=replace(sram, banks=self.banks, bank_lines=self.bank_lines),
            crossbar=replace(crossbar, reach_banks=reach),
        )

    def address(self, address: int, size: int, target: Target) -> int | None:
        """Where a buffer of `size` bytes at `address` of the part lies in the whole, in the same banks and lines.

        None if it spans bank groups that are apart in the whole.
        """
        if self.bank_lines == target.sram.bank_lines:
            return address
        own = self.bank_lines * target.sram.interleave * target.sram.line_bytes
        group, offset = divmod(address, own)
        return group * target.group_bytes + offset if offset + size <= own else None


def whole(target: Target) -> Part:
    """All of the memory."""
    return Part(target.sram.banks, target.sram.bank_lines)


def halves(part: Part, target: Target) -> list[Part]:
    """The part with half of its banks, and with half of the lines of each, where these are parts of the target.

    Banks are whole groups of which some are reached by all block ports, as in the whole; lines are at least 16.
    """
    found: list[Part] = []
    if part.banks % (2 * target.sram.interleave) == 0 and target.crossbar.port_stride_banks == 0:
        found.append(replace(part, banks=part.banks // 2))
    if part.bank_lines % 2 == 0 and part.bank_lines // 2 >= LEAST_LINES:
        found.append(replace(part, bank_lines=part.bank_lines // 2))
    return [each for each in found if each.of(target).reachable_groups]


def is_part(part: Part, target: Target) -> bool:
    """True if halving leads from the whole to the part."""
    reached = {whole(target)}
    while reached and part not in reached:
        reached = {half for each in reached for half in halves(each, target)}
    return bool(reached)


LEAST_LINES = 16
"""The fewest lines of a bank that a target may have."""
