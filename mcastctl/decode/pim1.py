"""PIM version 1 (draft-ietf-idmr-pim-spec-02), which travels in IGMP, to groups and sources."""

from collections.abc import Callable

from mcastctl.decode import checksum
from mcastctl.decode.cursor import Cursor, Fields
from mcastctl.model.address import packed_text

TYPES = {
    0: "query",
    1: "register",
    2: "register-stop",
    3: "join-prune",
    4: "rp-reachable",
    5: "assert",
    6: "graft",
    7: "graft-ack",
}
_MODES = {0: "dense", 1: "sparse", 2: "sparse-dense"}


def decode(data: bytes, fields: Fields, *, whole: bool) -> None:
    """Note what one message says in `fields`, named as for version 2. Raises Short."""
    cursor = Cursor(data)
    cursor.skip(1)
    code = cursor.u8()
    fields |= {"version": 1, "type_code": code, "type": TYPES.get(code, f"type-{code}")}
    fields["checksum_ok"] = checksum.is_right(data) if whole else None
    cursor.skip(6)
    reader = _READERS.get(code)
    if reader is not None:
        reader(cursor, fields)


def _query(cursor: Cursor, fields: Fields) -> None:
    mode = cursor.u8() >> 4
    fields["mode"] = _MODES.get(mode, f"mode-{mode}")
    cursor.skip(1)
    fields["holdtime_s"] = cursor.u16()


def _register(cursor: Cursor, fields: Fields) -> None:
    head = cursor.take(20)
    fields["source"], fields["group"] = packed_text(head[12:16]), packed_text(head[16:20])
    fields["inner_protocol"] = head[9]


def _register_stop(cursor: Cursor, fields: Fields) -> None:
    fields["group"], fields["source"] = cursor.ipv4(), cursor.ipv4()


def _join_prune(cursor: Cursor, fields: Fields) -> None:
    """Note the groups with their joined and pruned sources; Graft is alike."""
    fields["upstream_neighbor"] = cursor.ipv4()
    cursor.skip(2)
    fields["holdtime_s"] = cursor.u16()
    cursor.skip(3)
    fields["groups"] = groups = []
    for _ in range(cursor.u8()):
        entry: Fields = {"group": cursor.ipv4(), "prefixlen": cursor.u32().bit_count()}
        groups.append(entry)
        joins, prunes = cursor.u16(), cursor.u16()
        entry["joins"], entry["prunes"] = [], []
        for number in range(joins + prunes):
            entry["joins" if number < joins else "prunes"].append(_source(cursor))


def _source(cursor: Cursor) -> Fields:
    bits = cursor.u16()
    flags = "".join(name for bit, name in ((0x100, "S"), (0x80, "W"), (0x40, "R")) if bits & bit)
    return {"source": cursor.ipv4(), "prefixlen": bits & 0x3F, "flags": flags}


def _reachable(cursor: Cursor, fields: Fields) -> None:
    fields["group"] = cursor.ipv4()
    cursor.skip(4)
    fields["rp"] = cursor.ipv4()
    cursor.skip(2)
    fields["holdtime_s"] = cursor.u16()


def _assert(cursor: Cursor, fields: Fields) -> None:
    fields["group"] = cursor.ipv4()
    cursor.skip(4)
    fields["source"] = cursor.ipv4()
    word = cursor.u32()
    fields["rpt"] = bool(word & 0x80000000)
    fields["metric_preference"], fields["metric"] = word & 0x7FFFFFFF, cursor.u32()


_READERS: dict[int, Callable[[Cursor, Fields], None]] = {
    0: _query,
    1: _register,
    2: _register_stop,
    3: _join_prune,
    4: _reachable,
    5: _assert,
    6: _join_prune,
    7: _join_prune,
}
