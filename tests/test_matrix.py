"""Who hears whom: the merge by value, and the command over hosts that are namespaces."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from place import BY_ROOT, ROOT, until
from world import Host, Outcome, Place, World, need

from mcastctl.model import matrix, testimony
from mcastctl.model.errors import McastError
from mcastctl.model.matrix import ASKED, HEARD, LOSSY, LOST, SILENT, UNKNOWN, Asked, Heard, Pair
from mcastctl.net import fleet, reach
from mcastctl.net import hosts as lists
from mcastctl.output import matrix as page

GROUP = "239.255.76.67"
PORT = 7645
README = Path(__file__).parent.parent / "README.md"
ECHO = [sys.executable, "-m", "mcastctl", "echo", f"{GROUP}:{PORT}", "-i"]


# --- the merge


def host(name: str, *addresses: str, state: str = ASKED) -> matrix.Host:
    return matrix.Host(name, state, addresses=addresses)


def answer(rtt_ms: float, received: int = 5) -> matrix.Responder:
    return matrix.Responder(received, 0, rtt_ms, 1)


A, B, C = host("a", "10.0.0.1", "172.17.0.1"), host("b", "10.0.0.2", "172.17.0.1"), host("c")
SENDERS = {
    "a": Asked("f1", 5, {"10.0.0.2": answer(1.5), "172.17.0.1": answer(9)}),
    "b": Asked("f2", 5, {}),
}
RECEIVERS = {
    "a": {"f2": Heard("10.0.0.2", 3, 1, 1)},
    "b": {"f1": Heard("10.0.0.1", 5, 0, 1), "f9": Heard("10.0.0.9", 5, 0, 1)},
}


def test_every_two_hosts_have_one_answer() -> None:
    found = {(one.sender, one.receiver): one for one in matrix.merge([A, B, C], SENDERS, RECEIVERS)}
    assert len(found) == 6
    assert found["a", "b"] == Pair("a", "b", HEARD, 5, 5, 0, 1.5, 1)
    assert found["b", "a"] == Pair("b", "a", LOSSY, 5, 3, 1)
    assert {found[two].state for two in (("a", "c"), ("c", "a"), ("b", "c"))} == {UNKNOWN}
    assert found["b", "a"].to_dict()["loss_percent"] == 40.0
    assert found["a", "c"].to_dict()["loss_percent"] is None
    assert page.cell(found["a", "b"]) == "1.50 ms (1 hops)"
    assert page.cell(found["b", "a"]) == "lost 2 of 5"


def test_more_answers_than_requests_are_no_negative_loss() -> None:
    (pair, _) = matrix.merge([A, B], SENDERS, {"a": {}, "b": {"f1": Heard("", 50, 0, None)}})
    assert (pair.received, pair.lost, pair.state) == (5, 0, HEARD)


def silences(*pairs: str) -> list[list[str]]:
    """Groups of silent pairs of the four hosts a to d, where only `pairs` are silent."""
    every = [
        Pair(a, b, SILENT if a + b in pairs else HEARD, 5, 0 if a + b in pairs else 5)
        for a in "abcd"
        for b in "abcd"
        if a != b
    ]
    return [[one.sender + one.receiver for one in group] for group in matrix.causes(every)]


GOOD_STREAM = {
    **{"src": "10.0.0.1", "dst": GROUP, "stream": "f1", "packets": 5, "duplicates": 0, "ttl": 1},
}
GOOD_LEG = {"received": 5, "duplicates": 0, "rtt_avg_ms": 0.5, "hops": 0}
GOOD_RUN = {
    **{"stream": "f1", "requests": 5, "sent": 9},
    "responders": [{"responder": "10.0.0.2", "multicast": GOOD_LEG}],
}


def test_what_hosts_say_is_read() -> None:
    assert testimony.heard(GROUP, {"streams": [GOOD_STREAM]}) == {"f1": Heard("10.0.0.1", 5, 0, 1)}
    assert testimony.asked(GOOD_RUN) == Asked("f1", 5, {"10.0.0.2": answer(0.5)._replace(hops=0)})
    assert testimony.asked({**GOOD_RUN, "sent": 0}).sent == 0  # every request was refused
    told: dict[str, Any] = {
        "type": "finding",
        "severity": "error",
        "id": "rx.not_joined",
        "title": "t",
    }
    told |= {"evidence": ["e"], "hint": "h", "where": "socket", "certain": "proved", "more": [1]}
    found = testimony.finding(told)
    assert found
    assert "more" not in found
    assert testimony.finding(told | {"where": "elsewhere"}) is None


@pytest.mark.parametrize("wrong", [None, -1, True, 1.5, "x", "\x1b]0;x\x07", math.inf, [], {}])
@pytest.mark.parametrize("key", ["packets", "duplicates", "src", "ttl"])
def test_streams_are_believed_field_by_field(key: str, wrong: object) -> None:
    if (key, wrong) == ("ttl", None):
        return
    with pytest.raises(testimony.NotOurs):
        testimony.heard(GROUP, {"streams": [GOOD_STREAM | {key: wrong}]})


@pytest.mark.parametrize("wrong", [-1, True, "\x1b]0;x\x07", math.nan, math.inf, [], {}])
@pytest.mark.parametrize("key", ["received", "rtt_avg_ms", "hops"])
def test_answers_are_believed_field_by_field(key: str, wrong: object) -> None:
    leg = {**GOOD_LEG, key: wrong}
    with pytest.raises(testimony.NotOurs):
        testimony.asked({**GOOD_RUN, "responders": [{"responder": "10.0.0.2", "multicast": leg}]})


@pytest.mark.parametrize("source", ["--netns=1;x", "239.1.1.1", "", "10.0.0.1;x", "10.0.0.1 -x"])
def test_a_source_is_an_address(source: str) -> None:
    """It becomes part of a command on another host."""
    with pytest.raises(testimony.NotOurs):
        testimony.heard(GROUP, {"streams": [GOOD_STREAM | {"src": source}]})


def test_silences_of_one_cause_are_explained_once() -> None:
    assert silences() == []
    assert silences("ac", "bc", "dc") == [["ac", "bc", "dc"]]  # c hears nobody
    assert silences("ab", "ac", "ad") == [["ab", "ac", "ad"]]  # nobody hears a
    assert silences("ab", "cd") == [["ab"], ["cd"]]
    # c is deaf and a is mute: c is explained by a sender that others hear.
    assert silences("ac", "bc", "dc", "ab", "ad") == [["ab", "ad"], ["bc", "ac", "dc"]]


def test_a_thousand_hosts_have_one_table_in_no_time() -> None:
    """The merge is linear in pairs, and the page tells what is wrong only."""
    names = [host(f"h{number}", f"10.{number >> 8}.{number & 255}.1") for number in range(200)]
    runs = {one.name: Asked(one.name, 5, {}) for one in names}
    heard = {one.name: Heard(one.addresses[0], 5, 0, 1) for one in names}
    receivers = {one.name: heard for one in names}
    receivers["h7"] = {}
    pairs = list(matrix.merge(names, runs, receivers))
    assert len(pairs) == 200 * 199
    assert [len(group) for group in matrix.causes(pairs)] == [199]


# --- hosts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpha", reach.Target("alpha", "ssh", "alpha")),
        ("ops@beta%bond0", reach.Target("ops@beta", "ssh", "ops@beta", "bond0")),
        ("ssh://ops@beta:2222", reach.Target("ssh://ops@beta:2222", "ssh", "ssh://ops@beta:2222")),
        ("netns:red%eth0", reach.Target("netns:red", "netns", "red", "eth0")),
        ("local", reach.Target("local", "local", "")),
    ],
)
def test_a_host_is_read(text: str, expected: reach.Target) -> None:
    assert reach.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "-oProxyCommand=x", "netns:", "a b", "a%-x", "a\nb", "netns:-"]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(McastError):
        reach.parse(text)


def test_what_goes_to_a_host_is_quoted() -> None:
    line = reach.line(["mcastctl", "ping", "$(reboot)", "a'b"])
    assert """; mcastctl ping '$(reboot)' 'a'"'"'b' 3<&- """ in line
    assert reach.argv(reach.parse("h"), ["ssh"], line) == ["ssh", "--", "h", line]


def test_planted_modules_are_not_run(world: World, tmp_path: Path) -> None:
    """What runs on this host is this very program, whatever the current directory holds."""
    a = world.host("a")
    for name in ("json", "mcastctl", "click"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('planted')")
    script = "from mcastctl.cli.app import script; script()"
    words = [sys.executable, "-P", "-c", script, "matrix", "local%lo", "netns:nosuch"]
    outcome = a.run(words, check=False, cwd=tmp_path, timeout=60)
    assert outcome.returncode == 2
    assert "planted" not in outcome.stdout + outcome.stderr
    assert "there is no network namespace 'nosuch'" in outcome.stdout


def test_a_list_of_hosts_is_read(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# all of them\nalpha\n\n  beta%eth1  # the other\n")
    assert lists.from_file(str(file)) == ["alpha", "beta%eth1"]
    with pytest.raises(McastError) as caught:
        lists.from_file(str(tmp_path / "none"))
    assert "no such file" in caught.value.message


# --- the command


def run_matrix(
    place: Place, *args: str, timeout: float = 90
) -> tuple[Outcome, list[dict[str, Any]]]:
    words = [sys.executable, "-m", "mcastctl", "matrix", *args, "-o", "jsonl"]
    outcome = place.run(words, check=False, timeout=timeout)
    return outcome, outcome.records


def names(hosts: list[Host]) -> list[str]:
    return [f"netns:{one.pid}%{one.ports[0]}" for one in hosts]


@pytest.fixture
def six(world: World) -> list[Host]:
    """Six hosts of one network, c behind a firewall of its own."""
    hosts = [world.host(name) for name in "abcdef"]
    world.bridge("sw", *hosts)
    need("nft")
    hosts[2].sh(
        "nft add table inet guard;"
        "nft add chain inet guard in '{ type filter hook input priority 0; }';"
        f"nft add rule inet guard in ip daddr {GROUP} udp dport {PORT} drop"
    )
    return hosts


def test_six_hosts_one_firewalled_one_not_joined(world: World, six: list[Host]) -> None:
    """The echoes that run there are asked; f runs none."""
    for one in six[:5]:
        one.popen([*ECHO, one.ports[0]]).wait_stderr("joined")
    outcome, records = run_matrix(world.anchor, *names(six), "--existing", "-c", "3")
    assert outcome.returncode == 1, outcome.stderr
    spelled = [f"netns:{one.pid}" for one in six]
    hosts = [one for one in records if one["type"] == "host"]
    assert [(one["host"], one["state"]) for one in hosts] == [(one, ASKED) for one in spelled]
    pairs = {(one["sender"], one["receiver"]): one for one in records if one["type"] == "pair"}
    deaf = {spelled[2]: "host.firewall_input", spelled[5]: "rx.not_joined"}
    for (sender, receiver), pair in pairs.items():
        expected = SILENT if receiver in deaf else HEARD
        assert pair["state"] == expected, (sender, receiver)
        assert pair["finding"] == deaf.get(receiver)
        assert (pair["sent"], pair["received"]) == (3, 0 if receiver in deaf else 3)
        assert (pair["rtt_ms"] is None) == (receiver in deaf)
    findings = {one["host"]: one["id"] for one in records if one["type"] == "finding"}
    assert findings == deaf


def test_listeners_are_brought_along_and_a_lost_host_hangs_nobody(
    world: World, six: list[Host]
) -> None:
    words = [*names(six[:3]), "netns:nosuch", "-c", "2", "-T", "60s"]
    outcome, records = run_matrix(world.anchor, *words)
    assert outcome.returncode == 1
    lost = next(one for one in records if one.get("host") == "netns:nosuch")
    assert lost["state"] == LOST
    assert lost["text"].startswith("there is no network namespace 'nosuch'; 'ip netns' knows: ")
    pairs = {(one["sender"], one["receiver"]): one for one in records if one["type"] == "pair"}
    assert len(pairs) == 12
    a, b, c = (f"netns:{one.pid}" for one in six[:3])
    assert [pairs[two]["state"] for two in ((a, b), (b, a), (c, a), (a, c))] == [
        *(HEARD, HEARD, HEARD),
        SILENT,
    ]
    assert pairs[a, c]["finding"] == "host.firewall_input"
    assert pairs[a, "netns:nosuch"]["state"] == UNKNOWN
    for one in six:
        assert "7645" not in one.sh("ss -Huln").stdout  # nothing is left running


def test_what_a_host_complains_of_is_its_error_not_its_hint(world: World, six: list[Host]) -> None:
    outcome, records = run_matrix(world.anchor, *names(six[:2]), "-i", "eth9")
    assert outcome.returncode == 0, outcome.stderr  # their own interfaces go before
    words = [one.partition("%")[0] for one in names(six[:2])]
    outcome, records = run_matrix(world.anchor, *words, "-i", "eth9")
    assert outcome.returncode == 2
    texts = {one["text"] for one in records if one["type"] == "host"}
    assert texts == {"no interface has the name, index or address 'eth9'"}


def test_the_page(world: World, six: list[Host]) -> None:
    words = [*names(six[:2]), "-c", "1"]
    outcome = world.anchor.run([sys.executable, "-m", "mcastctl", "matrix", *words], timeout=60)
    head, first, second, told = outcome.stdout.splitlines()
    assert head.split() == ["FROM", "\\", "TO", *(f"netns:{one.pid}" for one in six[:2])]
    assert "·" in first
    assert second.split()[2] == "ms"
    assert told == "2 pairs: 2 heard, 0 lossy, 0 silent, 0 unknown"
    assert outcome.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["alpha"], "takes two hosts or more"),
        (["alpha", "alpha"], "takes two hosts or more"),
        (["alpha", "-x"], "no such option"),
        (["alpha", "b", "--group", "10.0.0.1:5"], "not a multicast"),
        (["--hosts", "/nonexistent"], "cannot read the hosts"),
        (["alpha", "beta", "--ssh", "'"], "cannot read the command"),
        (["alpha%a", "alpha%b", "c"], "'alpha' is named twice, by a and b"),
        (["alpha", "beta", "-i", "a", "-i", "b"], "one group and one interface"),
    ],
)
def test_what_cannot_be_asked(here: Place, words: list[str], said: str) -> None:
    outcome = here.mcastctl("matrix", *words)
    assert outcome.returncode == 2
    error, hint = outcome.stderr.splitlines()
    assert error.startswith("mcastctl: error: ")
    assert said in error
    assert hint.startswith("hint: ")


def test_a_sender_whose_requests_are_refused_is_lost_for_that_reason(
    world: World, six: list[Host]
) -> None:
    """Nobody's silence: the packets never left, and who sent them knows why."""
    six[0].sh(
        "nft add table inet out;"
        "nft add chain inet out o '{ type filter hook output priority 0; }';"
        "nft add rule inet out o udp dport 7645 drop"
    )
    outcome, records = run_matrix(world.anchor, *names(six[:2]), "-c", "1")
    assert outcome.returncode == 1
    a, b = (f"netns:{one.pid}" for one in six[:2])
    told = next(one for one in records if one.get("host") == a)
    assert told["state"] == LOST
    assert "operation not permitted (EPERM)" in told["text"]
    pairs = {(one["sender"], one["receiver"]): one for one in records if one["type"] == "pair"}
    assert (pairs[a, b]["state"], pairs[b, a]["state"]) == (UNKNOWN, HEARD)


