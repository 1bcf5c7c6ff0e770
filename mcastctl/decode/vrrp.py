"""VRRP 2 and 3 (RFC 3768, 9568), and CARP, which shares its number, to router and addresses."""

from mcastctl.decode import checksum
from mcastctl.decode.cursor import Cursor, Fields, Malformed

_AUTHENTICATION = {0: "none", 1: "simple", 2: "md5"}


def decode(data: bytes, fields: Fields, pseudo: bytes, *, whole: bool) -> None:
    """Note what one advertisement says in `fields`.

    `pseudo` is the pseudo-header. Version 3 sums it, over IPv4 too; keepalived and older
    routers leave it out there, which is accepted as well.
    """
    cursor = Cursor(data)
    first = cursor.u8()
    version, kind = first >> 4, first & 0x0F
    fields["version"] = version
    fields["type_code"] = kind
    fields["type"] = "advertisement" if kind == 1 else f"type-{kind}"
    if version not in (2, 3):
        raise Malformed(f"VRRP version {version}")
    fields["vrid"] = cursor.u8()
    fields["priority"] = cursor.u8()
    count = cursor.u8()
    fields["address_count"] = count
    fields["addresses"] = addresses = []
    six = len(pseudo) == 40
    right = checksum.is_right(data) if version == 2 else checksum.is_right(pseudo + data)
    right = right or (not six and checksum.is_right(data))
    fields["checksum_ok"] = right if whole else None
    if version == 2:
        authentication = cursor.u8()
        fields["authentication"] = _AUTHENTICATION.get(authentication, str(authentication))
        fields["interval_s"] = float(cursor.u8())
    else:
        fields["interval_s"] = (cursor.u16() & 0x0FFF) / 100
    cursor.skip(2)
    for _ in range(count):
        addresses.append(cursor.ipv6() if six else cursor.ipv4())


def info(fields: Fields) -> str:
    """Return the advertisement in tcpdump's words."""
    if "interval_s" not in fields:
        return "vrrp"
    addresses = " ".join(fields.get("addresses", ()))
    return (
        f"vrrp v{fields['version']} {fields['type']} vrid {fields['vrid']} "
        f"prio {fields['priority']} intvl {fields['interval_s']:g}s addrs {{ {addresses} }}"
    )
