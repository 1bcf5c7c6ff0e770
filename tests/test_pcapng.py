"""pcapng files of every kind: the packets, times, interfaces and comments that Wireshark finds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import frames as f
import pytest
from captures import read, sniff, written
from ngfiles import BOTH, NOW, PACKETS, Maker
from streams import check_schema

from mcastctl.model.frame import Frame

LITTLE = Maker("<")


def by_tshark(path: Path, *fields: str) -> Iterator[list[str]]:
    """A row for each packet; Wireshark lists custom blocks too, but counts them as none."""
    command: list[str | Path] = [
        "tshark",
        "-n",
        "-r",
        path,
        "-T",
        "fields",
        "-e",
        "_ws.col.Protocol",
    ]
    for name in fields:
        command += ["-e", name]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in told.split("\n") if line]
    return (row[1:] for row in rows if row[0] != "PCAPNG")


@pytest.mark.parametrize("kind", BOTH)
def test_every_kind(tmp_path: Path, kind: str) -> None:
    data, count, comments = BOTH[kind]
    found, damage = read(written(tmp_path, data))
    assert damage is None
    assert len(found) == count
    assert tuple(one for frame in found for one in frame.comments) == comments


def test_wireshark_counts_the_same(tmp_path: Path) -> None:
    if shutil.which("capinfos") is None:
        pytest.skip("needs capinfos")
    for number, kind in enumerate(BOTH.values()):
        (tmp_path / f"{number:03d}.pcapng").write_bytes(kind.data)
    paths = sorted(tmp_path.iterdir())
    command: list[str | Path] = ["capinfos", "-M", "-T", "-r", "-c", *paths]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    counts = [int(line.split("\t")[1]) for line in told.splitlines()]
    assert dict(zip(BOTH, counts, strict=True)) == {name: one.packets for name, one in BOTH.items()}


def test_wireshark_sees_the_same_packets(tmp_path: Path) -> None:
    """All kinds in one file, a section or several each."""
    if shutil.which("tshark") is None:
        pytest.skip("needs tshark")
    path = written(tmp_path, b"".join(kind.data for kind in BOTH.values()))
    found, damage = read(path)
    assert damage is None
    fields = ("frame.time_epoch", "frame.cap_len", "frame.len", "frame.encap_type", "frame.comment")
    rows = list(by_tshark(path, *fields))
    assert len(found) == len(rows) == sum(kind.packets for kind in BOTH.values())
    encapsulations = {1: "1", 0: "15", 101: "7", 147: "45"}
    for frame, (epoch, captured, length, encapsulation, comment) in zip(found, rows, strict=True):
        assert [len(frame.data), frame.length] == [int(captured), int(length)]
        assert frame.ts_ns == int(epoch.replace(".", "") or 0)
        assert encapsulations[frame.linktype] == encapsulation
        assert ",".join(frame.comments) == comment


NAMED = ("all interface options, backwards too", "two links", "a description, no name")


@pytest.mark.parametrize("kind", [f"{name}, big" for name in NAMED])
def test_wireshark_names_the_same_interfaces(tmp_path: Path, kind: str) -> None:
    """One section at a time: Wireshark 4.0 looks names up in the first."""
    if shutil.which("tshark") is None:
        pytest.skip("needs tshark")
    path = written(tmp_path, BOTH[kind].data)
    names = [row[0] for row in by_tshark(path, "frame.interface_name")]
    assert [frame.iface for frame in read(path)[0]] == names


def test_interface_direction_and_clock(tmp_path: Path) -> None:
    make, option = LITTLE, LITTLE.option
    data = (
        make.section()
        + make.interface(1, option(2, b"eth0") + option(9, b"\x09"))
        + make.interface(101, option(2, b"tun\x1b0") + option(9, b"\x8a"))
        + make.packet(b"a", count=5_000_000_007, options=option(2, make.pack("I", 2)))
        + make.packet(b"b", of=1, count=3 * 1024 + 512, options=option(2, make.pack("I", 1)))
    )
    first, second = read(written(tmp_path, data))[0]
    assert first == Frame(5_000_000_007, 1, b"a", 1, "eth0", 0, "out")
    assert second == Frame(3_500_000_000, 101, b"b", 1, "tun\x1b0", 0, "in")
    shown = sniff("-r", written(tmp_path, data)).stdout
    assert "eth0 Out " in shown
    assert "tun\\x1b0 In " in shown


@pytest.mark.parametrize(
    ("count", "options", "ts_ns"),
    [
        (1_700_000_000_000_000, LITTLE.option(9, b"\x0f"), 1_700_000_000),
        (2**64 - 1, LITTLE.option(9, b"\x00"), 2**64 - 1),
        (NOW, LITTLE.option(14, LITTLE.pack("q", -(2**62))), 0),
        (NOW, LITTLE.option(14, LITTLE.pack("q", 2**62)), 2**64 - 1),
    ],
    ids=["femtoseconds", "seconds for ever", "before 1970", "after 2554"],
)
def test_times_beyond_nanoseconds(tmp_path: Path, count: int, options: bytes, ts_ns: int) -> None:
    """What does not fit becomes the nearest that does."""
    data = LITTLE.section() + LITTLE.interface(options=options) + LITTLE.packet(b"x", count=count)
    (frame,) = read(written(tmp_path, data))[0]
    assert frame.ts_ns == ts_ns


def test_comments_are_shown_and_copied(tmp_path: Path) -> None:
    evil = LITTLE.option(1, b"two\nlines \x1b[31m") + LITTLE.option(1, b"another")
    packet = LITTLE.packet(PACKETS[0], options=evil) + LITTLE.packet(PACKETS[1])
    path = written(tmp_path, LITTLE.section() + LITTLE.interface() + packet)
    copy = tmp_path / "copy.pcapng"
    assert sniff("-r", path, "-w", copy).returncode == 0
    for one in (path, copy):
        lines = [json.loads(line) for line in sniff("-r", one, "-j").stdout.splitlines()]
        check_schema(lines)
        first, second = (line["fields"].get("comments") for line in lines[1:-1])
        assert first == ["two\nlines \x1b[31m", "another"]
        assert second is None
    shown = sniff("-r", path, "-v").stdout
    assert "two\\nlines \\x1b[31m" in shown


def test_every_prefix_of_every_kind(tmp_path: Path) -> None:
    """What is whole is read, and the place where the rest is torn is named."""
    path = tmp_path / "some.pcapng"
    for name, kind in BOTH.items():
        path.write_bytes(kind.data)
        everything = read(path)[0]
        with path.open("rb+") as file:
            counts = []
            for size in range(len(kind.data) - 1, 3, -1):
                os.ftruncate(file.fileno(), size)
                found, damage = read(path)
                assert found == everything[: len(found)], name
                assert damage is None or 0 <= damage.offset <= size, name
                counts.append(len(found))
        assert all(after - before in (0, -1) for before, after in pairwise(counts)), name


def damaged() -> dict[str, bytes]:
    """Blocks that no writer may write."""
    make, option, block = LITTLE, LITTLE.option, LITTLE.block
    torn = make.pack("HH", 1, 400) + b"torn"
    head = make.pack("5I", 0, 0, 7, 4, 4) + b"abcd"
    return {
        "a packet's option": block(6, head + torn),
        "a packet's flags": make.packet(b"abcd", options=option(2, b"\1\0")),
        "an interface's option": block(1, make.pack("HHI", 1, 0, 0) + torn),
        "a section's option": make.section(torn),
        "an old packet's option": make.old(b"abcd", options=torn),
        "a simple packet's length": block(3, make.pack("I", 100) + b"abcd"),
        "short statistics": block(5, b"abcd"),
        "short names": block(4, b""),
        "a custom block of nobody": block(0xBAD, b""),
    }


@pytest.mark.parametrize("kind", damaged())
def test_damage_within_a_block_is_named(tmp_path: Path, kind: str) -> None:
    whole, wrong = LITTLE.two(), damaged()[kind]
    found, damage = read(written(tmp_path, whole + wrong))
    assert damage is not None
    assert (damage.offset, len(found)) == (len(whole), 2)
    outcome = sniff("-r", tmp_path / "some.pcap")
    assert outcome.returncode == 2
    assert f"is damaged at offset {len(whole)}: " in outcome.stderr


def test_long_frames_of_links_that_have_them(tmp_path: Path) -> None:
    """D-Bus and USB captures hold frames that no network could."""
    big = bytes(300_000)
    for linktype, whole in ((231, True), (249, True), (1, False)):
        ng = LITTLE.section() + LITTLE.interface(linktype) + LITTLE.packet(big)
        for data in (ng, f.pcap([big], linktype)):
            found, damage = read(written(tmp_path, data))
            assert (len(found), damage is None) == (int(whole), whole)