# --- the engines people run


def ssh_config(folder: Path, hosts: list[Host]) -> Path:
    """A client's configuration by which two names reach an sshd inside two namespaces."""
    for name in ("host", "user"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(make, check=True)
    (folder / "known").write_text("* " + (folder / "host.pub").read_text())
    server = folder / "sshd_config"
    server.write_text(
        f"HostKey {folder / 'host'}\nAuthorizedKeysFile {folder / 'user.pub'}\n"
        "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n"
    )
    sshd = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/local/sbin")
    lines = [
        f"Host {one.name}\n ProxyCommand nsenter --target={one.pid} --net {sshd} -i -f {server}\n"
        for one in hosts
    ]
    client = folder / "config"
    client.write_text(
        f"IdentityFile {folder / 'user'}\nUserKnownHostsFile {folder / 'known'}\nUser root\n"
        + "".join(lines)
    )
    return client


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Path]:
    """A folder that only its owner reads, and what sshd wants to exist."""
    tmp_path.chmod(0o700)
    run = Path("/run/sshd")
    made = not run.exists()
    if made:
        run.mkdir(mode=0o755)
    yield tmp_path
    if made:
        run.rmdir()


ODD = [
    '{"type":"joined"} {"type": "summary", "streams": {"a": 1}, "responders": 7}',
    '{"type":"joined"} {"type": "summary", "streams": [{"dst": 1}], "stream": [], "requests": "x"}',
    '[1, "x", null, {"type": "finding", "severity": "error", "id": 7}]',
    "\\033[31mno JSON {",
]


