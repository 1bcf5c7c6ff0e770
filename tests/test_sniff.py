"""`sniff -r`: lines as tcpdump's, JSON, dumps, the table of streams, the commentary."""

from __future__ import annotations

import json
import os
import re
import select
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import control
import frames as f
import pytest
from place import UNROOTED
from streams import check_schema

from mcastctl.model import probe
from mcastctl.output.escape import escape

GROUP = "239.1.1.1"
SENDERS = [("10.0.0.1", GROUP), ("10.0.0.2", "239.1.1.2"), ("2001:db8::1", "ff15::42")]


def sniff(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mcastctl", "sniff", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def capture(folder: Path, made: Sequence[bytes | f.Record], linktype: int = 1, **how: Any) -> Path:
    path = folder / "some.pcap"
    path.write_bytes(f.pcap(made, linktype, **how))
    return path


def packets(path: Path, *args: str) -> list[dict[str, Any]]:
    outcome = sniff("-r", path, "-j", *args)
    lines = [json.loads(line) for line in outcome.stdout.splitlines()]
    check_schema(lines)
    assert [lines[0]["type"], lines[-1]["type"]] == ["start", "summary"]
    return [line for line in lines if line["type"] == "packet"]


def plain() -> list[bytes]:
    """Data of several flows and sizes, in the order that costs most."""
    made = []
    for number in range(60):
        src, dst = SENDERS[number % 3]
        made.append(f.datagram(src, dst, 4000 + number % 2, 5004, bytes(number % 7 * 11)))
    return made


# --- lines


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("nano", [False, True])
def test_lines_are_those_of_tcpdump(tmp_path: Path, order: str, nano: bool) -> None:
    """Plain datagrams of several seconds, byte for byte."""
    made = [
        f.Record(f.ether(packet), f.EPOCH * 10**9 + number * 123_456_789)
        for number, packet in enumerate(plain())
    ]
    path = capture(tmp_path, made, order=order, nano=nano)
    command: list[str | Path] = [*UNROOTED, "tcpdump", "-nn", "--micro", "-r", path]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert sniff("-r", path).stdout == told.stdout


def test_the_cheap_way_and_the_thorough_way_say_the_same(tmp_path: Path) -> None:
    """Every frame we can make, plain data among them, on Ethernet and as raw IP; in pcapng."""
    mixed = [packet for pair in zip(control.ALL.values(), plain(), strict=False) for packet in pair]
    bad = f.datagram("10.0.0.1", GROUP, 4000, 5004, bytes(44))
    longer = bad[:24] + struct.pack("!H", 80) + bad[26:]  # UDP claims more than IP has
    mixed += [bad, longer, bad, bad[:2] + struct.pack("!H", 90) + bad[4:]]
    path = capture(tmp_path, [f.ether(packet) for packet in mixed])
    raw = tmp_path / "raw.pcap"
    raw.write_bytes(f.pcap(mixed, 101))
    ng = tmp_path / "some.pcapng"
    sniff("-r", path, "-w", ng)
    cheap = sniff("-r", path).stdout
    assert "malformed: UDP length 80 exceeds" in cheap
    assert sniff("-r", ng).stdout == cheap
    assert sniff("-r", raw).stdout == cheap
    records = packets(path)
    assert [escape(record["info"]) for record in records] == [
        line.partition(": ")[2] for line in cheap.splitlines()
    ]


def test_control_messages_in_words(tmp_path: Path) -> None:
    named = {**control.IGMP, **control.MLD, **control.PIM, **control.VRRP, **control.MDNS}
    wanted = {
        "v2 leave": "IP 10.0.0.1 > 224.0.0.2: igmp v2 leave 239.1.1.1",
        "v3 sources query": "IP 10.0.0.1 > 232.1.1.1: igmp v3 query "
        "[gaddr 232.1.1.1 { 10.0.0.2 10.0.0.3 }] [max resp time 1s] [every 125s]",
        "done": "IP6 fe80::1 > ff02::2: mld v1 done ff15::2",
        "join/prune": "IP 10.0.0.1 > 224.0.0.13: pim v2 join-prune upstream-neighbor 10.0.0.2 "
        "holdtime 210 [239.1.1.1 join { 10.9.9.9(SWR) } prune { 10.0.0.3(S) 10.0.0.4(SR) }] "
        "[232.1.1.1 join { 10.0.0.5(S) 10.0.0.6(S) }]",
        "assert": "IP 10.0.0.1 > 224.0.0.13: pim v2 assert (10.0.0.7, 239.1.1.1) "
        "metric-preference 101 metric 20",
        "v3": "IP 10.0.0.1 > 224.0.0.18: vrrp v3 advertisement vrid 9 prio 120 intvl 1s "
        "addrs { 10.0.0.254 10.0.0.253 }",
        "one shot": "IP 10.0.0.1.40000 > 224.0.0.251.5353: mdns query, "
        "PTR _ipp._tcp.local (QU), ANY host.local (QM)",
    }
    path = capture(tmp_path, [f.ether(named[name]) for name in wanted])
    lines = [line.partition(" ")[2] for line in sniff("-r", path).stdout.splitlines()]
    assert lines == list(wanted.values())


def test_nothing_of_the_network_is_printed_raw(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\r\n"
    name = bytes((len(evil),)) + evil.encode() + b"\0"
    question = struct.pack("!HHHHHH", 0, 0, 1, 0, 0, 0) + name + b"\0\x0c\0\1"
    search = f"M-SEARCH * HTTP/1.1\r\nST: {evil}x\r\nMAN: \x1b[31m\r\n\r\n".encode()
    sdp = "v=0\no=- 1 1 IN IP4 10.0.0.1\ns=\x1b[2J\u202e\nm=video 5004/2 RTP/AVP 33\n".encode()
    sap = struct.pack("!BBH", 0x20, 0, 1) + f.packed("10.0.0.1") + b"application/sdp\0" + sdp
    made = [
        f.datagram("10.0.0.1", "224.0.0.251", 5353, 5353, question),
        f.datagram("10.0.0.1", "239.255.255.250", 1900, 1900, search),
        f.datagram("10.0.0.1", "224.2.127.254", 9875, 9875, sap),
    ]
    path = capture(tmp_path, [f.ether(packet) for packet in made])
    for args in ((), ("-v",), ("-vv",), ("-A",), ("-X",), ("-j",)):
        shown = sniff("-r", path, *args).stdout
        assert not re.search(r"[^\x20-\x7e\n\t]", shown), args
    assert [one["proto"] for one in packets(path)] == ["mdns", "ssdp", "sap"]
    session = packets(path)[2]["fields"]
    assert session["session"] == "\x1b[2J\u202e"
    assert session["media"] == [{"media": "video", "port": 5004, "protocol": "RTP/AVP"}]


def test_dumps_link_headers_and_detail(tmp_path: Path) -> None:
    frame = f.ether(control.IGMP["v2 report"], tags=[(0x88A8, 7), (0x8100, 9)])
    path = capture(tmp_path, [frame])
    line, *rows = sniff("-r", path, "-e", "-x").stdout.splitlines()
    head = "02:00:00:00:00:01 > 01:00:5e:01:01:01, vlan 7, vlan 9, length 54: IP 10.0.0.1 > "
    assert head in line
    digits = "".join(re.sub(r"^\t0x\w+: ", "", row) for row in rows).replace(" ", "")
    assert bytes.fromhex(digits) == frame[22:]
    assert "  F" in sniff("-r", path, "-X").stdout
    detail = sniff("-r", path, "-v").stdout.splitlines()
    for said in ("\tttl: 1", "\trouter_alert: yes", "\tchecksum_ok: yes", "\tgroup: 239.1.1.1"):
        assert said in detail
    layers = sniff("-r", path, "-vv").stdout
    assert "###[ IP ]###" in layers
    assert "###[ 802.1Q ]###" in layers


def test_what_is_left_of_a_frame_is_told(tmp_path: Path) -> None:
    """Nothing is said twice, and no address of the link is taken for one of IP."""
    whole = f.ether(f.datagram("10.0.0.1", GROUP, 4000, 5004, b"data"))
    cut = [f.Record(whole[:size], length=len(whole)) for size in (0, 13, 14, 33, 34, 41)]
    path = capture(tmp_path, [b"", *cut])
    flow = f"IP 10.0.0.1.4000 > {GROUP}.5004"
    lines = sniff("-r", path).stdout.splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        "unknown [malformed: the link header ends early]",
        *["unknown [truncated]"] * 2,
        *["ip [truncated]"] * 2,
        f"IP 10.0.0.1 > {GROUP}: udp [truncated]",
        f"{flow}: udp [truncated]",
    ]
    addresses = [(one["src"], one["dst"]) for one in packets(path)]
    assert addresses == [(None, None)] * 5 + [("10.0.0.1", GROUP)] * 2


def test_announcements_of_sessions(tmp_path: Path) -> None:
    """Packed or not, by whichever version; what is encrypted stays so."""
    lines = ("v=0", "s=Some\u2028 session", "c=IN IP4 239.1.1.1/15", "m=video 5004 RTP/AVP 33")
    body = b"application/sdp\0" + "".join(f"{line}\r\n" for line in lines).encode()
    head = struct.pack("!BH4s", 0, 7, f.packed("10.0.0.1"))
    bomb = b"v=0\r\n" + b"s=x\r\n" * (1 << 20)
    kinds = ((0x20, body), (0x21, zlib.compress(body)), (0x21, zlib.compress(bomb)),
             (0x21, b"not packed"), (0x23, body), (0x44, body))  # fmt: skip
    made = [
        f.ether(f.datagram("10.0.0.1", "224.2.127.254", 9875, 9875, bytes((kind,)) + head + data))
        for kind, data in kinds
    ]
    path = capture(tmp_path, made)
    said = [line.split(": ", 1)[1] for line in sniff("-r", path).stdout.splitlines()]
    session = '"Some\\u{2028} session", video 239.1.1.1/15 port 5004'
    assert said == [
        f"sap announcement, {session}",
        f"sap announcement (compressed), {session}",
        'sap announcement (compressed), "x"',
        "sap announcement (compressed) [malformed: not what zlib packs: "
        "Error -3 while decompressing data: incorrect header check]",
        "sap announcement (encrypted)",
        "sap deletion [malformed: SAP version 2]",
    ]


def test_a_direction_is_shown_where_the_file_knows_it(tmp_path: Path) -> None:
    cooked = control.dressed(control.IGMP["v2 report"])[276][0]
    path = capture(tmp_path, [cooked], 276)
    assert " In IP 10.0.0.1 > " in sniff("-r", path).stdout
    (record,) = packets(path)
    assert (record["direction"], record["ifindex"]) == ("in", 5)


@pytest.mark.parametrize(
    "args",
    [
        ("--streams", "--control"),
        ("--control", "-w", "x.pcap"),
        ("-j", "-w", "-"),
        ("-o", "hex"),
        ("-c", "0"),
        ("-j", "-X"),
        ("-o", "jsonl", "-e"),
        ("--streams", "-A"),
        ("--control", "-x"),
        ("-w", "x.pcap", "-e"),
        ("-w", "x.pcap", "--rotate-size", "1M"),
        ("--rotate-keep", "3"),
        ("-w", ""),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, args: tuple[str, ...]) -> None:
    outcome = sniff("-r", capture(tmp_path, []), *args, cwd=tmp_path)
    assert outcome.returncode == 2
    assert outcome.stdout == ""
    assert [line.split(":")[0] for line in outcome.stderr.splitlines()] == ["mcastctl", "hint"]
    assert args[-1].rstrip("13M") in outcome.stderr or args[0] in outcome.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("sniff", "-r", "x", "-r", "y"), "-r/--read names two files, but takes one"),
        (("sniff", "-rx", "--read=y"), "mergecap -w - A B | mcastctl sniff -r -"),
        (("sniff", "-r", "x", "-w", "y", "-w", "z"), "-w/--write names two files"),
        (("send", "239.1.1.1:5004", "--file", "x", "--file", "y"), "--file names two files"),
    ],
)
def test_of_two_files_none_is_forgotten(tmp_path: Path, args: tuple[str, ...], said: str) -> None:
    for name in "xy":
        (tmp_path / name).write_bytes(f.pcap([f.ether(control.IGMP["v2 report"])]))
    command = ["unshare", "-Urn", sys.executable, "-m", "mcastctl", *args]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert outcome.returncode == 2
    assert outcome.stdout == ""
    error, hint = outcome.stderr.splitlines()
    assert error.startswith("mcastctl: error: ")
    assert hint.startswith("hint: ")
    assert said in outcome.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x", "y"]


