"""One message over many datagrams: split by `send --message`, made whole by `listen --message`."""

from __future__ import annotations

import os
import random
import re
import time
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import Pair
from hypothesis import given, settings
from hypothesis import strategies as st
from place import Place, need_room
from streams import Stream

from mcastctl.model import message
from mcastctl.model.message import Lost, Part, Stitcher, Whole

GROUP = "239.1.1.1:5004"
SOURCE = ("10.0.0.1", "239.1.1.1", 5004)


def name_of(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def test_fifty_megabytes_and_exactly_the_losses_that_were_made(pair: Pair, tmp_path: Path) -> None:
    """Every 9000th datagram is dropped on arrival: which parts are missing follows from that."""
    a, b = pair
    size, number, every = 4_000_000, 13, 9000
    parts = -(-size // (1400 - message.HEADER.size))
    need_room(parts, 1400)
    b.sh(
        "nft add table ip t; nft add chain ip t in '{ type filter hook input priority 0; }';"
        f"nft add rule ip t in udp dport 5004 numgen inc mod {every} 0 drop"
    )
    contents = [random.Random(one).randbytes(size) for one in range(number)]  # noqa: S311
    heard = tmp_path / "heard"
    with heard.open("wb") as file:
        args = ["listen", GROUP, "-i", "b0", "--message", "-o", "raw", "--rcvbuf", "16MiB"]
        listener = b.start_mcastctl(*args, "-T", "60s", stdout=file.fileno())
    listener.wait_stderr("joined")
    path = tmp_path / "content"
    for one, content in enumerate(contents):
        path.write_bytes(content)
        options: list[str | Path] = ["--message", "--file", path, "--name", f"m{one}", "-b", "400M"]
        sent = a.mcastctl("send", GROUP, "-i", "a0", *options, check=True)
        assert f"sent {parts} datagrams" in sent.stderr
    a.mcastctl("send", GROUP, "done", "-i", "a0", "--message", check=True)
    deadline = time.monotonic() + 40
    while not heard.read_bytes().endswith(b"done"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    listener.signal(2)
    said = listener.finish()
    dropped = [divmod(place, parts) for place in range(0, parts * number + 1, every)]
    torn = {one: part for one, part in dropped}
    assert len(torn) == 5
    whole = [content for one, content in enumerate(contents) if one not in torn]
    assert heard.read_bytes() == b"".join([*whole, b"done"])
    found = re.findall(r"message (\w+) of 10\S+ is not whole, no more came: (.*)", said.stderr)
    assert found == [
        (f"{name_of(f'm{one}'):x}", f"1 of {parts} parts are missing ({part})")
        for one, part in torn.items()
    ]
    assert f"{number - 5 + 1} messages whole, 5 not" in said.stderr


def test_messages_in_json_with_a_verdict(pair: Pair) -> None:
    """Lines, nothing, and again; what is no message is counted; the last one asked for ends it."""
    a, b = pair
    listener = b.start_mcastctl("listen", "-j", GROUP, "-i", "b0", "--message", "-c", "3")
    listener.wait_stdout('"joined"')
    to = ["send", GROUP, "-i", "a0"]
    lines = "".join(f"line {number}\n" for number in range(300))
    a.mcastctl(*to, "--message", "--name", "x", "-s", "100", "-c", "2", input=lines, check=True)
    a.mcastctl(*to, "plain", check=True)
    a.mcastctl(*to, "--message", "--name", "x", input="", check=True)
    a.mcastctl(*to, "--message", "--hex", "00ff", check=True)
    heard = Stream.of(listener.finish())
    first, second, third = heard.all("message")
    assert (first["payload"], second["payload"], third["payload_b64"]) == (lines, "", "AP8=")
    assert first["message"] == second["message"] == f"{name_of('x'):x}"
    assert second["sent_ts"] > first["sent_ts"]
    assert (first["parts"], first["length"]) == (-(-len(lines) // 56), len(lines))
    assert heard.datagrams == []
    counts = heard.summary["messages"]
    assert (counts["whole"], counts["incomplete"], counts["others"]) == (3, 0, 1)
    assert counts["duplicate_parts"] == first["parts"]
    assert (heard.summary["reason"], heard.status) == ("count", 0)
    none = Stream.of(b.mcastctl("listen", "-j", GROUP, "-i", "b0", "--message", "-T", "100ms"))
    assert none.status == 1
    assert none.summary["unmet"][-1] == "0 of 1 expected messages are whole"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["send", "--message", "--probe"], "--message and --probe contradict each other"),
        (["send", "--message", "x", "-s", "44"], "-s 44 is too small for a part"),
        (["send", "x", "--name", "x"], "--name names a --message"),
        (["send", "--message", "--file", "/dev/zero"], "a message has at most"),
        (["listen", "--message", "--live"], "--live concerns datagrams"),
    ],
)
def test_what_is_no_message_is_refused(here: Place, args: list[str], said: str) -> None:
    outcome = here.mcastctl(args[0], GROUP, "-i", "lo", *args[1:])
    assert (outcome.returncode, outcome.stdout) == (2, "")
    first, second = outcome.stderr.splitlines()
    assert said in first
    assert second.startswith("hint: ")


def test_more_parts_than_a_listener_keeps_are_refused(here: Place, tmp_path: Path) -> None:
    """Before there are so many that this host has no memory left."""
    path = tmp_path / "content"
    path.touch()
    os.truncate(path, 34 << 20)
    outcome = here.mcastctl("send", GROUP, "-i", "lo", "--message", "-s", "45", "--file", path)
    assert outcome.returncode == 2
    assert "are more parts than a listener keeps" in outcome.stderr
    assert message.fits(60 << 20, 1400)


# --- pure rules


def parts_of(content: bytes, *, size: int = 54, name: int = 7, sent_ns: int = 1) -> list[Part]:
    found = [message.decode(one) for one in message.split(content, size, name, sent_ns)]
    return [one for one in found if one is not None]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(message.MIN_SIZE, 120), st.randoms())
def test_parts_in_any_order_and_number_make_it_whole(
    content: bytes, size: int, chance: random.Random
) -> None:
    parts = parts_of(content, size=size) * 2
    chance.shuffle(parts)
    stitcher = Stitcher()
    found = [event for part in parts for event in stitcher.take(SOURCE, part)]
    assert [event.data for event in found if isinstance(event, Whole)] == [content]
    assert stitcher.duplicates == len(parts) // 2
    assert list(stitcher.end()) == []


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120), st.booleans())
def test_any_bytes_are_a_part_or_not(data: bytes, ours: bool) -> None:
    """And a part never claims more or less than it brings."""
    part = message.decode(message.MAGIC + b"\1\0" + data if ours else data)
    if part is not None:
        assert part.number < part.parts
        assert len(part.data) <= part.size
        list(Stitcher().take(SOURCE, part))


