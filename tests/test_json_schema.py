"""Every JSON record is as schema.json says, and schema.json says what was promised."""

from __future__ import annotations

import copy
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import control
import frames
import pytest
from conftest import Pair, reason_without_world
from streams import Json, Stream, check_schema, inject
from world import Host, World

from mcastctl.model import forwarding as model
from mcastctl.model import matrix
from mcastctl.model.records import Datagram, Membership, Message

pytestmark = pytest.mark.netns

# The promise, spelled once more, apart from the schema: keys may be added, none may go.
TOTALS = "packets bytes lost duplicates reordered kernel_drops elapsed_s packets_per_s bits_per_s"
PROMISED = {
    "start": "type ts schema version command endpoints",
    "joined": "type ts group port source iface ifindex",
    "left": "type ts group port source iface ifindex",
    "datagram": "type ts direction iface ifindex src sport dst dport ttl length",
    "message": "type ts iface ifindex src sport dst dport message sent_ts parts duplicates length",
    "reply": "type ts responder seq rtt_ms hops kind",
    "interval": f"type ts streams {TOTALS}",
    "summary": f"type ts reason exit_status streams {TOTALS}",
    "notice": "type ts level code text hint",
    "packet": "type ts number iface direction proto src dst sport dport length info fields",
    "interface": "type name index mtu mac up carrier multicast loopback point_to_point addresses "
    "igmp_version mld_version rp_filter counters",
    "interface_rates": "type ts name ifindex elapsed_s rx_packets_per_s rx_bits_per_s "
    "rx_multicast_per_s tx_packets_per_s tx_bits_per_s",
    "route": "type group family iface ifindex source gateway route_type table scope reason",
    "membership": "type iface ifindex family group mode sources users timer_s owners",
    "forwarding": "type family mc_forwarding interfaces holders entries unresolved",
    "forwarding_interface": "type family table vif iface ifindex kind packets_in bytes_in "
    "packets_out bytes_out",
    "forwarding_entry": "type family table source group iface ifindex oifs state packets bytes "
    "wrong_iif idle_s",
    "bridge": "type iface ifindex snooping querier queriers igmp_version mld_version ports "
    "router_ports",
    "mdb": "type bridge port group source vlan state flags timer_s",
    "finding": "type id severity title evidence hint where",
    "host": "type host state text version addresses",
    "pair": "type sender receiver state sent received lost loss_percent duplicates rtt_ms hops "
    "finding",
}
STREAM = "src sport dst dport packets bytes lost duplicates reordered jitter_ms first_seq last_seq"


@pytest.fixture(scope="module")
def examples() -> dict[str, Json]:
    """One real record of each type."""
    if reason := reason_without_world():
        pytest.skip(reason)
    with World() as world:
        a, b = world.host("a"), world.host("b")
        world.link(a, b)
        return collect(a, b)


def collect(a: Host, b: Host) -> dict[str, Json]:
    words = ("listen", "232.1.1.1:5004", "-j", "--interval", "100ms", "-T", "60s")
    listener = b.start_mcastctl(*words)
    listener.wait_stdout('"joined"')
    sent = Stream.of(
        a.mcastctl("send", "232.1.1.1:5004", "--probe", "-c", "3", "--interval", "60ms", "-j")
    )
    listener.wait_stdout('"interval".*"packets":[1-9]')
    listener.signal(2)
    heard = Stream.of(listener.finish())
    echo = b.start_mcastctl("echo", "239.1.1.1:5004", "-j")
    echo.wait_stdout('"joined"')
    asked = Stream.of(a.mcastctl("ping", "239.1.1.1:5004", "-c", "1", "-j"))
    echo.signal(2)
    answered = Stream.of(echo.finish())
    found: dict[str, Json] = {}
    for stream in (heard, sent, asked, answered):
        for record in stream.records:
            if not (record["type"] == "interval" and not record["streams"]):
                found.setdefault(record["type"], record)
    found["sent"] = sent.summary
    found["left"] = {**found["joined"], "type": "left"}
    snapshot = json.loads(a.mcastctl("ifaces", "-j").stdout)
    check_schema(snapshot)
    found["interface"] = snapshot[-1]
    for kind, command in (("route", ("routes", "239.1.1.1")), ("membership", ("groups",))):
        snapshot = json.loads(a.mcastctl(*command, "-j").stdout)
        check_schema(snapshot)
        found[kind] = snapshot[-1]
    live = a.mcastctl("ifaces", "a0", "--live", "--interval", "100ms", "-T", "2s", "-j")
    found["interface_rates"] = Stream.of(live).all("interface_rates")[0]
    found |= routed() | surveyed()
    found["packet"] = capture(a)
    found["message"] = stitched()
    found["finding"] = {
        "type": "finding",
        "id": "no-route",
        "severity": "error",
        "title": "no route leads to the group",
        "evidence": ["ip route get 239.1.1.1: unreachable"],
        "hint": "name an interface",
        "where": "host",
    }
    return found