def test_settings_for_every_run_contradict_nothing(tmp_path: Path) -> None:
    settings = {"MCASTCTL_SNIFF_LINK": "1", "MCASTCTL_SNIFF_ROTATE_KEEP": "3"}
    path = capture(tmp_path, [f.ether(control.IGMP["v2 report"])])
    outcome = sniff("-r", path, "-j", env={**os.environ, **settings})
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing/x", "hint: make the directory first: mkdir -p missing"),
        ("folder/.", "is a directory"),
        ("file/x", "hint: file is no directory"),
    ],
)
def test_where_nothing_can_be_written(tmp_path: Path, suffix: str, name: str, said: str) -> None:
    path = capture(tmp_path, [])
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    into = name if name.endswith(".") else f"{name}.{suffix}"
    outcome = sniff("-r", path, "-w", into, cwd=tmp_path)
    assert outcome.returncode == 2
    assert len(outcome.stderr.splitlines()) == 2
    assert said in outcome.stderr


def test_count_stops_and_tells_when_too_few(tmp_path: Path) -> None:
    path = capture(tmp_path, [f.ether(packet) for packet in plain()])
    assert len(sniff("-r", path, "-c", "5").stdout.splitlines()) == 5
    assert len(packets(path, "-c", "5")) == 5
    assert sniff("-r", path, "-c", "60").returncode == 0
    assert sniff("-r", path, "-c", "61").returncode == 1


