"""What has no decoder here, and the full layered view: handed to scapy, within bounds.

scapy is imported when the first such packet comes, for it takes half a second. Its dissectors
are large and some can be driven into quadratic work, so the bytes it gets are few and the calls
it may make are counted.
"""

import logging
import struct
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, TypeVar

from mcastctl.decode.cursor import Fields
from mcastctl.model import frame

MAX_BYTES = 2048
"""Most bytes of one packet that scapy gets to see."""
MAX_CALLS = 200_000
"""Most calls (of Python and of C) that scapy may make for one packet: well under a second."""
_MAX_TEXT = 200
_MAX_LINES = 200
_DEEPEST = 6

_CLASSES = {
    "hsrp": ("scapy.layers.hsrp", "HSRP"),
    "rip": ("scapy.layers.rip", "RIP"),
    "ripng": ("scapy.contrib.ripng", "RIPng"),
    "ptp": ("scapy.contrib.ptp_v2", "PTP"),
    "eigrp": ("scapy.contrib.eigrp", "EIGRP"),
    "ospf": ("scapy.contrib.ospf", "OSPF_Hdr"),
    "ospf6": ("scapy.contrib.ospf", "OSPFv3_Hdr"),
}
_LINKS = {
    frame.ETHERNET: ("scapy.layers.l2", "Ether"),
    frame.LINUX_SLL: ("scapy.layers.l2", "CookedLinux"),
    frame.LINUX_SLL2: ("scapy.layers.l2", "CookedLinuxV2"),
    frame.NULL: ("scapy.layers.l2", "Loopback"),
    frame.LOOP: ("scapy.layers.l2", "Loopback"),
    frame.RAW: ("scapy.layers.inet", "IP"),
    frame.IPV4: ("scapy.layers.inet", "IP"),
    frame.IPV6: ("scapy.layers.inet6", "IPv6"),
}
_FAULTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What a dissector may raise on bytes its author did not foresee."""

T = TypeVar("T")


class _TooMuch(BaseException):
    """More work than a packet is worth; not an Exception, which dissectors swallow."""


def summarise(name: str, data: bytes) -> tuple[str, Fields] | None:
    """Return words and fields for a packet of a protocol in the table, None where scapy fails."""
    dissect = _dissector(_CLASSES[name])
    if dissect is None or len(data) > MAX_BYTES:
        return None

    def view() -> tuple[str, Fields]:
        packet = dissect(data)
        return _text(packet.summary()), {"layers": list(_layers(packet))}

    return _bounded(view)


def layers(linktype: int, data: bytes) -> list[str]:
    """Return the lines of scapy's view of a frame, empty where it has none."""
    if linktype == frame.RAW and data[:1] and data[0] >> 4 == 6:
        linktype = frame.IPV6
    known = _LINKS.get(linktype)
    dissect = _dissector(known) if known else None
    if dissect is None:
        return []
    keep_no_cache()
    import_module("scapy.layers.all")
    cut = data[:MAX_BYTES]
    shown = _bounded(lambda: str(dissect(cut).show(dump=True)))
    return (shown or "not understood").rstrip().splitlines()[:_MAX_LINES]


def keep_no_cache() -> None:
    """Load scapy so that it is silent and leaves the pickles below HOME alone.

    HOME need not be ours (sudo -E): what lies there is neither read nor followed for writing.
    """
    logging.getLogger("scapy").setLevel(logging.CRITICAL)
    vars(import_module("scapy.main"))["SCAPY_CACHE_FOLDER"] = None


def _dissector(where: tuple[str, str]) -> Callable[[bytes], Any] | None:
    keep_no_cache()
    try:
        found: Callable[[bytes], Any] = getattr(import_module(where[0]), where[1])
    except (ImportError, AttributeError):  # an optional part of another version
        return None
    return found


def _bounded(work: Callable[[], T]) -> T | None:
    """Return what `work` returns, None when it fails or goes on for too long."""
    left = MAX_CALLS

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _TooMuch

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        return work()
    except (_TooMuch, *_FAULTS):
        return None
    finally:
        sys.setprofile(before)


def _layers(packet: Any) -> Iterator[Fields]:
    """Yield each layer as its name and fields."""
    for _ in range(_DEEPEST):
        if not getattr(packet, "fields_desc", None) and not getattr(packet, "fields", None):
            return
        yield {"layer": packet.name, **_fields(packet, 0)}
        packet = packet.payload


def _fields(packet: Any, depth: int) -> Fields:
    return {name: _value(value, depth) for name, value in packet.fields.items()}


def _value(value: Any, depth: int) -> object:
    """Return a field in the form JSON prints."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, bytes):
        return value[:_MAX_TEXT].hex()
    if isinstance(value, list) and depth < _DEEPEST:
        return [_value(one, depth + 1) for one in value[:_MAX_TEXT]]
    if hasattr(value, "fields_desc") and depth < _DEEPEST:
        return {"layer": value.name, **_fields(value, depth + 1)}
    return _text(str(value))


def _text(text: str) -> str:
    return text[:_MAX_TEXT]
