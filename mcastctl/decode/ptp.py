"""PTP (IEEE 1588-2019 clause 13) to message, domain, clock and number."""

from mcastctl.decode.cursor import Cursor, Fields

TYPES = {
    0: "sync",
    1: "delay-request",
    2: "peer-delay-request",
    3: "peer-delay-response",
    8: "follow-up",
    9: "delay-response",
    10: "peer-delay-response-follow-up",
    11: "announce",
    12: "signaling",
    13: "management",
}
_ANNOUNCE = 11


def decode(data: bytes, fields: Fields) -> None:
    """Note what one message says; of version 1, whose header is another, the version alone.

    Raises Short with everything before the missing part noted.
    """
    cursor = Cursor(data)
    first = cursor.u8()
    version = cursor.u8() & 0x0F
    fields["version"] = version
    if version != 2:
        return
    code = first & 0x0F
    fields["type"], fields["type_code"] = TYPES.get(code, f"type-{code}"), code
    cursor.skip(2)
    fields["domain"] = cursor.u8()
    cursor.skip(1)
    flags = cursor.u16()
    fields["two_step"] = bool(flags & 0x0200)
    correction = int.from_bytes(cursor.take(8), "big", signed=True)
    fields["correction_ns"] = correction / 65536
    cursor.skip(4)
    fields["clock"], fields["clock_port"] = cursor.take(8).hex(), cursor.u16()
    fields["seq"] = cursor.u16()
    cursor.skip(1)
    fields["log_interval"] = int.from_bytes(cursor.take(1), "big", signed=True)
    if code == _ANNOUNCE:
        _announce(cursor, fields)


def _announce(cursor: Cursor, fields: Fields) -> None:
    """Note the grandmaster: what the election of the best clock goes by."""
    cursor.skip(10)
    fields["utc_offset_s"] = int.from_bytes(cursor.take(2), "big", signed=True)
    cursor.skip(1)
    fields["priority1"] = cursor.u8()
    fields["clock_class"], fields["clock_accuracy"] = cursor.u8(), cursor.u8()
    cursor.skip(2)
    fields["priority2"] = cursor.u8()
    fields["grandmaster"] = cursor.take(8).hex()
    fields["steps_removed"] = cursor.u16()


def info(fields: Fields) -> str:
    """Return the message in a few words."""
    parts = [f"ptp v{fields.get('version', '?')} {fields.get('type', '')}".rstrip()]
    for name, word in (("domain", "domain"), ("clock", "clock"), ("seq", "seq")):
        if name in fields:
            parts.append(f"{word} {fields[name]}")
    if "grandmaster" in fields:
        parts.append(
            f"grandmaster {fields['grandmaster']} class {fields['clock_class']} "
            f"priority {fields['priority1']} {fields['priority2']}"
        )
    return " ".join(parts)