def test_a_reader_that_leaves_ends_it(tmp_path: Path) -> None:
    path = capture(tmp_path, [f.ether(packet) for packet in plain()] * 200)
    command = f"{sys.executable} -m mcastctl sniff -r {path} | head -n 1"
    shell = ["bash", "-c", f'{command}; echo "${{PIPESTATUS[0]}}"']
    outcome = subprocess.run(shell, capture_output=True, text=True, check=True)
    assert outcome.stdout.splitlines()[-1] == "141"
    assert "Traceback" not in outcome.stderr


# --- what is decoded


def test_fragments_are_put_together(tmp_path: Path) -> None:
    whole = f.udp("10.0.0.1", "224.0.0.251", 5353, 5353, control.MDNS["response"][28:])
    parts = [whole[at : at + 64] for at in range(0, len(whole), 64)]
    made = [
        f.ip4(
            "10.0.0.1",
            "224.0.0.251",
            17,
            part,
            flags=(0x2000 if number < len(parts) - 1 else 0) | number * 8,
        )
        for number, part in enumerate(parts)
    ]
    for order in (made, made[::-1], [*made[1:], made[0]]):
        path = capture(tmp_path, [f.ether(packet) for packet in order])
        *early, last = packets(path)
        assert [one["proto"] for one in early] == ["udp"] * (len(made) - 1)
        assert last["proto"] == "mdns"
        assert last["fields"]["reassembled"] is True
        assert last["fields"]["checksum_ok"] is True
        assert [one["type"] for one in last["fields"]["answers"]][:2] == ["PTR", "SRV"]
    path = capture(tmp_path, [f.ether(packet) for packet in made[1:]])
    assert {one["proto"] for one in packets(path)} == {"udp"}