def test_gaps_are_told_and_newer_messages_win() -> None:
    stitcher = Stitcher()
    old, new = parts_of(bytes(200), sent_ns=1), parts_of(b"n" * 200, sent_ns=2)
    for number in (0, 3, 4, 19):
        assert list(stitcher.take(SOURCE, old[number])) == []
    assert list(stitcher.take(SOURCE, new[0])) == [
        Lost(SOURCE, 7, 1, "newer", 20, 16, [(1, 2), (5, 18)])
    ]
    assert list(stitcher.take(SOURCE, old[1])) == []
    assert stitcher.stale == 1
    [done] = [event for part in new[1:] for event in stitcher.take(SOURCE, part)]
    assert isinstance(done, Whole)
    assert list(stitcher.take(SOURCE, old[1])) == []  # older than one that is whole
    assert stitcher.stale == 2
    other = ("10.0.0.2", *SOURCE[1:])
    assert list(stitcher.take(other, old[0])) == []  # another sender's is another message
    assert [lost.why for lost in stitcher.end()] == ["end"]


def test_a_damaged_message_is_not_passed_on() -> None:
    stitcher = Stitcher()
    *most, last = parts_of(bytes(25))
    events = [event for part in most for event in stitcher.take(SOURCE, part)]
    events += stitcher.take(SOURCE, last._replace(data=b"wrong"))
    assert [(event.why, event.absent) for event in events if isinstance(event, Lost)] == [
        ("damaged", 0)
    ]


