"""`mcastctl groups`: who on this host has joined what, with which filter."""

import os
from typing import Any

import click

from mcastctl.cli import options
from mcastctl.cli import params as p
from mcastctl.model.errors import NO, YES

EXAMPLES = """
mcastctl groups                         every membership of this host, and who holds it
mcastctl groups 239.1.1.1 -q && echo joined
mcastctl groups -i eth0 --all           with the link-layer addresses taken in
sudo mcastctl groups 232.1.1.1 -j | jq '.[].owners[] | [.name, .pid, .sources]'
"""


@click.command(
    "groups",
    cls=options.Command,
    examples=EXAMPLES,
    help="Show who has joined what: interface, group, source filter, IGMP or MLD version, timers,"
    " processes; exit 1 when a group named is joined nowhere.",
)
@click.argument("groups", type=p.ENDPOINT, nargs=-1, metavar="[GROUP]...")
@options.iface("Only on this interface; repeat for several.")
@click.option("--all", "everything", is_flag=True, help="Also the link-layer addresses.")
@options.netns
@options.snapshot()
def command(**given: Any) -> int:
    """Read the memberships and print them."""
    name = options.snapshot_format(given["output"], given["as_json"])
    options.enter_netns(given["netns"])
    from mcastctl.host import memberships, owners
    from mcastctl.net import nic
    from mcastctl.output import groups as page
    from mcastctl.output import snapshot

    indexes = {nic.find(one).ifindex for one in given["iface"]}
    wanted = {single.group for one in given["groups"] for single in one.expand()}
    found = memberships.memberships()
    if given["everything"]:
        found += memberships.link_layer_memberships()
    found = [one for one in found if not indexes or one.ifindex in indexes]
    found = owners.find([one for one in found if not wanted or one.group in wanted])
    if not given["quiet"]:
        if name == "text":
            page.memberships(found, given["color"], os.environ)
        else:
            snapshot.records(found, name)
    return NO if wanted - {one.group for one in found} else YES