@pytest.mark.parametrize("said", ODD)
def test_a_host_that_talks_nonsense_is_lost_alone(world: World, tmp_path: Path, said: str) -> None:
    """What claims to be mcastctl there may say anything: the others get their answers."""
    a, b = world.host("a"), world.host("b")
    world.link(a, b)
    ssh = tmp_path / "ssh"
    own = '{"type": "interface", "addresses": [{"address": "10.9.9.9"}]}'
    ssh.write_text(f"#!/bin/sh\nprintf '%b' 'Welcome to odd!\\n{own} {said}'\n")
    ssh.chmod(0o755)
    words = [*names([a, b]), "odd", "--ssh", str(ssh), "-c", "1", "-T", "2s"]
    outcome, records = run_matrix(world.anchor, *words)
    assert outcome.returncode == 1, outcome.stderr
    assert "internal error" not in outcome.stderr
    pairs = {(one["sender"], one["receiver"]): one for one in records if one["type"] == "pair"}
    first, second = (f"netns:{one.pid}" for one in (a, b))
    assert pairs[first, second]["state"] == pairs[second, first]["state"] == HEARD
    assert pairs[first, "odd"]["state"] != HEARD


def test_a_host_that_says_too_much_is_read_in_no_time() -> None:
    """A line that only looks like JSON costs json a walk through everything before it."""
    noise, ours = "x\n" * (1 << 20), '{"type":"summary"}'
    assert list(fleet._objects(noise + ours)) == [{"type": "summary"}]
    assert list(fleet._objects("{\n" * (1 << 21))) == []
    assert list(fleet._objects("{ motd\n[ 1\n" + ours + ours)) == [{"type": "summary"}] * 2


