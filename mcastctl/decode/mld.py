"""MLD (RFC 2710, 9777) and the rest of ICMPv6 to type, group and records."""

from mcastctl.decode import checksum, igmp
from mcastctl.decode.cursor import Cursor, Fields

QUERY, REPORT, DONE, V2_REPORT = 130, 131, 132, 143
_TYPES = {QUERY: "query", REPORT: "report", DONE: "done", V2_REPORT: "report"}
_DISCOVERY = {
    151: "router-advertisement",  # multicast router discovery, RFC 4286
    152: "router-solicitation",
    153: "router-termination",
}
_ICMP6 = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    4: "parameter problem",
    128: "echo request",
    129: "echo reply",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbor solicitation",
    136: "neighbor advertisement",
    137: "redirect",
}


def is_mld(code: int) -> bool:
    """Tell whether an ICMPv6 type is about multicast listeners or routers."""
    return code in _TYPES or code in _DISCOVERY


def decode(data: bytes, fields: Fields, pseudo: bytes, length: int, *, whole: bool) -> None:
    """Note what one ICMPv6 message of `length` bytes says in `fields`.

    `pseudo` is the pseudo-header its checksum covers. Raises Short with everything before the
    missing part noted.
    """
    cursor = Cursor(data)
    code = cursor.u8()
    fields["type_code"] = code
    fields["checksum_ok"] = checksum.is_right(pseudo + data) if whole else None
    fields["type"] = _TYPES.get(code) or _DISCOVERY.get(code) or _ICMP6.get(code, f"type {code}")
    if code not in _TYPES:
        fields["code"] = cursor.u8()
        return
    fields["version"] = 2 if code == V2_REPORT or (code == QUERY and length >= 28) else 1
    cursor.skip(3)
    if code == V2_REPORT:
        cursor.skip(2)
        igmp.records(cursor, fields, cursor.u16(), 16)
        return
    delay = cursor.u16()
    cursor.skip(2)
    if code == QUERY:
        long = fields["version"] == 2
        fields["max_response_s"] = (igmp.floating(delay, 12) if long else delay) / 1000
    fields["group"] = cursor.ipv6()
    if code == QUERY and fields["version"] == 2:
        igmp.query_tail(cursor, fields, 16)


def info(fields: Fields) -> str:
    """Return the message in a few words."""
    name = fields.get("type", "")
    if "version" not in fields:
        return f"icmp6 {name}"
    head = f"mld v{fields['version']} {name}"
    if "records" in fields:
        return f"{head}, {igmp.record_list(fields)}"
    if "group" not in fields:
        return head
    return f"{head} {igmp.query_info(fields, '::') if name == 'query' else fields['group']}"
