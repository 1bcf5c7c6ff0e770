"""`mcastctl listen`: join groups, print what arrives, and judge it."""

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from mcastctl.cli import contradictions, options, run, views
from mcastctl.cli import params as p
from mcastctl.model.endpoint import format_endpoint
from mcastctl.model.errors import COULD_NOT_ASK, NO, YES, VerdictError
from mcastctl.model.limits import Limits
from mcastctl.model.verdict import Expectation
from mcastctl.net import listener, receiver, sockopts

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
@click.option("--expect", type=p.COUNT, help="At least N datagrams must come.")
@click.option("--expect-none", is_flag=True, help="Nothing may come.")
@click.option("--expect-from", type=p.ADDRESS, multiple=True, help="This sender must be heard.")
@click.option("--max-loss", type=p.PERCENT, help="Most loss allowed, of each stream.")
@click.option("--max-jitter", type=p.TIME, help="Most jitter allowed.")
@click.option("--rcvbuf", type=p.SIZE, default=sockopts.DEFAULT_BUFFER, help="Receive buffer.")
@click.option(
    "--exec",
    "exec_command",
    metavar="CMD",
    help="Run CMD for each datagram: payload on stdin, the rest in MCASTCTL_* variables.",
)
@click.option("--no-hints", is_flag=True, help="Do not look why nothing is heard for 3s.")
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
    expectation = _expectation(given)
    name = options.output_format(given["output"], given["as_json"], ("dots=",))
    live = views.wanted(given, name)
    sink = None if live else run.open_sink(given, "dots=")[1]
    children = _children(given["exec_command"], name)
    wanted = receiver.subscriptions(endpoints, given["iface"], late=given["wait"])
    listening = listener.Listening(
        endpoints,
        wanted,
        given["rcvbuf"],
        children,
        advice=_advice(given),
        shown=sink is not None and sink.shows_data,
    )
    limits = Limits(
        time.monotonic_ns(),
        count=expectation.enough,
        timeout_s=given["timeout"],
        idle_s=given["idle"],
    )
    status = run.stream(
        "listen",
        [format_endpoint(one) for one in endpoints],
        sink or views.listening(given, listening),
        lambda loop: listening.records(loop, limits, views.interval_s(given, live)),
        lambda: _outcome(listening, limits, expectation),
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
    unwanted = given["quiet"] or given["no_hints"] or given["expect_none"]
    if unwanted or sys.platform != "linux" or not sys.executable:
        return None
    from mcastctl.net.advice import Advice

    return Advice()


def _outcome(listening: listener.Listening, limits: Limits, wanted: Expectation) -> run.Outcome:
    fields = listening.summary()
    try:
        unmet = wanted.unmet(listening.statistics, listening.unheard())
    except VerdictError as error:
        return run.Outcome(limits.reason, {**fields, "unmet": []}, COULD_NOT_ASK, error)
    return run.Outcome(limits.reason, {**fields, "unmet": unmet}, NO if unmet else YES)


def _expectation(given: dict[str, Any]) -> Expectation:
    bounded = given["timeout"] is not None or given["idle"] is not None
    enough = given["count"] or (None if bounded or given["expect_none"] else given["expect"])
    jitter = given["max_jitter"]
    return Expectation(
        enough,
        given["expect"],
        given["expect_none"],
        given["expect_from"],
        given["max_loss"],
        None if jitter is None else jitter * 1e3,
    )