def asking(host: Host) -> list[int]:
    """The pids of what asks on a host."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if (entry / "ns/net").readlink() == Path(f"/proc/{host.pid}/ns/net").readlink():
                found += [int(entry.name)] * (b"\0ping\0" in (entry / "cmdline").read_bytes())
    return found


def test_hosts_fall_silent_when_whoever_asked_is_killed(world: World) -> None:
    """As when the connection breaks: nothing may go on there, and nobody is there to end it."""
    a, b = world.host("a"), world.host("b")
    world.link(a, b)
    words = [sys.executable, "-m", "mcastctl", "matrix", *names([a, b]), "-c", "500"]
    running = world.anchor.popen(words)
    running.wait_stderr("each asks 500 times", timeout=60)
    until(lambda: bool(asking(a) and asking(b)))
    running.signal(signal.SIGKILL)
    until(lambda: not asking(a) and not asking(b))
    until(lambda: not any("7645" in one.sh("ss -Huln").stdout for one in (a, b)))


def test_one_source_of_a_channel_asks_and_the_others_hear(world: World) -> None:
    """SRC@GROUP: listeners let that source in only, so nobody else has anything to ask."""
    hosts = [world.host(name) for name in "abc"]
    world.bridge("sw", *hosts)
    channel = f"{hosts[0].addr4()}@232.1.2.3:{PORT}"
    words = [*names(hosts), "-c", "1", "--wait", "300ms", "--group"]
    outcome, records = run_matrix(world.anchor, *words, channel)
    assert outcome.returncode == 0, outcome.stderr + outcome.stdout
    assert {one["state"] for one in records if one["type"] == "host"} == {ASKED}
    a, b, c = (f"netns:{one.pid}" for one in hosts)
    told = [one for one in records if one["type"] == "pair"]
    assert [(one["sender"], one["receiver"]) for one in told] == [(a, b), (a, c)]
    outcome, records = run_matrix(world.anchor, *words, f"192.0.2.1@232.1.2.3:{PORT}")
    assert outcome.returncode == 2
    assert "no host has the address 192.0.2.1" in outcome.stderr


@pytest.mark.skipif(not ROOT, reason=BY_ROOT)
def test_over_openssh(world: World, here: Place, private: Path) -> None:
    """The real client and the real server, joined by a pipe; the hosts' network is a namespace."""
    need("ssh", "sshd", "ssh-keygen", "nsenter")
    hosts = [world.host("alpha"), world.host("beta")]
    world.link(*hosts)
    config = ssh_config(private, hosts)
    remote = private / "mcastctl"
    remote.write_text(f'#!/bin/sh\nexec {sys.executable} -m mcastctl "$@"\n')
    remote.chmod(0o755)
    ways = ["--ssh", f"ssh -F {config} -o BatchMode=yes", "--remote", str(remote)]
    outcome, records = run_matrix(here, "alpha%alpha0", "beta%beta0", *ways, "-c", "2")
    assert outcome.returncode == 0, outcome.stderr + outcome.stdout
    pairs = [one for one in records if one["type"] == "pair"]
    assert [(one["sender"], one["state"], one["received"]) for one in pairs] == [
        ("alpha", HEARD, 2),
        ("beta", HEARD, 2),
    ]
    for one in hosts:
        assert "7645" not in one.sh("ss -Huln").stdout


