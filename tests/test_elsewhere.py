"""Other systems' commands, as they print, become the same records; what is not told is said."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import check_schema

from mcastctl.host import bridges, elsewhere, forwarding, memberships, netns, owners, routes
from mcastctl.model.errors import McastError

MACOS = """\
Link-layer Multicast Group Memberships
Group               \tLink-layer Address\tNetif
1:0:5e:0:0:fb       \t<none>           \ten0
33:33:0:0:0:1       \t<none>           \ten0

IPv4 Multicast Group Memberships
Group               \tLink-layer Address\tNetif
224.0.0.251         \t1:0:5e:0:0:fb     \ten0
224.0.0.1           \t<none>            \tlo0
10.0.0.1            \t<none>            \tlo0

IPv6 Multicast Group Memberships
Group               \tLink-layer Address\tNetif
ff02::fb%en0        \t33:33:0:0:0:fb    \ten0
ff01::1%gone0       \t<none>            \tgone0
"""

FREEBSD = """\
lo0:
em0:
\tinet 192.0.2.2
\tigmpv2 rv 2 qi 125 qri 10 uri 3
\t\tgroup 224.0.0.1 mode exclude
\t\t\tmcast-macaddr 01:00:5e:00:00:01
\t\tgroup 232.1.1.1 mode include
\tinet6 fe80::1%em0 scopeid 0x1
\tmldv2 flags=2<USEALLOW> rv 2 qi 125 qri 10 uri 3
\t\tgroup ff02::1%em0 mode exclude
\t\t\tmcast-macaddr 33:33:00:00:00:01
"""

WINDOWS = """\

Schnittstelle 1: Loopback Pseudo-Interface 1

Bereich     Verweise    Letzte Adresse
----------  ----------  ------ ---------------------------------
0                    4  Ja     239.255.255.250

Schnittstelle 12: Ethernet 2

Bereich     Verweise    Letzte Adresse
----------  ----------  ------ ---------------------------------
0                    0  Ja     224.0.0.1
0                    1  Ja     239.1.1.1
"""

MACOS_ROUTE = """\
   route to: 239.1.1.1
destination: default
       mask: default
    gateway: 192.0.2.1
  interface: en0
      flags: <UP,GATEWAY,DONE,STATIC,PRCLONING,GLOBAL>
 recvpipe  sendpipe  ssthresh  rtt,msec    rttvar  hopcount      mtu     expire
       0         0         0         0         0         0      1500         0