def test_ipv6_fragments_with_options_inside(tmp_path: Path) -> None:
    """The part that is cut begins with an extension header of its own."""
    body = f.udp("fe80::1", "ff02::fb", 5353, 5353, control.MDNS["response, IPv6"][48:])
    whole = f.hop_by_hop(17, bytes((1, 4, 0, 0, 0, 0))) + body
    parts = [whole[at : at + 64] for at in range(0, len(whole), 64)]
    made = []
    for number, part in enumerate(parts):
        word = number * 64 | (number < len(parts) - 1)
        head = struct.pack("!BBHI", 60, 0, word, 99)
        made.append(f.ether(f.ip6("fe80::1", "ff02::fb", 44, head + part)))
    path = capture(tmp_path, made)
    *early, last = packets(path)
    assert {one["proto"] for one in early} == {"ip6"}
    assert (last["proto"], last["fields"]["checksum_ok"]) == ("mdns", True)
    assert last["fields"]["extension_headers"] == ["destination"]
    late = [f.Record(frame, (f.EPOCH + 40 * at) * 10**9) for at, frame in enumerate(made)]
    assert {one["proto"] for one in packets(capture(tmp_path, late))} == {"ip6"}


def test_datagrams_of_any_size(tmp_path: Path) -> None:
    """Jumbo frames, super-packets as segmentation offload shows them, and jumbograms (RFC 2675)."""
    made = [f.datagram("10.0.0.1", GROUP, 1, 2, bytes(size)) for size in (8972, 65000)]
    made += [f.datagram("2001:db8::1", "ff15::1", 1, 2, bytes(size)) for size in (8952, 65000)]
    unknown = made[0][:2] + b"\0\0" + made[0][4:]  # the card fills the length in
    body = struct.pack("!HHHH", 1, 2, 0, 0) + bytes(70_000)
    jumbo = f.hop_by_hop(17, struct.pack("!BBI", 0xC2, 4, len(body) + 8)) + body
    huge = f.ip6("2001:db8::1", "ff15::1", 0, b"") + jumbo
    path = capture(tmp_path, [f.ether(packet) for packet in (*made, unknown, huge)])
    found = packets(path)
    sizes = [(one["proto"], one["fields"]["payload_length"]) for one in found]
    assert sizes == [("udp", size) for size in (8972, 65000, 8952, 65000, 8972, 70_000)]
    assert not [one for one in found if "malformed" in one["fields"]]
    assert len(sniff("-r", path).stdout.splitlines()) == len(found)


