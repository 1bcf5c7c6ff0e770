"""IGMP of all versions (RFC 1112, 2236, 9776, 4286) to type, group and records."""

from mcastctl.decode import checksum
from mcastctl.decode.cursor import Cursor, Fields

QUERY, V1_REPORT, DVMRP, PIM_V1, V2_REPORT, LEAVE, V3_REPORT = 0x11, 0x12, 0x13, 0x14, 22, 23, 34
_REPORTS = {V1_REPORT: 1, V2_REPORT: 2}
_OTHERS = {
    DVMRP: "dvmrp",
    0x15: "cisco-trace",
    0x30: "router-advertisement",  # multicast router discovery, RFC 4286
    0x31: "router-solicitation",
    0x32: "router-termination",
}
_VERSION_0 = {  # RFC 988
    1: "create-group-request",
    2: "create-group-reply",
    3: "join-group-request",
    4: "join-group-reply",
    5: "leave-group-request",
    6: "leave-group-reply",
    7: "confirm-group-request",
    8: "confirm-group-reply",
}
_MTRACE = {0x1E: "mtrace-response", 0x1F: "mtrace"}
_ANY = "0.0.0.0"  # noqa: S104 (no address to bind to: the group of a general query)
_RGMP_GROUP = bytes((224, 0, 0, 25))
_RGMP = {0xFC: "leave-group", 0xFD: "join-group", 0xFE: "bye", 0xFF: "hello"}

MODES = {1: "is_in", 2: "is_ex", 3: "to_in", 4: "to_ex", 5: "allow", 6: "block"}
"""Record types of IGMPv3 and MLDv2 (RFC 9776 section 4.2.13, RFC 9777 section 5.2.12)."""


def decode(data: bytes, fields: Fields, dst: bytes, length: int, *, whole: bool) -> None:
    """Note what one message of `length` bytes, sent to `dst`, says in `fields`.

    `whole` says that no byte of it is missing: only then can the checksum be judged. Raises
    Short with everything before the missing part noted.
    """
    cursor = Cursor(data)
    code = cursor.u8()
    fields["type_code"] = code
    fields["checksum_ok"] = checksum.is_right(data) if whole else None
    if dst == _RGMP_GROUP and code in _RGMP:
        fields["type"] = f"rgmp-{_RGMP[code]}"
        cursor.skip(3)
        fields["group"] = cursor.ipv4()
    elif code == QUERY:
        _query(cursor, fields, length)
    elif code == V3_REPORT:
        fields |= {"type": "report", "version": 3}
        cursor.skip(5)
        records(cursor, fields, cursor.u16(), 4)
    elif code in (V1_REPORT, V2_REPORT, LEAVE):
        fields["type"] = "leave" if code == LEAVE else "report"
        fields["version"] = _REPORTS.get(code, 2)
        cursor.skip(3)
        fields["group"] = cursor.ipv4()
    elif code in _MTRACE:
        fields["type"] = _MTRACE[code]
        fields["hops"] = cursor.u8()
        cursor.skip(2)
        fields["group"] = cursor.ipv4()
        fields["sources"] = [cursor.ipv4()]
    elif code in _VERSION_0:
        fields |= {"type": _VERSION_0[code], "version": 0}
        cursor.skip(7)
        fields["group"] = cursor.ipv4()
    else:
        fields["type"] = _OTHERS.get(code, f"type-0x{code:02x}")


def _query(cursor: Cursor, fields: Fields, length: int) -> None:
    """Tell the versions apart as RFC 9776 section 7.1 does: by length, then by the code."""
    fields["type"] = "query"
    code = cursor.u8()
    cursor.skip(2)
    if length < 12:
        fields["version"] = 2 if code else 1
        if code:
            fields["max_response_s"] = code / 10
        fields["group"] = cursor.ipv4()
        return
    fields["version"] = 3
    fields["max_response_s"] = floating(code, 4) / 10
    fields["group"] = cursor.ipv4()
    query_tail(cursor, fields, 4)


def floating(code: int, mantissa_bits: int) -> int:
    """Return the value of a code: itself, or mantissa and exponent above half its range."""
    half = 1 << (mantissa_bits + 3)
    if code < half:
        return code
    top = 1 << mantissa_bits
    exponent = code >> mantissa_bits & 7
    return (code & (top - 1) | top) << (exponent + 3)


def query_tail(cursor: Cursor, fields: Fields, address_size: int) -> None:
    """Note what IGMPv3 and MLDv2 queries say after the group."""
    flags = cursor.u8()
    fields["suppress"] = bool(flags & 8)
    fields["robustness"] = flags & 7
    fields["query_interval_s"] = floating(cursor.u8(), 4)
    sources: list[str] = []
    fields["sources"] = sources
    for _ in range(cursor.u16()):
        sources.append(_address(cursor, address_size))


def records(cursor: Cursor, fields: Fields, count: int, address_size: int) -> None:
    """Note the group records of a version 3 (MLD: version 2) report."""
    found: list[Fields] = []
    fields["records"] = found
    for _ in range(count):
        kind = cursor.u8()
        named: list[str] = []
        record: Fields = {"type": kind, "mode": MODES.get(kind, f"type-{kind}")}
        record |= {"group": None, "sources": named}
        if address_size == 16:  # cut captures often end in these long records: tell the type
            found.append(record)
        auxiliary = 4 * cursor.u8()
        sources = cursor.u16()
        record["group"] = _address(cursor, address_size)
        if address_size == 4:
            found.append(record)
        for _ in range(sources):
            named.append(_address(cursor, address_size))
        cursor.skip(auxiliary)


def _address(cursor: Cursor, size: int) -> str:
    return cursor.ipv4() if size == 4 else cursor.ipv6()


def info(fields: Fields) -> str:
    """Return the message in a few words, as tcpdump -v words them."""
    name = fields.get("type", "")
    version = f" v{fields['version']}" if "version" in fields else ""
    parts = [f"igmp{version} {name}"]
    if "records" in fields:
        parts[0] += f", {record_list(fields)}"
    elif "group" in fields:
        parts.append(str(fields["group"]) if name != "query" else query_info(fields, _ANY))
    return " ".join(part for part in parts if part)


def query_info(fields: Fields, any_group: str) -> str:
    """Return what is asked for and how soon and how often."""
    group = fields["group"]
    asked = "general" if group == any_group else f"[gaddr {group}]"
    if fields.get("sources"):
        asked = f"[gaddr {group} {{ {' '.join(fields['sources'])} }}]"
    within = f" [max resp time {fields['max_response_s']:g}s]" if "max_response_s" in fields else ""
    every = f" [every {fields['query_interval_s']}s]" if "query_interval_s" in fields else ""
    return f"{asked}{within}{every}"


def record_list(fields: Fields) -> str:
    """Return the records of a report in tcpdump's words."""
    found = fields["records"]
    shown = []
    for one in found:
        sources = "".join(f"{source} " for source in one["sources"])
        shown.append(f" [gaddr {one['group'] or '?'} {one['mode']} {{ {sources}}}]")
    return f"{len(found)} group record(s){''.join(shown)}"
