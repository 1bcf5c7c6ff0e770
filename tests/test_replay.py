"""What `listen -w` records is what was heard; `send --replay` sends it again in its own time."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import control
import frames
import pytest
from conftest import Pair
from hypothesis import given, settings
from hypothesis import strategies as st
from place import PATH, Place, need
from streams import Stream

from mcastctl.capture.files import open_file
from mcastctl.capture.rebuilt import frame
from mcastctl.capture.writer import Writer
from mcastctl.decode.packet import Decoder
from mcastctl.model.errors import PayloadError
from mcastctl.model.frame import frames as frames_of
from mcastctl.model.pacing import Timetable
from mcastctl.model.records import Datagram
from mcastctl.net.payloads import Recorded

GROUPS = ["239.1.1.1:5004", "[ff15::42]:5004"]
FIELDS = ["frame.time_epoch", "ip.src", "ip.dst", "ip.ttl", "ip.dsfield.dscp", "ipv6.src"]
FIELDS += ["ipv6.dst", "ipv6.hlim", "udp.srcport", "udp.payload", "ip.checksum.status"]
FIELDS += ["udp.checksum.status"]


def tshark(path: Path) -> list[dict[str, str]]:
    """What Wireshark finds in a file, checksums verified."""
    need("tshark")
    checks = [f"-o{one}.check_checksum:TRUE" for one in ("ip", "udp")]
    wanted = [f"-e{field}" for field in FIELDS]
    argv: list[str | Path] = ["tshark", "-n", *checks, "-r", path, "-T", "fields", *wanted]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env={"PATH": PATH})
    rows = [line.split("\t") for line in said.stdout.splitlines()]
    return [dict(zip(FIELDS, row, strict=True)) for row in rows]


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_a_recording_is_what_was_heard(pair: Pair, tmp_path: Path, suffix: str) -> None:
    """Both families, quietly, as Wireshark and as we read it."""
    a, b = pair
    path = tmp_path / f"heard.{suffix}"
    heard = b.start_mcastctl("listen", "-qj", *GROUPS, "-i", "b0", "-w", path, "-c", "5")
    shown = b.start_mcastctl("listen", "-j", *GROUPS, "-i", "b0", "-c", "5")
    heard.wait_stdout('"joined"', count=2)
    shown.wait_stdout('"joined"', count=2)
    for payload in ("", "odd"):
        a.mcastctl("send", GROUPS[0], payload, "-i", "a0", "-t", "7", "-Q", "ef", check=True)
    many = ["--probe", "-s", "1300", "-c", "3", "--flood"]
    a.mcastctl("send", GROUPS[1], *many, "-i", "a0", "-t", "9", check=True)
    quiet = Stream.of(heard.finish())
    assert (quiet.status, quiet.datagrams, quiet.summary["written"]) == (0, [], 5)
    expected = Stream.of(shown.finish()).datagrams
    rows = tshark(path)
    assert len(rows) == len(expected) == 5
    for row, one in zip(rows, expected, strict=True):
        assert float(row["frame.time_epoch"]) == pytest.approx(one["ts"], abs=0.5)
        assert row["udp.srcport"] == str(one["sport"])
        assert row["udp.checksum.status"] == "1"
        family = ("ip.src", "ip.dst", "ip.ttl") if row["ip.src"] else FIELDS[5:8]
        assert [row[key] for key in family] == [one["src"], one["dst"], str(one["ttl"])]
        if row["ip.src"]:
            assert (row["ip.checksum.status"], row["ip.dsfield.dscp"]) == ("1", "46")
            assert bytes.fromhex(row["udp.payload"]).decode() == one["payload"]
    read = Stream.of(b.mcastctl("sniff", "-r", path, "-j"))
    assert [one["length"] for one in read.all("packet")] == [28, 31, 1348, 1348, 1348]
    assert all(one["fields"]["checksum_ok"] for one in read.all("packet"))


def recording(path: Path, times_ms: list[int], *, group: str = "239.1.1.1") -> None:
    """A capture of ours with a payload at each time."""
    writer = Writer(str(path))
    for number, at in enumerate(times_ms):
        writer.write(frame(datagram(b"payload %d" % number, at * 1_000_000, dst=group)))
    writer.close()


def datagram(payload: bytes, ts_ns: int = 1, src: str = "10.0.0.1", dst: str = "") -> Datagram:
    dst = dst or ("ff15::42" if ":" in src else "239.1.1.1")
    return Datagram(ts_ns, "rx", "b0", 2, src, 4000, dst, 5004, 3, 46, len(payload), payload)


@pytest.mark.parametrize(("speed", "factor"), [([], 1), (["--speed", "4x"], 4)])
def test_a_replay_keeps_the_distances(
    pair: Pair, tmp_path: Path, speed: list[str], factor: int
) -> None:
    """In their order; how late each left is told, and what arrived bears it out."""
    a, b = pair
    path = tmp_path / "tv.pcapng"
    times = [0, 10, 10, 250, 240, 600]
    recording(path, [1_000_000 + one for one in times])
    listener = b.start_mcastctl("listen", "-j", "239.9.9.9:99", "-i", "b0", "-c", "6")
    listener.wait_stdout('"joined"')
    sent = Stream.of(
        a.mcastctl("send", "-j", "239.9.9.9:99", "-i", "a0", "--replay", path, *speed)
    ).summary
    heard = Stream.of(listener.finish())
    assert heard.payloads == [f"payload {number}" for number in range(6)]
    assert (sent["sent"], sent["cut"], sent["exit_status"]) == (6, 0, 0)
    assert 0 <= sent["mean_late_ms"] <= sent["worst_late_ms"]
    assert sent["elapsed_s"] >= 0.6 / factor
    begin = heard.datagrams[0]["ts"]
    wanted = [0, 10, 10, 250, 250, 600]  # time does not go backwards
    for one, at in zip(heard.datagrams, wanted, strict=True):
        late_ms = (one["ts"] - begin) * 1000 - at / factor
        assert -sent["worst_late_ms"] - 1 <= late_ms <= sent["worst_late_ms"] + 200


def test_a_replay_of_some_as_fast_as_it_goes(pair: Pair, tmp_path: Path) -> None:
    """Without the times of the recording; to two groups; what was cut short is left out."""
    a, b = pair
    path = tmp_path / "tv.pcap"
    whole = frame(datagram(b"whole", 10**18)).data
    others = frame(datagram(b"other", dst="239.1.1.2")).data
    writer = Writer(str(path))
    for number, (data, keep) in enumerate([(whole, 99), (others, 99), (whole, 30), (whole, 99)]):
        kept = bytes(data[:keep])
        writer.write(frame(datagram(b""))._replace(data=kept, length=len(data), ts_ns=number))
    writer.close()
    groups = "239.9.9.8:99+1"
    listener = b.start_mcastctl("listen", "-j", groups, "-i", "b0", "-c", "4")
    listener.wait_stdout('"joined"', count=2)
    options: list[str | Path] = ["--replay", path, "--replay-filter", "dst 239.1.1.1", "--flood"]
    sent = a.mcastctl("send", groups, "-i", "a0", *options)
    assert sent.returncode == 0
    assert "left out 1 datagram that the capture cut short" in sent.stderr
    assert Stream.of(listener.finish()).payloads == ["whole"] * 4
    only = a.mcastctl("send", groups, "-i", "a0", "--replay", path, "--pps", "100", "-c", "1")
    assert "sent 2 datagrams, 10 bytes" in only.stderr


def test_damage_is_told_after_what_is_whole(pair: Pair, tmp_path: Path) -> None:
    a, _ = pair
    path = tmp_path / "torn.pcapng"
    recording(path, [0, 0, 0])
    path.write_bytes(path.read_bytes()[:-7])
    sent = Stream.of(a.mcastctl("send", "-j", GROUPS[0], "-i", "a0", "--replay", path))
    assert (sent.status, sent.summary["sent"], sent.summary["reason"]) == (2, 2, "error")
    [notice] = sent.all("notice")
    assert "is damaged at offset" in notice["text"]


def test_a_full_disk_leaves_a_readable_recording(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    path = tmp_path / "full.pcap"
    words = f"listen {GROUPS[0]} -i b0 -qj -T 20s -w {shlex.quote(str(path))}"
    command = f"ulimit -f 64; exec {shlex.quote(sys.executable)} -m mcastctl {words}"
    listener = b.popen(["bash", "-c", command])
    listener.wait_stdout('"joined"')
    probes = ["--probe", "-s", "1000", "-c", "400", "--pps", "5k"]
    a.mcastctl("send", GROUPS[0], *probes, "-i", "a0", check=True)
    outcome = listener.finish(30)
    assert outcome.returncode == 2
    assert f"cannot write {path}: file too large" in outcome.stdout
    assert path.stat().st_size <= 64 * 1024
    found = [one for block in open_file(str(path)).blocks() for one in frames_of(block)]
    assert {len(one.data) for _, one in found} == {1028}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--replay", "nowhere.pcap"], "cannot read nowhere.pcap: no such file"),
        (["--replay", "-"], "cannot replay -: it is no ordinary file"),
        (["--replay", "/dev/null"], "cannot replay /dev/null"),
        (["--replay", "text"], "text is no capture file"),
        (["--replay", "igmp.pcap"], "igmp.pcap holds no UDP datagram"),
        (["--replay", "igmp.pcap", "--replay-filter", "udp"], "that passes the filter"),
        (["--replay", "igmp.pcap", "--replay-filter", "no such"], "filter 'no such'"),
        (["--replay", "igmp.pcap", "DATA"], "DATA and --replay contradict each other"),
        (["--replay", "igmp.pcap", "-s", "9"], "-s 9 has no effect"),
        (["--replay", "igmp.pcap", "--speed", "0x"], "'0x' is no speed"),
        (["--replay", "igmp.pcap", "--speed", "1e9"], "'1e9' is no speed"),
        (["--replay", "igmp.pcap", "--speed", "2x", "--pps", "9"], "two rates were given"),
        (["--replay", "igmp.pcap", "--speed", "2x", "--flood"], "two rates were given"),
        (["x", "--speed", "2x"], "--speed concerns --replay"),
        (["x", "--replay-filter", "udp"], "--replay-filter concerns --replay"),
    ],
)
def test_what_cannot_be_replayed_is_refused(
    here: Place, tmp_path: Path, args: list[str], said: str
) -> None:
    (tmp_path / "text").write_text("dear diary")
    igmp = frames.ether(control.IGMP["v3 report"])
    (tmp_path / "igmp.pcap").write_bytes(frames.pcap([igmp]))
    outcome = here.mcastctl("send", GROUPS[0], "-i", "lo", *args, cwd=tmp_path)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    first, second = outcome.stderr.splitlines()
    assert first.startswith("mcastctl: error: ")
    assert said in first
    assert second.startswith("hint: ")


@pytest.mark.parametrize("path", ["-", "nowhere/x.pcap", "."])
def test_what_cannot_be_recorded_to_is_refused(here: Place, tmp_path: Path, path: str) -> None:
    outcome = here.mcastctl("listen", GROUPS[0], "-i", "lo", "-w", path, cwd=tmp_path)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert len(outcome.stderr.splitlines()) == 2


# --- pure rules


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=99), st.sampled_from(["10.0.0.1", "fe80::1%b0", "2001:db8::9"]))
def test_any_payload_is_rebuilt_with_right_checksums(payload: bytes, src: str) -> None:
    packet = Decoder().decode(frame(datagram(payload, src=src)), 1)
    assert packet.fields["checksum_ok"] is True
    assert "malformed" not in packet.fields
    assert (packet.src, packet.sport) == (src.partition("%")[0], 4000)
    assert (packet.ttl, packet.fields["dscp"]) == (3, 46)
    assert packet.payload == payload


def test_a_checksum_is_never_absent() -> None:
    """A sum of all ones is not written as 0, which says that there is none (RFC 768)."""
    for number in range(0x10000):
        data = frame(datagram(number.to_bytes(2, "big"))).data
        assert data[26:28] != b"\0\0"


def test_each_has_its_own_time() -> None:
    """Who is late does not push the rest; who is early waits."""
    times = [5_000, 6_000, 5_500, 9_000]
    table = Timetable(lambda: times[0] if times else None, 0.5)
    table.start(1_000_000)
    due = [table.next_ns]
    for now_ns in (1_000_000, 1_004_000, 1_004_000, 1_008_500):
        times.pop(0)
        table.sent(now_ns)
        due.append(table.next_ns)
    assert due == [1_000_000, 1_002_000, 1_002_000, 1_008_000, 1_008_000]
    assert (table.worst_ns, table.mean_ns) == (2_000, (0 + 2_000 + 2_000 + 500) / 4)


def test_damage_waits_for_its_turn() -> None:
    def recorded() -> Iterator[tuple[int, bytes, bool]]:
        yield 1, b"cut", False
        yield 2, b"whole", True
        raise PayloadError("torn", hint="mend it")

    payloads = Recorded(recorded(), 2, None)
    assert (payloads.due_ns(), payloads.cut, payloads.ended) == (2, 1, False)
    assert payloads.take(0) == [b"whole", b"whole"]
    assert payloads.due_ns() is None
    assert not payloads.ended
    with pytest.raises(PayloadError, match="torn"):
        payloads.take(0)