def test_an_inventory_is_read_by_ansible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ansible")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(
        json.dumps(
            {
                "all": {
                    "hosts": {
                        "here": {"ansible_connection": "local"},
                        "alpha": {},
                        "beta": {"ansible_host": "192.0.2.7", "ansible_user": "ops"},
                    },
                    "children": {
                        "more": {"hosts": {"gamma": {"ansible_port": 2222}, "n[01:02]": {}}},
                        "old": {"hosts": {"alpha": {}, "six": {"ansible_ssh_host": "2001:db8::7"}}},
                        "both": {
                            "hosts": {"v6": {"ansible_host": "2001:db8::8", "ansible_port": 22}}
                        },
                    },
                }
            }
        )
    )
    assert sorted(lists.from_inventory(str(inventory))) == [
        *("2001:db8::7", "alpha", "local", "n01", "n02"),
        *("ssh://[2001:db8::8]:22", "ssh://gamma:2222", "ssh://ops@192.0.2.7"),
    ]
    (tmp_path / "broken.yml").write_text("{[")
    with pytest.raises(McastError):
        lists.from_inventory(str(tmp_path / "broken.yml"))
    program = tmp_path / "ansible-inventory"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for odd in ("[]", '{"_meta": {"hostvars": []}}', '{"a": {"hosts": [1]}}', "[" * 100_000):
        program.write_text(f"#!/bin/sh\ncat <<'E'\n{odd}\nE\n")
        program.chmod(0o755)
        with pytest.raises(McastError):
            lists.from_inventory("x")


