"""The lines people read: exact, one test for each kind of record."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastctl.model.mark import MPEGTS, NO_MARK, PROBE, RTP, Mark
from mcastctl.model.records import Datagram, Membership, Notice, Reply, Start
from mcastctl.output import summaries, text

NOON_NS = 12 * 3600 * 10**9 + 1_234_567


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def datagram(payload: bytes = b"", mark: Mark = NO_MARK) -> Datagram:
    size = len(payload)
    return Datagram(
        NOON_NS, "rx", "eth0", 2, "10.0.0.1", 4000, "239.1.1.1", 5004, 1, 0, size, payload, mark
    )


HEAD = "12:00:00.001234 eth0 In 10.0.0.1:4000 > 239.1.1.1:5004 ttl 1"


@pytest.mark.parametrize(
    ("payload", "mark", "tail"),
    [
        (b"hello", NO_MARK, "length 5 hello"),
        (b"", NO_MARK, "length 0"),
        (b"two\nlines\t\x1b[31m", NO_MARK, "length 15 two\\nlines\\t\\x1b[31m"),
        ("Größe".encode(), NO_MARK, "length 7 Größe"),
        (b"\xff\xfe\x00\x01", NO_MARK, "length 4 binary"),
        (b"\x00\x01\x02abc", NO_MARK, "length 6 binary"),
        (b"abc\x00", NO_MARK, "length 4 abc\\x00"),  # a quarter of it may be strange
        (b"ab\x00", NO_MARK, "length 3 binary"),
        (b"mcst", Mark(PROBE, 0xAB, 7), "length 4 seq 7 probe"),
        (b"\x80", Mark(RTP, 1, 65535), "length 1 seq 65535 rtp"),
        (b"G", Mark(MPEGTS), "length 1 mpegts"),
    ],
)
def test_a_datagram(payload: bytes, mark: Mark, tail: str) -> None:
    assert text.datagram(datagram(payload, mark)) == f"{HEAD} {tail}"


def test_a_datagram_sent_over_ipv6_of_unknown_ttl() -> None:
    sent = Datagram(0, "tx", "br\x1b0", 3, "fe80::1", 4000, "ff15::42", 5004, None, None, 2, b"hi")
    assert text.datagram(sent) == (
        "00:00:00.000000 br\\x1b0 Out [fe80::1]:4000 > [ff15::42]:5004 length 2 hi"
    )


@given(st.binary(max_size=60))
def test_a_datagram_is_one_printable_line(payload: bytes) -> None:
    assert text.datagram(datagram(payload)).isprintable()


@pytest.mark.parametrize(
    ("ts_ns", "shown"),
    [(0, "00:00:00.000000"), (999, "00:00:00.000000"), (1_999_999_999, "00:00:01.999999")],
)
def test_the_time_of_day(ts_ns: int, shown: str) -> None:
    assert text.clock(ts_ns) == shown


JOINED = Membership(0, "joined", "239.1.1.1", 5004, None, "any", "eth0", 2, None)


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (JOINED, "joined 239.1.1.1:5004 on eth0 (index 2)"),
        (
            JOINED._replace(rcvbuf_bytes=212_992),
            "joined 239.1.1.1:5004 on eth0 (index 2), receive buffer 208 KiB",
        ),
        (
            JOINED._replace(event="left", rcvbuf_bytes=212_992),
            "left 239.1.1.1:5004 on eth0 (index 2)",
        ),
        (
            JOINED._replace(source="10.0.0.1", mode="include"),
            "joined 239.1.1.1:5004 on eth0 (index 2) from 10.0.0.1",
        ),
        (
            JOINED._replace(source="10.0.0.1", mode="exclude"),
            "joined 239.1.1.1:5004 on eth0 (index 2) without 10.0.0.1",
        ),
        (
            JOINED._replace(group="ff15::42", iface="a\nb"),
            "joined [ff15::42]:5004 on a\\nb (index 2)",
        ),
    ],
)
def test_a_membership(record: Membership, line: str) -> None:
    assert text.membership(record) == line


def test_a_notice() -> None:
    warning = Notice(0, "warning", "rcvbuf", "too\nsmall", "raise\x07 it")
    assert text.notice(warning) == ["mcastctl: warning: too\\nsmall", "hint: raise\\x07 it"]
    assert text.notice(Notice(0, "info", "x", "so it is")) == ["mcastctl: so it is"]


def test_a_reply() -> None:
    reply = Reply(0, "10.0.0.2", 5004, 7, 1_234_567, 3, "multicast", 64, False, b"")
    line = "64 bytes from 10.0.0.2:5004: multicast seq=7 hops=3 time=1.235 ms"
    assert text.reply(reply) == line
    assert text.reply(reply._replace(duplicate=True)) == f"{line} (duplicate)"
    assert text.reply(reply._replace(hops=None, responder="fe80::2", kind="unicast")) == (
        "64 bytes from [fe80::2]:5004: unicast seq=7 time=1.235 ms"
    )


def test_the_banner_names_a_few_endpoints() -> None:
    few = Start(0, "1.0", "listen", ["239.1.1.1:5004", "a\x1b"])
    assert text.start(few) == "mcastctl listen: 239.1.1.1:5004 a\\x1b"
    assert text.start(few._replace(endpoints=list("abcdef"))) == (
        "mcastctl listen: a b c d and 2 more"
    )


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 bit/s"),
        (0.5, "0.5 bit/s"),
        (999, "999 bit/s"),
        (1000, "1 kbit/s"),
        (123_456, "123 kbit/s"),
        (4.26e6, "4.3 Mbit/s"),
        (5e12, "5 Tbit/s"),
        (5e16, "50000 Tbit/s"),
    ],
)
def test_a_rate_is_scaled(number: float, shown: str) -> None:
    assert text.scaled(number, "bit/s") == shown


# What `tcpdump -X -r` prints for this packet (a tab before each line).
PACKET = bytes.fromhex(
    "4500003a00010000011100000a000001ef010101138c138c00260000"
    "474554202f2048545450207e7f00ff20616e64206d6f7265207465787421"
)
TCPDUMP_X = """\
\t0x0000:  4500 003a 0001 0000 0111 0000 0a00 0001  E..:............
\t0x0010:  ef01 0101 138c 138c 0026 0000 4745 5420  .........&..GET.
\t0x0020:  2f20 4854 5450 207e 7f00 ff20 616e 6420  /.HTTP.~....and.
\t0x0030:  6d6f 7265 2074 6578 7421                 more.text!"""


def test_a_dump_is_laid_out_as_tcpdump_does() -> None:
    assert "\n".join(text.dump(PACKET, ascii_column=True)) == TCPDUMP_X
    without = [line[:49].rstrip() for line in TCPDUMP_X.splitlines()]
    assert text.dump(PACKET, ascii_column=False) == without


def test_a_dump_of_an_odd_number_of_bytes() -> None:
    assert text.dump(b"abc", ascii_column=True) == [f"\t0x0000:  6162 63{' ' * 34}abc"]
    assert text.dump(b"", ascii_column=True) == []


@given(st.binary(max_size=100))
def test_a_dump_holds_every_byte(data: bytes) -> None:
    lines = text.dump(data, ascii_column=True)
    assert bytes.fromhex("".join(line[10:49] for line in lines)) == data
    assert all(line[1:].isprintable() and line.isascii() for line in lines)


@pytest.mark.parametrize("kind", ["plain", "rtp", "mpegts"])
def test_one_datagram_alone_has_neither_gap_nor_jitter(kind: str) -> None:
    stream = {
        **{"src": "10.0.0.1", "sport": 4000, "dst": "239.1.1.1", "dport": 5004, "iface": "eth0"},
        **{"kind": kind, "bytes": 9, "packets_per_s": 0, "lost": 0, "duplicates": 0},
        **{"reordered": 0, "jitter_ms": 0.0, "max_gap_ms": 0.0, "loss_percent": 0.0},
    }
    fields = {"reason": "count", "packets": 1, "bytes": 9, "elapsed_s": 0.1, "exit_status": 0}
    counters = {"lost": 0, "duplicates": 0, "reordered": 0}
    for number, shown in ((1, False), (2, True)):
        line, _ = summaries.summary(
            {**fields, **counters, "streams": [{**stream, "packets": number}]}
        )
        assert ("largest gap" in line) == shown
        assert ("jitter" in line) == (shown and kind == "rtp")


@pytest.mark.parametrize(
    ("packets", "elapsed_s", "shown"), [(99, 0.1, False), (100, 0.1, True), (2, 1, True)]
)
def test_the_rate_of_a_run_that_is_long_or_has_many(
    packets: int, elapsed_s: float, shown: bool
) -> None:
    fields = {"attempted": packets, "packets": packets, "bytes": packets, "elapsed_s": elapsed_s}
    rates = {"packets_per_s": 1000, "bits_per_s": 8000, "largest_burst": 1}
    (line,) = summaries.summary({**fields, **rates, "refused": 0, "replies": 0, "reason": "end"})
    assert ("1k/s, 8 kbit/s" in line) == shown
