"""`mcastctl routes`: where groups leave, and what this host forwards."""

import os
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mcastctl.cli import contradictions, options
from mcastctl.cli import params as p
from mcastctl.model.address import family, keeps_zone
from mcastctl.model.errors import NO, YES, AddressError
from mcastctl.model.forwarding import Bridge, DatabaseEntry, ForwardingEntry

if TYPE_CHECKING:
    from mcastctl.host import elsewhere
    from mcastctl.host.forwarding import Forwarded
    from mcastctl.host.routes import Routing
    from mcastctl.model.endpoint import Endpoint
    from mcastctl.model.route import Route

T = TypeVar("T")

EXAMPLES = """
mcastctl routes 239.1.1.1                   interface, source, table, scope, TTL
mcastctl routes                             of every group joined here
mcastctl routes 239.1.1.1 -i eth0 -i eth1   by each of two interfaces
mcastctl routes 10.0.0.9@232.1.1.1          and the way back to the sender
mcastctl routes --forwarding                what this host forwards, and for whom
mcastctl routes --bridge                    snooping, querier, ports, database
mcastctl routes ff15::42 -j | jq -r '.[].iface'
mcastctl routes 239.1.1.1 -q && echo leaves
"""


@click.command(
    "routes",
    cls=options.Command,
    examples=EXAMPLES,
    help="Ask the kernel where groups leave (all joined ones when none is named), and say what"
    " their numbers mean; exit 1 when one named goes nowhere.",
)
@click.argument("groups", type=p.ENDPOINT, nargs=-1, metavar="[GROUP]...")
@options.iface("Ask for this interface; repeat for several.")
@click.option("-S", "--source", type=p.ADDRESS, help="Ask as a sender bound to this address.")
@click.option("--forwarding", is_flag=True, help="What this host forwards between interfaces.")
@click.option("--bridge", is_flag=True, help="What its bridges know of groups.")
@options.netns
@options.snapshot()
def command(**given: Any) -> int:
    """Ask, and print the answers."""
    name = options.snapshot_format(given["output"], given["as_json"])
    contradictions.routing(given)
    options.enter_netns(given["netns"])
    from mcastctl.output import forwarding as tables
    from mcastctl.output import routes as page
    from mcastctl.output import snapshot

    asked = given["groups"]
    routes = _routes(given) if asked or not (given["forwarding"] or given["bridge"]) else []
    forwarded = _forwarding(given) if given["forwarding"] else []
    bridges = _bridges(given) if given["bridge"] else []
    if name != "text" and not given["quiet"]:
        snapshot.records([*routes, *forwarded, *bridges], name)
    elif not given["quiet"]:
        if routes:
            page.Page(
                given["color"], os.environ, detailed=bool(asked) or given["verbose"] > 0
            ).routes(routes)
        if given["forwarding"]:
            tables.forwarding(forwarded, given["color"], os.environ)
        if given["bridge"]:
            tables.bridges(bridges, given["color"], os.environ)
    return NO if asked and not all(one.leaves for one in routes) else YES


def _forwarding(given: dict[str, Any]) -> "list[Forwarded]":
    """Return what is forwarded; only the entries of the groups named."""
    from mcastctl.host import forwarding, netlink

    with netlink.naming("ask the kernel what it forwards"):
        return _of_groups(given, forwarding.read())


def _bridges(given: dict[str, Any]) -> "list[Bridge | DatabaseEntry]":
    """Return the bridges; only the entries of the groups named."""
    from mcastctl.host import bridges, netlink

    with netlink.naming("ask the kernel for its bridges"):
        return _of_groups(given, bridges.read())


def _of_groups(given: dict[str, Any], found: list[T]) -> list[T]:
    groups = {single.group for one in given["groups"] for single in one.expand()}
    entries = (ForwardingEntry, DatabaseEntry)
    return [
        one for one in found if not groups or not isinstance(one, entries) or one.group in groups
    ]


def _routes(given: dict[str, Any]) -> "list[Route]":
    from mcastctl.host import routes
    from mcastctl.net import nic

    indexes = [nic.find(one).ifindex for one in given["iface"]]
    with routes.open_routing() as routing:
        if not given["groups"]:
            return _joined(routing, indexes, given["source"])
        found = []
        for one in given["groups"]:
            chosen = [nic.find(one.iface).ifindex] if one.iface else indexes
            for single in one.expand():
                for index in chosen or (None,):
                    found.append(_asked(routing, single, index, given["source"]))
        return found


def _asked(
    routing: "Routing | elsewhere.Routing", one: "Endpoint", ifindex: int | None, source: str | None
) -> "Route":
    """Return the route of one group, and the way back to its sender when that is named."""
    if source and family(source) != one.family:
        raise AddressError(
            f"-S {source} cannot send to {one.group}: the families differ",
            hint="name a source of the group's family",
        )
    route = routing.route(one.group, ifindex, source)
    if one.sources and not one.exclude:
        route = route._replace(reverse=routing.reverse(one.sources[0]))
    return route


def _joined(
    routing: "Routing | elsewhere.Routing", indexes: list[int], source: str | None
) -> "list[Route]":
    """Return the routes of what is joined here; a link-local group leaves where it was joined."""
    from mcastctl.host import memberships

    asked: dict[tuple[str, int | None], None] = {}
    for one in memberships.memberships():
        if (indexes and one.ifindex not in indexes) or (
            source and family(source) != family(one.group)
        ):
            continue
        known = one.ifindex if indexes or keeps_zone(one.group) else None
        asked[one.group, known] = None
    return [routing.route(group, index, source) for group, index in asked]