def routed() -> dict[str, Json]:
    """Records of what a host forwards and its bridges know, as their types print them."""
    forwarding = model.Forwarding("ipv4", True, ("a0",), (model.Holder(1, "init", 3),), 1, 0)
    vif = model.ForwardingInterface("ipv4", "default", 0, "a0", 2, "physical", 1, 2, 3, 4)
    out = (model.Outgoing("a1", 3, 1),)
    entry = model.ForwardingEntry(
        *("ipv4", "default", "10.0.1.2", "239.1.1.1", "a0", 2, out, "resolved", 1, 2, 0, 0.5)
    )
    port = model.BridgePort("a0", 2, "forwarding", True, "auto", False, False, False)
    querier = model.Querier("ipv4", "10.0.1.1", "a0", 3.0)
    bridge = model.Bridge(
        *("sw", 4, True, False, (querier,), 3, 2, "auto", 125.0, 260.0, 255.0, (port,), ("a0",))
    )
    mdb = model.DatabaseEntry(
        *("sw", 4, "a0", 2, "239.1.1.1", None, None, "temp", (), "exclude", (), 260.0)
    )
    records = (forwarding, vif, entry, bridge, mdb)
    return {str(one.to_dict()["type"]): json.loads(json.dumps(one.to_dict())) for one in records}


def surveyed() -> dict[str, Json]:
    """What matrix says of a host and of a pair, as its types print it."""
    host = matrix.Host("alpha", matrix.ASKED, "", "0.1.0", ("10.0.0.1", "fe80::1"))
    pair = matrix.Pair("alpha", "beta", matrix.LOSSY, 5, 4, 0, 0.25, 0, "host.rp_filter")
    return {str(one.to_dict()["type"]): one.to_dict() for one in (host, pair)}


def stitched() -> Json:
    """A message that came in parts, as its type prints it."""
    flow = ("b0", 2, "10.0.0.1", 4000, "239.1.1.1", 5004, 1, 0)
    last = Datagram(time.time_ns(), "rx", *flow, 5, b"hello")
    return Message(last, 7, time.time_ns(), 3, 1).to_dict()


def capture(place: Host) -> Json:
    """One packet record, of a file made for it."""
    report = frames.ether(control.IGMP["v3 report"])
    with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
        file.write(frames.pcap([report]))
        file.flush()
        return Stream.of(place.mcastctl("sniff", "-r", file.name, "-j")).records[1]


def test_the_schema_is_the_promise(examples: dict[str, Json]) -> None:
    for kind, keys in PROMISED.items():
        check_schema([examples[kind]])
        check_schema([examples[kind] | {"one_more": {"key": 1}}])  # only ever added
        for key in keys.split():
            must_fail(without(examples[kind], key))
            wrong: Any = [{}] if isinstance(examples[kind][key], dict) else {"not": "that"}
            must_fail(examples[kind] | {key: wrong})
    for key in STREAM.split():
        for kind in ("interval", "summary"):
            broken = copy.deepcopy(examples[kind])
            del broken["streams"][0][key]
            must_fail(broken)
    for key in ("sent", "refused", "errors"):
        must_fail(without(examples["sent"], key))
    for key in ("family", "address", "prefixlen", "scope", "zone"):
        broken = copy.deepcopy(examples["interface"])
        del broken["addresses"][0][key]
        must_fail(broken)


def without(record: Json, key: str) -> Json:
    return {name: value for name, value in record.items() if name != key}


