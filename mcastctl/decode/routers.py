"""Routing protocols that speak by multicast to what every message begins with.

OSPF 2 and 3 (RFC 2328, 5340), EIGRP (RFC 7868), RIP 1 and 2 (RFC 1058, 2453), RIPng (RFC 2080).
"""

from mcastctl.decode import checksum
from mcastctl.decode.cursor import Cursor, Fields, Malformed

_OSPF = {
    1: "hello",
    2: "database-description",
    3: "link-state-request",
    4: "link-state-update",
    5: "link-state-ack",
}
_EIGRP = {
    1: "update",
    2: "request",
    3: "query",
    4: "reply",
    5: "hello",
    10: "sia-query",
    11: "sia-reply",
}
_RIP = {1: "request", 2: "response"}
_OSPF_BYTES = 24
_CRYPTOGRAPHIC = b"\0\2"
_AUTHENTICATION = 0xFFFF
_NEXT_HOP = 0xFF


def ospf(data: bytes, fields: Fields) -> None:
    """Note who says what in which area; of a Hello whom it knows. Raises Short and Malformed."""
    cursor = Cursor(data)
    version = cursor.u8()
    fields["version"] = version
    code = cursor.u8()
    fields["type"], fields["type_code"] = _OSPF.get(code, f"type-{code}"), code
    if version not in (2, 3):
        raise Malformed(f"OSPF version {version}")
    length = cursor.u16()
    cursor.end = min(cursor.end, max(length, cursor.at))
    fields["router"], fields["area"] = cursor.ipv4(), cursor.ipv4()
    cursor.skip(12 if version == 2 else 4)
    if code != 1:
        return
    if version == 2:
        fields["prefixlen"] = cursor.u32().bit_count()
        fields["hello_s"] = cursor.u16()
        cursor.skip(1)
        fields["priority"] = cursor.u8()
        fields["dead_s"] = cursor.u32()
    else:
        fields["interface"] = cursor.u32()
        fields["priority"] = cursor.u8()
        cursor.skip(3)
        fields["hello_s"], fields["dead_s"] = cursor.u16(), cursor.u16()
    fields["designated"], fields["backup"] = cursor.ipv4(), cursor.ipv4()
    fields["neighbors"] = neighbors = []
    while cursor.left:
        neighbors.append(cursor.ipv4())


def ospf_checksum(data: bytes, pseudo: bytes) -> bool | None:
    """Tell whether a whole message is right, None where a digest stands for the checksum."""
    if data[:1] == b"\3":
        return checksum.is_right(pseudo + data)
    if len(data) < _OSPF_BYTES or data[14:16] == _CRYPTOGRAPHIC:
        return None
    end = int.from_bytes(data[2:4], "big")  # a digest or a signalling block may follow
    return checksum.is_right(data[:16] + data[_OSPF_BYTES : max(end, _OSPF_BYTES)])


def ospf_info(fields: Fields) -> str:
    """Return the message in a few words."""
    parts = [f"ospf v{fields.get('version', '?')} {fields.get('type', '')}".rstrip()]
    for name, word in (
        *(("router", "router"), ("area", "area"), ("priority", "prio")),
        *(("designated", "dr"), ("backup", "bdr")),
    ):
        if name in fields:
            parts.append(f"{word} {fields[name]}")
    if "neighbors" in fields:
        parts.append("neighbors { " + "".join(f"{one} " for one in fields["neighbors"]) + "}")
    return " ".join(parts)


def eigrp(data: bytes, fields: Fields) -> None:
    """Note who says what in which autonomous system. Raises Short."""
    cursor = Cursor(data)
    fields["version"] = cursor.u8()
    code = cursor.u8()
    fields["type"], fields["type_code"] = _EIGRP.get(code, f"type-{code}"), code
    cursor.skip(6)
    fields["seq"], fields["ack"] = cursor.u32(), cursor.u32()
    cursor.skip(2)
    fields["as"] = cursor.u16()


def eigrp_info(fields: Fields) -> str:
    """Return the message in a few words."""
    parts = [f"eigrp v{fields.get('version', '?')} {fields.get('type', '')}".rstrip()]
    parts += [f"as {fields['as']}"] if "as" in fields else []
    parts += [f"{name} {fields[name]}" for name in ("seq", "ack") if fields.get(name)]
    return " ".join(parts)


def rip(data: bytes, fields: Fields) -> None:
    """Note the routes of one RIP message. Raises Short."""
    cursor = _rip_head(data, fields)
    while cursor.left >= 20:
        family = cursor.u16()
        entry = Cursor(cursor.take(18))
        if family == _AUTHENTICATION:
            fields["authentication"] = entry.u16()
            continue
        fields["routes"].append(_rip_route(entry, family, fields["version"]))


def _rip_route(entry: Cursor, family: int, version: int) -> Fields:
    tag, address = entry.u16(), entry.ipv4()
    mask, following = entry.u32(), entry.ipv4()
    route: Fields = {"family": family, "prefix": address}
    if version > 1:
        route |= {"prefixlen": mask.bit_count(), "next_hop": following, "tag": tag}
    return route | {"metric": entry.u32()}


def ripng(data: bytes, fields: Fields) -> None:
    """Note the routes of one RIPng message. Raises Short."""
    cursor = _rip_head(data, fields)
    while cursor.left >= 20:
        prefix, tag = cursor.ipv6(), cursor.u16()
        length, metric = cursor.u8(), cursor.u8()
        if metric == _NEXT_HOP:
            fields["next_hop"] = prefix
        else:
            route = {"prefix": prefix, "prefixlen": length, "tag": tag, "metric": metric}
            fields["routes"].append(route)


def _rip_head(data: bytes, fields: Fields) -> Cursor:
    cursor = Cursor(data)
    code = cursor.u8()
    fields["type"], fields["type_code"] = _RIP.get(code, f"type-{code}"), code
    fields["version"] = cursor.u8()
    cursor.skip(2)
    fields["routes"] = []
    return cursor


def rip_info(proto: str, fields: Fields) -> str:
    """Return the message in a few words."""
    parts = [f"{proto} v{fields.get('version', '?')} {fields.get('type', '')}".rstrip()]
    for route in fields.get("routes", ()):
        length = f"/{route['prefixlen']}" if "prefixlen" in route else ""
        parts.append(f"[{route['prefix']}{length} metric {route['metric']}]")
    return " ".join(parts)