def test_links_that_nobody_decodes_are_counted(tmp_path: Path) -> None:
    """Token ring, Bluetooth, USB and numbers of nobody, in one file, with frames of no bytes."""
    linktypes = (6, 107, 143, 147, 187, 195, 201, 220, 249, 65535, 1)
    report = control.IGMP["v2 report"]
    data = f.section() + b"".join(f.interface(one) for one in linktypes)
    for which in range(len(linktypes)):
        frame = f.ether(report) if linktypes[which] == 1 else report
        data += f.packet(frame, of=which) + f.packet(b"", of=which)
    path = tmp_path / "some.pcapng"
    path.write_bytes(data)
    outcome = sniff("-r", path)
    assert (outcome.returncode, len(outcome.stdout.splitlines())) == (0, 2 * len(linktypes))
    protos = [one["proto"] for one in packets(path)]
    assert protos[:-2:2] == [f"linktype-{one}" for one in linktypes[:-1]]
    assert protos[-2] == "igmp"


def test_checksums_are_judged_only_where_they_can_be(tmp_path: Path) -> None:
    good = f.datagram("10.0.0.1", GROUP, 4000, 5004, b"data")
    bad = good[:-1] + b"X"
    absent = good[:26] + b"\0\0" + good[28:]
    unfinished = f.checksum(f.pseudo("10.0.0.1", GROUP, 17, 12)) ^ 0xFFFF
    offloaded = good[:26] + struct.pack("!H", unfinished) + good[28:]
    made = [good, bad, absent, offloaded, control.IGMP["bad checksum"]]
    path = capture(tmp_path, [f.ether(packet) for packet in made])
    found = [one["fields"]["checksum_ok"] for one in packets(path)]
    assert found == [True, False, None, None, False]


