"""`mcastctl ifaces`: interfaces with index, addresses and multicast state."""

import os
from typing import TYPE_CHECKING, Any

import click

from mcastctl.cli import options
from mcastctl.cli import params as p
from mcastctl.model.errors import YES, ValueRangeError

if TYPE_CHECKING:
    from mcastctl.cli.run import Outcome
    from mcastctl.host.watching import Rating

EXAMPLES = """
mcastctl ifaces                                  index, state, addresses, IGMP and MLD
mcastctl ifaces -v                               and the groups joined on each
mcastctl ifaces --live eth0                      packets, bits and groups a second
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
@click.option("--live", is_flag=True, help="Show rates until interrupted, or for -T.")
@click.option("--interval", type=p.TIME, help="How often --live looks (1s).")
@click.option("-T", "--timeout", type=p.TIME, help="Stop --live after this time.")
@options.netns
@options.snapshot("index")
def command(**given: Any) -> int:
    """Read the interfaces and print them."""
    from mcastctl.host import interfaces
    from mcastctl.output import snapshot, stream

    name = options.snapshot_format(given["output"], given["as_json"], ("index",))
    options.refuse_without(given, "live")
    options.enter_netns(given["netns"])
    if given["live"]:
        return _live(given, name)
    if not interfaces.complete():
        stream.notice("mcastctl: warning: without /proc groups, versions and counters are unknown")
    found = interfaces.select(interfaces.interfaces(brief=name == "index"), given["names"])
    if given["quiet"] < 2:
        snapshot.interfaces(found, name, given["color"], os.environ, verbose=given["verbose"] > 0)
    return YES


def _live(given: dict[str, Any], name: str) -> int:
    """Print rates, look after look."""
    from mcastctl.cli import run, views
    from mcastctl.host import watching as watches
    from mcastctl.output import watching

    interval_s = 1.0 if given["interval"] is None else given["interval"]
    if name == "index":
        raise ValueRangeError("--live does not go with -o index", hint="keep one of them")
    views.refuse_haste(interval_s)
    watch = watches.Rating(given["names"], interval_s, given["timeout"])
    if name == "text" and views.drawn(given):
        sink = views.interfaces(given)
    else:
        sink = watching.open_sink(name, watching.Rates(), given)
    return run.stream("ifaces", list(given["names"]), sink, watch.records, lambda: _outcome(watch))


def _outcome(watch: "Rating") -> "Outcome":
    from mcastctl.cli import run

    return run.Outcome(watch.reason, watch.summary(), YES)
