"""mcastctl: send, hear, answer and explain IP multicast.

The package is eight rooms off one corridor; a datagram walks
``cli -> net|capture|host -> model/decode -> output`` and never back.

    cli      what the user types        one file per subcommand
    model    what things are            pure values and rules, no I/O, no clock
    net      sockets that move data     options, sender, receiver, responder, loop
    host     what the host says         interfaces, routes, memberships, kernel knobs
    capture  frames off the wire        packet rings, libpcap, capture files, filters
    decode   bytes -> meaning           link, IP, IGMP, MLD, PIM, VRRP, mDNS, RTP, MPEG-TS
    doctor   facts -> findings          why nothing arrives; the self-test
    output   records -> people          text, JSON lines, hex, raw, tables

Programs import what ``__all__`` names from here; each is loaded when it is first used.

``tests/test_architecture.py`` holds the table of who may import whom.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # what type checkers take for true; the commands load nothing for it
if TYPE_CHECKING:
    from mcastctl.model.configuration import PublicationConfig, ReceptionConfig
    from mcastctl.model.counters import (
        Delta,
        ReceiveCounters,
        Sampler,
        SendCounters,
        Snapshot,
        delta,
    )
    from mcastctl.model.errors import (
        AddressError,
        InterfaceError,
        McastError,
        QueueFullError,
        SocketError,
        ValueRangeError,
    )
    from mcastctl.model.records import Datagram
    from mcastctl.net.aio import AsyncReceiver, AsyncSender
    from mcastctl.net.publisher import Announcement, Publication, Publisher, SendReport
    from mcastctl.net.subscriber import Received, Reception, Subscriber

_ROOMS = {
    "model.configuration": "PublicationConfig ReceptionConfig",
    "model.counters": "Delta ReceiveCounters Sampler SendCounters Snapshot delta",
    "model.errors": "AddressError InterfaceError McastError QueueFullError SocketError "
    "ValueRangeError",
    "model.records": "Datagram",
    "net.aio": "AsyncReceiver AsyncSender",
    "net.publisher": "Announcement Publication Publisher SendReport",
    "net.subscriber": "Received Reception Subscriber",
}
__all__ = [
    "AddressError",
    "Announcement",
    "AsyncReceiver",
    "AsyncSender",
    "Datagram",
    "Delta",
    "InterfaceError",
    "McastError",
    "Publication",
    "PublicationConfig",
    "Publisher",
    "QueueFullError",
    "ReceiveCounters",
    "Received",
    "Reception",
    "ReceptionConfig",
    "Sampler",
    "SendCounters",
    "SendReport",
    "Snapshot",
    "SocketError",
    "Subscriber",
    "ValueRangeError",
    "__version__",
    "delta",
]


if not TYPE_CHECKING:  # they would take any name for one of ours

    def __getattr__(name: str) -> object:
        """Load a public name from its room (PEP 562)."""
        for room, names in _ROOMS.items():
            if name in names.split():
                from importlib import import_module

                value = getattr(import_module(f"{__name__}.{room}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
