"""A packet record in the making: what each layer adds, kept when a later one fails."""

from dataclasses import dataclass, field

from mcastctl.decode.cursor import Fields
from mcastctl.model.mark import NO_MARK, Mark

UNKNOWN = "unknown"
"""The protocol of a frame whose link header does not tell one."""


@dataclass(slots=True)
class Draft:
    """The parts of a `Packet` that decoding finds; `info` may stay empty until the end."""

    proto: str = UNKNOWN
    src: str | None = None
    sport: int | None = None
    dst: str | None = None
    dport: int | None = None
    ttl: int | None = None
    info: str = ""
    fields: Fields = field(default_factory=dict)
    family: int = 0
    network_at: int = 0
    direction: str = ""
    ifindex: int = 0
    payload: bytes = b""
    payload_length: int = 0
    mark: Mark = NO_MARK
