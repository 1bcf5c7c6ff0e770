"""Targets that read text: endpoints, values, settings, what is shown, the system's own tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from test_escape import check_harmless, unescape

from fuzz.target import Target, check
from mcastctl.cli import config
from mcastctl.cli.app import COMMANDS
from mcastctl.host import counters, elsewhere, firewall, forwarding, joined, procnet, sockets
from mcastctl.model import endpoint, units
from mcastctl.model.errors import McastError
from mcastctl.net import fleet, reach
from mcastctl.output import text
from mcastctl.output.escape import escape, escape_bytes

ENDPOINTS = [
    "239.1.1.1:5004",
    "[ff02::123%eth0]:7645",
    "192.0.2.9,192.0.2.10@232.1.1.1:5004",
    "!192.0.2.9@239.1.1.1%eth0:5004",
    "2001:db8::9@[ff3e::8000:1%eth0]:5004",
    "239.1.1.0:5004+3",
    "239.1.1.0/30:5004",
    "ff15::/120",
    "rtp://239.1.1.1:5004",
    "192.0.2.1,232.1.1.1",
]


def read_text(data: bytes) -> str:
    """Any text can be typed, also what is no UTF-8."""
    return data.decode(errors="surrogateescape")


def endpoints(data: bytes) -> None:
    """An endpoint or an AddressError; what is printed parses back; ranges are bounded."""
    written = read_text(data)
    try:
        found = endpoint.parse(written, unicast=len(data) % 2 == 0)
    except McastError as error:
        check(error.message and error.hint, "an error without message or hint")
        return
    shown = endpoint.format_endpoint(found)
    check(endpoint.parse(shown, unicast=True) == found, f"{shown!r} is not {found}")
    bare = endpoint.format_endpoint(found._replace(iface=None))  # an interface may have any name
    check(escape(bare) == bare, "an endpoint that cannot be shown as it is")
    try:
        groups = list(found.expand())
    except McastError:
        return
    check(0 < len(groups) <= 4096, "an unbounded range")
    for one in (groups[0], groups[-1]):
        check(ip_address(one.group), "no address")


_UNITS: Sequence[Callable[[str], object]] = (
    units.parse_time,
    units.parse_size,
    units.parse_rate,
    units.parse_percent,
    units.parse_dscp,
    units.parse_hex,
    endpoint.parse_port,
    endpoint.parse_source,
    lambda word: units.parse_whole(word, "number", 1, 1000),
)


def values(data: bytes) -> None:
    """A finite value in range, or an error of ours; hex comes back."""
    written = read_text(data)
    for parse in _UNITS:
        try:
            value = parse(written)
        except McastError:
            continue
        if isinstance(value, int | float):
            check(0 <= value < 1e18, f"{written!r} is {value}")
        if parse is not endpoint.parse_source:  # an interface may have any name
            check(written.isascii(), "digits that are none of ASCII")
    check(units.parse_hex(data.hex()) == data, "hex does not come back")


def hosts(data: bytes) -> None:
    """A host that is no option of ssh, or an error of ours; and whatever a host answers."""
    for one in fleet._objects(data.decode(errors="replace")):
        check(isinstance(one, dict), "no object")
    try:
        found = reach.parse(read_text(data))
    except McastError:
        return
    words = reach.argv(found, ["ssh"], "true")
    if found.kind == reach.SSH:
        check(words[:2] == ["ssh", "--"] and words[2][:1] not in ("", "-"), f"{words}")
    line = reach.line([found.iface or "x", found.address])
    check("\n" not in line and "\0" not in line, "more than one line of shell")


def settings(data: bytes) -> None:
    """Settings of known sections, or a ConfigError."""
    try:
        found = config.parse(data, "config.toml", COMMANDS)
    except config.ConfigError as error:
        check(error.hint, "no hint")
        return
    check(set(found.defaults) <= set(COMMANDS), "an unknown section")
    check(all(isinstance(one, str) for one in found.groups.values()), "a group that is no text")


def escaper(data: bytes) -> None:
    """What is shown has no control or invisible character and can be read back."""
    shown = escape_bytes(data)
    check_harmless(shown)
    check(unescape(shown).encode(errors="surrogateescape") == data, "not the same bytes")
    wild = data.decode("utf-16-le", errors="surrogatepass" if len(data) % 2 == 0 else "replace")
    check_harmless(escape(wild))
    check(unescape(escape(wild)) == wild, "not the same text")
    check_harmless(text.readable(data))


_PROC: Sequence[Callable[[str], object]] = (
    procnet.igmp,
    procnet.igmp_versions,
    procnet.igmp6,
    procnet.mcfilter,
    procnet.mcfilter6,
    procnet.dev_mcast,
    joined.igmp,
    joined.igmp6,
    counters.paired,
    counters.listed,
    counters.devices,
    elsewhere.macos_memberships,
    elsewhere.bsd_memberships,
    elsewhere.windows_memberships,
    elsewhere.bsd_route,
    elsewhere.windows_route,
    lambda said: forwarding.vifs_of_text(4, said, {2: "eth0"}),
    lambda said: sockets.parse("udp", said),
    lambda said: list(firewall.legacy_rules(said, "ip")),
    firewall.parse,
)

TABLES = [
    "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
    "1\tlo        :     1      V3\n\t\t\t\tE00000FB     1 0:00000000\t\t0\n",
    "1    lo              ff020000000000000000000000000001     1 0000000C 0\n",
    "Idx Device        MCA        SRC    INC    EXC\n"
    "  2   eth0 0xe8010101 0x0a000002      1      0\n",
    "  2   eth0 ff3e0000000000000000000080000001 20010db8000000000000000000000009      1      0\n",
    "2    eth0            1     0     01005e0000fb\n",
    "Udp: InDatagrams NoPorts\nUdp: 12 3\n",
    "Udp6InDatagrams                 \t12\nIp6InMcastPkts                  \t3\n",
    "Inter-|   Receive\n face |bytes    packets\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
    "Interface      BytesIn  PktsIn  BytesOut PktsOut Flags Local    Remote\n"
    " 0 eth0           100       1         0       0 00000 00000002 00000000\n",
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout\n"
    "  77: FB0000E0:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000"
    "     0        0 4711 2 0000000000000000 0\n",
    "-A INPUT -d 239.0.0.0/8 -p udp -m udp --dport 5004 -j DROP\n:INPUT ACCEPT [0:0]\n",
]

_CHAIN = {"family": "inet", "table": "t", "name": "in", "hook": "input", "policy": "drop"}
_MATCH = {
    "op": "==",
    "left": {"payload": {"protocol": "ip", "field": "daddr"}},
    "right": {"prefix": {"addr": "224.0.0.0", "len": 4}},
}
_EXPR = [{"match": _MATCH}, {"counter": {"packets": 1, "bytes": 2}}, {"drop": None}]
_RULE = {"family": "inet", "table": "t", "chain": "in", "handle": 2, "expr": _EXPR}
RULESET = json.dumps({"nftables": [{"chain": _CHAIN}, {"rule": _RULE}]})


def tables(data: bytes) -> None:
    """The kernel's tables, and those of other systems: rows, or lines passed over."""
    said = data.decode(errors="replace")
    for parse in _PROC:
        parse(said)


