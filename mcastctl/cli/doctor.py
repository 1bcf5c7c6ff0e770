"""`mcastctl doctor`: check that multicast works on this host."""

import os
from typing import Any

import click

from mcastctl.cli import options
from mcastctl.model.errors import NO, YES, ValueRangeError

EXAMPLES = """
mcastctl doctor --self-test                  loopback only, nothing leaves this host
mcastctl doctor --self-test -i eth0          on an interface; TTL 1
mcastctl doctor --self-test -j
"""


@click.command(
    "doctor",
    cls=options.Command,
    examples=EXAMPLES,
    help="Send, hear, answer and ask over loopback (or -i), IPv4 and IPv6, and show a line per"
    " check; exit 0 when all pass, 1 when one fails.",
)
@click.option("--self-test", is_flag=True, help="Run the checks.")
@options.iface("Test this interface instead of loopback; repeat for several.")
@options.snapshot()
def command(**given: Any) -> int:
    """Run the checks and print a line for each."""
    from mcastctl.doctor import selftest
    from mcastctl.net import nic
    from mcastctl.output import snapshot

    name = options.snapshot_format(given["output"], given["as_json"])
    if not given["self_test"]:
        raise ValueRangeError(
            "doctor was not told what to check", hint="write 'mcastctl doctor --self-test'"
        )
    found = list(selftest.run([nic.find(one) for one in given["iface"]]))
    if not given["quiet"]:
        snapshot.checks(found, name, given["color"], os.environ)
    return NO if any(one.severity == "error" for one in found) else YES
