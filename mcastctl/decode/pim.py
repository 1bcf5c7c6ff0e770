"""PIM version 2 (RFC 7761, 5059, 3973, 5015) to type, neighbours, groups and sources."""

from collections.abc import Callable

from mcastctl.decode import checksum
from mcastctl.decode.cursor import Cursor, Fields, Malformed
from mcastctl.model.address import packed_text

REGISTER, DF_ELECTION = 1, 10
TYPES = {
    0: "hello",
    1: "register",
    2: "register-stop",
    3: "join-prune",
    4: "bootstrap",
    5: "assert",
    6: "graft",
    7: "graft-ack",
    8: "candidate-rp",
    9: "state-refresh",
    10: "df-election",
    11: "ecmp-redirect",
    12: "pim-flooding",
}
_HOLDTIME, _LAN_DELAY = 1, 2
_PRIORITY, _GENERATION, _REFRESH, _BIDIR, _ADDRESSES = 19, 20, 21, 22, 24
_OLD_ADDRESSES = 65001
"""The number of the address list before it got one (Cisco)."""
_ELECTION = {1: "offer", 2: "winner", 3: "backoff", 4: "pass"}
_FLAGS = ((4, "S"), (2, "W"), (1, "R"))
_WITH_ATTRIBUTES = 1
"""The encoding type of a source with join attributes behind it."""


def decode(data: bytes, fields: Fields, pseudo: bytes, *, whole: bool) -> None:
    """Note what one message says in `fields`; `pseudo` is empty for IPv4.

    A Register's checksum covers its first eight bytes only (RFC 7761 section 4.9); some senders
    sum the whole packet, which is accepted as well.
    """
    cursor = Cursor(data)
    first = cursor.u8()
    version, code = first >> 4, first & 0x0F
    fields["version"] = version
    fields["type_code"] = code
    fields["type"] = TYPES.get(code, f"type-{code}")
    if version != 2:
        raise Malformed(f"PIM version {version}")
    right = checksum.is_right(pseudo + data)
    if code == REGISTER:
        head = pseudo[:-8] + (8).to_bytes(4, "big") + pseudo[-4:] if pseudo else b""
        right = checksum.is_right(head + data[:8]) or (whole and right)
        fields["checksum_ok"] = right
    else:
        fields["checksum_ok"] = right if whole else None
    if code == DF_ELECTION:
        kind = cursor.u8() >> 4
        fields["election"] = _ELECTION.get(kind, f"type-{kind}")
        cursor.skip(2)
    else:
        cursor.skip(3)
    reader = _READERS.get(code)
    if reader is not None:
        reader(cursor, fields)


def _hello(cursor: Cursor, fields: Fields) -> None:
    """Note the options (section 4.9.2)."""
    while cursor.left >= 4:
        kind = cursor.u16()
        value = Cursor(cursor.take(cursor.u16()))
        if kind == _HOLDTIME:
            fields["holdtime_s"] = value.u16()
        elif kind == _LAN_DELAY:
            delay = value.u16()
            fields["propagation_delay_ms"] = delay & 0x7FFF
            fields["tracking"] = bool(delay & 0x8000)
            fields["override_interval_ms"] = value.u16()
        elif kind == _PRIORITY:
            fields["dr_priority"] = value.u32()
        elif kind == _GENERATION:
            fields["generation_id"] = value.u32()
        elif kind == _REFRESH:
            fields["state_refresh_s"] = value.take(2)[1]
        elif kind == _BIDIR:
            fields["bidirectional"] = True
        elif kind in (_ADDRESSES, _OLD_ADDRESSES):
            addresses = fields.setdefault("addresses", [])
            while value.left:
                addresses.append(_unicast(value))
        else:
            fields.setdefault("options", []).append(kind)


