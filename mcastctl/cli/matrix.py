"""`mcastctl matrix`: who hears whom, over the OpenSSH that is there."""

import os
from typing import TYPE_CHECKING, Any

import click

from mcastctl.cli import options
from mcastctl.cli import params as p
from mcastctl.model.endpoint import parse
from mcastctl.model.errors import COULD_NOT_ASK, NO, YES, ValueRangeError
from mcastctl.output import stream

if TYPE_CHECKING:
    from mcastctl.net.reach import Target
    from mcastctl.net.survey import Answer

EXAMPLES = """
mcastctl matrix alpha beta gamma                        each asks, all listen, by ssh
mcastctl matrix -i eth1 --hosts hosts.txt -t 8 -j       a file of hosts, across routers
mcastctl matrix --inventory inventory.yml --group 239.1.1.1:5004
mcastctl matrix alpha%eth0 ops@beta%bond0 local         each by its own interface; local is here
sudo mcastctl matrix netns:red netns:blue               network namespaces of this host
mcastctl matrix alpha beta --existing                   ask the 'mcastctl echo' that runs there
"""
GROUP = "239.255.76.67:7645"
"""Where they meet unless told: the IPv4 local scope (RFC 2365 section 6.1)."""
_SSH = "ssh -o BatchMode=yes"
_NUMBER = p.whole("n", "number of hosts", 1, 1024)
_SOME = p.whole("n", "number of silences", 0, 1024)


@click.command(
    "matrix",
    cls=options.Command,
    examples=EXAMPLES,
    help="Show who hears whom: mcastctl runs on each host over ssh (its configuration, keys and "
    "jump hosts), all listen, each asks, and the doctor explains the silences. A HOST is a "
    "word for ssh, netns:NAME or local, each with its own %IFACE.",
)
@click.argument("hosts", nargs=-1, metavar="HOST...")
@click.option("--hosts", "hosts_file", type=p.FILE, help="Read hosts from a file, one a line.")
@click.option("--inventory", type=p.FILE, help="Read hosts from an inventory of Ansible.")
@click.option("--group", type=p.ENDPOINT, help=f"Group and port to meet at ({GROUP}).")
@options.iface("Interface by which they speak, where a host names none.")
@click.option("-c", "--count", type=p.COUNT, default=5, help="Requests of each host (5).")
@click.option("--interval", type=p.TIME, default=0.2, help="Time between them (200ms).")
@click.option("--wait", type=p.TIME, default=1.0, help="Wait this long for the last answers (1s).")
@click.option("-t", "--ttl", type=p.TTL, default=1, show_default=True, help="TTL or hop limit.")
@click.option("--max-loss", type=p.PERCENT, default=0.0, help="Most loss allowed (none).")
@click.option("-T", "--timeout", type=p.TIME, default=15.0, help="Time to reach a host (15s).")
@click.option("--parallel", type=_NUMBER, default=16, help="Hosts that are busy at once (16).")
@click.option("--ssh", metavar="CMD", default=_SSH, show_default=True, help="OpenSSH's client.")
@click.option("--remote", metavar="CMD", default="mcastctl", help="The program there (mcastctl).")
@click.option("--existing", is_flag=True, help="Start no listeners: ask the echoes that run there.")
@click.option("--explain", type=_SOME, default=16, help="Silences the doctor looks at (16).")
@options.snapshot()
def command(**given: Any) -> int:
    """Translate the options, ask the hosts, print the answer."""
    name = options.snapshot_format(given["output"], given["as_json"])
    targets = _targets(given)
    answer = _ask(targets, given, told=name == "text" and not given["quiet"])
    if given["quiet"]:
        pass
    elif name == "text":
        from mcastctl.output import matrix as page

        page.show(*answer, given["color"], os.environ)
    else:
        from mcastctl.output import snapshot

        snapshot.records([*answer.hosts, *answer.pairs, *answer.explained], name)
    return _status(answer, given["max_loss"])


def _ask(targets: "list[Target]", given: dict[str, Any], *, told: bool) -> "Answer":
    from mcastctl.net import reach, survey

    endpoint = given["group"] or parse(GROUP)
    (endpoint,) = options.complete([endpoint], port=None)
    if endpoint.further or len(given["iface"]) > 1:
        raise ValueRangeError("one group and one interface at a time", hint="repeat the run")
    plan = survey.Plan(
        endpoint,
        given["count"],
        given["interval"],
        given["wait"],
        given["ttl"],
        given["iface"][0] if given["iface"] else None,
        given["timeout"],
        given["parallel"],
        reach.words(given["ssh"]),
        reach.words(given["remote"]),
        given["existing"],
        given["explain"],
    )
    return survey.ask(targets, plan, stream.notice if told else lambda _line: None)


def _targets(given: dict[str, Any]) -> "list[Target]":
    """Return the hosts named, each once."""
    from mcastctl.net import hosts, reach

    names = list(given["hosts"])
    if given["hosts_file"] is not None:
        names += hosts.from_file(given["hosts_file"])
    if given["inventory"] is not None:
        names += hosts.from_inventory(given["inventory"])
    found: dict[str, Target] = {}
    for one in map(reach.parse, names):
        if found.setdefault(one.name, one) != one:
            raise ValueRangeError(
                f"'{one.name}' is named twice, by {found[one.name].iface} and {one.iface}",
                hint="one interface of a host at a time: repeat the run for the other",
            )
    if len(found) < 2:
        raise ValueRangeError(
            "who hears whom takes two hosts or more",
            hint="name them, or list them: --hosts FILE, --inventory FILE",
        )
    return list(found.values())


def _status(answer: "Answer", max_loss: float) -> int:
    """Return yes when every pair is heard well enough; no host that can be asked is no answer."""
    known = [pair for pair in answer.pairs if pair.sent]
    if not known:
        return COULD_NOT_ASK
    good = all(100 * pair.lost <= max_loss * pair.sent for pair in known)
    return YES if good and len(known) == len(answer.pairs) else NO
