"""Capture files of every kind, whole and damaged: each whole record is read, damage is named."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import control
import frames as f
import pytest
from captures import read, sniff, written
from hypothesis import given, settings
from hypothesis import strategies as st
from ngfiles import BOTH, PACKETS, Maker
from place import UNROOTED

from mcastctl.capture.bpf import FilterError, Program
from mcastctl.capture.files import CaptureFileError
from mcastctl.capture.reading import Filter


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("nano", [False, True])
def test_pcap(tmp_path: Path, order: str, nano: bool) -> None:
    ts_ns = f.EPOCH * 10**9 + 123_456_789
    made = [f.Record(data, ts_ns + at, 9000 + at) for at, data in enumerate(PACKETS)]
    found, damage = read(written(tmp_path, f.pcap(made, order=order, nano=nano)))
    assert damage is None
    assert [frame.data for frame in found] == PACKETS
    assert [frame.length for frame in found] == [record.length for record in made]
    unit = 1 if nano else 1000
    assert [frame.ts_ns for frame in found] == [record.ts_ns // unit * unit for record in made]
    assert {frame.linktype for frame in found} == {1}


def test_pcap_with_the_longer_headers_of_a_patched_library(tmp_path: Path) -> None:
    head = struct.pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 1)
    record = struct.pack("<IIIIIHBB", 5, 6, 60, 70, 3, 8, 2, 0) + bytes(60)
    found, damage = read(written(tmp_path, head + record * 3))
    assert damage is None
    assert [(one.ts_ns, one.length, one.data) for one in found] == [
        (5_000_006_000, 70, bytes(60))
    ] * 3


@pytest.mark.parametrize("minor", [2, 3])
@pytest.mark.parametrize("order", "<>")
def test_pcap_of_old_programs(tmp_path: Path, order: str, minor: int) -> None:
    """Before version 2.4 the true length stood before the captured one, or sometimes after."""
    data = f.pcap([f.Record(PACKETS[0], length=99), b"whole"], order=order)
    lengths = struct.pack(f"{order}II", 99, len(PACKETS[0]))
    data = data[:6] + struct.pack(f"{order}H", minor) + data[8:32] + lengths + data[40:]
    found, damage = read(written(tmp_path, data))
    assert damage is None
    assert [(one.data, one.length) for one in found] == [(PACKETS[0], 99), (b"whole", 5)]
    assert [one.ts_ns % 10**9 for one in found] == [0, 10**6]


TWO = Maker("<").two()
LAST = len(TWO) - len(f.packet(PACKETS[1]))
DAMAGED: dict[str, tuple[bytes, int, int]] = {
    "pcap header": (f.pcap([])[:20], 20, 0),
    "pcap version": (f.pcap([])[:4] + b"\x03\0" + f.pcap([])[6:], 4, 0),
    "pcap reserved bits": (f.pcap([b"abcd"], 0x00020001), 20, 0),
    "pcap record header": (f.pcap([b"abcd"]) + b"1234567", 44, 1),
    "pcap record": (f.pcap([b"abcd", b"abcdefgh"])[:-3], 44, 1),
    "pcap huge record": (f.pcap([b"abcd"]) + struct.pack("<IIII", 1, 2, 1 << 31, 60), 44, 1),
    "pcap huger record": (f.pcap([b""]) + struct.pack("<IIII", 1, 2, 0xFFFFFFFF, 60), 40, 1),
    "pcapng byte order": (TWO + f.section()[:8] + b"abcd" + f.section()[12:], len(TWO), 2),
    "pcapng version": (f.block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 7, 0, -1)), 0, 0),
    "pcapng length 0": (TWO + struct.pack("<III", 6, 0, 0), len(TWO), 2),
    "pcapng length 13": (TWO + struct.pack("<II", 6, 13) + bytes(8), len(TWO), 2),
    "pcapng length 4 GiB": (TWO + struct.pack("<II", 6, 0xFFFFFFFC) + bytes(8), len(TWO), 2),
    "pcapng two lengths": (TWO[:-4] + struct.pack("<I", 16), LAST, 1),
    "pcapng no interface": (f.section() + f.packet(b"abcd"), len(f.section()), 0),
    "pcapng other interface": (TWO + f.packet(b"abcd", of=3), len(TWO), 2),
    "pcapng torn": (TWO[:-9], LAST, 1),
    "pcapng captured too much": (
        TWO + f.block(6, struct.pack("<IIIII", 0, 0, 0, 100, 100) + bytes(40)), len(TWO), 2
    ),
    "pcapng short packet": (TWO + f.block(6, bytes(8)), len(TWO), 2),
    "pcapng short interface": (TWO + f.block(1, bytes(4)), len(TWO), 2),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_named_with_its_offset(tmp_path: Path, kind: str) -> None:
    data, offset, whole = DAMAGED[kind]
    path = written(tmp_path, data)
    found, damage = read(path)
    assert damage is not None
    assert (damage.offset, len(found)) == (offset, whole)
    outcome = sniff("-r", path)
    assert outcome.returncode == 2
    assert len(outcome.stdout.splitlines()) == whole
    error, hint = [line for line in outcome.stderr.splitlines() if ":" in line]
    assert re.fullmatch(rf"mcastctl: error: .* is damaged at offset {offset}: .+", error)
    assert hint == f"hint: the {whole} whole records before it were read"
    last = json.loads(sniff("-r", path, "-j").stdout.splitlines()[-1])
    assert (last["reason"], last["exit_status"], last["packets"]) == ("error", 2, whole)


@pytest.mark.parametrize(
    "whole",
    [
        f.pcap(PACKETS),
        f.pcap(PACKETS, order=">", nano=True),
    ],
    ids=["pcap", "pcap, big and nano"],
)
def test_every_prefix_of_a_file(tmp_path: Path, whole: bytes) -> None:
    everything, damage = read(written(tmp_path, whole))
    assert damage is None
    counts = []
    for size in range(4, len(whole)):
        found, damage = read(written(tmp_path, whole[:size]))
        assert found == everything[: len(found)]
        counts.append(len(found))
        if damage is not None:
            assert damage.offset <= size
    assert all(after - before in (0, 1) for before, after in pairwise(counts))


@settings(deadline=None)
@given(st.data())
def test_no_bytes_make_a_reader_fail(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    seeds = st.sampled_from(
        [f.pcap(PACKETS), TWO, Maker(">").two(), BOTH["all packet options, big"].data]
    )
    whole = bytearray(data.draw(seeds))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "x"
    path.write_bytes(bytes(whole))
    try:
        read(path)
    except CaptureFileError as error:
        assert "is no capture file" in error.message  # its magic number was hit
    path.unlink()


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def test_a_fifo_is_read_when_somebody_writes(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    outcome = sniff("-r", path, "-T", "0.3s", timeout=30)
    assert (outcome.returncode, outcome.stderr) == (0, "0 packets\n")
    command = [sys.executable, "-m", "mcastctl", "sniff", "-r", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        path.write_bytes(f.pcap(PACKETS))  # opens when the reader has
        assert running.stdout is not None
        assert len(running.stdout.readlines()) == len(PACKETS)
        assert running.wait(20) == 0


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("missing", lambda path: None, "no such file or directory"),
        ("folder", lambda path: path.mkdir(), "it is a directory"),
        ("empty", lambda path: path.touch(), "is empty"),
        ("text", lambda path: path.write_text("hello"), "is no capture file: it begins with 68"),
        ("packed", lambda path: path.write_bytes(b"\x1f\x8b\x08\0"), "is no capture file"),
        ("link", lambda path: path.symlink_to(path), "too many levels of symbolic links"),
        ("device", lambda path: path.symlink_to("/dev/null"), "is empty"),
        ("zeros", lambda path: path.symlink_to("/dev/zero"), "it begins with 00 00 00 00"),
        ("socket", bind, "it is a socket"),
    ],
)
def test_what_is_no_capture_file(
    tmp_path: Path, name: str, make: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / name
    make(path)
    outcome = sniff("-r", path)
    error, hint = outcome.stderr.splitlines()
    assert outcome.returncode == 2
    assert error.startswith("mcastctl: error: ")
    assert said in error
    assert hint.startswith("hint: ")
    assert ("gzip -dc" in hint) == (name == "packed")


# --- filters and copies


EXPRESSIONS = ["igmp", "ip6", "ip6 protochain 58", "host 10.0.0.1 and not igmp", "udp port 5353"]
EXPRESSIONS += ["greater 100", "ether[14] >> 4 = 6", "pim or vrrp"]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_filter_passes_what_tcpdump_passes(tmp_path: Path, expression: str) -> None:
    path = tmp_path / "all.pcap"
    path.write_bytes(f.pcap([f.ether(packet) for packet in control.ALL.values()]))
    theirs = tmp_path / "theirs.pcap"
    command: list[str | Path] = [*UNROOTED, "tcpdump", "-r", path, "-w", theirs, expression]
    subprocess.run(command, capture_output=True, check=True)
    copy = tmp_path / "ours.pcap"
    sniff("-r", path, "-w", copy, *expression.split())
    wanted = read(theirs)[0]
    assert read(copy)[0] == wanted
    assert 0 < len(wanted) < len(control.ALL)
    ours = sniff("-r", path, "-j", *expression.split()).stdout.splitlines()
    numbers = [one["number"] for one in map(json.loads, ours) if one["type"] == "packet"]
    everything = read(path)[0]
    assert [everything[number - 1] for number in numbers] == wanted
    assert len(sniff("-r", path, expression).stdout.splitlines()) == len(wanted)


def test_a_filter_is_compiled_for_each_link_type(tmp_path: Path) -> None:
    path = written(tmp_path, BOTH["two interfaces, little"].data)
    ours = sniff("-r", path, "-j", "ip").stdout.splitlines()
    assert [json.loads(line)["number"] for line in ours[1:-1]] == [1, 2, 3]


def test_a_wrong_filter_is_an_error_even_where_nothing_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, f.pcap([]))
    outcome = sniff("-r", path, "igmp", "nonsense")
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("mcastctl: error: filter 'igmp nonsense': ")
    with pytest.raises(FilterError):
        Program("\0", 1)
    with pytest.raises(FilterError):
        Filter("ether host 1:2:3:4:5:6").compiled(101)


def test_a_filter_goes_on_behind_links_it_means_nothing_for(tmp_path: Path) -> None:
    datagram = f.datagram("10.0.0.1", "239.1.1.1", 4000, 5004, b"here")
    whole = f.ether(datagram)
    make = Maker("<")
    head = make.section() + make.interface(195) + make.interface(1)
    odd, even = make.packet(b"\1\2\3"), make.packet(whole, of=1)
    path = written(tmp_path, head + odd + even + odd + odd)
    outcome = sniff("-r", path, "-j", "udp", "port", "5004")
    assert outcome.returncode == 0, outcome.stderr
    lines = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [line["number"] for line in lines if line["type"] == "packet"] == [2]
    (told,) = [line["text"] for line in lines if line["type"] == "notice"]
    assert told == "the filter means nothing for link type 195: its frames (3) are left out"
    for data, words in ((head + odd, "udp"), (head + odd + even, "udp port none")):
        outcome = sniff("-r", written(tmp_path, data), *words.split())
        assert outcome.returncode == 2
        assert outcome.stderr.startswith(f"mcastctl: error: filter '{words}': ")


def test_compiled_instructions_are_those_of_tcpdump() -> None:
    command = [*UNROOTED, "tcpdump", "-ddd", "-y", "EN10MB", "igmp or ip6 protochain 58"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [tuple(map(int, line.split())) for line in told[1:]]
    assert Program("igmp or ip6 protochain 58", 1).instructions() == rows


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_a_copy_holds_the_same(tmp_path: Path, suffix: str) -> None:
    made = [f.Record(data, f.EPOCH * 10**9 + at * 7, 2000) for at, data in enumerate(PACKETS)]
    path, copy = tmp_path / "in.pcap", tmp_path / f"out.{suffix}"
    path.write_bytes(f.pcap(made, nano=True))
    outcome = sniff("-r", path, "-w", copy)
    assert (outcome.returncode, outcome.stdout) == (0, "")
    assert outcome.stderr == "6 packets, 6 written\n"
    assert read(copy) == read(path)
    filtered = tmp_path / f"igmp.{suffix}"
    sniff("-r", path, "-w", filtered, "-c", "2", "igmp")
    assert read(filtered)[0] == read(path)[0][:2]


def test_a_copy_keeps_interfaces_or_says_that_it_cannot(tmp_path: Path) -> None:
    path = written(tmp_path, BOTH["two interfaces, little"].data)
    copy = tmp_path / "out.pcapng"
    assert sniff("-r", path, "-w", copy).returncode == 0
    assert read(copy) == read(path)
    outcome = sniff("-r", path, "-w", tmp_path / "out.pcap")
    assert outcome.returncode == 2
    assert "pcap holds one link type" in outcome.stderr
    assert "hint: name the file .pcapng" in outcome.stderr


def test_a_file_is_not_written_over_itself(tmp_path: Path) -> None:
    path = written(tmp_path, f.pcap(PACKETS))
    outcome = sniff("-r", path, "-w", path)
    assert outcome.returncode == 2
    assert "while reading it" in outcome.stderr
    assert len(read(path)[0]) == len(PACKETS)


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_a_mistake_costs_no_older_capture(tmp_path: Path, suffix: str) -> None:
    path, older = written(tmp_path, f.pcap(PACKETS)), tmp_path / f"older.{suffix}"
    assert sniff("-r", path, "-w", older).returncode == 0
    held = older.read_bytes()
    for args in (("missing.pcap",), (sys.executable,), (path, "udp and (")):
        assert sniff("-r", args[0], "-w", older, *args[1:]).returncode == 2
        assert older.read_bytes() == held, args
    assert sniff("-r", path, "-w", older, "udp port 1").returncode == 0
    assert 0 < older.stat().st_size < len(held)  # nothing passed: a capture of no packets
    assert read(older) == ([], None)


def test_a_full_disk_leaves_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(f.pcap([bytes(1000)] * 1000))
    copy = tmp_path / "out.pcap"
    limit = 300_000

    def bounded() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    outcome = sniff("-r", path, "-w", copy, preexec_fn=bounded)
    assert outcome.returncode == 2
    assert "mcastctl: error: cannot write" in outcome.stderr
    found, damage = read(copy)
    assert damage is None
    assert limit - 1016 < copy.stat().st_size <= limit
    assert f"{len(found)} written" in outcome.stderr


def test_a_pipe_is_read_as_it_comes() -> None:
    command = [sys.executable, "-m", "mcastctl", "sniff", "-r", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        whole = f.pcap(PACKETS[:2])
        running.stdin.write(whole[:-20])
        running.stdin.flush()
        first = running.stdout.readline()
        assert b"igmp v1 query" in first  # printed although the second is not all there
        running.stdin.write(whole[-20:])
        running.stdin.flush()
        assert b"igmp v1 report" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == -signal.SIGINT


@pytest.mark.parametrize("begun", [b"", f.pcap([])[:9], f.section()[:9]])
def test_a_silent_pipe_ends_in_time(begun: bytes) -> None:
    """Also one whose header is not all there yet."""
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, begun)
        outcome = sniff("-r", "-", "-T", "0.3s", stdin=read_end, timeout=30)
        assert outcome.returncode == 0
        outcome = sniff("-r", "-", "--idle", "0.3s", "-c", "1", stdin=read_end, timeout=30)
        assert outcome.returncode == 1
    finally:
        os.close(read_end)
        os.close(write_end)
