"""`mcastctl echo`: answer each request by unicast."""

import os
import time
from typing import Any

import click

from mcastctl.cli import options, run
from mcastctl.cli import params as p
from mcastctl.model.endpoint import format_endpoint
from mcastctl.model.errors import NO, YES, PayloadError
from mcastctl.model.limits import Limits
from mcastctl.net import receiver
from mcastctl.net.responder import Responding

EXAMPLES = """
mcastctl echo 239.1.1.1:5004                        answer 'mcastctl ping 239.1.1.1:5004'
mcastctl echo 224.0.0.123:7645 '[ff02::123%eth0]:7645'
mcastctl echo 224.0.0.123:7777 --exec hostname --any -v
mcastctl echo 239.1.1.1:5004 --text "$(hostname)" -i eth0 -i eth1
"""


@click.command(
    "echo",
    cls=options.Command,
    examples=EXAMPLES,
    help="Answer each request by unicast: those of 'mcastctl ping', with --any every datagram.",
)
@click.argument("endpoints", type=p.ENDPOINT, nargs=-1, required=True)
@click.option("--text", help="Answer with this text instead of the request's own bytes.")
@click.option(
    "--exec",
    "exec_command",
    metavar="CMD",
    help="Answer with the output of CMD (payload on stdin).",
)
@click.option("--any", "answer_any", is_flag=True, help="Answer any datagram to the group.")
@click.option(
    "--rate",
    type=p.RATE,
    help="Most answers a second: 40k; 1k with --text and --exec, and to plain ones (--any).",
)
@click.option(
    "--rate-per-source",
    type=p.RATE,
    help="The same to one source: 20k; 100 with --text and --exec; 10 to plain ones.",
)
@options.limits
@click.option("--idle", type=p.TIME, help="Stop after this much silence.")
@options.iface("Interface to join on; repeat for several.")
@options.late
@options.port
@options.source
@options.family
@options.output()
@options.dumps
def command(**given: Any) -> int:
    """Translate the options, answer, and say how often."""
    endpoints = options.complete(
        given["endpoints"],
        port=given["port"],
        source=given["source"],
        ipv4=given["ipv4"],
        ipv6=given["ipv6"],
    )
    if given["text"] is not None and given["exec_command"] is not None:
        raise PayloadError("--text and --exec contradict each other", hint="keep one")
    name, sink = run.open_sink(given)
    responding = Responding(
        receiver.subscriptions(endpoints, given["iface"], late=given["wait"]),
        said=None if given["text"] is None else os.fsencode(given["text"]),
        argv=options.exec_argv(given["exec_command"]),
        answer_any=given["answer_any"],
        trace=name in ("json", "jsonl") or given["verbose"] > 0,
        rate=given["rate"],
        rate_per_source=given["rate_per_source"],
    )
    limits = Limits(
        time.monotonic_ns(),
        count=given["count"],
        timeout_s=given["timeout"],
        idle_s=given["idle"],
    )

    def outcome() -> run.Outcome:
        short = responding.replies_sent < (given["count"] or 1)
        return run.Outcome(limits.reason, responding.summary(), NO if short else YES)

    status = run.stream(
        "echo",
        [format_endpoint(one) for one in endpoints],
        sink,
        lambda loop: responding.records(loop, limits),
        outcome,
    )
    responding.close()
    return status
