"""`--metrics` and `--metrics-listen`: what others read of a run is true, whole and well formed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Pair
from place import Place, jsonl, until
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from streams import Stream, inject

from mcastctl.cli.metrics import Exporter
from mcastctl.model import metrics, probe
from mcastctl.model.mark import NO_MARK
from mcastctl.model.records import Datagram
from mcastctl.model.stats import Statistics
from mcastctl.net import scrape
from mcastctl.output import exposition, metricsfile

GROUP = "239.1.1.1:5004"
HEADER = ["schema", "artifact_type", "node_id", "producer", "created_at", "flags"]
NASTY = 'a"b\\c\nd\te\x1b[31m\udcff\u202e{},= é'


def samples(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a page by name and labels: read by the reference parser, none twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(page):
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge")
        for name, labels, value, stamp, *_ in family.samples:
            assert name.endswith("_total") == (family.type == "counter")
            assert stamp is None, "the textfile collector takes no time stamps"
            key = (name, frozenset(labels.items()))
            assert key not in found
            found[key] = value
    strict(page)
    return found


def strict(page: str) -> None:
    """Hold a page against the strict parser: OpenMetrics names counters without their suffix."""
    lines = []
    for line in page.splitlines():
        words = line.split(" ", 3)
        if words[0] == "#":
            words[2] = words[2].removesuffix("_total")
        lines.append(" ".join(words))
    text = "\n".join([*lines, "# EOF", ""])
    assert list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def totals(page: str) -> dict[str, float]:
    """What a page says of the run as a whole, without the prefix."""
    return {
        name.removeprefix("mcastctl_"): value
        for (name, labels), value in samples(page).items()
        if {key for key, _ in labels} <= {"command", "node", "run"}
    }


def probes(*numbers: int) -> list[bytes]:
    return [probe.encode(probe.Probe(probe.DATA, 1, 0, 7, one, time.time_ns())) for one in numbers]


FETCH = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=30) as answer:
    sys.stdout.write(answer.headers["Content-Type"] + "\\n" + answer.read().decode())
"""


def test_a_page_follows_the_run_and_says_how_it_ended(pair: Pair, tmp_path: Path) -> None:
    """In the file and by HTTP, also when a signal ends the run; nothing else is left behind."""
    a, b = pair
    path = tmp_path / "tv.prom"
    options: list[str | Path] = [
        "--metrics",
        path,
        "--metrics-listen",
        "0",
        "--metrics-interval",
        "100ms",
    ]
    listener = b.start_mcastctl("listen", "-j", GROUP, "-i", "b0", *options, "--node-id", NASTY)
    url = listener.wait_stdout("metrics at (http://127.0.0.1:[0-9]+/metrics)")[1]
    listener.wait_stdout('"joined"')
    assert totals(path.read_text())["active"] == 1
    inject(a, "239.1.1.1", probes(0, 1, 2, 4, 4, 3, 9))
    until(lambda: totals(path.read_text())["received_datagrams_total"] == 7)
    kind, _, page = b.run([sys.executable, "-c", FETCH, url]).stdout.partition("\n")
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert totals(page)["received_datagrams_total"] == 7
    listener.signal(signal.SIGTERM)
    summary = Stream.of(listener.finish()).summary
    assert summary["reason"] == "signal"
    said = totals(path.read_text())
    assert said["active"] == 0
    assert said["received_datagrams_total"] == summary["packets"] == 7
    assert said["received_bytes_total"] == summary["bytes"]
    assert said["lost_datagrams"] == summary["lost"] == 4
    assert said["duplicate_datagrams_total"] == summary["duplicates"] == 1
    assert said["reordered_datagrams_total"] == summary["reordered"] == 1
    [(labels, number)] = [
        (dict(labels), value)
        for (name, labels), value in samples(path.read_text()).items()
        if name == "mcastctl_stream_received_datagrams_total"
    ]
    assert number == 7
    assert labels.pop("sport").isdigit()
    assert labels.pop("node").startswith('a"b')
    assert labels == {
        **{"command": "listen", "run": "tv", "src": a.addr4(), "dst": "239.1.1.1"},
        **{"port": "5004", "iface": "b0", "kind": "probe", "stream": "7"},
    }
    assert [one.name for one in tmp_path.glob("*tv*")] == ["tv.prom"]


