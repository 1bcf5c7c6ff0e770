"""The endpoint grammar: text a person types, to one value, and back.

    [scheme://][SRC[,SRC...]@]GROUP[%IFACE][:PORT][+N]        GROUP/LEN[:PORT]

`parse(format_endpoint(x)) == x` for every endpoint `parse` can return.
"""

import re
from typing import NamedTuple

from mcastctl.model import address
from mcastctl.model.errors import AddressError

MAX_GROUPS = 4096
"""Groups one endpoint may stand for; a /8 typed by mistake is 16.7 million."""

SCHEMES = ("udp", "rtp")

_SHAPE_HINT = "endpoints look like 239.1.1.1:5004, [ff15::42%eth0]:5004 or SRC@GROUP:PORT"
_ZONE = r"(?:%(?P<{0}>[^\s%/:@,\[\]+!]{{1,15}}))?"
_LENGTH = r"(?:/(?P<{0}>[0-9]{{1,3}}))?"
_TAIL = r"(?::(?P<port>[^:+]*))?(?:\+(?P<further>.*))?"
_BRACKETED = (
    r"\[(?P<group>[^%/\[\]]+)"
    + (_LENGTH.format("length_in") + _ZONE.format("zone_in"))
    + r"\]"
    + (_ZONE.format("zone_out") + _LENGTH.format("length_out") + _TAIL)
)
_BARE6 = r"(?P<group>[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)" + (
    _LENGTH.format("length_in")
    + _ZONE.format("zone_in")
    + _LENGTH.format("length_out")
    + r"(?:\+(?P<further>.*))?"
)
_BARE4 = r"(?P<group>[^%/:+\[\]]+)" + (
    _LENGTH.format("length_in") + _ZONE.format("zone_in") + _LENGTH.format("length_out") + _TAIL
)
_SCHEME = r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)"
_SOURCE = r"(?P<not>!?)(?:\[(?P<in>[^\[\]]+)\]|(?P<bare>[^\[\]!]+))"


class Endpoint(NamedTuple):
    """A group (or a run of groups) on a port, perhaps narrowed to or without some sources.

    `iface` is the zone as typed: a name or a decimal index. `further` counts the groups
    after `group`. With `exclude`, `sources` are the unwanted ones (RFC 3376 section 3.1).
    """

    group: str
    port: int | None = None
    sources: tuple[str, ...] = ()
    exclude: bool = False
    iface: str | None = None
    further: int = 0
    scheme: str = "udp"

    @property
    def family(self) -> int:
        """4 or 6."""
        return address.family(self.group)

    def expand(self) -> list["Endpoint"]:
        """Return one endpoint per group, `further + 1` of them."""
        if not self.further:
            return [self]
        groups = (address.advance(self.group, step) for step in range(self.further + 1))
        return [self._replace(group=group, further=0) for group in groups if group is not None]


def parse(text: str, *, unicast: bool = False, any_source: bool = False) -> Endpoint:
    """Parse one endpoint; raise AddressError with the remedy.

    With `unicast`, an ordinary address is accepted as well; with `any_source`, a sender that no
    datagram should come from.
    """
    if len(text) > 4096 or not text.isprintable():
        raise AddressError(
            "this endpoint is too long or holds control characters", hint=_SHAPE_HINT
        )
    scheme, rest = _split_scheme(text)
    source_part, rest = _split_sources(rest)
    if rest != text and not source_part and "://" not in text:
        raise AddressError(f"'{text}' names no source before its '@'", hint=_SHAPE_HINT)
    fields = _match_target(rest, text)
    zone = _one_of(fields, "zone_in", "zone_out", text)
    length = _one_of(fields, "length_in", "length_out", text)
    group = address.canonical(fields["group"])
    if not unicast:
        _require_multicast(group)
    sources, exclude, source_zone = _parse_sources(source_part, group, text, any_source=any_source)
    if zone and source_zone and zone != source_zone:
        raise AddressError(
            f"'{text}' names two interfaces, {zone} and {source_zone}", hint="keep one zone"
        )
    port = fields.get("port")
    group, further = _parse_extent(group, length, fields["further"], text)
    return Endpoint(
        group=group,
        port=parse_port(port) if port is not None else None,
        sources=sources,
        exclude=exclude,
        iface=zone or source_zone,
        further=further,
        scheme=scheme,
    )


def format_endpoint(endpoint: Endpoint) -> str:
    """Return the canonical spelling of an endpoint."""
    mark = "!" if endpoint.exclude else ""
    sources = ",".join(mark + source for source in endpoint.sources)
    zone = f"%{endpoint.iface}" if endpoint.iface else ""
    target = endpoint.group + zone
    if endpoint.port is not None:
        target = f"[{target}]" if endpoint.family == 6 else target
        target = f"{target}:{endpoint.port}"
    return "".join(
        (
            f"{endpoint.scheme}://" if endpoint.scheme != "udp" else "",
            f"{sources}@" if sources else "",
            target,
            f"+{endpoint.further}" if endpoint.further else "",
        )
    )


def parse_port(text: str) -> int:
    """Parse a UDP port, 1 to 65535, in ASCII digits."""
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) or not 1 <= int(text) <= 65535:
        raise AddressError(
            f"'{text}' is not a UDP port", hint="ports are whole numbers from 1 to 65535"
        )
    return int(text)


def parse_source(text: str) -> tuple[str, bool]:
    """Parse one source filter, perhaps with a leading '!'; return (address, exclude)."""
    source, exclude, _zone = _parse_source(text, text)
    return source, exclude


