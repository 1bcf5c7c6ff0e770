"""mDNS (RFC 6762) and LLMNR (RFC 4795) to questions and records, in bounded work.

Names are joined by dots as tshark shows them, a dot inside a label included. Text that is no
UTF-8 keeps its bytes as backslash escapes; the rest is for whoever prints it to escape.
"""

from collections.abc import Callable

from mcastctl.decode.cursor import Cursor, Fields, Malformed, Short

TYPES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    10: "NULL",
    12: "PTR",
    13: "HINFO",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    29: "LOC",
    33: "SRV",
    35: "NAPTR",
    39: "DNAME",
    41: "OPT",
    42: "APL",
    43: "DS",
    44: "SSHFP",
    46: "RRSIG",
    47: "NSEC",
    48: "DNSKEY",
    50: "NSEC3",
    51: "NSEC3PARAM",
    52: "TLSA",
    64: "SVCB",
    65: "HTTPS",
    250: "TSIG",
    251: "IXFR",
    252: "AXFR",
    255: "ANY",
    256: "URI",
    257: "CAA",
}
_OPCODES = {0: "query", 4: "notify", 5: "update"}
_SECTIONS = ("answers", "authorities", "additionals")
_MOST_LABELS = 128
_MOST_WORK = 4096
"""Labels read for one message in all: a few hundred bytes of pointers could name millions."""


class _Names:
    """Reads names, following compression pointers backwards only (RFC 1035 section 4.1.4)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._work = 0

    def read(self, cursor: Cursor) -> str:
        """Return the name at the cursor and move behind it."""
        labels: list[str] = []
        at, end, jumped = cursor.at, cursor.end, False
        lowest = cursor.at
        while True:
            self._work += 1
            if self._work > _MOST_WORK or len(labels) > _MOST_LABELS:
                raise Malformed("a name without end")
            if at >= end:
                raise Short
            size = self._data[at]
            if size >= 0xC0:
                if at + 2 > end:
                    raise Short
                target = (size & 0x3F) << 8 | self._data[at + 1]
                if not jumped:
                    cursor.at = at + 2
                if target >= lowest:
                    raise Malformed("a name that points at itself")
                at = lowest = target
                end, jumped = len(self._data), True
                continue
            if size > 63:
                raise Malformed("a name with an unknown label")
            at += 1
            if size == 0:
                break
            if at + size > end:
                raise Short
            labels.append(_text(self._data[at : at + size]))
            at += size
        if not jumped:
            cursor.at = at
        return ".".join(labels) or "<Root>"


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def decode(data: bytes, fields: Fields) -> None:
    """Note what one message says in `fields`. Raises Short and Malformed."""
    cursor = Cursor(data)
    fields["id"] = cursor.u16()
    flags = cursor.u16()
    opcode = flags >> 11 & 0x0F
    fields["response"] = bool(flags & 0x8000)
    fields["type"] = "response" if flags & 0x8000 else "query"
    fields["opcode"] = _OPCODES.get(opcode, str(opcode))
    fields["authoritative"] = bool(flags & 0x0400)
    fields["truncated_message"] = bool(flags & 0x0200)
    fields["rcode"] = flags & 0x0F
    counts = [cursor.u16() for _ in range(4)]
    names = _Names(data)
    fields |= {section: [] for section in ("questions", *_SECTIONS)}
    questions = fields["questions"]
    for _ in range(counts[0]):
        questions.append(_question(cursor, names))
    for section, count in zip(_SECTIONS, counts[1:], strict=True):
        for _ in range(count):
            fields[section].append(_record(cursor, names))


def _question(cursor: Cursor, names: _Names) -> Fields:
    name = names.read(cursor)
    kind, group = cursor.u16(), cursor.u16()
    # The top bit of the class asks for a unicast answer (RFC 6762 section 5.4).
    return {
        "name": name,
        "type": TYPES.get(kind, f"TYPE{kind}"),
        "class": group & 0x7FFF,
        "unicast_response": bool(group & 0x8000),
    }


def _record(cursor: Cursor, names: _Names) -> Fields:
    name = names.read(cursor)
    kind, group = cursor.u16(), cursor.u16()
    record: Fields = {"name": name, "type": TYPES.get(kind, f"TYPE{kind}")}
    if kind != 41:  # the class of OPT is a size (RFC 6891)
        record |= {"class": group & 0x7FFF, "cache_flush": bool(group & 0x8000)}
    record["ttl_s"] = cursor.u32()
    size = cursor.u16()
    if size > cursor.left:
        raise Short
    inner = Cursor(cursor.data, cursor.at, cursor.at + size)
    cursor.skip(size)
    try:
        reader = _VALUES.get(kind)
        record["data"] = reader(inner, names) if reader else inner.rest().hex()
    except Short:
        raise Malformed(f"{record['type']} data that ends early") from None
    return record


def _service(cursor: Cursor, names: _Names) -> Fields:
    value: Fields = {"priority": cursor.u16(), "weight": cursor.u16(), "port": cursor.u16()}
    return value | {"target": names.read(cursor)}


def _strings(cursor: Cursor, names: _Names) -> list[str]:
    found = []
    while cursor.left:
        found.append(_text(cursor.take(cursor.u8())))
    return found


def _bitmap(cursor: Cursor) -> list[str]:
    """Return the types a bitmap names (RFC 4034 section 4.1.2)."""
    found = []
    while cursor.left:
        window = cursor.u8()
        for at, byte in enumerate(cursor.take(cursor.u8())):
            for bit in range(8):
                if byte & 0x80 >> bit:
                    kind = window << 8 | at << 3 | bit
                    found.append(TYPES.get(kind, f"TYPE{kind}"))
    return found


_VALUES: dict[int, Callable[[Cursor, _Names], object]] = {
    1: lambda cursor, names: cursor.ipv4(),
    28: lambda cursor, names: cursor.ipv6(),
    **dict.fromkeys((2, 5, 12, 39), lambda cursor, names: names.read(cursor)),
    33: _service,
    **dict.fromkeys((13, 16), _strings),
    47: lambda cursor, names: {"next": names.read(cursor), "types": _bitmap(cursor)},
}
"""Readers of record data; any other stays hexadecimal."""


def info(fields: Fields) -> str:
    """Return the message in a few words, as tshark lists them."""
    parts = [str(fields.get("type", ""))]
    for one in fields.get("questions", ()):
        asked = "QU" if one["unicast_response"] else "QM"
        parts.append(f"{one['type']} {one['name']} ({asked})")
    for section in _SECTIONS:
        for one in fields.get(section, ()):
            flush = " (cache flush)" if one.get("cache_flush") else ""
            parts.append(f"{one['type']}{flush} {one['name']} {_shown(one['data'])}".rstrip())
    return ", ".join(parts)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        port = f":{value['port']}" if "port" in value else ""
        return f"{value.get('target', value.get('next'))}{port}"
    if isinstance(value, list):
        return " ".join(f'"{one}"' for one in value[:4])
    return str(value)