def test_rows_have_one_header_and_add_up(pair: Pair, tmp_path: Path) -> None:
    """Over several runs, a signal and a row that its writer could not finish."""
    a, _ = pair
    path = tmp_path / "sender-7" / "tx.jsonl"
    path.parent.mkdir()
    options: list[str | Path] = ["-i", "a0", "--metrics", path, "--metrics-interval", "100ms", "-j"]
    sent = Stream.of(a.mcastctl("send", GROUP, "--probe", "-c", "8", "--pps", "20", *options))
    whole = path.read_text().count("\n")
    with path.open("a") as file:
        file.write('{"ts":17')
    held = a.start_mcastctl("send", GROUP, "--probe", "--pps", "20", *options)
    until(lambda: path.read_text().count("\n") >= whole + 2)
    second = a.mcastctl("send", GROUP, "x", *options)
    assert (second.returncode, second.stdout) == (2, "")  # nothing was sent
    assert second.stderr == (
        f"mcastctl: error: another run writes metrics to {path}\n"
        "hint: give each run a file of its own: --metrics FILE\n"
    )
    held.signal(signal.SIGINT)
    again = Stream.of(held.finish())
    header, *rows = jsonl(path.read_text())
    assert list(header) == HEADER
    assert (header["schema"], header["artifact_type"]) == ("mcastctl-metrics-v1", "mcastctl-send")
    assert header["node_id"] == "sender-7"
    assert header["flags"]["endpoints"] == [GROUP]
    assert not any("schema" in row for row in rows)
    ends = [number for number, row in enumerate(rows) if not row["active"]]
    assert len(ends) == 2
    assert ends[-1] == len(rows) - 1
    runs = [rows[: ends[0] + 1], rows[ends[0] + 1 :]]
    for run, stream in zip(runs, (sent, again), strict=True):
        assert len(run) > 1
        so_far = 0
        for row in run:
            so_far += row["sent_datagrams_delta"]
            assert row["sent_datagrams_total"] == so_far
            rate = row["sent_datagrams_delta"] / row["interval_secs"]
            assert row["sent_datagrams_per_sec"] == pytest.approx(rate, rel=0.02, abs=0.01)
        assert so_far == stream.summary["sent"]
        assert run[-1]["sent_bytes_total"] == stream.summary["bytes"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nowhere/x.prom", None, "no such file or directory"),
        ("x.jsonl/y.jsonl", "", "not a directory"),
        (".", None, "it is a directory"),
        ("pipe", "mkfifo", "it is no ordinary file"),
        ("/dev/null", None, "it is no ordinary file"),
        ("notes.jsonl", "dear diary\n", "holds no metrics of this program"),
        ("torn.jsonl", '{"schema"', "holds no metrics of this program"),
        ("deep.jsonl", "[" * 60_000 + "\n", "holds no metrics of this program"),
        (
            "rx.jsonl",
            '{"schema":"mcastctl-metrics-v1","artifact_type":"mcastctl-send\\u001b"}\n',
            "has metrics of artifact_type 'mcastctl-send\\\\x1b', not mcastctl-listen",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(
    here: Place, tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    """Before anything is joined, and nothing of others is overwritten."""
    path = tmp_path / name
    if content == "mkfifo":
        os.mkfifo(path)
    elif content is not None and not path.parent.exists():
        path.parent.write_text(content)
    elif content is not None:
        path.write_text(content)
    outcome = here.mcastctl("listen", GROUP, "-i", "lo", "-T", "1s", "--metrics", path)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    first, second = outcome.stderr.splitlines()
    assert first.startswith("mcastctl: error: ")
    assert said in first
    assert second.startswith("hint: ")
    if content and path.is_file():
        assert path.read_text() == content


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--metrics-listen", "192.0.2.1:9464"], "cannot serve metrics on 192.0.2.1:9464"),
        (["--metrics-listen", "127.0.0.1"], "names no port"),
        (["--metrics-listen", "70000"], "70000"),
        (["--metrics-interval", "1s"], "concerns metrics, which were not asked for"),
        (["--node-id", "x"], "concerns metrics, which were not asked for"),
        (["--metrics", "x.prom", "--metrics-interval", "1ms"], "is too short"),
    ],
)
def test_what_cannot_be_meant_is_refused(here: Place, args: list[str], said: str) -> None:
    outcome = here.mcastctl("send", GROUP, "x", "-i", "lo", *args)
    assert outcome.returncode == 2
    first, _ = outcome.stderr.splitlines()
    assert said in first


def test_a_full_disk_ends_nothing(pair: Pair, tmp_path: Path) -> None:
    """It is told once, and the rows that are there are whole."""
    a, _ = pair
    path = tmp_path / "x" / "tx.jsonl"
    path.parent.mkdir()
    command = f"{shlex.quote(sys.executable)} -m mcastctl send {GROUP} x -i a0 -c 12 --pps 20 -j"
    limit = f"ulimit -f 1; exec {command} --metrics {path} --metrics-interval 100ms"
    sent = Stream.of(a.run(["bash", "-c", limit]))
    assert (sent.status, sent.summary["sent"]) == (0, 12)
    [notice] = [one for one in sent.all("notice") if one["code"] == "metrics"]
    assert notice["level"] == "warning"
    assert f"cannot write metrics to {path}" in notice["text"]
    header, *rows = jsonl(path.read_text())
    assert list(header) == HEADER
    assert len(rows) == 1


def reading(number: int) -> metrics.Reading:
    return metrics.Reading(number, 1.0, [metrics.total("sent_datagrams", "Sent.", number)])


def listed(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir())


HEAD: dict[str, object] = {
    **{"schema": exposition.SCHEMA, "artifact_type": "mcastctl-send", "node_id": "n"}
}


def opened(path: Path) -> metricsfile.MetricsFile:
    if path.suffix == ".prom":
        return metricsfile.Page(str(path), ())
    return metricsfile.Rows(str(path), HEAD)


@pytest.mark.parametrize("name", ["tx.prom", "tx.jsonl"])
def test_a_file_has_one_writer(tmp_path: Path, name: str) -> None:
    """As long as that lives, and with nothing in the directory but the file."""
    path = tmp_path / name
    refused = pytest.raises(metricsfile.MetricsError, match="another run writes metrics to")
    first = opened(path)
    first.write(reading(1))
    for number in (2, 3):
        with refused:
            opened(path)
        first.write(reading(number))
        assert listed(path) == [name]
    first.close()
    second = opened(path)
    second.write(reading(4))
    with refused:
        first.write(reading(5))  # closed, as if it had begun at the same moment
    assert re.search(r'sent_datagrams_total(":| )4\b', path.read_text())
    second.close()


@pytest.mark.parametrize("name", ["tx.prom", "tx.jsonl"])
def test_a_file_that_is_taken_away_is_made_anew(tmp_path: Path, name: str) -> None:
    """By who cleans up or rotates; what somebody else put there is not written to."""
    path = tmp_path / name
    one = opened(path)
    one.write(reading(1))
    path.rename(tmp_path / "old")
    before = (tmp_path / "old").read_text()
    one.write(reading(2))
    assert (tmp_path / "old").read_text() == before
    path.unlink()
    one.write(reading(3))
    if name == "tx.jsonl":
        header, row = jsonl(path.read_text())
        assert (header["schema"], row["sent_datagrams_delta"]) == (exposition.SCHEMA, 1)
        os.truncate(path, 0)
        one.write(reading(3))
        header, row = jsonl(path.read_text())
        assert (header["schema"], row["sent_datagrams_total"]) == (exposition.SCHEMA, 3)
    path.unlink()
    with opened_by_another(path) as other:
        other.write(reading(7))
        theirs = path.read_text()
        with pytest.raises(metricsfile.MetricsError, match="another run"):
            one.write(reading(4))
        assert path.read_text() == theirs
    path.unlink()
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    path.symlink_to(victim)
    with pytest.raises(metricsfile.MetricsError):
        one.write(reading(5))
    assert victim.read_text() == "precious\n"
    path.unlink()
    one.write(reading(6))
    one.close()
    assert "sent_datagrams_total" in path.read_text()
    if name == "tx.jsonl":  # what could not be written is in the next row, and in its time
        row = jsonl(path.read_text())[-1]
        assert (row["sent_datagrams_delta"], row["interval_secs"]) == (3, 3.0)
        assert row["sent_datagrams_per_sec"] == 1.0
    assert listed(path) == ["old", name, "victim"]


@contextmanager
def opened_by_another(path: Path) -> Iterator[metricsfile.MetricsFile]:
    one = opened(path)
    yield one
    one.close()


def test_a_run_that_is_refused_leaves_no_page_behind(here: Place, tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    assert here.mcastctl("send", GROUP, "x", "-i", "nosuch", "--metrics", path).returncode == 2
    assert not path.exists()


# --- pure rules


def test_any_label_comes_back(tmp_path: Path) -> None:
    """Whatever the system calls things: no label breaks out of its quotes, none is lost."""
    family = metrics.Family("x", metrics.GAUGE, 'Says \\ "x".\nTwice.', (((("iface", NASTY),), 1),))
    page = exposition.text(metrics.Reading(0, 1.0, [family]), (("node", NASTY),)).decode()
    [(_, labels)] = samples(page)
    shown = 'a"b\\\\c\\nd\\te\\x1b[31m\\xff\\u{202e}{},= é'
    assert labels == {("iface", shown), ("node", shown)}
    numbers = [0, 7, 2**63, 0.5, 1e-9, float("nan"), float("inf"), float("-inf")]
    for number in numbers:
        assert float(exposition.number(number)) == pytest.approx(number, nan_ok=True)


def heard(number: int, times: int) -> Iterator[Datagram]:
    source = f"10.0.{number >> 8}.{number & 255}"
    one = (1, "rx", "b0", 2, source, 4000, "239.1.1.1", 5004, 1, 0, 3, b"abc", NO_MARK)
    for _ in range(times):
        yield Datagram(*one)


def test_only_the_busiest_streams_are_told_one_by_one() -> None:
    statistics = Statistics()
    for number in range(metrics.MOST_STREAMS + 44):
        for datagram in heard(number, 1 + (number >= 44)):
            statistics.update(datagram)
    families = metrics.received(statistics, kernel_drops=3, skipped=2, deaf_s=0.5)
    page = exposition.text(metrics.Reading(0, 1.0, families), ()).decode()
    said = totals(page)
    assert said["streams"] == metrics.MOST_STREAMS + 44
    assert said["streams_left_out"] == 44
    assert said["received_datagrams_total"] == 44 + 2 * metrics.MOST_STREAMS
    assert (said["kernel_drops_total"], said["skipped_datagrams_total"]) == (3, 2)
    each = {
        value
        for (name, _), value in samples(page).items()
        if name == "mcastctl_stream_received_datagrams_total"
    }
    assert each == {2}


def test_no_sample_comes_twice() -> None:
    """Where two places had the same interface name, one after the other, the busier one is told."""
    statistics = Statistics()
    for place, times in ((0, 2), (1, 3)):
        for datagram in heard(1, times):
            statistics.update(datagram, place)
    families = metrics.received(statistics, kernel_drops=0, skipped=0, deaf_s=0.0)
    page = exposition.text(metrics.Reading(0, 1.0, families), ()).decode()
    assert totals(page)["streams_left_out"] == 1
    assert "stream_received_datagrams_total{" in page
    assert '"} 3' in page


def test_a_counter_never_falls(tmp_path: Path) -> None:
    """A stream that turns out to have no numbers takes its duplicates out of the total."""
    path = tmp_path / "x.prom"
    counts = [3, 5, 4, 6]
    page = metricsfile.Page(str(path), ())
    exporter = Exporter([page], None, (), 1.0).of(
        lambda: [
            metrics.total("duplicate_datagrams", "Again.", counts[0]),
            metrics.gauge("lost_datagrams", "Missing.", counts.pop(0)),
        ]
    )
    seen = []
    for turn in (exporter.begin, exporter.turn, exporter.turn, exporter.leave):
        turn()
        said = totals(path.read_text())
        seen.append((said["duplicate_datagrams_total"], said["lost_datagrams"], said["active"]))
    assert seen == [(3, 3, 1), (5, 5, 1), (5, 4, 1), (6, 6, 0)]


# --- who asks


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[scrape.Server]:
    monkeypatch.setattr(scrape, "PATIENCE_S", 0.3)
    server = scrape.Server("127.0.0.1", 0, exposition.CONTENT_TYPE)
    server.publish(b"x 1\n" * 50_000)
    yield server
    server.close()


def ask(server: scrape.Server, request: bytes) -> bytes:
    """The whole answer."""
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /metrics?x=1 HTTP/1.0\n\n", 200),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\r\n\r\n\xff", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9000, 431),
        (b"GET /metrics HTTP/1.1\r\n", None),  # and then nothing: cut off
        (b"", None),
    ],
)
def test_every_request_is_answered_or_cut_off(
    server: scrape.Server, request_: bytes, status: int | None
) -> None:
    answer = ask(server, request_)
    if status is None:
        assert answer == b""
        return
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    if status == 200:
        assert b"Content-Length: 200000" in head
        assert len(body) == (0 if request_.startswith(b"HEAD") else 200_000)


def test_who_is_slow_keeps_nobody_out_for_long(server: scrape.Server) -> None:
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    idle = []
    try:
        for _ in range(scrape.MOST_CONNECTIONS):
            idle.append(socket.create_connection(("127.0.0.1", port), timeout=10))
        answer = ask(server, b"GET /metrics HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert [one.recv(1) for one in idle] == [b""] * len(idle)
    finally:
        for one in idle:
            one.close()


def test_rows_are_json_even_of_odd_numbers(tmp_path: Path) -> None:
    before: dict[str, float] = {}
    family = metrics.total("x", "X.", 3)
    first = exposition.row(metrics.Reading(10**18, 2.0, [family]), before)
    assert first == {"ts": 1e9, "interval_secs": 2.0, "x_total": 3, "x_delta": 3, "x_per_sec": 1.5}
    second = exposition.row(metrics.Reading(10**18, 0.0, [family]), before)
    assert (second["x_delta"], second["x_per_sec"]) == (0, 0.0)
    assert json.dumps(second, allow_nan=False)
