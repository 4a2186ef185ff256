"""Parts of the SRAM of a target, fewer banks or fewer lines of each, and where their addresses lie in the whole."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...backends.target import Target


@dataclass(frozen=True, slots=True)
class Part:
    """The first `banks` banks, the first `bank_lines` lines of each, and how many of the banks block ports reach."""

    banks: int
    bank_lines: int
    reach_banks: int

    def of(self, target: Target) -> Target:
        """A target that has this part of the memory only."""
        return replace(
            target,
            sram=replace(target.sram, banks=self.banks, bank_lines=self.bank_lines),
            crossbar=replace(target.crossbar, reach_banks=self.reach_banks),
        )

    def address(self, address: int, target: Target) -> int:
        """Where a buffer at `address` of the part begins in the whole: in the same bank and line.

        All that lies in one bank group stays in its banks and lines. A buffer that goes on in the next groups does so
        later in the whole, where groups are larger: it takes lines that the part does not have instead, so that buffers
        that do not overlap in the part do not in the whole.
        """
        own = self.bank_lines * target.sram.interleave * target.sram.line_bytes
        group, offset = divmod(address, own)
        return group * target.group_bytes + offset


def whole(target: Target) -> Part:
    """All of the memory."""
    return Part(target.sram.banks, target.sram.bank_lines, target.crossbar.reach_banks)


def smaller(part: Part, target: Target, *, every: bool = True) -> list[Part]:
    """The part with fewer of its banks, and with fewer lines of each: the next step below, and half of them.

    Steps are powers of two and three times powers of two; all larger machines have the same, twice the machine has the
    half, where block ports reach the same share of their banks. Of fewer banks they do so in whole groups, rounded down
    and rounded up. Without `every` only the next power of two below, and rounded down. Banks are whole groups of which
    some are reached by all block ports, as in the whole; lines are at least 16.
    """
    width = target.sram.interleave
    groups, reached = part.banks // width, part.reach_banks // width
    found: list[Part] = []
    for count in _smaller(groups, every) if target.crossbar.port_stride_banks == 0 else []:
        least = max(1, reached * count // groups)
        most = -(-reached * count // groups) if every else least
        found += [Part(count * width, part.bank_lines, reach * width) for reach in range(most, least - 1, -1)]
    found += [replace(part, bank_lines=count) for count in _smaller(part.bank_lines, every) if count >= LEAST_LINES]
    return [each for each in found if each.of(target).reachable_groups]


def _smaller(count: int, every: bool) -> list[int]:
    """The largest power of two below a number; with `every` or three times one, and half of the number if whole."""
    if count < 2:
        return []
    power = 1 << (count - 1).bit_length() - 1
    if not every:
        return [power]
    step = 3 * power // 2 if power >= 2 and 3 * power // 2 < count else power
    return sorted({step, count // 2 if count % 2 == 0 else step}, reverse=True)


def every_part(target: Target) -> list[Part]:
    """The whole and all parts that `smaller` leads to, those of most bytes first."""
    found, reached = set[Part](), {whole(target)}
    while reached:
        found |= reached
        reached = {each for larger in reached for each in smaller(larger, target)} - found
    return sorted(found, key=lambda part: (part.banks * part.bank_lines, part.banks, part.reach_banks), reverse=True)


def is_part(part: Part, target: Target) -> bool:
    """True if a target has all that a part has, and that is whole bank groups of which all block ports reach some."""
    sram, crossbar = target.sram, target.crossbar
    fewest = sram.interleave if crossbar.port_stride_banks == 0 else sram.banks
    return (
        part.banks in range(fewest, sram.banks + 1, sram.interleave)
        and LEAST_LINES <= part.bank_lines <= sram.bank_lines
        and part.reach_banks <= min(part.banks, crossbar.reach_banks)
        and bool(part.of(target).reachable_groups)
    )


LEAST_LINES = 16
"""The fewest lines of a bank that a target may have."""
