"""What a program asks of a publication or a reception: plain values, checked before any socket."""

from typing import NamedTuple

from mcastctl.model import endpoint
from mcastctl.model.address import HOST_HINT, canonical
from mcastctl.model.endpoint import Endpoint, format_endpoint
from mcastctl.model.errors import AddressError, ValueRangeError


class PublicationConfig(NamedTuple):
    """One group to send to, and how.

    `source` is the address receivers see, `source_port` the UDP port; both together are an exact
    bind. `interface` is the one datagrams leave by, as name, index (int) or one of its addresses:
    it is chosen apart from the source, but where only an address is given this is both. Without
    either the routing table decides. A zone, as in ff02::1%eth0, names the interface, too. `ttl`
    is the TTL or hop limit, 0 to 255; `loop` lets members on this host hear; `dscp` is 0 to 63
    (RFC 2474).
    """

    group: str
    port: int
    source: str | None = None
    source_port: int | None = None
    interface: str | int | None = None
    ttl: int = 1
    loop: bool = True
    dscp: int = 0

    @classmethod
    def parse(cls, text: str) -> "PublicationConfig":
        """Return the configuration for an endpoint '[SRC@]GROUP[%IFACE]:PORT'.

        Raises AddressError.
        """
        one = _single(text)
        if one.exclude or len(one.sources) > 1:
            raise AddressError(
                f"'{text}' has a source filter, which only receivers have",
                hint="one source address may be named to send from: SRC@GROUP:PORT",
            )
        source = one.sources[0] if one.sources else None
        return cls(one.group, one.port or 0, source, interface=one.iface)

    def checked(self) -> "PublicationConfig":
        """Return it with canonical addresses. Raises AddressError or ValueRangeError."""
        sources = () if self.source is None else (self.source,)
        one, interface = _checked(Endpoint(self.group, self.port, sources), self.interface)
        for name, value, least, most in (
            ("source_port", self.source_port, 1, 65535),
            ("ttl", self.ttl, 0, 255),
            ("dscp", self.dscp, 0, 63),
        ):
            if value is not None and not least <= value <= most:
                raise ValueRangeError(
                    f"{name} {value} is out of range", hint=f"{least} to {most} are possible"
                )
        source = one.sources[0] if one.sources else None
        return self._replace(group=one.group, source=source, interface=interface)


class ReceptionConfig(NamedTuple):
    """One group to hear, and from whom (the reception state of RFC 3376 section 3).

    `sources` are the only ones wanted, with `exclude` the only ones not wanted; none is any
    source. `interface` is a name, an index (int) or an address; without it, and without a zone
    (ff02::1%eth0), the routing table decides. `buffer_size` is the receive buffer asked for, in
    bytes (None: 4 MiB).
    """

    group: str
    port: int
    sources: tuple[str, ...] = ()
    exclude: bool = False
    interface: str | int | None = None
    buffer_size: int | None = None

    @classmethod
    def parse(cls, text: str) -> "ReceptionConfig":
        """Return the configuration for an endpoint '[SRC[,SRC...]@]GROUP[%IFACE]:PORT'.

        Raises AddressError.
        """
        one = _single(text)
        return cls(one.group, one.port or 0, one.sources, one.exclude, one.iface)

    def checked(self) -> "ReceptionConfig":
        """Return it with canonical addresses. Raises AddressError or ValueRangeError."""
        asked = Endpoint(self.group, self.port, self.sources, self.exclude)
        one, interface = _checked(asked, self.interface)
        if self.buffer_size is not None and not 1 <= self.buffer_size < 2**30:
            raise ValueRangeError(
                f"buffer_size {self.buffer_size} is out of range",
                hint="a receive buffer has 1 byte to 1 GiB",
            )
        return self._replace(group=one.group, sources=one.sources, interface=interface)


def _checked(asked: Endpoint, interface: str | int | None) -> tuple[Endpoint, str | int | None]:
    """Return the endpoint as the grammar has it, and the interface that it or its zones name.

    What the grammar refuses is refused here in its words.
    """
    for address in (asked.group, *asked.sources):
        zone = address.partition("%")[2]
        if zone and interface is not None and str(interface) != zone:
            raise AddressError(
                f"{address} names interface {zone}, but the configuration names {interface}",
                hint="keep one of the two",
            )
        if zone:
            interface = zone
    sources = tuple(canonical(_bare(source), HOST_HINT) for source in asked.sources)
    group = canonical(_bare(asked.group), "write a group such as 239.1.1.1 or ff15::42")
    return endpoint.parse(format_endpoint(asked._replace(group=group, sources=sources))), interface


def _bare(address: str) -> str:
    """Return an address without its zone; a zone without a name is left for others to refuse."""
    bare, _, zone = address.partition("%")
    return bare if zone else address


def _single(text: str) -> Endpoint:
    one = endpoint.parse(text)
    if one.port is None or one.further:
        raise AddressError(
            f"'{text}' is not one group and port", hint="write [SRC@]GROUP[%IFACE]:PORT"
        )
    return one