PLAYBOOK = re.search(r"```yaml\n(- name: .*?)```", README.read_text(), re.DOTALL)


def test_the_example_for_ansible(world: World, tmp_path: Path) -> None:
    """The README's playbook says yes where the stream arrives, and why not where it does not."""
    pytest.importorskip("ansible")
    assert PLAYBOOK
    (tmp_path / "playbook.yml").write_text(PLAYBOOK[1].replace("-T 5s", "-T 1s"))
    (tmp_path / "inventory").write_text(
        f"[receivers]\nhere ansible_connection=local ansible_python_interpreter={sys.executable}\n"
    )
    program = tmp_path / "mcastctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m mcastctl "$@"\n')
    program.chmod(0o755)
    a, b = world.host("a"), world.host("b")
    world.link(a, b)
    b.ip("route add 224.0.0.0/4 dev b0")
    play = [sys.executable, "-m", "ansible", "playbook", "-i", "inventory", "playbook.yml"]
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "ANSIBLE_HOME": str(tmp_path),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path),
    }
    silent = b.run(play, check=False, cwd=tmp_path, env=env, timeout=100)
    assert silent.returncode == 2
    assert "heard none of 1 expected" in silent.stdout, silent.stdout + silent.stderr
    a.popen([sys.executable, "-m", "mcastctl", "send", "239.1.1.1:5004", *SENDING])
    heard = b.run(play, check=False, cwd=tmp_path, env=env, timeout=100)
    assert heard.returncode == 0, heard.stdout
    assert re.search(r"[1-9][0-9]* datagrams, 0 lost", heard.stdout)


SENDING = ["-i", "a0", "--probe", "--pps", "50", "-T", "120s", "-q"]