def must_fail(record: Any) -> None:
    with pytest.raises(AssertionError, match="record 1: "):
        check_schema([record])


def test_the_schema_knows_wrong_values(examples: dict[str, Json]) -> None:
    datagram, summary = examples["datagram"], examples["summary"]
    for wrong in (
        datagram | {"type": "datagramm"},
        datagram | {"direction": "in"},
        datagram | {"ttl": 256},
        datagram | {"dport": 65536},
        datagram | {"src": "somewhere"},
        datagram | {"length": -1},
        datagram | {"ts": time.time_ns()} | {"ts": 12.5},
        datagram | {"payload": "both"},
        without(datagram, "payload_b64"),
        datagram | {"payload_b64": "not base64"},
        without(datagram, "seq"),
        without(datagram, "stream"),
        datagram | {"ifindex": 0},
        summary | {"exit_status": 7},
        summary | {"lost": -1},
        summary | {"packets": 1.5},
        examples["sent"] | {"errors": {"enobufs": 1}},
        examples["joined"] | {"group": "10.0.0.1"},
        examples["notice"] | {"level": "panic"},
        examples["reply"] | {"kind": "anycast"},
        examples["start"] | {"schema": 2},
        examples["finding"] | {"severity": "fatal"},
        examples["finding"] | {"where": "elsewhere"},
    ):
        must_fail(wrong)


def test_what_each_command_prints_is_the_promise(examples: dict[str, Json]) -> None:
    """Without the schema in between: the keys are there, in what was really printed."""
    for kind, keys in PROMISED.items():
        assert set(keys.split()) <= examples[kind].keys(), kind
    assert set(STREAM.split()) <= examples["summary"]["streams"][0].keys()
    assert {"attempted", "sent", "refused", "errors"} <= examples["sent"].keys()
    assert {"stream", "seq"} <= examples["datagram"].keys()
    assert examples["notice"]["code"] == "ssm-without-source"


def test_a_membership_that_ends_is_in_the_schema() -> None:
    ended = Membership(
        time.time_ns(), "left", "ff15::1", 5004, "fd00::1", "include", "eth0", 2, None
    )
    check_schema([ended.to_dict()])


def test_times_are_seconds_to_the_microsecond(pair: Pair) -> None:
    a, b = pair
    listener = b.start_mcastctl("listen", "239.1.1.1:5004", "-j", "-c", "20")
    listener.wait_stdout('"joined"')
    before = time.time()
    inject(a, "239.1.1.1", [b"x"] * 20, gap_s=0.0005)
    heard = Stream.of(listener.finish())
    times = [record["ts"] for record in heard.datagrams]
    assert before < times[0] <= times[-1] < time.time()
    assert times == sorted(times)
    assert len(set(times)) == 20
    assert any(round(ts * 1e6) % 1000 for ts in times)  # finer than milliseconds
    ends = [heard.records[0]["ts"], heard.summary["ts"]]
    assert ends[0] < times[0] < times[-1] < ends[1]


def test_the_snapshots(pair: Pair) -> None:
    for args in (
        ["ifaces", "-j"],
        ["ifaces", "a0", "-j"],
        ["routes", "-j"],
        ["groups", "-j"],
        ["doctor", "--self-test", "-j"],
    ):
        outcome = pair.a.mcastctl(*args, timeout=30)
        array = json.loads(outcome.stdout)
        assert isinstance(array, list)
        assert array
        check_schema(array)
    lines = pair.a.mcastctl("ifaces", "-o", "jsonl").records
    check_schema(lines)
    assert [line["name"] for line in lines] == ["lo", "a0"]


def test_the_schema_file_is_one_for_others_too() -> None:
    """It holds on its own, without this folder's code."""
    import jsonschema

    schema = json.loads((Path(__file__).parent / "schema.json").read_text())
    assert schema["$schema"].endswith("2020-12/schema")
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]["type"]["enum"]) == set(PROMISED)
    guarded = [case["if"]["$ref"].rpartition("/")[2] for case in schema["allOf"]]
    assert sorted(guarded) == sorted(PROMISED)
    for case in schema["allOf"]:
        assert case["then"]["$ref"].rpartition("/")[2] in schema["$defs"]