TARGETS = {
    "endpoint": Target(
        endpoints,
        lambda: [one.encode() for one in ENDPOINTS],
        (b"[", b"]", b"%", b"@", b",", b"!", b"+", b"/", b"::", b"ff02::", b"239.", b"rtp://"),
    ),
    "value": Target(
        values,
        lambda: [b"10s", b"250ms", b"4MiB", b"2.5G", b"0.1%", b"af41", b"!10.0.0.1", b"0x68:65"],
        (b"nan", b"inf", b"e9", b"_", b"-", b"+", "\u0665".encode(), b"000000000000000000"),
    ),
    "host": Target(
        hosts,
        lambda: [b"alpha", b"ops@beta%eth1", b"ssh://a@b:22", b"netns:x", b'[{"type": "start"}]'],
        (b"-o", b"%-", b"netns:", b"local", b"ssh://", b"{}", b"[", b'":', b"--"),
    ),
    "config": Target(
        settings,
        lambda: [b'[groups]\nvideo = "239.1.1.1:5004"\n[listen]\niface = ["eth0"]\n', b"[send]"],
        (b"[[", b"]]", b"= {", b"}", b'"""', b"groups", b"listen", b"true", b"1979-05-27"),
        cost_s=0.02,
    ),
    "escape": Target(
        escaper,
        lambda: [b"hello", "Gr\u00f6\u00dfe\\".encode(), b"\x1b[31m\x9b", "\u202egpj".encode()],
        (b"\x1b", b"\x9b", b"\xc2\x9b", b"\\", b"\xe2\x80\xae", b"\xed\xa0\x80"),
    ),
    "table": Target(
        tables,
        lambda: [one.encode() for one in (*TABLES, RULESET)],
        (b"\t", b"\n", b" ", b"ffffffff", b"99999999999999999999", b":", b'{"nftables":[', b"null"),
        cost_s=0.02,
    ),
}
