"""What cannot be asked is refused in two lines, status 2, before any socket exists; what the kernel
refuses is named with operation, object and remedy.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest
from conftest import Pair, reason_without_world
from streams import Stream
from world import Host, Outcome, World, need

pytestmark = pytest.mark.netns

# Runs a command line per line of input, each in a process of its own that was spared the start of
# Python, and says on its stdout, where an error must not, that a socket was made.
OFFICE = """
import json, os, sys
import mcastctl.cli.listen, mcastctl.cli.send
from mcastctl.cli.app import main

def watch(event, args):
    if event == "socket.__new__":
        os.write(1, f"socket of family {args[1]}\\n".encode())

def run(words, settings, stdout, stderr):
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.environ.update(settings)
    sys.argv[1:] = words
    sys.addaudithook(watch)
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())

for line in sys.stdin:
    said, stdout = os.pipe()
    complained, stderr = os.pipe()
    child = os.fork()
    if child == 0:
        run(*json.loads(line), stdout, stderr)
        os._exit(3)
    os.close(stdout)
    os.close(stderr)
    texts = [open(end, errors="surrogateescape").read() for end in (said, complained)]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([status, *texts]), flush=True)
"""


class Office:
    """Where commands are asked for that must be refused, on one host."""

    def __init__(self, host: Host) -> None:
        self.config = host.config_home / "mcastctl" / "config.toml"
        self._running = host.popen([sys.executable, "-c", OFFICE], stdin=PIPE)
        self._asked = 0

    def refuse(self, args: str | list[str], env: dict[str, str] | None = None) -> tuple[str, str]:
        """Run what must be refused; return message and hint. Nothing else may be printed."""
        words = args.split() if isinstance(args, str) else args
        self._asked += 1
        self._running.write(json.dumps([words, env or {}]) + "\n")
        answer = self._running.wait_stdout("^.+$", count=self._asked)
        return two_lines(Outcome(*json.loads(answer[0])))


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    """On a host with two interfaces, fork0 and fork1, either of which a group could mean."""
    if reason := reason_without_world():
        pytest.skip(reason)
    with World() as world:
        host = world.host("fork")
        world.link(host, world.host("b"))
        world.link(host, world.host("c"))
        host.ip("route add 224.0.0.0/4 dev fork0")
        yield Office(host)


@pytest.fixture
def config(office: Office) -> Iterator[Path]:
    """The configuration file of that host, not written yet."""
    office.config.parent.mkdir(exist_ok=True)
    yield office.config
    office.config.unlink(missing_ok=True)


def two_lines(outcome: Outcome) -> tuple[str, str]:
    """Message and hint of an error, and nothing else."""
    assert outcome.returncode == 2, outcome
    assert outcome.stdout == "", outcome
    assert outcome.stderr.count("\n") == 2, outcome.stderr
    error, hint = outcome.stderr.splitlines()
    assert error.startswith("mcastctl: error: "), outcome.stderr
    assert hint.startswith("hint: "), outcome.stderr
    message, remedy = error.removeprefix("mcastctl: error: "), hint.removeprefix("hint: ")
    assert re.match(r"DATA|[a-z0-9'/\[-]", message), message  # no capital, nothing empty
    assert not message.endswith(".")
    assert len(remedy) > 5
    return message, remedy


GROUP = "239.1.1.1:5004"
BAD = [
    # endpoints
    ("listen 10.0.0.1:5004", "10.0.0.1 is not a multicast group", "224.0.0.0/4"),
    ("listen [2001:db8::1]:5004", "2001:db8::1 is not a multicast group", "ff00::/8"),
    ("send 10.0.0.1:5004 x", "10.0.0.1 is not a multicast group", "--unicast"),
    ("listen 239.1.1.1:0", "'0' is not a UDP port", "1 to 65535"),
    ("send 239.1.1.1:65536 x", "'65536' is not a UDP port", "1 to 65535"),
    ("listen 239.1.1.1:+5", "'' is not a UDP port", "1 to 65535"),
    ("listen 239.1.1.1:٥٩٩", "is not a UDP port", "1 to 65535"),
    ("listen 239.1.1.1", "no port for 239.1.1.1", "239.1.1.1:PORT, or add -p PORT"),
    ("send ff15::1 x", "no port for ff15::1", "[ff15::1]:PORT"),
    ("listen 239.1.1.1/8:5004", "stands for 16777216 groups", "at most 4096"),
    ("listen 239.1.1.1:5004+5000", "stands for 5001 groups", "at most 4096"),
    ("listen 239.255.255.255:5004+1", "runs past the last group", "lower +N"),
    ("listen 239.1.1:5004", "'239.1.1' is not an IP address", "239.1.1.1:5004"),
    ("listen 239.001.1.1:5004", "'239.001.1.1' is not an IP address", "239.1.1.1:5004"),
    ("listen ff15::1:2:3:4:5:6:7:8:5004", "", "[ff15::"),
    ("listen http://239.1.1.1:5004", "scheme 'http' is not understood", "udp://"),
    ("listen ff02::123%fork0%fork1", "is not an endpoint", ""),
    ("listen ff15::1:5004", "no port for ff15::1:5004", "write [ff15::1]:5004 if 5004 is the"),
    ("listen ff15::1", "no port for ff15::1", "write [ff15::1]:PORT, or"),
    # what has no effect, or can never be met
    ("send 239.1.1.1:5004 x -s 9", "-s 9 has no effect: DATA has its own size", "--probe"),
    ("send 239.1.1.1:5004 -s 9", "a line of standard input has its own size", "--raw-stdin"),
    ("send 239.1.1.1:5004 --hex 00 -s 9", "--hex has its own size", "--file"),
    ("send 239.1.1.1:5004 x -T 0", "-T 0 would send nothing", "500ms"),
    ("send 239.1.1.1:5004 x -4 -6", "-4 and -6 contradict each other", "both families"),
    ("listen 239.1.1.1:5004 -4 -6", "-4 and -6 contradict each other", "both families"),
    ("listen 239.1.1.1:5004 -c 2 --expect 5", "--expect 5 can never be met: -c 2 stops", "-c 5"),
    ("listen 239.1.1.1:5004 --expect-from ::1", "no endpoint is IPv6", "family of the group"),
    ("ping [ff15::1]:5004 --expect-from 10.0.0.1", "no endpoint is IPv4", "family of the group"),
    ("ifaces --interval 2s", "--interval is how often --live looks", "add --live"),
    ("ifaces -T 2s", "-T ends --live", "add --live"),
    (f"ifaces --netns {'a' * 300}", "there is no network namespace 'aaa", "or a pid"),
    # bounds
    ("send 239.1.1.1:5004 --hex abc", "has an odd number of digits, 3", "a byte is two digits"),
    ("send 239.1.1.1:5004 --hex xyz", "the hexadecimal payload is malformed", "pairs of digits"),
    ("listen 239.1.1.1:5004 -T 9000h", "'9000h' is not a time", "up to 366 days"),
    ("listen 239.1.1.1:5004 --rcvbuf 2000GiB", "is not a size", "up to 1024GiB"),
    ("send 239.1.1.1:5004 x --pps 2000G", "is not a rate", "up to 1000G"),
    ("listen 239.1.1.1:5004 -c 9999999999999999999", "is not a count", "to 9223372036854775808"),
    # interfaces
    ("listen 239.1.1.1:5004 -i nope0", "no interface has the name, index or address 'nope0'", ""),
    ("send 239.1.1.1:5004 x -i 999", "no interface has the name, index or address '999'", "fork0"),
    ("send 239.1.1.1:5004 x -i 10.9.9.9", "no interface has the name", "fork0, fork1"),
    ("listen [ff02::123%nope0]:5004", "no interface has the name", "fork0, fork1"),
    ("listen [ff02::123]:5004", "ff02::123 is link-local and names no interface", "fork0, fork1"),
    ("send [ff02::123]:5004 x", "ff02::123 is link-local and names no interface", "%IFACE"),
    ("send [ff31::1]:5004 x", "ff31::1 is", "fork0, fork1"),
    # sources
    ("listen !10.0.0.1,10.0.0.2@239.1.1.1:5004", "mixes wanted and unwanted", "never both"),
    ("listen 10.0.0.1@239.1.1.1:5004 -S !10.0.0.2", "mixes wanted and unwanted", "never both"),
    ("listen 10.0.0.1@239.1.1.1:5004 !10.0.0.1@239.1.1.1:5004 -i fork0", "INCLUDE and EXCLUDE", ""),
    (
        "listen 239.1.1.1:5004 10.0.0.1@239.1.1.1:5004 -i fork0",
        "ANY and INCLUDE",
        "one filter mode",
    ),
    ("listen fe80::1@239.1.1.1:5004", "mixes IPv4 and IPv6", "one address family"),
    ("listen 239.1.1.2@239.1.1.1:5004", "239.1.1.2 cannot be a source", "unicast address"),
    ("listen 239.1.1.1:5004 -S nobody", "'nobody' is not an IP address", ""),
    ("send 10.0.0.1,10.0.0.2@239.1.1.1:5004 x -i fork0", "source filter", "--bind"),
    ("send [ff15::1]:5004 x --bind 10.0.1.1 -i fork0", "not of the family", "own family"),
    ("send 239.1.1.1:5004 x --bind 10.0.1.1:99999", "'99999' is not a UDP port", ""),
    ("send 239.1.1.1:5004 x --bind elsewhere", "'elsewhere' is not an IP address", ""),
    # numbers
    ("send 239.1.1.1:5004 x -t 256", "--ttl: '256' is not a TTL", "0 to 255"),
    ("send 239.1.1.1:5004 x -t -1", "'-1' is not a TTL", "0 to 255"),
    ("send 239.1.1.1:5004 x --pps nan", "--pps: 'nan' is not a rate", "above zero"),
    ("send 239.1.1.1:5004 x --pps 0", "--pps: '0' is not a rate", "above zero"),
    ("send 239.1.1.1:5004 x -b inf", "--bitrate: 'inf' is not a rate", "above zero"),
    ("send 239.1.1.1:5004 x -b 1e400", "--bitrate: '1e400' is not a rate", "above zero"),
    ("send 239.1.1.1:5004 x --interval nan", "--interval: 'nan' is not a time", "500ms"),
    ("send 239.1.1.1:5004 x -c 0", "--count: '0' is not a count", "from 1"),
    ("send 239.1.1.1:5004 x -c ٣", "'٣' is not a count", "from 1"),
    ("send 239.1.1.1:5004 x -Q ef1", "--dscp: 'ef1' is not a DSCP", "af11-af43"),
    ("send 239.1.1.1:5004 --probe -s 65528", "--size: '65528' is not a size", "65527"),
    ("send 239.1.1.1:5004 --probe -s 31 -i fork0", "-s 31 is too small", "32 or more"),
    ("listen 239.1.1.1:5004 -T -1s", "'-1s' is not a time", "500ms"),
    ("listen 239.1.1.1:5004 -T 10parsecs", "'10parsecs' is not a time", "500ms"),
    ("listen 239.1.1.1:5004 --max-loss 101%", "'101%' is not a percentage", "0 to 100"),
    ("listen 239.1.1.1:5004 --interval 0", "--interval: 0 would report without end", "500ms"),
    ("send 239.1.1.1:5004 --file - -s 0", "-s 0 is too small", "1 or more"),
    ("listen 239.1.1.1:5004 --rcvbuf many", "'many' is not a size", "4MiB"),
    # contradictions
    ("send 239.1.1.1:5004 x --probe", "DATA and --probe contradict each other", "keep one"),
    ("send 239.1.1.1:5004 --file a --raw-stdin", "contradict each other", "keep one"),
    ("send 239.1.1.1:5004 x --pps 5 --flood", "two rates were given", "keep one"),
    ("send 239.1.1.1:5004 x -b 1M --interval 1s", "two rates were given", "keep one"),
    ("send 239.1.1.1:5004 x -6", "-6 leaves none of the endpoints", "IPv6 group"),
    ("listen 239.1.1.1:5004 --expect-none -c 1", "--expect-none contradicts", "keep one"),
    ("listen 239.1.1.1:5004 -j -o hex", "-j and -o hex contradict each other", "keep one"),
    ("listen 239.1.1.1:5004 -o xml", "'xml' is not an output format", "dots=BYTES"),
    ("listen 239.1.1.1:5004 -o dots=0", "'dots=0' is not a format", "dots=BYTES"),
    ("send 239.1.1.1:5004 x -o dots=5", "'dots=5' is not an output format", "jsonl"),
    ("listen 239.1.1.1:5004 --exec no-such-program", "no such program", "PATH"),
    ("listen 239.1.1.1:5004 --exec '", "cannot read the command", "quotes"),
    (
        "send 239.1.1.1:5004 --file /nowhere/file -i fork0",
        "cannot read /nowhere/file: no such file",
        "",
    ),
    ("send 239.1.1.1:5004 --file /etc -i fork0", "cannot read /etc: is a directory", "name a file"),
    ("send 239.1.1.1:5004 --file= -i fork0", "'' names no file", "--file -"),
    ("send 239.1.1.1:5004 x --metrics=", "--metrics '' names no file", "FILE.prom"),
    ("listen 239.1.1.1:5004 --metrics-listen 99999", "'99999' is not a port", "0 to 65535"),
    ("routes --bridge -i eth9", "--iface is about the way of a group", "leave --iface out"),
    # words
    ("lisen 239.1.1.1:5004", "no such command 'lisen'", "did you mean 'listen'?"),
    ("frobnicate", "no such command 'frobnicate'", "mcastctl --help"),
    ("doctr", "no such command 'doctr'", "did you mean 'doctor'?"),
    ("listen 239.1.1.1:5004 --ifcae a", "o such option", "did you mean '--iface'?"),
    ("listen 239.1.1.1:5004 --expct 3", "o such option '--expct'", "did you mean '--expect'?"),
    ("listen 239.1.1.1:5004 --tmeout 3", "o such option", "did you mean '--timeout'?"),
    ("listen 239.1.1.1:5004 --max 3", "o such", "did you mean '--max-loss' or '--max-jitter'?"),
    ("listen 239.1.1.1:5004 --ttl 3", "o such option", "an option of send, ping and matrix"),
    ("listen 239.1.1.1:5004 --owner 3", "o such option", "see 'mcastctl listen --help'"),
    ("-j ifaces", "o such option '-j'", "behind it: mcastctl "),
    ("--nonsense", "o such option", "see 'mcastctl --help'"),
    ("listen 239.1.1.1:5004 --exec", "'--exec' requires an argument", "write --exec CMD"),
    ("listen 239.1.1.1:5004 --color", "requires an argument", "--color auto|always|never"),
    ("ifaces -o yaml", "'yaml' is not an output format of ifaces", "index"),
    ("listen 239.1.1.1:5004 --color red", "", "--help"),
    ("listen 239.1.1.1:5004 -Z", "o such option", "--help"),
    ("listen", "", "mcastctl listen --help"),
    ("send", "", "mcastctl send --help"),
    ("send 239.1.1.1:5004 one two", "unexpected extra argument", "quote words that belong"),
    ("listen 239.1.1.1:5004 -c", "", "write -c N"),
]


@pytest.mark.parametrize(("args", "message", "hint"), BAD, ids=[row[0] for row in BAD])
def test_bad_input(office: Office, args: str, message: str, hint: str) -> None:
    found, remedy = office.refuse(args)
    assert message in found
    assert hint in remedy


def test_hostile_words_do_no_harm(office: Office) -> None:
    for word in ("239.1.1.1:5004\x1b[31m", "ff02::1%e\x1bth0", "\n", "239.1.1.1:" + "9" * 5000, ""):
        office.refuse(["listen", word])
    message, _ = office.refuse(["listen", GROUP, "-i", "\x1b]0;title\x07"])
    assert message.isprintable()
    message, _ = office.refuse(["\x1b[31mred"])
    assert message.isprintable()
    assert len(office.refuse(["listen", GROUP, "-T", "9" * 5000])[0]) < 6000


CONFIGS = [
    ("[listen", "is not valid TOML", "mend the file"),
    ("[listen]\nfrobnicate = 1\n", "sets 'frobnicate' for listen", "mcastctl listen --help"),
    ("[lisen]\ncount = 1\n", "section 'lisen' that means nothing", "listen"),
    ("count = 1\n", "'count' that means nothing", "sections are groups"),
    ("[groups]\nvideo = 5004\n", "[groups] holds something that is no text", "video ="),
    ('[groups]\nvideo = "10.0.0.1:5004"\n', "10.0.0.1 is not a multicast group", ""),
    ("[listen]\ncount = -1\n", "--count: '-1' is not a count", ""),
    ("[listen]\ntimeout = nan\n", "--timeout: 'nan' is not a time", ""),
    ('[listen]\niface = ["nope0"]\n', "no interface has the name", ""),
    ("x" * (1 << 20) + "\n#", "is larger than 1 MiB", ""),
]


@pytest.mark.parametrize(("text", "message", "hint"), CONFIGS, ids=range(len(CONFIGS)))
def test_bad_configuration(
    office: Office, config: Path, text: str, message: str, hint: str
) -> None:
    config.write_text(text)
    found, remedy = office.refuse(f"listen {'video' if 'groups' in text else GROUP}")
    assert message in found
    assert hint in remedy
    assert str(config) in found or "/" not in message


def test_configuration_that_is_no_text(office: Office, config: Path) -> None:
    config.write_bytes(b"\xff\xfe[listen]")
    assert f"{config} is not valid TOML" in office.refuse(f"listen {GROUP}")[0]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LISTEN_COUNT", "three", "--count: 'three' is not a count"),
        ("LISTEN_IFACE", "nope0", "no interface has the name, index or address 'nope0'"),
        ("LISTEN_OUTPUT", "xml", "'xml' is not an output format"),
        ("LISTEN_JSON", "perhaps", "'perhaps' is not"),
        ("LISTEN_MAX_LOSS", "-3", "--max-loss: '-3' is not a percentage"),
        ("LISTEN_PORT", "0", "--port: '0' is not a UDP port"),
    ],
)
def test_bad_environment(office: Office, name: str, value: str, message: str) -> None:
    assert message in office.refuse(f"listen {GROUP}", env={f"MCASTCTL_{name}": value})[0]


# --- what the kernel refuses


def refused(outcome: Outcome, status: int = 2) -> tuple[str, str]:
    """Message and hint of a run that ended with a refusal; a summary may follow."""
    assert outcome.returncode == status, outcome
    assert "Traceback" not in outcome.stderr
    lines = outcome.stderr.splitlines()
    errors = [n for n, line in enumerate(lines) if line.startswith("mcastctl: error: cannot ")]
    assert len(errors) == 1, outcome.stderr
    error, hint = lines[errors[0] : errors[0] + 2]
    assert hint.startswith("hint: ")
    assert "not met" not in outcome.stderr  # nothing was asked, so nothing was answered no
    return error.removeprefix("mcastctl: error: "), hint.removeprefix("hint: ")


@pytest.mark.parametrize("group", ["239.1.1.1:5004", "[ff15::1]:5004"])
def test_unreachable(pair: Pair, group: str) -> None:
    pair.a.ip("link set a0 down")
    outcome = pair.a.mcastctl("send", group, "x", "-i", "a0")
    message, hint = refused(outcome)
    assert message == (f"cannot send to {group} on a0: network is unreachable (ENETUNREACH)")
    assert "a0 is administratively down" in hint
    sent = Stream.of(pair.a.mcastctl("send", group, "x", "-i", "a0", "-j"))
    assert (sent.status, sent.summary["errors"]) == (2, {"ENETUNREACH": 1})
    assert sent.only("notice")["code"] == "refused"


@pytest.mark.parametrize("command", ["listen", "send"])
def test_no_interface_at_all(world: World, command: str) -> None:
    message, hint = refuse_anyhow(world.host("alone"), f"{command} {GROUP}")
    assert message == "cannot choose an interface for 239.1.1.1: no route leads to it"
    assert "-i IFACE" in hint


def refuse_anyhow(host: Host, args: str, **options: bool) -> tuple[str, str]:
    """Two lines and nothing else, whatever was asked of the kernel."""
    return two_lines(host.mcastctl(*args.split(), **options))


@pytest.mark.parametrize("group", ["239.1.1.1:5004", "[ff15::1]:5004"])
def test_a_firewall_of_this_host(pair: Pair, group: str) -> None:
    need("nft")
    pair.a.sh(
        "nft add table inet f; nft add chain inet f out '{ type filter hook output priority 0; }';"
        "nft add rule inet f out udp dport 5004 udp length 10 drop"
    )
    message, hint = refused(pair.a.mcastctl("send", group, "xx"))
    assert message == f"cannot send to {group} on a0: operation not permitted (EPERM)"
    assert "nft list ruleset" in hint
    # Some went, some did not: that is a no, and each is counted.
    outcome = pair.a.mcastctl("send", group, "-j", input="xx\nfour!\nxx\n")
    sent = Stream.of(outcome)
    expected = {"attempted": 3, "sent": 1, "refused": 2, "errors": {"EPERM": 2}}
    assert {key: sent.summary[key] for key in expected} == expected
    assert sent.status == 1
    assert len(sent.all("notice")) == 1  # told once
    assert len(sent.datagrams) == 1  # only what went


def test_too_long_a_datagram(pair: Pair) -> None:
    args = ["send", "239.1.1.1:5004", "--probe", "-c", "1", "-s", "65508"]
    message, hint = refused(pair.a.mcastctl(*args))
    assert message == "cannot send to 239.1.1.1:5004 on a0: message too long (EMSGSIZE)"
    assert "65507" in hint


@pytest.mark.parametrize("group", ["239.1.1.1:5004", "[ff15::1]:5004"])
def test_an_overfull_queue_is_never_success(pair: Pair, group: str) -> None:
    a = pair.a
    a.sh("tc qdisc add dev a0 root tbf rate 8mbit burst 1600 limit 4000")
    args = ["send", group, "--probe", "-s", "1000", "--pps", "4k", "-c", "1000"]
    outcome = a.mcastctl(*args, "-j", "-q")
    sent = Stream.of(outcome)
    (qdisc,) = json.loads(a.sh("tc -s -j qdisc show dev a0").stdout)
    drops = qdisc["drops"]
    assert drops > 200
    assert sent.status == 1
    counted = sent.summary
    assert counted["attempted"] == counted["sent"] + counted["refused"] == 1000
    assert counted["errors"] == {"ENOBUFS": counted["refused"]}
    assert 0.95 * drops <= counted["refused"] <= drops
    (notice,) = (one for one in sent.all("notice") if one["code"] == "refused")
    assert "lower the rate" in notice["hint"]


HOLDER = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("0.0.0.0", int(sys.argv[1])))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_port_in_use(pair: Pair) -> None:
    a = pair.a
    a.popen([sys.executable, "-c", HOLDER, "4000"], stdin=PIPE).wait_stdout("held")
    message, hint = refuse_anyhow(a, "send 239.1.1.1:5004 x --bind :4000")
    assert message == (
        "cannot bind the sending socket to 0.0.0.0 port 4000: address already in use (EADDRINUSE)"
    )
    assert "ss -ulpn" in hint
    message, hint = refused(a.mcastctl("listen", "239.1.1.1:4000"))
    assert message == (
        "cannot bind UDP port 4000 of 239.1.1.1 on a0: address already in use (EADDRINUSE)"
    )
    assert "ss -ulpn" in hint
    heard = Stream.of(a.mcastctl("listen", "239.1.1.1:4000", "-j"))
    assert (heard.status, heard.summary["reason"]) == (2, "error")
    assert (heard.only("notice")["level"], heard.all("joined")) == ("error", [])


def test_an_address_of_nobody(pair: Pair) -> None:
    for args in ("send 239.1.1.1:5004 x --bind 10.9.9.9", "send 10.9.9.9@239.1.1.1:5004 x"):
        message, hint = refuse_anyhow(pair.a, args)
        assert message == (
            "cannot bind the sending socket to 10.9.9.9: "
            "cannot assign requested address (EADDRNOTAVAIL)"
        )
        assert "mcastctl ifaces" in hint


@pytest.mark.parametrize("group", ["239.1.1.1:5004", "[ff15::1]:5004"])
def test_an_interface_that_goes_away(pair: Pair, group: str) -> None:
    sender = pair.a.start_mcastctl("send", group, "-j", "-i", "a0", stdin=PIPE)
    sender.write("one\n")
    sender.wait_stdout('"payload":"one"')
    pair.a.ip("link del a0")
    sender.write("two\n")
    sender.wait_stdout('"refused"')
    sent = Stream.of(sender.finish())
    assert (sent.status, sent.summary["sent"], sent.summary["refused"]) == (1, 1, 1)
    assert set(sent.summary["errors"]) <= {"ENODEV", "ENETUNREACH"}
    notice = sent.only("notice")
    assert notice["text"].startswith(f"cannot send to {group} on a0: ")
    assert notice["hint"]


def test_limits_of_memberships(pair: Pair) -> None:
    b = pair.b
    b.sysctl("net.ipv4.igmp_max_msf", 1)
    message, hint = refused(b.mcastctl("listen", "10.0.0.1,10.0.0.2@232.1.1.1:5004"))
    assert message == (
        "cannot filter source 10.0.0.2 of 232.1.1.1 on b0: no buffer space available (ENOBUFS)"
    )
    assert "igmp_max_msf" in hint
    b.sysctl("net.ipv4.igmp_max_memberships", 0)
    message, hint = refused(b.mcastctl("listen", GROUP))
    assert message == "cannot join 239.1.1.1 on b0: no buffer space available (ENOBUFS)"
    assert "igmp_max_memberships" in hint


def test_a_port_for_root_only(pair: Pair) -> None:
    message, hint = refused(pair.b.mcastctl("listen", "239.1.1.1:80", privileged=False))
    assert message == "cannot bind UDP port 80 of 239.1.1.1 on b0: permission denied (EACCES)"
    assert "ip_unprivileged_port_start" in hint


def test_too_few_descriptors(pair: Pair) -> None:
    command = f"{sys.executable} -m mcastctl listen 239.1.1.0:5004+63"
    message, hint = refused(pair.b.run(["sh", "-c", f"ulimit -n 20; {command}"], check=False))
    assert message.endswith("too many open files (EMFILE)")
    assert "ulimit -n" in hint


def test_many_groups_raise_the_soft_limit_themselves(pair: Pair) -> None:
    command = f"exec {sys.executable} -m mcastctl listen 239.1.1.0:5004+299 -j"
    listener = pair.b.popen(["sh", "-c", f"ulimit -S -n 100; {command}"])
    listener.wait_stdout('^{"type":"joined"', count=300)
    listener.signal(signal.SIGTERM)
    assert Stream.of(listener.finish()).status == -signal.SIGTERM


def test_an_ordinary_user_needs_no_privilege(pair: Pair) -> None:
    a, b = pair
    options = ["-T", "60s", "-c", "2", "-j"]
    args = ["listen", GROUP, "fe80::ff:fe00:101@[ff32::1%b0]:5004", *options]
    listener = b.start_mcastctl(*args, privileged=False)
    listener.wait_stdout('"joined"', count=2)
    args = ["x", "-t", "9", "-Q", "ef", "-i", "a0"]
    assert a.mcastctl("send", GROUP, *args, privileged=False).returncode == 0
    assert a.mcastctl("send", "[ff32::1]:5004", *args, privileged=False).returncode == 0
    heard = Stream.of(listener.finish())
    assert [(one["ttl"], one["dscp"]) for one in heard.datagrams] == [(9, 46)] * 2