def with_sources(endpoint: Endpoint, extra: tuple[tuple[str, bool], ...]) -> Endpoint:
    """Return the endpoint narrowed further by filters from `parse_source`."""
    if not extra:
        return endpoint
    text = format_endpoint(endpoint)
    modes = {exclude for _, exclude in extra}
    if endpoint.sources:
        modes.add(endpoint.exclude)
    _require_one_mode(modes, text)
    sources = tuple(source for source, _ in extra)
    for source in sources:
        _require_source_of(source, endpoint.group, text)
    merged = tuple(dict.fromkeys(endpoint.sources + sources))
    return endpoint._replace(sources=merged, exclude=modes.pop())


def _split_scheme(text: str) -> tuple[str, str]:
    matched = re.fullmatch(_SCHEME, text, re.DOTALL) if "://" in text else None
    if not matched:
        return "udp", text
    scheme, rest = matched[1].lower(), matched[2]
    if scheme not in SCHEMES:
        raise AddressError(
            f"scheme '{matched[1]}' is not understood", hint="use udp://, rtp:// or none"
        )
    return scheme, rest.removesuffix("/")


def _split_sources(text: str) -> tuple[str, str]:
    """Separate sources from the group: 'S@G', or mcjoin's order 'S,G'."""
    before, at, after = text.rpartition("@")
    if at:
        return before, after
    before, _comma, after = text.rpartition(",")
    return (before, after) if before else ("", text)


def _match_target(rest: str, text: str) -> dict[str, str]:
    # Only the shape that can fit is compiled: three would cost a tenth of the start-up.
    bare = _BARE6 if rest.count(":") > 1 else _BARE4
    matched = re.fullmatch(_BRACKETED if rest.startswith("[") else bare, rest)
    if matched:
        return matched.groupdict()
    hint = _SHAPE_HINT
    if rest.count(":") > 1 and "[" not in rest:
        hint = "put an IPv6 group in brackets when a port follows: [ff15::42%eth0]:5004"
    raise AddressError(f"'{text}' is not an endpoint", hint=hint)


def _one_of(fields: dict[str, str], first: str, second: str, text: str) -> str | None:
    """Return whichever of two spellings of the same thing was used; both is an error."""
    one, other = fields.get(first), fields.get(second)
    if one and other:
        raise AddressError(
            f"'{text}' says its {first.split('_', maxsplit=1)[0]} twice", hint="keep one"
        )
    return one or other


def _require_multicast(group: str) -> None:
    if address.is_multicast(group):
        return
    ranges = "ff00::/8" if address.family(group) == 6 else "224.0.0.0/4"
    raise AddressError(
        f"{group} is not a multicast group", hint=f"groups of this family lie in {ranges}"
    )


def _parse_sources(
    part: str, group: str, text: str, *, any_source: bool
) -> tuple[tuple[str, ...], bool, str | None]:
    if not part:
        return (), False, None
    parsed = [_parse_source(item, text, any_source=any_source) for item in part.split(",")]
    _require_one_mode({exclude for _, exclude, _ in parsed}, text)
    zones = {zone for _, _, zone in parsed if zone}
    if len(zones) > 1:
        raise AddressError(f"'{text}' names several interfaces", hint="keep one zone")
    for source, _, _ in parsed:
        _require_source_of(source, group, text)
    sources = tuple(dict.fromkeys(source for source, _, _ in parsed))
    return sources, parsed[0][1], zones.pop() if zones else None


def _parse_source(
    item: str, text: str, *, any_source: bool = False
) -> tuple[str, bool, str | None]:
    matched = re.fullmatch(_SOURCE, item)
    if not matched:
        raise AddressError(
            f"'{item}' is not a source address", hint="write sources as SRC[,SRC...]@GROUP"
        )
    bare, percent, zone = (matched["in"] or matched["bare"]).partition("%")
    if percent and not re.fullmatch(r"[^\s%/:@,\[\]+!]{1,15}", zone):
        raise AddressError(f"'{text}' has a malformed zone", hint="a zone is an interface name")
    source = address.canonical(bare, address.HOST_HINT)
    if not any_source and not address.can_be_source(source):
        raise AddressError(
            f"{source} cannot be a source", hint="a source is the sender's unicast address"
        )
    return source, matched["not"] == "!", zone or None


def _require_one_mode(modes: set[bool], text: str) -> None:
    if len(modes) > 1:
        raise AddressError(
            f"'{text}' mixes wanted and unwanted sources",
            hint="a filter is INCLUDE (SRC) or EXCLUDE (!SRC), never both (RFC 3376 section 3.1)",
        )


def _require_source_of(source: str, group: str, text: str) -> None:
    if address.family(source) != address.family(group):
        raise AddressError(
            f"'{text}' mixes IPv4 and IPv6", hint="source and group share one address family"
        )


def _parse_extent(
    group: str, length: str | None, further: str | None, text: str
) -> tuple[str, int]:
    """Return first group and number of further groups of '/LEN' or '+N'."""
    if length is None and further is None:
        return group, 0
    if length is not None and further is not None:
        raise AddressError(f"'{text}' has both /LEN and +N", hint="keep one of the two")
    if further is not None:
        if not re.fullmatch(r"[0-9]{1,9}", further, re.ASCII):
            raise AddressError(f"'+{further}' is not a count", hint="+3 means three further groups")
        count = int(further) + 1
    else:
        width = 128 if address.family(group) == 6 else 32
        if int(length or 0) > width:
            raise AddressError(f"'/{length}' is longer than an address", hint=f"use /0 to /{width}")
        group, count = address.block(group, int(length or 0))
    if count > MAX_GROUPS:
        raise AddressError(
            f"'{text}' stands for {count} groups", hint=f"at most {MAX_GROUPS} at once"
        )
    _require_multicast(group)
    if address.advance(group, count - 1) is None:
        raise AddressError(f"'{text}' runs past the last group", hint="lower +N")
    return group, count - 1