def _register(cursor: Cursor, fields: Fields) -> None:
    """Note the flags and whose packet is inside (section 4.9.3)."""
    flags = cursor.u32()
    fields["border"] = bool(flags & 0x80000000)
    fields["null_register"] = bool(flags & 0x40000000)
    if not cursor.left:
        return
    version = cursor.data[cursor.at] >> 4
    if version == 4:
        head = cursor.take(20)
        fields["source"], fields["group"] = packed_text(head[12:16]), packed_text(head[16:20])
        fields["inner_protocol"] = head[9]
    elif version == 6:
        head = cursor.take(40)
        fields["source"], fields["group"] = packed_text(head[8:24]), packed_text(head[24:40])
        fields["inner_protocol"] = head[6]


def _register_stop(cursor: Cursor, fields: Fields) -> None:
    fields["group"] = _group(cursor)["group"]
    fields["source"] = _unicast(cursor)


def _join_prune(cursor: Cursor, fields: Fields) -> None:
    """Note the groups with their joined and pruned sources (section 4.9.5); Graft is alike."""
    fields["upstream_neighbor"] = _unicast(cursor)
    cursor.skip(1)
    count = cursor.u8()
    fields["holdtime_s"] = cursor.u16()
    fields["groups"] = groups = []
    for _ in range(count):
        entry = _group(cursor)
        groups.append(entry)
        joins, prunes = cursor.u16(), cursor.u16()
        entry["joins"], entry["prunes"] = [], []
        for _ in range(joins):
            entry["joins"].append(_source(cursor))
        for _ in range(prunes):
            entry["prunes"].append(_source(cursor))


def _bootstrap(cursor: Cursor, fields: Fields) -> None:
    """Note the elected router and its mapping of groups to rendezvous points (RFC 5059)."""
    fields["fragment_tag"] = cursor.u16()
    fields["hash_mask_length"] = cursor.u8()
    fields["bsr_priority"] = cursor.u8()
    fields["bsr"] = _unicast(cursor)
    fields["groups"] = groups = []
    while cursor.left:
        entry = _group(cursor)
        groups.append(entry)
        entry["rp_count"] = cursor.u8()  # in all fragments of the message
        here = cursor.u8()
        cursor.skip(2)
        entry["rps"] = []
        for _ in range(here):
            rp: Fields = {"rp": _unicast(cursor), "holdtime_s": cursor.u16()}
            rp["priority"] = cursor.u8()
            entry["rps"].append(rp)
            cursor.skip(1)


def _assert(cursor: Cursor, fields: Fields) -> None:
    fields["group"] = _group(cursor)["group"]
    fields["source"] = _unicast(cursor)
    _metric(cursor, fields)


def _metric(cursor: Cursor, fields: Fields) -> None:
    """Note how good the route to the source, or with `rpt` to the rendezvous point, is."""
    word = cursor.u32()
    fields["rpt"] = bool(word & 0x80000000)
    fields["metric_preference"] = word & 0x7FFFFFFF
    fields["metric"] = cursor.u32()


def _candidate_rp(cursor: Cursor, fields: Fields) -> None:
    count = cursor.u8()
    fields["priority"] = cursor.u8()
    fields["holdtime_s"] = cursor.u16()
    fields["rp"] = _unicast(cursor)
    fields["groups"] = groups = []
    for _ in range(count):
        groups.append(_group(cursor))


def _state_refresh(cursor: Cursor, fields: Fields) -> None:
    """Note who keeps which state alive, and how far that goes (RFC 3973 section 4.7.9)."""
    fields["group"] = _group(cursor)["group"]
    fields["source"] = _unicast(cursor)
    fields["originator"] = _unicast(cursor)
    _metric(cursor, fields)
    fields["mask_length"], fields["ttl"] = cursor.u8(), cursor.u8()
    flags = cursor.u8()
    names = ("prune_indicator", "prune_now", "assert_override")
    fields |= {name: bool(flags & 0x80 >> bit) for bit, name in enumerate(names)}
    fields["interval_s"] = cursor.u8()


def _election(cursor: Cursor, fields: Fields) -> None:
    """Note who offers to forward for a rendezvous point, and to whom it falls (RFC 5015)."""
    fields["rp"] = _unicast(cursor)
    fields["metric_preference"], fields["metric"] = cursor.u32(), cursor.u32()
    if fields["election"] in ("backoff", "pass"):
        fields["other"] = _unicast(cursor)
        fields["other_metric_preference"], fields["other_metric"] = cursor.u32(), cursor.u32()
    if fields["election"] == "backoff":
        fields["interval_ms"] = cursor.u16()


