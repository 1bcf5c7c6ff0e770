"""Hosts, links and switches made of network namespaces: the wire on which tests send multicast.

A `World` owns one user namespace and, in it, one network namespace per `Host`, each kept alive by a
`cat` that ends when the pipe to this process closes, however this process ends. Links are veth
pairs, switches are bridges in the world's anchor namespace. Nothing needs root, nothing touches the
machine's own network, and a command started in a host dies with its world. Standard library and
Linux only.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE
from typing import Any

from place import Outcome, Place, Running, jsonl, need

__all__ = ["Host", "Outcome", "Place", "Running", "World", "WorldUnavailable", "jsonl", "need"]

# Addresses are usable at once (no duplicate address detection), and the wire is silent until a test
# speaks (no router solicitations). IPv4 inherits rp_filter from the machine, so it is set here.
HOST_SETUP = """
cd /proc/sys/net
for conf in all default; do
    echo 0 > ipv6/conf/$conf/accept_dad
    echo 0 > ipv6/conf/$conf/router_solicitations
    echo 0 > ipv4/conf/$conf/rp_filter
done
ip link set lo up
"""

# Switch ports are not hosts: without IPv6 they send no reports of their own into the links.
ANCHOR_SETUP = """
echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
"""


class WorldUnavailable(Exception):
    """Network namespaces cannot be made here; the text says which step failed and why."""


class Host(Place):
    """One network namespace, entered by the pid of the process that holds it open."""

    def __init__(self, name: str, pid: int, config_home: Path) -> None:
        super().__init__(config_home)
        self.name, self.pid = name, pid
        self.ports: list[str] = []  # interfaces other than lo, in the order they were plugged in

    def _argv(self, args: Sequence[str], privileged: bool) -> list[str]:
        # A dead holder has no namespace to enter: nsenter then fails, it never runs args outside.
        enter = ["nsenter", f"--target={self.pid}", "--user", "--net", "--preserve-credentials"]
        limit = ["setpriv", "--pdeathsig=KILL"]
        if not privileged:
            limit += ["--inh-caps=-all", "--bounding-set=-all"]
        return [*enter, *limit, *args]

    def sh(self, script: str, *, check: bool = True, timeout: float = 30) -> Outcome:
        """Run a shell script in this host (ip, tc, nft, ...), stopping at the first error."""
        return self.run(["sh", "-euc", script], check=check, timeout=timeout)

    def ip(self, *lines: str) -> None:
        """Run lines of iproute2 in one process, e.g. ip("link set a0 down", "link set a0 up")."""
        self.run(["ip", "-batch", "-"], input="".join(f"{line}\n" for line in lines))

    def sysctl(self, key: str, value: object = None) -> str:
        """Read or write a net.* key of this host, e.g. "net.ipv4.igmp_max_memberships"."""
        path = f"/proc/sys/{key if '/' in key else key.replace('.', '/')}"
        # Other keys are the machine's, and root in here may still be root out there.
        assert path.startswith("/proc/sys/net/"), f"not a network setting: {key}"
        script = f"cat {path}" if value is None else f"echo {shlex.quote(str(value))} > {path}"
        return self.sh(script).stdout.strip()

    def proc(self, path: str) -> str:
        """A file of this host's /proc/net, e.g. "igmp", "mcfilter6", "dev_mcast"."""
        return Path(f"/proc/{self.pid}/net/{path}").read_text()

    def link(self, ifname: str | None = None) -> dict[str, Any]:
        """What `ip -j addr` says now about an interface (by default the first port)."""
        name = ifname or self.ports[0]
        (link,) = json.loads(self.run(["ip", "-j", "addr", "show", "dev", name]).stdout)
        return dict(link)

    def ifindex(self, ifname: str | None = None) -> int:
        """Interface index."""
        return int(self.link(ifname)["ifindex"])

    def addr4(self, ifname: str | None = None) -> str:
        """First IPv4 address."""
        return self._address(ifname, "inet", ("global", "host"))

    def addr6(self, ifname: str | None = None) -> str:
        """First IPv6 address that is not link-local."""
        return self._address(ifname, "inet6", ("global", "host"))

    def lladdr(self, ifname: str | None = None) -> str:
        """Link-local IPv6 address, without a zone."""
        return self._address(ifname, "inet6", ("link",))

    def _address(self, ifname: str | None, family: str, scopes: tuple[str, ...]) -> str:
        return next(
            str(address["local"])
            for address in self.link(ifname)["addr_info"]
            if address["family"] == family and address["scope"] in scopes
        )