def rtp(seq: int, stamp: int, ssrc: int = 7) -> bytes:
    return struct.pack("!BBHII", 0x80, 33, seq, stamp, ssrc) + bytes(20)


def sent(number: int) -> bytes:
    header = probe.Probe(probe.DATA, 1, 0, 5, number, f.EPOCH * 10**9 + number * 10_000_000)
    return probe.encode(header, 64)


def streams_file(folder: Path) -> Path:
    """An RTP stream that loses 3 and 4, probes without loss, data, and unicast."""
    made = []
    for number in range(10):
        at = f.EPOCH * 10**9 + number * 10_000_000
        if number not in (3, 4):
            data = f.datagram("10.0.0.1", GROUP, 4000, 5004, rtp(number, number * 900))
            made.append(f.Record(f.ether(data), at))
        data = f.datagram("2001:db8::1", "ff15::42", 4000, 5006, sent(number))
        made.append(f.Record(f.ether(data), at))
        made.append(f.Record(f.ether(f.datagram("10.0.0.2", GROUP, 9, 5008, b"data")), at))
        made.append(f.Record(f.ether(f.datagram("10.0.0.2", "10.0.0.3", 9, 5008, b"data")), at))
    return capture(folder, made)


def test_the_table_of_streams(tmp_path: Path) -> None:
    outcome = sniff("-r", streams_file(tmp_path), "--streams")
    headings, *rows = [re.split(r" {2,}", line.strip()) for line in outcome.stdout.splitlines()]
    assert headings == [
        *("SOURCE", "GROUP", "TTL", "PROTOCOL", "PACKETS", "RATE", "BITRATE", "LOST", "JITTER")
    ]
    told = {row[1]: row for row in rows}
    assert told[f"{GROUP}:5004"][:5] == ["10.0.0.1:4000", f"{GROUP}:5004", "1", "rtp", "8"]
    assert told[f"{GROUP}:5004"][7] == "2 (20%)"
    assert told["[ff15::42]:5006"][3:5] == ["probe", "10"]
    assert told["[ff15::42]:5006"][7] == "0"
    assert told[f"{GROUP}:5008"][3:6] == ["udp", "10", "100/s"]
    assert told[f"{GROUP}:5008"][7:] == ["-", "-"]
    assert told["[ff15::42]:5006"][8] == "0.000 ms"
    assert len(rows) == 3
    assert outcome.stderr == "38 packets\n"


def test_streams_are_counted_from_headers_alone(tmp_path: Path) -> None:
    """A snap length that leaves the headers loses nothing of the statistics."""
    path = streams_file(tmp_path)
    whole = sniff("-r", path, "--streams").stdout
    cut = bytearray(path.read_bytes()[:24])
    data, at = path.read_bytes(), 24
    while at < len(data):
        sec, us, captured, length = struct.unpack_from("<IIII", data, at)
        kept = min(captured, 94)
        cut += struct.pack("<IIII", sec, us, kept, length) + data[at + 16 : at + 16 + kept]
        at += 16 + captured
    path.write_bytes(bytes(cut))
    assert sniff("-r", path, "--streams").stdout == whole


