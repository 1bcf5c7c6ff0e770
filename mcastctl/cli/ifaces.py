"""`mcastctl ifaces`: interfaces with index, addresses and multicast state."""

import os
from typing import Any

import click

from mcastctl.cli import options
from mcastctl.cli import params as p
from mcastctl.model.errors import YES

EXAMPLES = """
mcastctl ifaces                                  index, state, addresses, IGMP and MLD
mcastctl ifaces -v                               and the groups joined on each
mcastctl ifaces eth0 -o index                    the bare index
ping ff02::1%$(mcastctl ifaces eth0 -o index)
mcastctl ifaces -j | jq -r '.[] | select(.multicast and .up) | .name'
"""


@click.command(
    "ifaces",
    cls=options.Command,
    examples=EXAMPLES,
    help="Show the interfaces (all, or by name, index or address) and their multicast state.",
)
@click.argument("names", type=p.IFACE, nargs=-1, metavar="[NAME]...")
@options.snapshot("index")
def command(**given: Any) -> int:
    """Read the interfaces and print them."""
    from mcastctl.host import interfaces
    from mcastctl.output import snapshot

    name = options.snapshot_format(given["output"], given["as_json"], ("index",))
    found = interfaces.select(interfaces.interfaces(), given["names"])
    if given["quiet"] < 2:
        snapshot.interfaces(found, name, given["color"], os.environ, verbose=given["verbose"] > 0)
    return YES
