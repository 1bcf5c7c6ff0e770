"""`mcastctl listen`: join groups, print what arrives, and judge it."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mcastctl.cli import contradictions, messages, metrics, options, recording, run, verdicts, views
from mcastctl.cli import params as p
from mcastctl.model.endpoint import format_endpoint
from mcastctl.model.limits import Limits
from mcastctl.net import listener, receiver, sockopts
from mcastctl.net.loop import Loop

if TYPE_CHECKING:
    from mcastctl.net.advice import Advice
    from mcastctl.net.children import Children

EXAMPLES = """
mcastctl listen 239.1.1.1:5004                          join, print each datagram
mcastctl listen 192.0.2.9@232.1.1.1:5004 -i eth0        only from that source (SSM)
mcastctl listen '[ff02::123%eth0]:7645' 224.0.0.123:7645
mcastctl listen rtp://239.1.1.1:5004 -q --interval 1s   loss, reordering, jitter
mcastctl listen 239.1.1.0/28:5004 --live                sixteen groups in a table
mcastctl listen 239.1.1.1:5004 -o raw | mpv -           feed a player
mcastctl listen 239.1.1.1:5004 -c 1 -T 5s -q && echo alive
mcastctl listen 239.1.1.1:5004 -T 10s --max-loss 0.1% --max-jitter 2ms -j
"""


@click.command(
    "listen",
    cls=options.Command,
    examples=EXAMPLES,
    help="Join groups, print what arrives, and judge it: exit 0 as expected, 1 not, 2 not asked.",
)
@click.argument("endpoints", type=p.ENDPOINT, nargs=-1, required=True)
@options.iface("Interface to join on; repeat for several.")
@options.late
@options.port
@options.source
@options.family
@options.limits
@click.option("--idle", type=p.TIME, help="Stop after this much silence.")
@click.option("--interval", type=p.TIME, help="Report what was heard this often.")
@views.option
@verdicts.options
@click.option("--rcvbuf", type=p.SIZE, default=sockopts.DEFAULT_BUFFER, help="Receive buffer.")
@click.option(
    "--exec",
    "exec_command",
    metavar="CMD",
    help="Run CMD for each datagram: payload on stdin, the rest in MCASTCTL_* variables.",
)
@click.option("--no-hints", is_flag=True, help="Do not look why nothing is heard for 3s.")
@recording.option
@messages.listening
@metrics.options
@options.output("dots=BYTES")
@options.dumps
def command(**given: Any) -> int:
    """Translate the options, listen, and judge."""
    endpoints = options.complete(
        given["endpoints"],
        port=given["port"],
        source=given["source"],
        ipv4=given["ipv4"],
        ipv6=given["ipv6"],
    )
    contradictions.listening(given, endpoints)
    messages.check_listening(given)
    named = [format_endpoint(one) for one in endpoints]
    exporter = metrics.exporter("listen", given, named)
    expectation = verdicts.expectation(given)
    name = options.output_format(given["output"], given["as_json"], ("dots=",))
    live = views.wanted(given, name)
    sink = None if live else run.open_sink(given, "dots=")[1]
    written = recording.wanted(given["write"])
    shown = sink is not None and sink.shows_data
    children = _children(given["exec_command"], name)
    wanted = receiver.subscriptions(endpoints, given["iface"], late=given["wait"])
    listening = listener.Listening(
        endpoints,
        wanted,
        given["rcvbuf"],
        children,
        advice=_advice(given),
        shown=shown or written is not None or given["message"],
    )
    limits = Limits(
        time.monotonic_ns(),
        count=None if given["message"] else expectation.enough,
        timeout_s=given["timeout"],
        idle_s=given["idle"],
    )

    def records(loop: Loop) -> recording.Heard:
        return listening.records(loop, limits, views.interval_s(given, live))

    def outcome() -> run.Outcome:
        return verdicts.outcome(listening, limits, expectation)

    heard: recording.Records = records
    ended: Callable[[], run.Outcome] = outcome
    if written is not None:
        heard, ended = written.of(heard, shown=shown or given["message"]), written.ending(ended)
    if given["message"]:
        stitching = messages.Stitching(given["count"], limits)
        heard, ended = stitching.of(heard), stitching.ending(ended)
    status = run.stream(
        "listen",
        named,
        sink or views.listening(given, listening),
        heard,
        ended,
        exporter=exporter and exporter.of(listening.metrics),
    )
    listening.close()
    return status


def _children(command: str | None, name: str) -> "Children | None":
    """Return what --exec runs; its output joins ours where that is text."""
    if (argv := options.exec_argv(command)) is None:
        return None
    from mcastctl.net.children import Children

    return Children(argv, stdout=1 if name == "text" else 2)


def _advice(given: dict[str, Any]) -> "Advice | None":
    """Return who tells why nothing is heard, None where nobody asks, or no kernel answers."""
    unwanted = given["quiet"] > 1 or given["no_hints"] or given["expect_none"]
    if unwanted or sys.platform != "linux" or not sys.executable:
        return None
    from mcastctl.net.advice import Advice

    return Advice()
