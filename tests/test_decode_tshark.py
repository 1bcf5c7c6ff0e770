"""Every control message says the same here as in tshark, in whatever frame it comes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import control
import frames
import pytest
import routing

TSHARK = shutil.which("tshark")
pytestmark = pytest.mark.skipif(TSHARK is None, reason="needs tshark")

SAMPLES = os.environ.get("MCASTCTL_TEST_CAPTURES", "")

ADDRESSES = {
    "igmp": (
        ("igmp.maddr", "group"),
        ("igmp.saddr", "source"),
        ("igmp.mtrace.saddr", "source"),
    ),
    "mld": (
        ("icmpv6.mld.multicast_address", "group"),
        ("icmpv6.mldr.mar.multicast_address", "group"),
        ("icmpv6.mld.source_address", "source"),
        ("icmpv6.mldr.mar.source_address", "source"),
    ),
}
TYPES = {"igmp": "igmp.type", "mld": "icmpv6.type", "pim": "pim.type", "vrrp": "vrrp.type"}
MODES = {"igmp": "igmp.record_type", "mld": "icmpv6.mldr.mar.record_type"}
NAMES = {"IGMP": "igmp", "PIM": "pim", "VRRP": "vrrp", "MDNS": "mdns", "LLMNR": "llmnr"}
FIELDS = [
    "_ws.col.Protocol", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "vlan.id",
    "ieee8021ad.id",
    "igmp.type", "igmp.version", "igmp.maddr", "igmp.saddr", "igmp.record_type",
    "igmp.mtrace.saddr",
    "icmpv6.type", "icmpv6.mld.multicast_address", "icmpv6.mldr.mar.multicast_address",
    "icmpv6.mld.source_address", "icmpv6.mldr.mar.source_address", "icmpv6.mldr.mar.record_type",
    "pim.type", "pim.group", "pim.group_ip6", "pim.join_ip", "pim.join_ip6", "pim.prune_ip",
    "pim.prune_ip6", "pim.upstream_neighbor", "pim.upstream_neighbor_ip6", "pim.holdtime",
    "pim.source", "pim.source_ip6", "pim.rp", "pim.rp_ip6", "pim.bsr", "pim.dr_priority",
    "pim.generation_id", "pim.metric", "pim.metric_pref",
    "vrrp.type", "vrrp.version", "vrrp.virt_rtr_id", "vrrp.prio", "vrrp.ip_addr", "vrrp.ipv6_addr",
    "dns.flags.response", "dns.qry.name", "dns.qry.type", "dns.resp.name", "dns.resp.type",
    "dns.a", "dns.aaaa", "dns.ptr.domain_name", "dns.srv.target", "dns.srv.port",
]  # fmt: skip
DNS_TYPES = {1: "A", 12: "PTR", 13: "HINFO", 16: "TXT", 28: "AAAA", 33: "SRV", 41: "OPT"}
DNS_TYPES |= {44: "SSHFP", 47: "NSEC", 255: "ANY", 257: "CAA"}
PIM_NUMBERS = {
    "holdtime_s": "holdtime",
    "dr_priority": "dr_priority",
    "generation_id": "generation_id",
    "metric": "metric",
    "metric_preference": "metric_pref",
    "propagation_delay_ms": "propagation_delay",
    "override_interval_ms": "override_interval",
    "fragment_tag": "fragment_tag",
    "hash_mask_length": "hash_mask_len",
    "bsr_priority": "bsr_priority",
    "ttl": "ttl",
    "interval_s": "interval",
}
FIELDS += [f"pim.{name}" for name in PIM_NUMBERS.values() if f"pim.{name}" not in FIELDS]
FIELDS += ["pim.code", "pim.originator", "pim.bsr_ip6", "pim.rp_count", "pim.frp_count"]
FIELDS += ["pim.address_list", "pim.address_list_ip6"]


def theirs(path: Path) -> list[dict[str, list[str]]]:
    return fields_of(path, FIELDS)


def fields_of(path: Path, names: list[str]) -> list[dict[str, list[str]]]:
    """Return the values of these fields of each packet, by name."""
    command = [TSHARK or "", "-n", "-r", str(path), "-T", "fields", "-E", "separator=/t"]
    command += [f"-Eaggregator={chr(1)}", *(part for name in names for part in ("-e", name))]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [line.split("\t") for line in outcome.stdout.splitlines()]
    return [
        {name: value.split("\1") for name, value in zip(names, row, strict=True) if value}
        for row in rows
    ]


def ours(path: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "mcastctl", "sniff", "-r", str(path), "-j"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "internal error" not in outcome.stdout + outcome.stderr
    lines = map(json.loads, outcome.stdout.splitlines())
    return [line for line in lines if line["type"] == "packet"]


def protocol(row: dict[str, list[str]]) -> str:
    column = row["_ws.col.Protocol"][0]
    if column == "ICMPv6":
        return "mld" if row.get("icmpv6.type", [""])[0] in ("130", "131", "132", "143") else "icmp6"
    return next((name for head, name in NAMES.items() if column.startswith(head)), "other")


def flat(fields: dict[str, Any], wanted: str) -> Iterator[str]:
    """Groups or sources of an IGMP or MLD message in the order of the bytes."""
    if wanted == "group" and "group" in fields:
        yield fields["group"]
    if wanted == "source":
        yield from fields.get("sources", ())
    for record in fields.get("records", ()):
        if wanted == "group" and record["group"] is not None:
            yield record["group"]
        if wanted == "source":
            yield from record["sources"]


def compare(path: Path) -> set[str]:
    """Compare every packet of a file; the protocols met."""
    left, right = theirs(path), ours(path)
    assert len(left) == len(right)
    met = set()
    for number, (row, packet) in enumerate(zip(left, right, strict=True), 1):
        proto = protocol(row)
        if proto in ("other", "icmp6"):
            continue
        met.add(proto)
        assert packet["number"] == number
        assert packet["proto"] == proto, (number, row, packet)
        assert packet["src"] == (row.get("ip.src") or row["ipv6.src"])[0], (number, row, packet)
        assert packet["dst"] == (row.get("ip.dst") or row["ipv6.dst"])[0]
        assert [str(tag) for tag in packet["fields"].get("vlan", [])] == (
            row.get("ieee8021ad.id", []) + row.get("vlan.id", [])
        )
        same(proto, row, packet["fields"])
    return met


def same(proto: str, row: dict[str, list[str]], fields: dict[str, Any]) -> None:
    told = (row, fields)
    if proto in TYPES:
        first = proto == "pim" and fields["version"] == 1
        field = "pim.code" if first else TYPES[proto]
        assert int(row[field][0], 0) == fields["type_code"], told
    if proto in ADDRESSES:
        for wanted in ("group", "source"):
            names = [name for name, what in ADDRESSES[proto] if what == wanted]
            expected = [value for name in names for value in row.get(name, [])]
            assert list(flat(fields, wanted)) == expected, told
        modes = [int(value) for value in row.get(MODES[proto], [])]
        assert [record["type"] for record in fields.get("records", [])] == modes, told
        if proto == "igmp" and "version" in fields:
            assert [str(fields["version"])] == row.get("igmp.version", [str(fields["version"])]), (
                told
            )
    elif proto == "pim":
        same_pim(row, fields)
    elif proto == "vrrp":
        addresses = row.get("vrrp.ip_addr", []) + row.get("vrrp.ipv6_addr", [])
        assert fields["addresses"] == addresses, told
        numbers = [fields["version"], fields["vrid"], fields["priority"]]
        assert numbers == [
            int(row[name][0]) for name in ("vrrp.version", "vrrp.virt_rtr_id", "vrrp.prio")
        ]
    else:
        same_dns(row, fields)


def same_pim(row: dict[str, list[str]], fields: dict[str, Any]) -> None:
    def values(*names: str) -> list[str]:
        return [value for name in names for value in row.get(name, [])]

    groups = fields.get("groups", [])
    if fields["type"] != "register":
        mine = [entry["group"] for entry in groups] or [
            fields[name] for name in ("group",) if name in fields
        ]
        once = list(dict.fromkeys(values("pim.group", "pim.group_ip6")))  # tshark says some twice
        assert mine == once, (row, fields)
    for verb, field in (("joins", "join"), ("prunes", "prune")):
        mine = [one["source"] for entry in groups for one in entry.get(verb, [])]
        assert mine == values(f"pim.{field}_ip", f"pim.{field}_ip6"), (row, fields)
    upstream = values("pim.upstream_neighbor", "pim.upstream_neighbor_ip6")
    assert ([fields["upstream_neighbor"]] if "upstream_neighbor" in fields else []) == upstream
    for name, field in PIM_NUMBERS.items():
        if name in fields:
            assert fields[name] == int(row[f"pim.{field}"][0], 0), (row, fields)
    mine = [rp["rp"] for entry in groups for rp in entry.get("rps", [])]
    assert [*mine, *([fields["rp"]] if "rp" in fields else [])] == values("pim.rp", "pim.rp_ip6")
    assert [str(entry["rp_count"]) for entry in groups if "rps" in entry] == values("pim.rp_count")
    assert [str(len(entry["rps"])) for entry in groups if "rps" in entry] == (
        values("pim.frp_count")
    )
    assert fields.get("addresses", []) == values("pim.address_list", "pim.address_list_ip6")
    for name in ("bsr", "originator"):
        assert ([fields[name]] if name in fields else []) == values(
            f"pim.{name}", f"pim.{name}_ip6"
        )
    if fields["type"] == "register" and "group" in fields and not fields.get("null_register"):
        addresses = [*values("ip.src", "ipv6.src"), *values("ip.dst", "ipv6.dst")]
        assert {fields["source"], fields["group"]} <= set(addresses), (row, fields)
    if fields["type"] in ("assert", "register-stop", "state-refresh"):
        assert [fields["source"]] == values("pim.source", "pim.source_ip6"), (row, fields)


def same_dns(row: dict[str, list[str]], fields: dict[str, Any]) -> None:
    assert fields["response"] == (row["dns.flags.response"][0] in ("1", "True"))
    questions = fields["questions"]
    assert [one["name"] for one in questions] == row.get("dns.qry.name", []), (row, fields)
    kinds = [DNS_TYPES[int(value)] for value in row.get("dns.qry.type", [])]
    assert [one["type"] for one in questions] == kinds
    found = [one for name in ("answers", "authorities", "additionals") for one in fields[name]]
    kinds = [DNS_TYPES[int(value)] for value in row.get("dns.resp.type", [])]
    mine = []
    for one in found:  # tshark lists the types an NSEC names among those of records
        mine += [one["type"], *(one["data"]["types"] if one["type"] == "NSEC" else [])]
    assert mine == kinds, (row, fields)
    named = [one["name"] for one in found if one["type"] != "SRV"]  # a field of its own there
    assert named == row.get("dns.resp.name", []), (row, fields)
    for kind, name in (("A", "dns.a"), ("AAAA", "dns.aaaa"), ("PTR", "dns.ptr.domain_name")):
        assert [one["data"] for one in found if one["type"] == kind] == row.get(name, [])
    targets = [one["data"]["target"] for one in found if one["type"] == "SRV"]
    assert targets == row.get("dns.srv.target", [])


LINKTYPES = sorted({kind for packet in control.ALL.values() for kind in control.dressed(packet)})


@pytest.mark.parametrize("linktype", LINKTYPES)
def test_every_message_on_every_link(tmp_path: Path, linktype: int) -> None:
    made = [
        frame
        for packet in control.ALL.values()
        for frame in control.dressed(packet).get(linktype, ())
    ]
    path = tmp_path / "all.pcap"
    path.write_bytes(frames.pcap(made, linktype))
    met = compare(path)
    assert len(met) >= 3


def test_every_message_cut_short(tmp_path: Path) -> None:
    """What was captured of a message is decoded; nothing is made up for the rest."""
    made = []
    for packet in control.ALL.values():
        whole = frames.ether(packet)
        for size in range(14, len(whole), 3):
            made.append(frames.Record(whole[:size], length=len(whole)))
    path = tmp_path / "cut.pcap"
    path.write_bytes(frames.pcap(made))
    right = ours(path)
    assert len(right) == len(made)
    assert all(packet["fields"]["truncated"] for packet in right)
    assert not [packet for packet in right if "malformed" in packet["fields"]]


@pytest.mark.parametrize("snaplen", [96, 128, 200, 256])
def test_every_message_within_a_snap_length(tmp_path: Path, snaplen: int) -> None:
    wholes = [frames.ether(packet) for packet in control.ALL.values()]
    made = [frames.Record(whole[:snaplen], length=len(whole)) for whole in wholes]
    path = tmp_path / "short.pcap"
    path.write_bytes(frames.pcap(made))
    compare(path)


WORDS: dict[str, list[str] | dict[int, str]] = {
    "hsrp.opcode": ["hello", "coup", "resign"],
    "hsrp2.opcode": ["hello", "coup", "resign"],
    "hsrp.state": {0: "initial", 1: "learn", 2: "listen", 4: "speak", 8: "standby", 16: "active"},
    "hsrp2.state": ["", "initial", "learn", "listen", "speak", "standby", "active"],
    "glbp.hello.vgstate": {4: "listen", 8: "speak", 16: "standby", 32: "active"},
}  # fmt: skip


def test_messages_of_routers_and_clocks(tmp_path: Path) -> None:
    names = sorted({name for told in routing.ALL for name in told.fields.values()})
    path = tmp_path / "routers.pcap"
    path.write_bytes(frames.pcap([told.frame for told in routing.ALL]))
    known = fields_of(path, names)
    found = ours(path)
    assert len(known) == len(found) == len(routing.ALL)
    for told, row, packet in zip(routing.ALL, known, found, strict=True):
        fields = packet["fields"]
        assert packet["proto"] == told.proto, (row, packet)
        assert "malformed" not in fields, (row, packet)
        assert packet["info"].startswith(f"{told.proto} ")
        for mine, theirs in told.fields.items():
            values = row[theirs]
            value = fields[mine] if isinstance(fields[mine], list) else [fields[mine]]
            if theirs in WORDS:
                code = int(values[0], 0)
                words = WORDS[theirs]
                known_words = dict(enumerate(words)) if isinstance(words, list) else words
                assert value == [known_words.get(code, f"state-{code}")], (row, packet)
            elif isinstance(value[0], int | float):
                assert [float(one) for one in value] == [float(int(one, 0)) for one in values]
            else:
                assert value == [one.removeprefix("0x") for one in values], (row, packet)
        if told.proto == "ospf":
            assert fields["checksum_ok"] is told.right
    rip = [packet["fields"] for packet in found if packet["proto"].startswith("rip")]
    assert [route["prefix"] for one in rip for route in one["routes"]] == (
        ["10.1.0.0"] * 4 + ["2001:db8::"]
    )


@pytest.mark.skipif(not SAMPLES, reason="MCASTCTL_TEST_CAPTURES names no folder of captures")
def test_captures_of_others() -> None:
    """Every capture of a folder: protocols, types, groups, sources and records as tshark's."""
    paths = sorted(Path(SAMPLES).glob("*.pcap*"))
    assert paths
    met = set()
    for path in paths:
        met |= compare(path)
    assert met
