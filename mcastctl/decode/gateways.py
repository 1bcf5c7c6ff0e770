"""First-hop redundancy beside VRRP: HSRP 1 and 2 (RFC 2281) and GLBP, to group, state, address.

HSRP 2 and GLBP are unpublished: their layouts are those Wireshark knows (packet-hsrp.c,
packet-glbp.c).
"""

from mcastctl.decode.cursor import Cursor, Fields
from mcastctl.decode.link import mac

_OPERATIONS = {0: "hello", 1: "coup", 2: "resign", 3: "advertise"}
_STATES_1 = {0: "initial", 1: "learn", 2: "listen", 4: "speak", 8: "standby", 16: "active"}
_STATES_2 = {1: "initial", 2: "learn", 3: "listen", 4: "speak", 5: "standby", 6: "active"}
_STATES_GLBP = {4: "listen", 8: "speak", 16: "standby", 32: "active"}
_ADVERTISE = 3
_GROUP_STATE, _HELLO, _REQUEST = 1, 1, 2


def hsrp(data: bytes, fields: Fields) -> None:
    """Note what one HSRP message says. Raises Short."""
    cursor = Cursor(data)
    first = cursor.u8()
    if first:
        _hsrp2(Cursor(data), fields)
        return
    fields["version"] = 1
    operation = cursor.u8()
    fields["type"] = _OPERATIONS.get(operation, f"type-{operation}")
    if operation == _ADVERTISE:
        return  # of interfaces, not of a group
    _state(fields, cursor.u8(), _STATES_1)
    fields["hello_s"], fields["hold_s"] = float(cursor.u8()), float(cursor.u8())
    fields["priority"], fields["group"] = cursor.u8(), cursor.u8()
    cursor.skip(9)
    fields["address"] = cursor.ipv4()


def _hsrp2(cursor: Cursor, fields: Fields) -> None:
    """Look for the state of a group among the type, length and value triples."""
    fields["version"] = 2
    while cursor.left:
        kind = cursor.u8()
        value = Cursor(cursor.take(cursor.u8()))
        if kind != _GROUP_STATE:
            continue
        fields["version"] = value.u8()
        operation = value.u8()
        fields["type"] = _OPERATIONS.get(operation, f"type-{operation}")
        _state(fields, value.u8(), _STATES_2)
        six = value.u8() == 6
        fields["group"] = value.u16()
        fields["router"] = mac(value.take(6))
        fields["priority"] = value.u32()
        fields["hello_s"], fields["hold_s"] = value.u32() / 1000, value.u32() / 1000
        fields["address"] = value.ipv6() if six else value.ipv4()


def glbp(data: bytes, fields: Fields) -> None:
    """Note what one GLBP message says. Raises Short."""
    cursor = Cursor(data)
    fields["version"] = cursor.u8()
    cursor.skip(1)
    fields["group"] = cursor.u16()
    cursor.skip(2)
    fields["router"] = mac(cursor.take(6))
    fields["type"] = "message"
    while cursor.left:
        kind = cursor.u8()
        value = Cursor(cursor.take(max(cursor.u8() - 2, 0)))
        if kind == _HELLO:
            fields["type"] = "hello"
            _glbp_hello(value, fields)
        elif kind == _REQUEST:
            fields.setdefault("forwarders", []).append(_glbp_forwarder(value))


def _glbp_hello(value: Cursor, fields: Fields) -> None:
    value.skip(1)
    _state(fields, value.u8(), _STATES_GLBP)
    value.skip(1)
    fields["priority"] = value.u8()
    value.skip(2)
    fields["hello_s"], fields["hold_s"] = value.u32() / 1000, value.u32() / 1000
    value.skip(6)
    family, size = value.u8(), value.u8()
    if (family, size) == (1, 4):
        fields["address"] = value.ipv4()
    elif (family, size) == (2, 16):
        fields["address"] = value.ipv6()


def _glbp_forwarder(value: Cursor) -> Fields:
    found: Fields = {"forwarder": value.u8()}
    _state(found, value.u8(), _STATES_GLBP)
    value.skip(1)
    found["priority"], found["weight"] = value.u8(), value.u8()
    value.skip(7)
    found["mac"] = mac(value.take(6))
    return found


def _state(fields: Fields, code: int, names: dict[int, str]) -> None:
    fields["state"] = names.get(code, f"state-{code}")


def info(proto: str, fields: Fields) -> str:
    """Return the message in a few words, as VRRP's are."""
    parts = [proto]
    parts += [f"v{fields['version']}"] if proto == "hsrp" and "version" in fields else []
    parts += [str(fields[name]) for name in ("type", "state") if name in fields]
    for name, word in (("group", "group"), ("priority", "prio"), ("address", "addr")):
        if name in fields:
            parts.append(f"{word} {fields[name]}")
    return " ".join(parts)
