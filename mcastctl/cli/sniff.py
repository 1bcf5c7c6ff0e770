"""`mcastctl sniff`: capture and explain multicast on the wire, or read a capture file."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from mcastctl.cli import options, run
from mcastctl.cli import params as p
from mcastctl.model.errors import COULD_NOT_ASK, NO, YES, McastError, SocketError, ValueRangeError
from mcastctl.model.limits import Limits
from mcastctl.model.records import Record

if TYPE_CHECKING:
    from mcastctl.capture.reading import Reading
    from mcastctl.capture.writer import Writer
    from mcastctl.net.loop import Loop
    from mcastctl.output.sinks import Sink

EXAMPLES = """
mcastctl sniff -r join.pcapng                       every frame of a capture file
mcastctl sniff -r join.pcap igmp or ip6 protochain 58
tcpdump -i eth0 -w - | mcastctl sniff -r -          what another program captures
mcastctl sniff -r join.pcap -j | jq -c 'select(.proto=="igmp") | .fields'
mcastctl sniff -r all.pcap -w streams.pcapng 'udp and net 239.0.0.0/8'
"""


@click.command(
    "sniff",
    cls=options.Command,
    examples=EXAMPLES,
    help="Explain captured multicast: IGMP, MLD, PIM, VRRP, mDNS and the streams. FILTER is "
    "an expression as for tcpdump (man 7 pcap-filter); without one every frame is shown.",
)
@click.argument("expression", nargs=-1, metavar="[FILTER]...")
@click.option("-r", "--read", "read", metavar="FILE", help="Read pcap or pcapng; - for stdin.")
@click.option("-w", "--write", "write", metavar="FILE", help="Write the frames; .pcapng or pcap.")
@options.limits
@click.option("--idle", type=p.TIME, help="Stop after this much silence.")
@click.option("-e", "--link", is_flag=True, help="Show the link header.")
@options.snapshot()
@options.dumps
def command(**given: Any) -> int:
    """Read, decode, print."""
    if given["read"] is None:
        raise SocketError(
            "nothing to read: capturing from an interface is not in this version",
            hint="read a capture file or pipe: tcpdump -i eth0 -w - | mcastctl sniff -r -",
        )
    from mcastctl.capture import reading
    from mcastctl.capture.writer import Writer
    from mcastctl.decode.packet import Decoder

    name = options.snapshot_format(given["output"], given["as_json"])
    decoder = Decoder(deep=given["verbose"] > 1)
    limits = Limits(
        time.monotonic_ns(),
        count=given["count"],
        timeout_s=given["timeout"],
        idle_s=given["idle"],
    )
    words = " ".join(given["expression"])
    keep = reading.Filter(words) if words else None
    taken = reading.Reading(given["read"], limits, decoder, keep)
    if given["write"] == "-" and name != "text":
        raise ValueRangeError("-j and -w - both want standard output", hint="name a file for -w")
    writer = None if given["write"] is None else Writer(given["write"], given["read"])
    source = taken.blocks if name == "text" else taken.packets
    return run.stream(
        "sniff",
        [words] if words else [],
        _sink(name, given, decoder),
        lambda loop: _records(partial(taken.copy, writer) if writer else source, loop, limits),
        lambda: _outcome(taken, limits, writer),
    )


def _sink(name: str, given: dict[str, Any], decoder: Any) -> "Sink":
    from mcastctl.decode.protocols import is_plain
    from mcastctl.output import packets

    if name != "text":
        return packets.PacketJson(quiet=given["quiet"])
    look = packets.Look(given["detail"] or "", given["link"], given["verbose"])
    return packets.PacketText(decoder.decode, is_plain, look, quiet=given["quiet"])


def _records(
    source: Callable[[Callable[[int], bool]], Iterator[Any]], loop: "Loop", limits: Limits
) -> Iterator[Record]:
    """Yield what is read, waiting for a pipe as the loop waits: signals and -T end it."""
    watched: set[int] = set()

    def ready(descriptor: int) -> bool:
        if descriptor not in watched:
            loop.watch(descriptor)
            watched.add(descriptor)
        while loop.stopped_by is None and not limits.reached(time.monotonic_ns()):
            if loop.wait(limits.next_ns()):
                return True
        return False

    return source(ready)


def _outcome(taken: "Reading", limits: Limits, writer: "Writer | None") -> run.Outcome:
    few = limits.count is not None and limits.taken < limits.count
    status = NO if few else YES
    failed: McastError | None = None
    fields = {**taken.summary(), "kernel_drops": 0}
    if writer is not None:
        try:
            writer.close()
        except McastError as error:
            failed, status = error, COULD_NOT_ASK
        fields["written"] = writer.written
    return run.Outcome(limits.reason or "end", fields, status, failed)