def test_the_table_of_streams_on_a_terminal(tmp_path: Path) -> None:
    """It is there while the capture goes on, and once more at the end."""
    data = streams_file(tmp_path).read_bytes()
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "mcastctl", "sniff", "-r", "-", "--streams"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=theirs) as running:
        os.close(theirs)
        assert running.stdin is not None
        running.stdin.write(data)
        running.stdin.flush()
        shown = b""
        while b"ff15::42" not in shown:
            running.stdin.write(data[24:])  # more of the same: something to show again
            running.stdin.flush()
            shown += os.read(ours, 65536) if select.select([ours], [], [], 0.1)[0] else b""
        running.stdin.close()
        while chunk := _read(ours):
            shown += chunk
        assert running.wait(20) == 0
    os.close(ours)
    assert b"SOURCE" in shown.rpartition(b"\x1b[?25h")[2]  # the cursor came back before the end


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def test_the_streams_in_json(tmp_path: Path) -> None:
    path = streams_file(tmp_path)
    lines = [json.loads(line) for line in sniff("-r", path, "--streams", "-j").stdout.splitlines()]
    check_schema(lines)
    assert [line["type"] for line in lines] == ["start", "summary"]
    summary = lines[-1]
    assert (summary["packets"], summary["lost"]) == (38, 2)
    assert {one["protocol"] for one in summary["streams"]} == {"rtp", "probe", "udp"}
    assert (
        json.loads(sniff("-r", path, "-j").stdout.splitlines()[-1])["streams"]
        == (summary["streams"])
    )
    found = [one["proto"] for one in packets(path)]
    assert found.count("rtp") == 7  # the first header alone proves nothing
    assert found.count("probe") == 10


def test_the_commentary(tmp_path: Path) -> None:
    def igmp(src: str, dst: str, message: bytes) -> bytes:
        return f.ether(f.ip4(src, dst, 2, message))

    general = f.igmp(0x11, 100, ".".join("0000"), f.query_tail(2, 125, []))
    report = f.igmp3_report([(4, GROUP, []), (1, "232.1.1.1", ["10.0.0.7"])])
    again = f.igmp3_report([(2, GROUP, []), (1, "232.1.1.1", ["10.0.0.7"])])
    goodbye = f.igmp3_report([(3, GROUP, []), (6, "232.1.1.1", ["10.0.0.7"])])
    hosts = "224.0.0.1", "224.0.0.22"
    made = [
        igmp("10.0.0.9", hosts[0], general),
        igmp("10.0.0.5", hosts[1], report),
        igmp("10.0.0.5", hosts[1], again),
        igmp("10.0.0.2", hosts[0], f.igmp(0x11, 100, ".".join("0000"))),
        igmp("10.0.0.9", hosts[0], general),
        igmp("10.0.0.5", hosts[1], goodbye),
        f.ether(control.PIM["hello"]),
        f.ether(control.PIM["hello"]),
        f.ether(control.PIM["hello, goodbye"]),
        f.ether(control.PIM["join/prune"]),
        f.ether(control.PIM["join/prune"]),
        f.ether(control.VRRP["v2"]),
        f.ether(control.VRRP["v2"]),
        f.ether(control.MDNS["query"]),
        *(f.ether(packet) for packet in plain()),
    ]
    path = capture(tmp_path, made)
    told = [line.partition(" ")[2] for line in sniff("-r", path, "--control").stdout.splitlines()]
    assert told == [
        "10.0.0.9 is the querier: IGMPv3, every 125 s, answers within 10 s",
        "10.0.0.5 joins 239.1.1.1 (IGMPv3)",
        "10.0.0.5 joins 10.0.0.7@232.1.1.1 (IGMPv3)",
        "10.0.0.2 is elected querier over 10.0.0.9: IGMPv2, answers within 10 s",
        "10.0.0.9 queries too but loses to 10.0.0.2: IGMPv3, every 125 s, answers within 10 s",
        "10.0.0.5 leaves 239.1.1.1 (IGMPv3)",
        "10.0.0.5 wants no more 10.0.0.7@232.1.1.1 (IGMPv3)",
        "10.0.0.1 is a PIM neighbour (holdtime 105 s, DR priority 1)",
        "10.0.0.1 is no PIM neighbour any more",
        "10.0.0.1 joins (*, 239.1.1.1) at 10.0.0.2",
        "10.0.0.1 prunes (10.0.0.3, 239.1.1.1) at 10.0.0.2",
        "10.0.0.1 prunes (10.0.0.4, 239.1.1.1) at 10.0.0.2",
        "10.0.0.1 joins (10.0.0.5, 232.1.1.1) at 10.0.0.2",
        "10.0.0.1 joins (10.0.0.6, 232.1.1.1) at 10.0.0.2",
        "10.0.0.1 is master of VRID 8 (priority 100, holds 10.0.0.254 10.0.0.253)",
    ]
    lines = [json.loads(line) for line in sniff("-r", path, "--control", "-j").stdout.splitlines()]
    check_schema(lines)
    assert [line["text"] for line in lines if line["type"] == "notice"] == told
    assert {line["proto"] for line in lines if line["type"] == "packet"} == {"igmp", "pim", "vrrp"}