"""

WINDOWS_ROUTE = json.dumps(
    [
        {"IPAddress": "192.0.2.2", "InterfaceIndex": 12, "InterfaceAlias": "Ethernet 2"},
        {
            **{"IPAddress": None, "InterfaceIndex": 12, "InterfaceAlias": "Ethernet 2"},
            **{"NextHop": "::", "DestinationPrefix": "224.0.0.0/4"},
        },
    ]
)


@pytest.fixture(autouse=True)
def indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"en0": 4, "lo0": 1, "em0": 2}
    monkeypatch.setattr(elsewhere, "_index", lambda name: known.get(name, 0))


def test_macos_memberships() -> None:
    asked = []

    def ask(command: list[str]) -> str:
        asked.append(command)
        return MACOS

    found = elsewhere.memberships("darwin", ask)
    assert asked == [["netstat", "-gn"]]
    assert [(one.iface, one.ifindex, one.group) for one in found] == [
        ("en0", 4, "224.0.0.251"),
        ("lo0", 1, "224.0.0.1"),
        ("en0", 4, "ff02::fb"),
    ]
    for one in found:
        assert (one.mode, one.mode_certain, one.users, one.owners) == ("exclude", False, None, ())
        assert "neither" in one.notes[0]
    check_schema(json.loads(json.dumps([one.to_dict() for one in found])))


def test_freebsd_memberships() -> None:
    found = elsewhere.memberships("freebsd14", lambda command: FREEBSD)
    assert [(one.group, one.protocol, one.mode, one.mode_certain) for one in found] == [
        ("224.0.0.1", "IGMPv2", "exclude", True),
        ("232.1.1.1", "IGMPv2", "include", False),
        ("ff02::1", "MLDv2", "exclude", True),
    ]
    assert {(one.iface, one.ifindex) for one in found} == {("em0", 2)}


def test_windows_memberships_in_any_language() -> None:
    asked = []

    def ask(command: list[str]) -> str:
        asked.append(command)
        return WINDOWS if "ipv4" in command else ""

    found = elsewhere.memberships("win32", ask)
    assert [command[2] for command in asked] == ["ipv4", "ipv6"]
    assert [(one.iface, one.ifindex, one.group, one.users) for one in found] == [
        ("Loopback Pseudo-Interface 1", 1, "239.255.255.250", 4),
        ("Ethernet 2", 12, "224.0.0.1", 0),
        ("Ethernet 2", 12, "239.1.1.1", 1),
    ]


def test_macos_routes() -> None:
    asked = []

    def ask(command: list[str]) -> str:
        asked.append(command)
        if "-inet6" in command:
            raise OSError("route: writing to routing socket: not in table")
        return MACOS_ROUTE

    routing = elsewhere.Routing("darwin", ask)
    found = routing.route("239.1.1.1")
    assert (found.iface, found.ifindex, found.gateway) == ("en0", 4, "192.0.2.1")
    assert (found.leaves, found.prefix, found.table) == (True, "0.0.0.0/0", None)
    assert not routing.route("ff15::1").leaves
    assert [command[:4] for command in asked] == [
        ["route", "-n", "get", "-inet"],
        ["route", "-n", "get", "-inet6"],
    ]
    by_hand = routing.route("239.1.1.1", 1)
    assert (by_hand.ifindex, by_hand.leaves) == (1, True)
    with pytest.raises(McastError, match="from a source"):
        routing.route("239.1.1.1", None, "192.0.2.2")
    check_schema(json.loads(json.dumps([found.to_dict()])))


def test_windows_routes() -> None:
    routing = elsewhere.Routing("win32", lambda command: WINDOWS_ROUTE)
    found = routing.route("239.1.1.1")
    assert (found.iface, found.ifindex, found.source) == ("Ethernet 2", 12, "192.0.2.2")
    assert (found.gateway, found.prefix) == (None, "224.0.0.0/4")
    assert routing.reverse("192.0.2.9").ifindex == 12
    assert not elsewhere.Routing("win32", lambda command: "no JSON").route("239.1.1.1").leaves


def test_what_other_systems_do_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(McastError, match="sunos5"):
        elsewhere.memberships("sunos5", lambda command: "")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(elsewhere, "memberships", lambda: elsewhere.macos_memberships(MACOS))
    rows = memberships.memberships()
    assert len(rows) == 3
    assert owners.find(rows) == rows
    assert isinstance(routes.open_routing(), elsewhere.Routing)
    for read in (forwarding.read, bridges.read, lambda: netns.enter("1")):
        with pytest.raises(McastError) as caught:
            read()
        assert "darwin" in caught.value.message
        assert caught.value.hint


def test_commands_that_are_not_there_or_say_no() -> None:
    with pytest.raises(McastError, match="cannot run 'no-such-program-here'"):
        elsewhere.run(["no-such-program-here"])
    with pytest.raises(OSError, match="no way"):
        elsewhere.run([sys.executable, "-c", "raise SystemExit('no way')"])
    assert elsewhere.run([sys.executable, "-c", "print('said')"]).split() == ["said"]


@given(st.text() | st.text('0123456789abcdef:.% \t\n-_(){}[],"gropmdeinclux', max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_text_raises(text: str) -> None:
    for parse in (
        *(elsewhere.macos_memberships, elsewhere.bsd_memberships, elsewhere.windows_memberships),
        *(elsewhere.bsd_route, elsewhere.windows_route),
    ):
        parse(text)


@pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
def test_every_module_loads_elsewhere(platform: str) -> None:
    """Nothing of Linux is touched by importing."""
    names = "borrowed bridges elsewhere forwarding interfaces knobs links memberships netlink netns"
    names += " owners procnet routes sockets watching"
    script = (
        "import importlib, socket, ctypes, psutil, sys, os\n"
        "for name in ('AF_NETLINK', 'AF_PACKET'): delattr(socket, name)\n"
        "del os.sysconf\n"
        "ctypes.CDLL = None\n"
        f"sys.platform = {platform!r}\n"
        f"for name in {names.split()!r}: importlib.import_module('mcastctl.host.' + name)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
