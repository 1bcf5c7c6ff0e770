"""What is wrong with a run although the kernel takes it without a word, told when it begins.

Linux joins groups on interfaces that hear nothing, sends with a source address of another
interface, and cuts datagrams into fragments, all silently.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from mcastctl.model import address
from mcastctl.model.address import family, host_port, is_multicast
from mcastctl.model.records import Notice
from mcastctl.model.shell import word
from mcastctl.net import nic
from mcastctl.net.ifaddrs import IFF_LOOPBACK, IFF_MULTICAST
from mcastctl.net.nic import Nic

if TYPE_CHECKING:
    from mcastctl.net.receiver import Subscription
    from mcastctl.net.sender import Sender, Target

_NAMED = 3
"""Silent groups told by name."""
_UDP, _HEADER, _FRAGMENT6 = 8, {4: 20, 6: 40}, 8
"""Bytes of the UDP, IP and IPv6 fragment headers (RFC 768, 791, 8200)."""


def receiving(wanted: "Iterable[Subscription]") -> Iterator[Notice]:
    """Yield a warning for each group by which little or nothing can come.

    What is wrong with an interface is told when it is so, not only now (`following`).
    """
    for one in wanted:
        yield from _of_group(one.group, with_sources=one.mode == "include")


def silent(unheard: "list[Subscription]") -> Iterator[Notice]:
    """Yield a warning that names what nothing came to, while something came to others."""
    if not unheard:
        return
    names = [f"{host_port(one.group, one.port)} on {one.nic.name}" for one in unheard]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    text = f"nothing heard of {', '.join(names[:_NAMED])}{more}"
    first = unheard[0]
    target = word(host_port(first.group, first.port))
    hint = f"mcastctl doctor {target} -i {word(first.nic.name)} tells why"
    yield _warning("silent", text, hint)


def sending(pairs: "Iterable[tuple[Sender, Target]]", size: int | None) -> Iterator[Notice]:
    """Yield a warning for what receivers will not take, or not whole.

    `size` is the number of bytes of each payload, None where that is not known.
    """
    targets = [target for _, target in pairs if is_multicast(target.host)]
    for group in dict.fromkeys(one.host for one in targets):
        yield from _of_group(group, with_sources=True)
    for one, target in {target.nic: (one, target) for one, target in pairs}.values():
        if target.nic is None or not is_multicast(target.host):
            continue
        yield from _of_source(one, target, target.nic)
        yield from _of_size(target, target.nic, size)


def _of_group(group: str, *, with_sources: bool) -> Iterator[Notice]:
    for remark in address.remarks(group, with_sources=with_sources):
        yield _warning(*remark)


def of_interface(chosen: Nic) -> Iterator[Notice]:
    """Yield a warning for what an interface cannot do although sockets may join on it."""
    flags = nic.flags(chosen)
    if flags is None:
        return
    if not flags & (IFF_MULTICAST | IFF_LOOPBACK):
        text = f"{chosen.name} has no MULTICAST flag: its joins are told to nobody"
        yield _warning("no-multicast", text, f"ip link set {word(chosen.name)} multicast on")


def _of_source(one: "Sender", target: "Target", chosen: Nic) -> Iterator[Notice]:
    if one.version == 4 and one.egress.source is None and not nic.has_address4(chosen):
        source = one.source_for(target) or "another interface's address"
        text = f"{chosen.name} has no IPv4 address: datagrams leave with the source {source}"
        hint = "receivers drop a source they would not route back there (rp_filter): add an address"
        yield _warning("borrowed-source", text, hint)


def _of_size(target: "Target", chosen: Nic, size: int | None) -> Iterator[Notice]:
    version = family(target.host)
    mtu = nic.mtu(chosen)
    if size is None or mtu is None or size + _UDP + _HEADER[version] <= mtu:
        return
    room = mtu - _HEADER[version] - (_FRAGMENT6 if version == 6 else 0)
    number = -(-(size + _UDP) // max(room // 8 * 8, 8))
    text = f"{size} bytes exceed the MTU {mtu} of {chosen.name}: {number} fragments each"
    whole = mtu - _HEADER[version] - _UDP
    yield _warning("fragments", text, f"one lost loses all of them; up to -s {whole} goes whole")


def _warning(code: str, text: str, hint: str) -> Notice:
    return Notice(time.time_ns(), "warning", code, text, hint)