def test_queriers_take_turns(tmp_path: Path) -> None:
    """Who is silent for longer than the others wait (255 s) is querier no more."""
    general = f.igmp(0x11, 100, ".".join("0000"), f.query_tail(2, 125, []))
    made = []
    for second, host in ((0, 2), (1, 9), (125, 2), (381, 9), (506, 9), (520, 2), (530, 9)):
        data = f.ether(f.ip4(f"10.0.0.{host}", "224.0.0.1", 2, general))
        made.append(f.Record(data, (f.EPOCH + second) * 10**9))
    lines = sniff("-r", capture(tmp_path, made), "--control").stdout.splitlines()
    every = "IGMPv3, every 125 s, answers within 10 s"
    assert [line.partition(" ")[2] for line in lines] == [
        f"10.0.0.2 is the querier: {every}",
        f"10.0.0.9 queries too but loses to 10.0.0.2: {every}",
        "querier 10.0.0.2 asks every 125.0 s (IGMPv3)",
        f"10.0.0.9 takes over from 10.0.0.2, silent for 256 s: {every}",
        "querier 10.0.0.9 asks every 125.0 s (IGMPv3)",
        f"10.0.0.2 is elected querier over 10.0.0.9: {every}",
        f"10.0.0.9 queries too but loses to 10.0.0.2: {every}",
    ]


def test_vlans_are_links_of_their_own(tmp_path: Path) -> None:
    """On a trunk the same stream in two VLANs is no duplicate, two queriers are no election."""
    general = f.igmp(0x11, 100, ".".join("0000"), f.query_tail(2, 125, []))
    made = []
    for vlan in (5, 6):
        tags = [(0x8100, vlan)]
        made.append(f.ether(f.ip4(f"10.0.{vlan}.1", "224.0.0.1", 2, general), tags=tags))
        for number in range(4):
            data = struct.pack("!BBHII", 0x80, 33, number, number, 7) + b"data"
            made.append(f.ether(f.datagram("10.0.9.9", GROUP, 4000, 5004, data), tags=tags))
    path = capture(tmp_path, made)
    rows = sniff("-r", path, "--streams").stdout.splitlines()[1:]
    assert sorted(re.split(r" {2,}", row)[2] for row in rows) == ["vlan 5", "vlan 6"]
    summary = json.loads(sniff("-r", path, "-j").stdout.splitlines()[-1])
    assert summary["duplicates"] == 0
    assert [one["segment"] for one in summary["streams"]] == [["vlan 5"], ["vlan 6"]]
    told = sniff("-r", path, "--control").stdout.splitlines()
    assert [line.split(" ", 1)[1].partition(":")[0] for line in told] == [
        "vlan 5 10.0.5.1 is the querier",
        "vlan 6 10.0.6.1 is the querier",
    ]


@pytest.mark.parametrize("count", [0, 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("resolution", [0, 3, 6, 9, 0x80, 0x9E, 0xFF])
def test_times_of_any_clock_are_printed(tmp_path: Path, count: int, resolution: int) -> None:
    clock = f.option(9, bytes((resolution,)))
    frame = f.ether(control.IGMP["v2 report"])
    data = f.section() + f.interface(options=clock) + f.packet(frame, count=count)
    path = tmp_path / "some.pcapng"
    path.write_bytes(data)
    assert " IP 10.0.0.1 > 239.1.1.1: igmp v2 report" in sniff("-r", path).stdout
    assert len(packets(path)) == 1
    assert len(packets(path, "--control")) == 1