def test_forged_messages_fill_no_memory() -> None:
    """What has fewest parts makes room, so a message that is nearly whole outlives a flood."""
    stitcher = Stitcher(most_bytes=20_000, most_open=8)
    kept = parts_of(bytes(2000))
    for part in kept[:-1]:
        list(stitcher.take(SOURCE, part))
    for number in range(1000):
        forged = parts_of(bytes(3000), name=number + 100)[0]
        list(stitcher.take((f"10.1.{number >> 8}.{number & 255}", *SOURCE[1:]), forged))
    assert stitcher.evicted + stitcher.refused >= 990
    huge = kept[0]._replace(length=1 << 40, parts=1 << 31, size=512, name=5)
    assert list(stitcher.take(SOURCE, huge)) == []
    [done] = stitcher.take(SOURCE, kept[-1])
    assert isinstance(done, Whole)
    assert len(list(stitcher.end())) <= 8 + 8


def test_large_messages_do_not_put_out_each_other() -> None:
    """One forged part costs a long message nothing; of two at once the first one comes whole."""
    stitcher = Stitcher(most_bytes=20_000)
    long, other = parts_of(b"l" * 12_000, name=1), parts_of(b"o" * 12_000, name=2)
    forged = parts_of(bytes(15_000), name=3)[0]
    found = [event for part in long[:20] for event in stitcher.take(SOURCE, part)]
    for begin in range(0, len(long), 30):  # in bursts
        found += stitcher.take(("10.0.0.9", *SOURCE[1:]), forged)
        for part in (*other[begin : begin + 30], *long[begin + 20 : begin + 50]):
            found += stitcher.take(SOURCE, part)
    assert [one.data for one in found if isinstance(one, Whole)] == [b"l" * 12_000]
    assert (stitcher.evicted, stitcher.lost) == (0, 0)
    assert stitcher.refused >= len(other)
    found = [event for part in other for event in stitcher.take(SOURCE, part)]
    assert [one.data for one in found if isinstance(one, Whole)] == [b"o" * 12_000]  # sent again
    [lost] = stitcher.end()
    assert (lost.name, lost.why, lost.absent) == (3, "room", lost.parts)


@pytest.mark.parametrize("first", [1, 100])
def test_a_message_that_is_not_fed_makes_room(first: int) -> None:
    """For what has more parts than it, or after a while for anybody."""
    stitcher = Stitcher(most_bytes=20_000)
    dead, alive = parts_of(bytes(12_000), name=1), parts_of(b"a" * 15_000, name=2)
    for part in dead[:first]:
        list(stitcher.take(SOURCE, part))
    events = [event for part in alive * 4 for event in stitcher.take(SOURCE, part)]
    assert [type(one) for one in events] == [Lost, Whole]
    assert events[0] == Lost(SOURCE, 1, 1, "room", 1200, 1200 - first, [(first, 1199)])


def test_one_part_needs_no_room() -> None:
    stitcher = Stitcher(most_bytes=3000)
    list(stitcher.take(SOURCE, parts_of(bytes(2000))[0]))
    [part] = parts_of(bytes(1000), size=1100, name=9)
    assert isinstance(next(stitcher.take(SOURCE, part)), Whole)
    assert [one.name for one in stitcher.end()] == [7]
