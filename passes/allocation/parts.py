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
    return Part(target.sram.banks, target.sram.bank_lines)


def smaller(part: Part, target: Target, *, every: bool = True) -> list[Part]:
    """The part with fewer of its banks, and with fewer lines of each: the next step below, and half of them.

    Steps are powers of two and three times powers of two; all larger machines have the same, twice the machine has the
    half. Without `every` only the next power of two below. Banks are whole groups of which some are reached by all
    block ports, as in the whole; lines are at least 16.
    """
    width = target.sram.interleave
    groups = _smaller(part.banks // width, every) if target.crossbar.port_stride_banks == 0 else []
    found = [replace(part, banks=count * width) for count in groups]
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
    return sorted(found, key=lambda part: (part.banks * part.bank_lines, part.banks), reverse=True)


def is_part(part: Part, target: Target) -> bool:
    """True if `smaller` leads from the whole to the part."""
    return part in every_part(target)


LEAST_LINES = 16
"""The fewest lines of a bank that a target may have."""
