"""Live views on a terminal: what they show, what their keys do, and how they leave.

Every view is looked at through a terminal emulator at 60 and at 120 columns, beside a run of the
same command that prints JSON and hears the same.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest
from conftest import Pair, Trio
from place import Running
from streams import Json, Stream, inject
from terminal import FRAME, LEFT, Terminal
from test_streams import rtp_packet
from world import Place, World, need

from mcastctl.cli import views

WIDTHS = pytest.mark.parametrize("columns", [60, 120])
GROUP, OTHER = "239.1.1.1", "239.1.1.2"
SGR_COLOR = re.compile(rb"\x1b\[[0-9;]*3[0-7]")


def rtp(seq: int) -> bytes:
    packet = rtp_packet(payload_type=33)
    return packet[:2] + seq.to_bytes(2, "big") + packet[4:]


def frames_per_s(terminal: Terminal, began: float) -> float:
    return (terminal.raw.count(FRAME) - 1) / (time.monotonic() - began)


@WIDTHS
def test_listen(pair: Pair, columns: int) -> None:
    a, b = pair
    args = ["listen", f"{GROUP}:5004", f"{OTHER}:5004", "-i", "b0"]
    beside = b.start_mcastctl(*args, "-j", "-q")
    beside.wait_stdout('"joined"', count=2)
    with Terminal(columns) as terminal:
        began = time.monotonic()
        live = terminal.start(b, [*args, "--live", "--interval", "200ms"])
        terminal.wait("nothing yet")
        probes = ["--probe", "--pps", "100", "-s", "100", "-T", "30s", "-q"]
        sender = a.start_mcastctl("send", f"{GROUP}:5004", "-i", "a0", *probes)
        terminal.wait(rf"10\.0\.1\.1:\d+ +{GROUP}:5004 .* \.\.\.")
        # Seven numbers: 3 and 4 are missing, 6 comes twice, 8 before 7.
        inject(a, OTHER, [rtp(seq) for seq in (1, 2, 5, 6, 6, 8, 7)], sport=4000)
        terminal.wait(rf"^10\.0\.1\.1:4000 +{OTHER}:5004 .*x")
        terminal.wait(rf"^10\.0\.1\.1:4000 +{OTHER}:5004 .*x_+$")  # and then no more
        shown = {row["GROUP"]: row for row in terminal.table("SOURCE")}
        assert shown[f"{OTHER}:5004"]["LOST"] == "2 (25%)"
        assert shown[f"{GROUP}:5004"]["LOST"] == "0"
        assert ("TTL" in shown[f"{OTHER}:5004"]) == (columns == 120)
        assert "▇" in terminal.text or "█" in terminal.text or columns == 60
        assert max(map(len, terminal.lines)) <= columns

        if columns == 60:
            press_every_key(terminal, live, columns)
        assert frames_per_s(terminal, began) <= 4

        sender.signal(signal.SIGINT)
        sent = re.search(r"sent (\d+)", sender.finish().stderr)
        assert sent
        terminal.wait(f"datagrams {int(sent[1]) + 7}")
        terminal.press("q")
        outcome = terminal.finish(live)
        beside.signal(signal.SIGINT)
        heard = Stream.of(beside.finish()).summary
        assert (outcome.returncode, terminal.attentive) == (0, True)
        assert f"heard {heard['packets']} datagrams, {heard['bytes']} bytes" in terminal.text
        compare(terminal, heard["streams"], columns)


def press_every_key(terminal: Terminal, live: Running, columns: int) -> None:
    """Help, sort, reset and pause, in a view of a stream that loses and one that goes on."""
    terminal.press("\x1bOQ\x1b[1;2P\x1b[A?")  # F2, Shift-F1 and an arrow are no keys of it
    terminal.wait("^ARRIVALS  the worst of each interval.*\n {10}\\w")
    terminal.press("?")
    terminal.wait("^SOURCE ")
    for order in ("lost", "jitter", "source", "group", "rate", "lost"):
        terminal.press("s")
        terminal.wait(f"sort: {order} ")
    terminal.wait(rf"^SOURCE .*\n10\.0\.1\.1:4000 +{OTHER}")  # more was lost of that one
    terminal.press("r")
    terminal.wait(rf"^10\.0\.1\.1:4000 +{OTHER}:5004 .* 0 .*_$")
    assert {row["LOST"] for row in terminal.table("SOURCE")} == {"0"}
    terminal.press("p")
    terminal.wait("^PAUSED")
    paused = terminal.wait(r"datagrams (\d+)")[1]
    terminal.resize(columns - 1, 24)  # a picture that stands still is drawn anew all the same
    live.signal(signal.SIGWINCH)
    terminal.wait("^PAUSED")
    terminal.press("s")
    terminal.wait("^PAUSED.*sort: jitter .*help$")
    assert terminal.wait(r"datagrams (\d+)")[1] == paused
    terminal.press("p")
    terminal.wait(rf"datagrams (?!{paused}$)\d+$")


def compare(terminal: Terminal, streams: list[Json], columns: int) -> None:
    """The table that stays says of each stream what the summary of another run says."""
    rows = {(row["SOURCE"], row["GROUP"]): row for row in terminal.table("SOURCE")}
    assert len(rows) == len(streams) == 2
    for one in streams:
        row = rows[f"{one['src']}:{one['sport']}", f"{one['dst']}:{one['dport']}"]
        percent = f" ({one['loss_percent']:.2g}%)" if one["lost"] else ""
        assert row["LOST"] == f"{one['lost']}{percent}"
        rate = pytest.approx(one["packets_per_s"], rel=0.05, abs=0.1)
        assert scaled(row["RATE"].removesuffix("/s")) == rate
        if columns == 120:
            assert (row["IFACE"], row["TTL"]) == (one["iface"], str(one["ttl"]))
            jitter = float(row["JITTER"].removesuffix(" ms"))
            assert jitter == pytest.approx(one["jitter_ms"], rel=0.1, abs=0.2)


def scaled(text: str) -> float:
    return float(text.removesuffix("k")) * (1000 if text.endswith("k") else 1)


@WIDTHS
def test_ping(trio: Trio, columns: int) -> None:
    asker, (x, y, z) = trio.asker, trio.responders
    echoes = [host.start_mcastctl("echo", f"{GROUP}:5004", "-j", "-T", "40s") for host in (x, y)]
    for one in echoes:
        one.wait_stdout('"joined"')
    silent = z.addr4()
    args = ["ping", f"{GROUP}:5004", "--interval", "200ms", "--wait", "600ms"]
    args += ["--expect-from", silent]
    beside = asker.start_mcastctl(*args, "-c", "16", "-j", "-q")
    with Terminal(columns) as terminal:
        live = terminal.start(asker, [*args, "-c", "16", "--live"])
        terminal.wait(rf"^{x.addr4()} .*[▁▂▃▄▅▆▇█]{{4}} ?$")
        terminal.wait(rf"^{silent} .*100%.*xxxx ?$")
        assert max(map(len, terminal.lines)) <= columns
        terminal.press("s")
        terminal.wait(rf"^HOST .*\n{silent}")  # the worst comes first
        live_status = terminal.finish(live).returncode
        told = Stream.of(beside.finish(20))
        assert live_status == told.status == 1  # one of them did not answer
        assert "asked 16 times, 2 hosts answered" in terminal.text
        assert f"not met: no answer to multicast from {silent}" in terminal.text
        rows = {row["HOST"]: row for row in terminal.table("HOST")}
        assert set(rows) == {one["responder"] for one in told.summary["responders"]}
        for one in told.summary["responders"]:
            row, leg = rows[one["responder"]], one["multicast"]
            assert row["LOSS"] == f"{leg['loss_percent']:.3g}%"
            assert (row["AVG"] == "-") == (leg["rtt_avg_ms"] is None)
            if columns == 120:
                assert row["SENT"] == str(leg["sent"])
                assert row["HOPS"] == ("-" if leg["hops"] is None else str(leg["hops"]))

    if columns == 120:
        return
    # What is counted from here on, and how it ends by a key.
    with Terminal(columns) as terminal:
        live = terminal.start(asker, [*args[:-2], "--live"])
        sent = int(terminal.wait(r"asked (1\d) times")[1])
        terminal.press("r")
        terminal.wait(rf"^{x.addr4()} .* {{3}}[▁▂▃▄▅▆▇█]{{1,4}} ?$")
        assert int(terminal.wait(r"asked (\d+) times")[1]) >= sent
        terminal.press("q")
        assert terminal.finish(live).returncode == 0
        assert re.search(r"asked \d+ times, 2 hosts answered", terminal.text)


@WIDTHS
def test_streams_of_a_capture(pair: Pair, columns: int) -> None:
    a, b = pair
    args = ["sniff", "-i", "b0", "--streams", "--rcvbuf", "1MiB"]
    beside = b.start_mcastctl(*args, "-j")
    beside.wait_stdout('"privilege"')
    with Terminal(columns) as terminal:
        live = terminal.start(b, args)
        terminal.wait("^capturing on b0")
        probes = ["--probe", "--pps", "100", "-c", "150", "-s", "100", "-q"]
        sender = a.start_mcastctl("send", f"{GROUP}:5004", "-i", "a0", *probes)
        inject(a, OTHER, [rtp(seq) for seq in (1, 2, 5, 6, 7)], sport=4000)
        terminal.wait(rf"^10\.0\.1\.1:4000 +{OTHER}:5004 .*x_")
        sender.finish()
        terminal.wait(r"packets 15\d")
        terminal.press("q")
        assert terminal.finish(live).returncode == 0
        beside.signal(signal.SIGINT)
        told = Stream.of(beside.finish())
        assert max(map(len, terminal.lines)) <= columns
        compare(terminal, told.summary["streams"], columns)
        assert re.search(r"^15\d packets", terminal.text, re.MULTILINE)


@WIDTHS
def test_interfaces(pair: Pair, columns: int) -> None:
    a, b = pair
    args = ["ifaces", "--live", "--interval", "250ms"]
    with Terminal(columns) as terminal:
        live = terminal.start(b, args)
        terminal.wait("^ *(1  )?lo +0 ")
        sending = ["send", f"{GROUP}:5004", "x", "--pps", "400", "-T", "60s", "-q"]
        sender = a.start_mcastctl(*sending, "-i", "a0")
        terminal.wait(r"^ *(?:\d+  )?b0 +[1-9]\d\d+ ")  # hundreds a second
        terminal.wait(r"b0 .*[▇█]")
        terminal.press("s")
        terminal.wait("^.*NAME.*\n.*b0")
        assert max(map(len, terminal.lines)) <= columns
        terminal.press("q")
        assert terminal.finish(live).returncode == 0
        sender.signal(signal.SIGINT)
        assert {row["NAME"] for row in terminal.table("NAME" if columns == 60 else "INDEX")} == {
            "lo",
            "b0",
        }


# --- how it leaves


def test_every_way_out_gives_the_terminal_back(world: World) -> None:
    host = world.host("a")
    args = ["listen", "-i", "lo", f"{GROUP}:5004", "--live"]
    deadly = (signal.SIGQUIT, signal.SIGUSR1)
    ways: list[int | str] = [
        *map(int, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *deadly)),
        "q",
    ]
    for way in ways:
        with Terminal(80) as terminal:
            running = terminal.start(host, args)
            terminal.wait("nothing yet")
            assert not terminal.attentive
            if isinstance(way, int):
                running.signal(way)
            else:
                terminal.press(way)
            outcome = terminal.finish(running)
            assert outcome.returncode == (-way if isinstance(way, int) else 1), way
            assert terminal.attentive, way
            assert terminal.raw.count(LEFT) == 1
            assert terminal.raw.rindex(b"\x1b[?25h") > terminal.raw.rindex(FRAME)
            heard = way not in deadly  # they ask for no summary
            assert ("heard nothing" in terminal.text) == heard
    with Terminal(80) as terminal:  # what it looks at goes away, and that is an error
        host.ip("link add name gone type veth peer name other", "link set gone up")
        running = terminal.start(host, ["ifaces", "gone", "--live", "--interval", "100ms"])
        terminal.wait("^gone +0 ")
        host.ip("link del gone")
        assert terminal.finish(running).returncode == 2
        assert terminal.attentive
        assert "error: no interface has the name, index or address 'gone'" in terminal.text


def test_without_keys_it_names_none_and_tells_the_last_warning_whole(world: World) -> None:
    with Terminal(80) as terminal:
        host = world.host("a")
        running = terminal.start(
            host, ["listen", "-i", "lo", f"{GROUP}:5004", "--live"], stdin=DEVNULL
        )
        terminal.wait("^Ctrl-C quits; no keys")
        host.ip("link set lo down")
        terminal.wait("^hint: ip link set lo up$")
        host.ip("link set lo up")
        terminal.wait("^mcastctl: warning: deaf for .*listening again")
        assert "hint:" not in terminal.text  # what is over needs no remedy
        running.signal(signal.SIGINT)
        assert terminal.finish(running).returncode == -signal.SIGINT


def test_a_terminal_without_a_name_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.isatty", lambda descriptor: True)
    for name, drawn in (("xterm", True), ("dumb", False), ("unknown", False), ("", False)):
        monkeypatch.setenv("TERM", name)
        assert views.drawn({"quiet": 0}) == drawn, name
    monkeypatch.delenv("TERM")
    assert not views.drawn({"quiet": 0})


def test_stopped_and_continued_by_a_shell(world: World) -> None:
    need("bash", "setsid")
    host = world.host("a")
    command = f"{sys.executable} -m mcastctl listen -i lo {GROUP}:5004 --live"
    with Terminal(200) as terminal:
        theirs = terminal.theirs
        shell = ["setsid", "-c", "-w", "bash", "--norc", "--noediting", "-i"]
        running = host.popen(
            shell, env={"TERM": "xterm", "PS1": "$ "}, stdin=theirs, stdout=theirs, stderr=theirs
        )
        terminal.wait(r"\$$")
        terminal.press(f"{command}\n")
        terminal.wait("nothing yet")
        terminal.press("\x1a")
        terminal.wait("Stopped")
        assert terminal.attentive
        terminal.press("bg\n")
        terminal.wait(r"listen .* &$")
        terminal.press("echo still $((6 * 7))\n")  # in the background it leaves the terminal alone
        terminal.wait("^still 42")
        terminal.press("fg\n")
        terminal.wait("nothing yet")
        assert not terminal.attentive
        terminal.press("q")
        terminal.wait("^heard nothing")
        terminal.press("exit\n")
        terminal.finish(running)


# --- where nothing is drawn


def test_without_a_terminal_it_prints_lines(pair: Pair) -> None:
    a, b = pair
    args = ["listen", f"{GROUP}:5004", "-i", "b0", "--live", "--interval", "200ms"]
    args += ["-c", "100", "-T", "60s"]
    piped = b.start_mcastctl(*args)
    with Terminal(250) as terminal:
        dumb = terminal.start(b, args, env={"TERM": "dumb"})
        terminal.wait("^joined")
        piped.wait_stderr("joined")
        probes = ["--probe", "--pps", "100", "-c", "100", "-i", "a0"]
        a.mcastctl("send", f"{GROUP}:5004", *probes, check=True)
        line = rf"^[\d:.]+ 10\.0\.1\.1:\d+ > {GROUP}:5004 on b0: \d+ datagrams, \d+ bytes, .*probe"
        terminal.wait(line)
        piped.wait_stdout(line, count=3)
        terminal.finish(dumb)
        outcome = piped.finish()
        assert b"\x1b" not in terminal.raw + outcome.raw
        counted = re.findall(r"on b0: (\d+) datagrams?,", outcome.stdout)
        assert sum(map(int, counted)) == 100
        assert "heard 100 datagrams" in outcome.stderr
    assert " bytes from " not in b.mcastctl("ping", "--live", f"{GROUP}:5", "-c", "1").stdout


def test_colour_and_encoding_are_as_the_environment_says(pair: Pair) -> None:
    a, b = pair
    sending = ["send", f"{GROUP}:5004", "--probe", "--pps", "100", "-T", "30s", "-q"]
    sender = a.start_mcastctl(*sending, "-i", "a0")
    args = ["listen", f"{GROUP}:5004", "-i", "b0", "--live", "--interval", "100ms"]
    expected: list[tuple[dict[str, str], bool, bool]] = [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"LC_ALL": "C"}, True, True),
        ({"LC_ALL": "de_DE.ISO-8859-1", "NO_COLOR": "1"}, False, True),
    ]
    with ExitStack() as stack:
        terminals = [stack.enter_context(Terminal(100)) for _ in expected]
        views = [
            terminal.start(b, args, env=env)
            for terminal, (env, _, _) in zip(terminals, expected, strict=True)
        ]
        for terminal, view, (env, colored, ascii_only) in zip(
            terminals, views, expected, strict=True
        ):
            terminal.wait(r"\.\.\.\.$")
            terminal.press("q")
            assert terminal.finish(view).returncode == 0
            assert bool(SGR_COLOR.search(terminal.raw)) == colored, env
            assert terminal.raw.isascii() == ascii_only, env
    sender.signal(signal.SIGINT)
    sender.finish()


@pytest.mark.parametrize(
    "args",
    [
        ["listen", "--live", "-j"],
        ["listen", "--live", "-o", "hex"],
        ["listen", "--live", "-x"],
        ["listen", "--live", "--exec", "cat"],
        ["listen", "--live", "--interval", "1ms"],
        ["ping", "--live", "-o", "jsonl"],
        ["ping", "--live", "-A"],
    ],
    ids=" ".join,
)
def test_what_wants_lines_gets_no_table(here: Place, args: Sequence[str]) -> None:
    outcome = here.mcastctl(args[0], f"{GROUP}:5004", "-i", "lo", *args[1:])
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert [line.split(":")[0] for line in outcome.stderr.splitlines()] == ["mcastctl", "hint"]


# --- drawing and reading at once


def test_no_datagram_is_lost_while_it_draws(pair: Pair) -> None:
    """Fifty streams, a full screen: one terminal is read, another is stuck from the beginning."""
    a, b = pair
    groups = f"{GROUP}:5004+49"
    args = ["listen", groups, "-i", "b0", "--live", "--interval", "100ms", "--rcvbuf", "4MiB"]
    with Terminal(120, 50) as read, Terminal(120, 50) as stuck:
        running = [one.start(b, args, stderr=PIPE) for one in (read, stuck)]
        for terminal in (read, stuck):
            terminal.wait("nothing yet")
        probes = ["--probe", "--pps", "20k", "-c", "800", "-s", "64", "-q"]
        sender = a.start_mcastctl("send", groups, *probes, "-i", "a0")
        read.wait("datagrams 40000", 30)
        sender.finish()
        assert read.raw.count(FRAME) > 4
        for one in running:
            one.signal(signal.SIGINT)
        read.finish(running[0])
        stuck.finish(running[1])
        for one in running:
            assert "heard 40000 datagrams" in one.stderr
            assert "dropped by this host" not in one.stderr


# --- send


@pytest.mark.parametrize(("columns", "left"), [(60, "[01] s"), (120, "[01] s")])
def test_a_bar_while_sending(world: World, tmp_path: Path, columns: int, left: str) -> None:
    host = world.host("a")
    file = tmp_path / "clip.ts"
    file.write_bytes(bytes(32_000))
    args = ["send", "-i", "lo", f"{GROUP}:5004"]
    args += ["--file", str(file), "-s", "1000", "-b", "160k"]
    if columns == 120:
        args = [*args[:4], "x", "-c", "32", "--pps", "20"]
    with Terminal(columns) as terminal:
        running = terminal.start(host, args)
        terminal.wait(
            rf"^ *[3-9]\d% \[#+\.+\] sent [123]\d, [12]\d(\.\d)?/s, [^,]*bit/s, {left} left$"
        )
        assert max(map(len, terminal.lines)) < columns
        silent = terminal.start(host, [*args, "-q"])
        outcome = terminal.finish(running)
        assert outcome.returncode == silent.finish(20).returncode == 0
        assert terminal.lines[0].startswith("sent 32 datagrams")
