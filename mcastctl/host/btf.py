"""Where the running kernel keeps a field: struct layouts and enumerations from its type data.

The kernel describes its own types in BTF (Documentation/bpf/btf.rst, <linux/btf.h>): a header, type
records that name each other by number, and a table of strings. Only what is asked for is decoded.
"""

import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
_HEADER = struct.Struct(
    "=HBBIIIII"
)  # magic version flags hdr_len type_off type_len str_off str_len
_TYPE = struct.Struct("=III")  # name_off info size_or_type
_MEMBER = struct.Struct("=III")  # name_off type offset in bits
_ENUM = struct.Struct("=IiI")  # name_off value; ENUM64: name_off low high
_STRUCT, _UNION, _ENUM32, _ENUM64 = 4, 5, 6, 19
_SMALLEST = {_STRUCT: _MEMBER.size, _UNION: _MEMBER.size, _ENUM32: 8, _ENUM64: 12}
_NESTING = 8  # anonymous structs within structs, deeper than any kernel goes

# Bytes that follow the record of a kind: a fixed part, and a part per element (vlen).
_EXTRA = {
    **{1: (4, 0), 3: (12, 0), _STRUCT: (0, 12), _UNION: (0, 12), _ENUM32: (0, 8)},
    **{13: (0, 8), 14: (4, 0), 15: (0, 12), 17: (4, 0), _ENUM64: (0, 12)},
}
_KINDS = 19  # newer kinds have a size this parser does not know


class BtfError(Exception):
    """The type data is missing, damaged, or lacks what was asked for."""


class Btf:
    """The types of one kernel, of which only the named ones can be asked for."""

    def __init__(self, data: bytes, names: Iterable[str]) -> None:
        """Index data (the bytes of /sys/kernel/btf/vmlinux); raises BtfError."""
        try:
            magic, _, _, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
        except struct.error as error:
            raise BtfError("the kernel's type data has no header") from error
        if magic != _MAGIC:
            raise BtfError("the kernel's type data is not in BTF")
        self._types = data[header + type_off :][:type_len]
        self._strings = data[header + str_off :][:str_len]
        self._offsets = [0]  # of each type by number; number 0 is void
        self._found: dict[str, int] = {}
        places = {self._strings.find(b"\0%b\0" % name.encode()) + 1: name for name in names}
        places.pop(0, None)  # not found; and a record without a name has none there
        self._index(places)

    def _index(self, wanted: dict[int, str]) -> None:
        types, offset, end = self._types, 0, len(self._types) - _TYPE.size
        unpack, add = _TYPE.unpack_from, self._offsets.append
        while offset <= end:
            name, info, _ = unpack(types, offset)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            if kind > _KINDS:
                raise BtfError(f"the kernel's type data has an unknown kind of record ({kind})")
            if name in wanted and kind in _SMALLEST and count:
                self._found.setdefault(wanted[name], len(self._offsets))
            add(offset)
            fixed, each = _EXTRA.get(kind, (0, 0))
            offset += _TYPE.size + fixed + each * count

    def offset(self, name: str, member: str) -> int:
        """Return the byte offset of a member of a struct, also of one in an anonymous member.

        Raises BtfError when there is no such struct or member.
        """
        found = self._member(self._number(name), member, _NESTING)
        if found is None:
            raise BtfError(f"this kernel's struct {name} has no {member}")
        return found

    def values(self, name: str) -> dict[int, str]:
        """Return {value: name} of an enumeration, without names that are not text."""
        number = self._number(name)
        record = self._elements(number, 12 if self._kind(number) == _ENUM64 else 8)
        return {_ENUM.unpack(one.ljust(12, b"\0"))[1]: self._text(one) for one in record}

    def _number(self, name: str) -> int:
        if name not in self._found:
            raise BtfError(f"this kernel's type data does not describe {name}")
        return self._found[name]

    def _kind(self, number: int) -> int:
        return int(_TYPE.unpack_from(self._types, self._offsets[number])[1] >> 24 & 0x1F)

    def _elements(self, number: int, size: int) -> Iterator[bytes]:
        start = self._offsets[number]
        count = _TYPE.unpack_from(self._types, start)[1] & 0xFFFF
        start += _TYPE.size
        if start + count * size > len(self._types):
            raise BtfError("the kernel's type data ends early")
        return (self._types[start + size * i :][:size] for i in range(count))

    def _member(self, number: int, member: str, depth: int) -> int | None:
        if not depth or number >= len(self._offsets):
            return None
        if self._kind(number) not in (_STRUCT, _UNION):
            return None
        info = _TYPE.unpack_from(self._types, self._offsets[number])[1]
        bitfields = info >> 31  # then the upper 8 bits of an offset are the width
        for record in self._elements(number, _MEMBER.size):
            name, of, bits = _MEMBER.unpack(record)
            at = int(bits & 0xFFFFFF if bitfields else bits) // 8
            if name and self._text(record) == member:
                return at
            if not name:
                inner = self._member(of, member, depth - 1)
                if inner is not None:
                    return at + inner
        return None

    def _text(self, record: bytes) -> str:
        start = int.from_bytes(record[:4], sys.byteorder)
        end = self._strings.find(b"\0", start)
        return self._strings[start : max(start, end)].decode("ascii", "replace")


def read(names: Iterable[str], path: Path = VMLINUX) -> Btf:
    """Return the running kernel's description of the named structs and enumerations.

    Raises BtfError where the kernel has none (CONFIG_DEBUG_INFO_BTF) or it is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BtfError(
            f"the kernel does not describe its types ({path}: {error.strerror}); "
            "it was built without CONFIG_DEBUG_INFO_BTF"
        ) from error
    return Btf(data, names)
