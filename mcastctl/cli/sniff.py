"""`mcastctl sniff`: capture and explain multicast on the wire, or read a capture file."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from mcastctl.cli import options, packets, refusals, run
from mcastctl.cli import params as p
from mcastctl.model.errors import COULD_NOT_ASK, NO, YES, McastError
from mcastctl.model.limits import Limits

if TYPE_CHECKING:
    from mcastctl.capture.reading import Reading
    from mcastctl.capture.writer import Writer

EXAMPLES = """
mcastctl sniff -i eth0                              multicast, IGMP, MLD, PIM; no broadcast
mcastctl sniff -i eth0 udp port 5004 -c 100 -T 10s
mcastctl sniff -i eth0 -w tv.pcap --rotate-size 100M --rotate-keep 10
mcastctl sniff -r join.pcapng                       every frame of a capture file
mcastctl sniff -r join.pcap igmp or ip6 protochain 58
mcastctl sniff -r tv.pcap --streams                 who sends what, losing how much
mcastctl sniff -r join.pcap --control               who joins, leaves, queries
tcpdump -i eth0 -U -w - | mcastctl sniff -r -       what another program captures
mcastctl sniff -r join.pcap -j | jq -c 'select(.proto=="igmp") | .fields'
mcastctl sniff -r all.pcap -w streams.pcapng 'udp and net 239.0.0.0/8'
"""


@click.command(
    "sniff",
    cls=options.Command,
    examples=EXAMPLES,
    help="Capture multicast and explain it: IGMP, MLD, PIM, VRRP, mDNS and the streams. FILTER "
    "is an expression as for tcpdump (man 7 pcap-filter); without one a capture shows groups, "
    "IGMP, MLD and PIM without broadcast, and -r every frame. Capturing needs root or "
    "CAP_NET_RAW, which is given away before a frame is looked at.",
)
@click.argument("expression", nargs=-1, metavar="[FILTER]...")
@click.option("-r", "--read", "read", type=p.FILE, help="Read pcap or pcapng; - for stdin.")
@click.option("-w", "--write", "write", type=p.FILE, help="Write the frames; .pcapng or pcap.")
@options.iface("Interface to capture on, or any (the default); repeat for several.", p.ANY_IFACE)
@options.capture
@options.limits
@click.option("--idle", type=p.TIME, help="Stop after this much silence.")
@click.option("--streams", is_flag=True, help="Show a table of the streams, not each packet.")
@click.option("--control", is_flag=True, help="Tell who joins, leaves, queries, is elected.")
@click.option("-e", "--link", is_flag=True, help="Show the link header.")
@options.records()
@options.dumps
def command(**given: Any) -> int:
    """Read, decode, print."""
    if given["read"] is None:
        from mcastctl.cli import live

        return live.capture(given)
    from mcastctl.capture import reading
    from mcastctl.capture.writer import Writer

    name = options.snapshot_format(given["output"], given["as_json"])
    refusals.check(given, name)
    explainer = packets.explain(given, name)
    limits = run.limits(given)
    words = " ".join(given["expression"])
    keep = reading.Filter(words) if words else None
    taken = reading.Reading(given["read"], limits, explainer, keep)
    writer = None if given["write"] is None else Writer(given["write"], given["read"])
    each = name != "text" or given["streams"] or given["control"]
    source: Callable[..., Iterator[Any]] = taken.records if each else taken.blocks
    if writer is not None:
        source = partial(taken.copy, writer)
    return run.stream(
        "sniff",
        [words] if words else [],
        packets.open_sink(name, given, explainer, lambda: {"packets": limits.taken}),
        lambda loop: chain(source(run.readable(loop, limits)), taken.remarks()),
        lambda: _outcome(taken, limits, writer),
    )


def _outcome(taken: "Reading", limits: Limits, writer: "Writer | None") -> run.Outcome:
    few = limits.count is not None and limits.taken < limits.count
    status = NO if few else YES
    failed: McastError | None = None
    fields = {**taken.summary(), "kernel_drops": 0}
    if writer is not None:
        try:
            (writer.close if taken.begun else writer.discard)()
        except McastError as error:
            failed, status = error, COULD_NOT_ASK
        fields["written"] = writer.written
    return run.Outcome(limits.reason or "end", fields, status, failed)
