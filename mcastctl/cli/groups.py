"""`mcastctl groups`: who on this host has joined what, with which filter."""

import os
from typing import TYPE_CHECKING, Any

import click

from mcastctl.cli import options
from mcastctl.cli import params as p
from mcastctl.model.endpoint import format_endpoint
from mcastctl.model.errors import NO, YES

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcastctl.model.membership import GroupMembership

EXAMPLES = """
mcastctl groups                         every membership of this host, and who holds it
mcastctl groups 239.1.1.1 -q && echo joined
mcastctl groups --watch -T 60s          joins and leaves as they happen
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
@click.option("--watch", is_flag=True, help="Print joins and leaves as they happen.")
@click.option("-T", "--timeout", type=p.TIME, help="Stop --watch after this time.")
@options.netns
@options.snapshot()
def command(**given: Any) -> int:
    """Read the memberships and print them, or their changes."""
    name = options.snapshot_format(given["output"], given["as_json"])
    options.refuse_without(given, "watch")
    options.enter_netns(given["netns"])
    wanted = {single.group for one in given["groups"] for single in one.expand()}
    chosen = _chooser(given, wanted)
    if given["watch"]:
        return _watch(given, name, chosen)
    from mcastctl.host import memberships, owners
    from mcastctl.output import groups as page
    from mcastctl.output import snapshot

    found = memberships.memberships()
    if given["everything"]:
        found += memberships.link_layer_memberships()
    found = owners.find([one for one in found if chosen(one)])
    if not given["quiet"]:
        if name == "text":
            page.memberships(found, given["color"], os.environ)
        else:
            snapshot.records(found, name)
    return NO if wanted - {one.group for one in found} else YES


def _chooser(given: dict[str, Any], wanted: set[str]) -> "Callable[[GroupMembership], bool]":
    """Return what tells whether a membership was asked for."""
    from mcastctl.net import nic

    indexes = {nic.find(one).ifindex for one in given["iface"]}
    zones = {
        (single.group, nic.find(one.iface).ifindex)
        for one in given["groups"]
        if one.iface
        for single in one.expand()
    }
    zoned = {group for group, _ in zones}
    return lambda one: (
        (not indexes or one.ifindex in indexes)
        and (not wanted or one.group in wanted)
        and (one.group not in zoned or (one.group, one.ifindex) in zones)
    )


def _watch(given: dict[str, Any], name: str, chosen: "Callable[[GroupMembership], bool]") -> int:
    """Print changes until interrupted, or for -T."""
    from mcastctl.cli import run
    from mcastctl.host import watching as watches
    from mcastctl.output import watching

    watch = watches.Memberships(chosen, given["timeout"])
    sink = watching.open_sink(name, watching.Memberships(), given)
    return run.stream(
        "groups",
        [format_endpoint(one) for one in given["groups"]],
        sink,
        watch.records,
        lambda: run.Outcome(watch.reason, watch.summary(), YES),
    )
