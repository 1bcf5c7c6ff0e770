"""Files that somebody else laid where a command runs, or below a HOME that is not root's, are
neither executed nor read: modules of our names, pickles of our libraries, settings.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import frames as f
import pytest
from conftest import Pair
from world import Outcome

from mcastctl.cli import config
from mcastctl.cli.config import ConfigError, Settings

MODULES = (
    *("click", "rich", "scapy", "psutil", "pyroute2", "mcastctl", "json", "socket", "struct", "os"),
    *("ctypes", "subprocess", "logging", "pickle", "tomllib", "sitecustomize", "usercustomize"),
)
PICKLES = ("ethertypes", "protocols", "services", "services_tcp", "services_udp", "manufdb")
COMMANDS = [
    "--version",
    "ifaces",
    "routes 239.1.1.1 --bridge --forwarding",
    "groups",
    "doctor 239.1.1.1:5004 -T 50ms",
    "doctor --self-test",
    "send 239.1.1.1:5004 x -i a0",
    "listen 239.1.1.1:5004 -i a0 -T 50ms --exec cat",
    "echo 239.1.1.1:5004 -i a0 -T 50ms --exec cat",
    "ping 239.1.1.1:5004 -i a0 -c 1 --wait 50ms",
    "sniff -i a0 -T 50ms -vv udp",
    "sniff -i a0 -T 50ms -w out.pcap",
    "sniff -r in.pcap -vv",
    "sniff -r in.pcap -j udp or proto 89",
    "sniff -r in.pcap --streams",
]


class Payload:
    """Unpickled, it writes a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"echo pickle >> {self.mark}",)


def _plant(cwd: Path, home: Path, mark: Path) -> None:
    program = f"with open({str(mark)!r}, 'a') as file:\n    file.write(__name__ + '\\n')\n"
    for name in MODULES:
        (cwd / f"{name}.py").write_text(program)
    settings = '[send]\nttl = 99\n[listen]\nexec = "touch planted"\n'
    for place in (cwd, cwd / "mcastctl", cwd / ".config" / "mcastctl"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.toml").write_text(settings)
    nft = cwd / "nft"
    nft.write_text(f"#!/bin/sh\necho nft >> {mark}\n")
    nft.chmod(0o755)
    for cache in (home / ".cache" / "scapy", home / "cache" / "scapy"):
        cache.mkdir(parents=True)
        for name in PICKLES:
            (cache / f"{name}.pickle").write_bytes(pickle.dumps(Payload(mark)))
        (cache / "dangling.pickle").symlink_to(home / "written")
    for folder in (home / ".config" / "scapy", home / "config" / "scapy"):
        folder.mkdir(parents=True)
        for name in ("prestart.py", "startup.py"):
            (folder / name).write_text(program)


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
def test_nothing_planted_is_executed_or_read(pair: Pair, tmp_path: Path, variable: str) -> None:
    cwd, home, mark = tmp_path / "cwd", tmp_path / "home", tmp_path / "mark"
    cwd.mkdir()
    _plant(cwd, home, mark)
    ospf = f.ether(f.ip4("10.0.0.1", "224.0.0.5", 89, bytes(44)))
    (cwd / "in.pcap").write_bytes(f.pcap([ospf, *[f.ether(f.datagram("10.0.0.1", *UDP))] * 3]))
    env = {"HOME": str(home), "PATH": f".:{pair.a.env['PATH']}"}
    if variable == "XDG_CACHE_HOME":
        env |= {"XDG_CACHE_HOME": str(home / "cache"), "XDG_CONFIG_HOME": str(home / "config")}
    before = sorted(path for path in home.rglob("*"))
    program = Path(sys.executable).with_name("mcastctl")

    def run(command: str) -> Outcome:
        words: list[str | Path] = [program, *command.split()]
        return pair.a.run(words, cwd=cwd, env=env, check=False, timeout=60)

    commands = COMMANDS if variable == "HOME" else COMMANDS[-3:-2]
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(run, commands))
    for command, ended in zip(commands, outcomes, strict=True):
        assert ended.returncode in (0, 1), (command, ended)
        assert not mark.exists(), (command, mark.read_text())
        assert "Traceback" not in ended.stderr
    assert sorted(path for path in home.rglob("*")) == before


UDP = ("239.1.1.1", 4000, 5004, b"x")


def test_what_is_planted_would_do_harm(tmp_path: Path) -> None:
    """Or the test above would prove nothing."""
    cwd, home, mark = tmp_path / "cwd", tmp_path / "home", tmp_path / "mark"
    cwd.mkdir()
    _plant(cwd, home, mark)
    subprocess.run([sys.executable, "-c", "import click"], cwd=cwd, check=True)
    pickles = home / ".cache" / "scapy" / "ethertypes.pickle"
    pickle.loads(pickles.read_bytes())  # noqa: S301 (our own)
    subprocess.run([cwd / "nft"], check=True)
    assert mark.read_text().split()[-3:] == ["click", "pickle", "nft"]


@pytest.mark.parametrize(
    ("owner", "mode", "said"),
    [
        (0, 0o644, ""),
        (0, 0o600, ""),
        (0, 0o664, "others may write it"),
        (0, 0o646, "others may write it"),
        (1000, 0o644, "it belongs to uid 1000"),
    ],
)
def test_root_reads_only_what_root_alone_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, mode: int, said: str
) -> None:
    file = tmp_path / "mcastctl" / "config.toml"
    file.parent.mkdir()
    file.write_text("[groups]\nvideo = '239.1.1.1:5004'\n")
    file.chmod(mode)
    real = os.fstat

    def owned(descriptor: int) -> os.stat_result:
        found = list(real(descriptor))
        found[4] = owner
        return os.stat_result(found)

    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    monkeypatch.setattr(os, "fstat", owned)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    if said:
        with pytest.raises(ConfigError, match=said) as caught:
            config.load(environ, ["listen"])
        assert str(file) in caught.value.message
        assert "sudo -H" in caught.value.hint
    else:
        assert config.load(environ, ["listen"]).groups == {"video": "239.1.1.1:5004"}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert config.load(environ, ["listen"]) != Settings({}, {})