class World:
    """Hosts and the wires between them; everything ends with the context."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._hosts: dict[str, Host] = {}
        self._networks = 0
        self._ports = 10

    def __enter__(self) -> World:
        try:
            scratch = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mcastctl-"))
            self._config_home = Path(scratch)
            outer = ["unshare", "--user", "--map-root-user", "--net"]
            self.anchor = self._hold("anchor", outer, ANCHOR_SETUP)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _hold(self, name: str, unshare: Sequence[str], setup: str) -> Host:
        """Make a namespace, set it up, and leave `cat` in it until our end of its pipe closes."""
        argv = [*unshare, "sh", "-euc", f"{setup}\necho ready\nexec cat"]
        env = Place(self._config_home).env
        try:
            holder = subprocess.Popen(
                argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env, process_group=0
            )
        except FileNotFoundError as error:
            raise WorldUnavailable(f"cannot make a network namespace: {error}") from error
        self._stack.callback(_release, holder)
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != b"ready\n":
            reason = holder.stderr.read().decode(errors="replace").strip()
            raise WorldUnavailable(f"cannot make a network namespace: {reason}")
        if _netns(holder.pid) == _netns(os.getpid()):
            raise WorldUnavailable("unshare left us in the machine's own network")
        host = Host(name, holder.pid, self._config_home)
        self._stack.callback(host.stop)
        return host

    def host(self, name: str) -> Host:
        """A new host with nothing but lo (up); its ports will be called name0, name1, ..."""
        assert name not in self._hosts, f"there is a host {name} already"
        enter = self.anchor._argv(["unshare", "--net"], privileged=True)
        self._hosts[name] = host = self._hold(name, enter, HOST_SETUP)
        return host

    def link(self, a: Host, b: Host) -> tuple[str, str]:
        """Join two hosts by a cable of their own; returns the new interfaces' names.

        The n-th network of a world is 10.0.n.0/24 and fd00:n::/64; hosts get .1, .2, ... in order.
        """
        names = self._port(a), self._port(b)
        self.anchor.ip(self._cable(names[0], names[1], a.pid, b.pid))
        self._plug((a, b), names)
        return names

    def bridge(
        self, name: str, *hosts: Host, snooping: bool = False, querier: bool = False
    ) -> tuple[str, ...]:
        """Join hosts by a switch, a bridge of that name in world.anchor; returns their interfaces.

        The anchor's end of an interface x0 is called name-x0. Addresses as for link.
        """
        names = tuple(self._port(host) for host in hosts)
        self.anchor.ip(
            f"link add {name} type bridge mcast_snooping {snooping:d} mcast_querier {querier:d}",
            f"link set {name} up",
            *(
                self._cable(port, f"{name}-{port}", host.pid, self.anchor.pid)
                for port, host in zip(names, hosts, strict=True)
            ),
        )
        if querier:  # it asks by MLD from its link-local address
            self.anchor.sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 0)
        # The end that comes up last has its carrier at once: ports forward when ip returns.
        self._plug(hosts, names, *(f"link set {name}-{port} master {name} up" for port in names))
        return names

    def _port(self, host: Host) -> str:
        host.ports.append(f"{host.name}{len(host.ports)}")
        return host.ports[-1]

    def _cable(self, near: str, far: str, near_pid: int, far_pid: int) -> str:
        # Indexes are unique in a world: mistaking one host's for another's shows, and only when
        # the ends of a veth differ in index does the kernel report a carrier at once (else in 1 s).
        self._ports += 2
        return (
            f"link add {near} index {self._ports} netns {near_pid} type veth "
            f"peer name {far} index {self._ports + 1} netns {far_pid}"
        )

    def _plug(self, hosts: Sequence[Host], names: Sequence[str], *finally_: str) -> None:
        self._networks += 1
        high, low = divmod(self._networks, 256)
        for number, (host, name) in enumerate(zip(hosts, names, strict=True), start=1):
            host.ip(
                f"link set {name} address 02:00:00:{high:02x}:{low:02x}:{number:02x}",
                f"addr add 10.{high}.{low}.{number}/24 brd + dev {name}",
                f"addr add fd00:{self._networks:x}::{number:x}/64 dev {name} nodad",
                f"link set {name} up",
            )
        if finally_:
            self.anchor.ip(*finally_)
        for host, name in zip(hosts, names, strict=True):
            _wait_ready(host, name)


def _wait_ready(host: Host, ifname: str, timeout: float = 20) -> None:
    """Wait for the link-local address: the kernel adds it once the carrier has opened the queue."""
    deadline = time.monotonic() + timeout
    while True:
        for line in host.proc("if_inet6").splitlines():  # address index length scope flags name
            _, _, _, scope, flags, name = line.split()
            if name == ifname and scope == "20" and not int(flags, 16) & 0x40:  # IFA_F_TENTATIVE
                return
        if time.monotonic() > deadline:
            raise WorldUnavailable(f"{ifname} has no link-local address after {timeout} s")
        time.sleep(0.001)


def _netns(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/net").readlink()


def _release(holder: subprocess.Popen[bytes]) -> None:
    """Close the pipe and let `cat` end; without its last process a namespace ceases to be."""
    for stream in (holder.stdin, holder.stdout, holder.stderr):
        if stream is not None:
            stream.close()
    try:
        holder.wait(2)
    except subprocess.TimeoutExpired:
        holder.kill()
        holder.wait()


def why_no_world() -> str | None:
    """None when two linked hosts can be made here, else the concrete reason."""
    try:
        with World() as world:
            world.link(world.host("a"), world.host("b"))
    except (WorldUnavailable, AssertionError, OSError) as error:
        return str(error)
    return None
