"""`mcastctl doctor`: why does a datagram not arrive; does multicast work on this host at all."""

import os
from typing import TYPE_CHECKING, Any

import click

from mcastctl.cli import options
from mcastctl.cli import params as p
from mcastctl.model.errors import NO, YES, AddressError, ValueRangeError

if TYPE_CHECKING:
    from mcastctl.doctor.facts import Question
    from mcastctl.doctor.path import Station
    from mcastctl.model.endpoint import Endpoint
    from mcastctl.model.records import Finding

EXAMPLES = """
mcastctl doctor 10.0.0.9@239.1.1.1:5004 -i eth0    why does it not arrive here?
mcastctl doctor 239.1.1.1:5004 --pid 4711          not at this process?
mcastctl doctor 239.1.1.1:5004 --role sender       does it leave this host?
mcastctl doctor 239.1.1.1:5004 --role router       is it forwarded here? (or switch)
mcastctl doctor 239.1.1.1:5004 -i eth0 --probe     join, report and inject to prove it
mcastctl doctor                                    the host as a whole
mcastctl doctor --self-test                        loopback only, nothing leaves this host
mcastctl doctor --self-test -i eth0 -j             on an interface; TTL 1
"""
_ROLES = ("receiver", "sender", "router", "switch", "host")
_WATCH_S = 5.0
_TRANSIT = ("router", "switch", "host")


@click.command(
    "doctor",
    cls=options.Command,
    examples=EXAMPLES,
    help="Name the cause why datagrams from SRC to GROUP:PORT do not arrive, with its evidence and"
    " the fix; look for some seconds, change nothing; exit 1 with a cause, 0 without. Root sees"
    " most.",
)
@click.argument("endpoint", type=p.DIAGNOSED, required=False, metavar="[[SRC@]GROUP:PORT]")
@options.iface("The interface in question; --self-test: instead of loopback, repeatable.")
@options.port
@click.option(
    "--role",
    type=click.Choice(_ROLES),
    default="receiver",
    show_default=True,
    help="What this host is to the datagrams (host: of containers).",
)
@click.option("--pid", type=p.PID, help="The process that should hear or send.")
@click.option("-T", "--timeout", type=p.TIME, help="Watch this long (5s).")
@click.option(
    "--probe",
    is_flag=True,
    help="Then join, report, inject, trace; TTL 1, undone. Without root a program that listens may"
    " get one datagram of ours.",
)
@click.option("--self-test", is_flag=True, help="Send and hear on this host.")
@options.netns
@options.snapshot()
def command(**given: Any) -> int:
    """Run the diagnosis or the checks, and print the findings."""
    options.enter_netns(given["netns"])
    name = options.snapshot_format(given["output"], given["as_json"])
    if given["self_test"]:
        return _self_test(given, name)
    return _diagnose(given, name)


def _self_test(given: dict[str, Any], name: str) -> int:
    told = given["endpoint"], given["pid"], given["probe"]
    if any(told) or given["timeout"] is not None:
        raise ValueRangeError(
            "--self-test takes neither an endpoint nor --pid, --probe nor -T", hint="leave them out"
        )
    from mcastctl.doctor import selftest
    from mcastctl.net import nic
    from mcastctl.output import snapshot

    found = list(selftest.run([nic.find(one) for one in given["iface"]]))
    if not given["quiet"]:
        snapshot.checks(found, name, given["color"], os.environ)
    return _status(found)


def _diagnose(given: dict[str, Any], name: str) -> int:
    from mcastctl.doctor import report
    from mcastctl.net.loop import Loop
    from mcastctl.output import diagnosis, snapshot

    question = _question(given)
    watch_s = _WATCH_S if given["timeout"] is None else given["timeout"]
    path: list[Station] = []
    with Loop() as loop:
        if question is None:
            found = report.health(watch_s, loop)
        else:
            say = diagnosis.announcing(given["quiet"]) if given["probe"] else None
            found, path = report.run(question, watch_s, loop, say)
        stopped_by = loop.stopped_by
    if name != "text" and not given["quiet"]:
        snapshot.records(found, name)
    elif not given["quiet"]:
        diagnosis.show(found, path if given["verbose"] else [], given["color"], os.environ)
    return _status(found) if stopped_by is None else 128 + stopped_by


def _status(found: "list[Finding]") -> int:
    return NO if any(one.severity == "error" for one in found) else YES


def _question(given: dict[str, Any]) -> "Question | None":
    """Return what is asked about, None for the host as a whole."""
    from mcastctl.doctor import report
    from mcastctl.doctor.facts import Question

    one: Endpoint | None = given["endpoint"]
    if given["probe"] and given["role"] in _TRANSIT:
        raise ValueRangeError("--probe tests receivers and senders", hint="leave it or --role out")
    if one is None:
        _refuse_details(given)
        return None
    if one.further:
        raise AddressError("doctor looks for one group at a time", hint="leave /LEN or +N out")
    if one.exclude:
        raise AddressError("doctor wants the sender, not an excluded one", hint="write SRC@GROUP")
    (completed,) = options.complete([one], port=given["port"])
    names = given["iface"] or ((one.iface,) if one.iface else ())
    if len(names) > 1:
        raise ValueRangeError("doctor looks at one interface at a time", hint="keep one -i")
    transit = given["role"] in _TRANSIT
    name, index = report.interface(names[0], elsewhere=transit) if names else ("", 0)
    asked = completed.group, completed.port or 0, completed.sources
    return Question(*asked, name, index, given["role"], given["pid"])


def _refuse_details(given: dict[str, Any]) -> None:
    """Refuse what only a question about a group can use."""
    named = given["iface"], given["pid"], given["port"], given["probe"]
    if any(named) or given["role"] != "receiver":
        raise ValueRangeError(
            "without a group doctor looks at the host as a whole",
            hint="name what does not arrive: mcastctl doctor GROUP:PORT -i IFACE",
        )
