"""Does multicast work on this host: real datagrams over loopback, or an interface one names.

Each check sends, hears, and yields one finding: severity info when it passed, error when it
failed, warning when the host does not let it run.
"""

import errno
from collections.abc import Callable, Iterator

from mcastctl.doctor import apart, checks
from mcastctl.doctor.checks import Ground
from mcastctl.model.errors import McastError, SocketError
from mcastctl.model.records import Finding
from mcastctl.net import nic, private
from mcastctl.net.nic import Nic

_NO_ROUTE = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def run(interfaces: list[Nic]) -> Iterator[Finding]:
    """Yield the findings of every check, on loopback or on each interface given."""
    for chosen in interfaces or [nic.find(_loopback_name())]:
        yield from _on_interface(chosen, 4)
        if nic.loopback_address(6, chosen) is None:
            yield from _on_interface(chosen, 6)
        else:
            yield from _loopback6(chosen)


def _loopback_name() -> str:
    return next((name for name in ("lo", "lo0") if name in nic.names()), "lo")


def _on_interface(chosen: Nic, version: int) -> Iterator[Finding]:
    source = next(iter(_sources(chosen, version)), None)
    if source is None:
        yield _left_out(version, f"{chosen.name} has no IPv{version} address", "")
        return
    yield from _all(Ground(version, chosen, source, ""))


def _sources(chosen: Nic, version: int) -> list[str]:
    """Return the addresses to send from: wider ones first, link-local ones last."""
    found = nic.own_addresses(version, chosen)
    return sorted(found, key=lambda address: address.startswith(("fe80", "169.254")))


def _loopback6(loopback: Nic) -> Iterator[Finding]:
    """Test IPv6 on this host's lo if it routes groups, else on that of a private namespace."""
    ground = Ground(6, loopback, "::1", "")
    try:
        checks.reach(ground)
    except SocketError as error:
        if error.errno not in _NO_ROUTE:
            yield checks.failed(6, "any-source", error)
            return
    else:
        yield from _all(ground)
        return
    note = f"in a private namespace: this host's {loopback.name} routes no IPv6 groups"
    try:
        yield from apart.findings(lambda: _privately(ground._replace(note=note)))
    except McastError as error:
        yield _left_out(6, error.message, error.hint)


def _privately(ground: Ground) -> list[Finding]:
    private.enter()
    return list(_all(ground))


def _all(ground: Ground) -> Iterator[Finding]:
    steps: list[tuple[str, Callable[[Ground], str]]] = [
        ("any-source", checks.any_source),
        ("source-specific", checks.source_specific),
        ("excluded source", checks.excluded_source),
        ("echo and ping", checks.echo_and_ping),
    ]
    for name, step in steps:
        try:
            evidence = step(ground)
        except McastError as error:
            yield checks.failed(ground.version, name, error)
        else:
            yield Finding(
                checks.identity(ground.version, name),
                "info",
                f"IPv{ground.version} {name}",
                [evidence, ground.note] if ground.note else [evidence],
                "",
                "host",
            )


def _left_out(version: int, why: str, hint: str) -> Finding:
    title = f"IPv{version} not tested"
    return Finding(f"self-test-ipv{version}", "warning", title, [why], hint, "host")