def _unicast(cursor: Cursor) -> str:
    """Read an encoded unicast address (RFC 7761 section 4.9.1)."""
    return _address(cursor, _family(cursor))


def _group(cursor: Cursor) -> Fields:
    """Read an encoded group address."""
    family = _family(cursor)
    cursor.skip(1)
    length = cursor.u8()
    return {"group": _address(cursor, family), "prefixlen": length}


def _source(cursor: Cursor) -> Fields:
    """Read an encoded source address; flags: S sparse, W wildcard, R rendezvous point tree."""
    attributes = cursor.left > 1 and cursor.data[cursor.at + 1] == _WITH_ATTRIBUTES
    family = _family(cursor, most=_WITH_ATTRIBUTES)
    bits = cursor.u8()
    flags = "".join(name for bit, name in _FLAGS if bits & bit)
    length = cursor.u8()
    source = _address(cursor, family)
    last = not attributes
    while not last:  # join attributes (RFC 5384): the last one has bit 6 of its type set
        last = bool(cursor.u8() & 0x40)
        cursor.skip(cursor.u8())
    return {"source": source, "prefixlen": length, "flags": flags}


def _family(cursor: Cursor, most: int = 0) -> int:
    """Read address family and encoding type of an address, the latter `most` at most."""
    family, encoding = cursor.u8(), cursor.u8()
    if family not in (1, 2):
        raise Malformed(f"PIM address family {family}")
    if encoding > most:
        raise Malformed(f"PIM address encoding {encoding}")
    return family


def _address(cursor: Cursor, family: int) -> str:
    return cursor.ipv4() if family == 1 else cursor.ipv6()


_READERS: dict[int, Callable[[Cursor, Fields], None]] = {
    0: _hello,
    REGISTER: _register,
    2: _register_stop,
    3: _join_prune,
    4: _bootstrap,
    5: _assert,
    6: _join_prune,
    7: _join_prune,
    8: _candidate_rp,
    9: _state_refresh,
    DF_ELECTION: _election,
}


def info(fields: Fields) -> str:
    """Return the message in a few words."""
    parts = [f"pim v{fields.get('version', 2)} {fields.get('type', '')}"]
    if "election" in fields:
        parts.append(fields["election"])
    if "upstream_neighbor" in fields:
        parts.append(f"upstream-neighbor {fields['upstream_neighbor']}")
    if "bsr" in fields:
        parts.append(f"bsr {fields['bsr']} priority {fields['bsr_priority']}")
    if "rp" in fields:
        parts.append(f"rp {fields['rp']}")
    if "priority" in fields:
        parts.append(f"priority {fields['priority']}")
    if "group" in fields:
        parts.append(f"({fields.get('source', '*')}, {fields['group']})")
    if fields.get("null_register"):
        parts.append("null")
    for name in ("holdtime_s", "dr_priority", "generation_id", "metric_preference", "metric"):
        if name in fields:
            parts.append(f"{name.removesuffix('_s').replace('_', '-')} {fields[name]}")
    parts += [_entry(entry) for entry in fields.get("groups", ())]
    return " ".join(parts)


def _entry(entry: Fields) -> str:
    whole = 128 if ":" in entry["group"] else 32
    length = f"/{entry['prefixlen']}" if entry["prefixlen"] != whole else ""
    parts = [f"[{entry['group']}{length}"]
    for verb in ("joins", "prunes"):
        shown = [
            f"{one['source']}({one['flags']})" if one["flags"] else one["source"]
            for one in entry.get(verb, ())
        ]
        parts += [f"{verb.removesuffix('s')} {{ {' '.join(shown)} }}"] if shown else []
    parts += [f"rp {one['rp']} priority {one['priority']}" for one in entry.get("rps", ())]
    return " ".join(parts) + "]"
