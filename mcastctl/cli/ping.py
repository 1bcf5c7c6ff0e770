"""`mcastctl ping`: one request, many answers."""

import time
from typing import Any

import click

from mcastctl.cli import contradictions, options, run, views
from mcastctl.cli import params as p
from mcastctl.model import probe
from mcastctl.model.endpoint import format_endpoint
from mcastctl.model.errors import COULD_NOT_ASK, NO, YES, ValueRangeError
from mcastctl.model.limits import Limits
from mcastctl.model.responders import Responders
from mcastctl.net import nic, sender
from mcastctl.net.pinger import MIN_INTERVAL_S, UNICAST_TTL, Pinging

EXAMPLES = """
mcastctl ping 239.1.1.1:5004                      who runs 'mcastctl echo' there?
mcastctl ping '[ff02::123%eth0]:7645' -c 3
mcastctl ping 239.1.1.1:5004 -c 5 -t 8 --expect-from 192.0.2.7
mcastctl ping 239.1.1.1:5004 --live               each host with its past round trips
mcastctl ping 239.1.1.1:5004 -c 1 -j | jq -r 'select(.type=="reply") | .responder'
"""


@click.command(
    "ping",
    cls=options.Command,
    examples=EXAMPLES,
    help="Ask a group and show every host that answers, its round trip, loss and hops; each is"
    " asked by unicast as well, so that 'unicast fine, multicast dead' shows.",
)
@click.argument("endpoint", type=p.ENDPOINT)
@options.limits
@click.option("--interval", type=p.TIME, default=1.0, help="Time between requests (1s).")
@click.option("--wait", type=p.TIME, default=1.0, help="Wait this long for the last answers (1s).")
@click.option(
    "-s",
    "--size",
    type=p.whole("bytes", "size for a request", probe.MIN_SIZE, 65507),
    default=64,
    help="Bytes a request (64).",
)
@views.option
@click.option("--expect-from", type=p.ADDRESS, multiple=True, help="This host must answer.")
@options.egress
@options.iface("Interface to ask by; repeat for several.")
@options.port
@options.family
@options.output()
@options.dumps
def command(**given: Any) -> int:
    """Translate the options, ask, and say who answered."""
    endpoint = options.complete(
        [given["endpoint"]], port=given["port"], ipv4=given["ipv4"], ipv6=given["ipv6"]
    )[0]
    contradictions.heard_from(given["expect_from"], [endpoint])
    if given["interval"] < MIN_INTERVAL_S:
        raise ValueRangeError("--interval: that would be a flood", hint="write 1ms or more")
    name = options.output_format(given["output"], given["as_json"])
    live = views.wanted(given, name) and views.drawn(given)
    sink = None if live else run.open_sink(given)[1]
    source, source_port = given["bind"]
    way = sender.Egress(
        given["ttl"], not given["no_loop"], given["dscp"], source, source_port, UNICAST_TTL
    )
    interfaces = [nic.find(one) for one in given["iface"]]
    pairs = sender.open_all(sender.targets([endpoint], interfaces), way)
    pinging = Pinging(
        pairs,
        Responders(given["expect_from"], endpoint.port or 0),
        ttl=given["ttl"],
        size=given["size"],
        rounds=given["count"],
        interval_s=given["interval"],
        wait_s=given["wait"],
    )
    limits = Limits(time.monotonic_ns(), count=None, timeout_s=given["timeout"], idle_s=None)

    def outcome() -> run.Outcome:
        fields = pinging.summary()
        status = NO if fields["unmet"] else YES
        if not fields["sent"]:  # nobody was asked, so nobody failed to answer
            status, fields["unmet"] = COULD_NOT_ASK, []
        return run.Outcome(limits.reason, fields, status)

    status = run.stream(
        "ping",
        [format_endpoint(endpoint)],
        sink or views.responders(given, pinging),
        lambda loop: pinging.records(loop, limits),
        outcome,
    )
    pinging.close()
    return status
