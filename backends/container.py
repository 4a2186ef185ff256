"""The container of program files: a zip archive of uncompressed members that has exactly one valid form.

Written and read here byte by byte (PKWARE APPNOTE 6.3, sections 4.3.7, 4.3.12 and 4.3.16), so that equal members give
equal files whatever the Python version, and any byte that differs from the canonical form is noticed. Nothing is
compressed: no member can be larger than the file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

from ..dialects.core.diagnostics import CompileError

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION = 20
_MADE_BY = 3 << 8 | _VERSION  # Unix, so that the mode below is respected
_MODE = 0o100644 << 16
_TIME, _DATE = 0, 0x21  # 1980-01-01 00:00, the first date a zip can express
_LIMIT = 2**32 - 1


def pack(members: Mapping[str, bytes]) -> bytes:
    """The archive of the members in order; CompileError if it would pass 4 GiB."""
    parts: list[bytes] = []
    directory: list[bytes] = []
    offset = 0
    for name, data in members.items():
        encoded = name.encode("ascii")
        shared = (_VERSION, 0, 0, _TIME, _DATE, zlib.crc32(data), len(data), len(data), len(encoded), 0)
        if offset + len(data) > _LIMIT - 2**16:
            raise CompileError(f"the program is larger than {_LIMIT} bytes")
        directory.append(_CENTRAL.pack(b"PK\x01\x02", _MADE_BY, *shared, 0, 0, 0, _MODE, offset) + encoded)
        parts += [_LOCAL.pack(b"PK\x03\x04", *shared), encoded, data]
        offset += _LOCAL.size + len(encoded) + len(data)
    listing = b"".join(directory)
    end = _END.pack(b"PK\x05\x06", 0, 0, len(directory), len(directory), len(listing), offset, 0)
    return b"".join([*parts, listing, end])


def unpack(archive: bytes, names: Sequence[str]) -> dict[str, bytes]:
    """The members, which must be exactly `names` in order; CompileError says what is wrong with the archive."""
    members: dict[str, bytes] = {}
    offset = 0
    for name in names:
        encoded = name.encode("ascii")
        if len(archive) < offset + _LOCAL.size:
            raise CompileError(f"not a program file: it ends before member '{name}'")
        magic, *_, crc, packed, size, name_size, extra = _LOCAL.unpack_from(archive, offset)
        offset += _LOCAL.size
        if magic != b"PK\x03\x04":
            raise CompileError(f"not a program file: no member '{name}' at byte {offset - _LOCAL.size}")
        if archive[offset : offset + name_size] != encoded or extra or packed != size:
            raise CompileError(f"not a program file: the header of member '{name}' is damaged")
        offset += name_size
        data = archive[offset : offset + size]
        if len(data) != size:
            raise CompileError(f"truncated: member '{name}' has {len(data)} of {size} bytes")
        if zlib.crc32(data) != crc:
            raise CompileError(f"damaged: member '{name}' does not match its CRC")
        members[name] = data
        offset += size
    if pack(members) != archive:
        raise CompileError("damaged: the archive's headers are not those of a program file")
    return members
