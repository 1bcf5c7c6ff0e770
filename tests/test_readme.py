"""The README's own commands: each row of the table of equivalents runs between two hosts."""

import re
import shlex
import sys
from pathlib import Path

import control
import frames
import pytest
from world import Place, World

README = (Path(__file__).parent.parent / "README.md").read_text()
TABLE = README.partition("## Instead of")[2].partition("\n## ")[0]
ROW = re.compile(r"^\| `([^`]+)`.* \| `([^`]+)` \|$", re.MULTILINE)
EQUIVALENTS = ROW.findall(TABLE)


def test_first_screen_has_both_commands() -> None:
    """The two commands stand whole, each on a line of its own, within the first 30 lines."""
    top = README.splitlines()[:30]
    for command in (
        "python3 -m venv .venv && .venv/bin/pip install -q . "
        "&& .venv/bin/mcastctl doctor --self-test",
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]' "
        "&& .venv/bin/python -m pytest",
    ):
        assert f"$ {command}" in top


def test_table_is_found() -> None:
    """The parser of this test reads the table at all."""
    assert len(EQUIVALENTS) == 15


@pytest.mark.parametrize("ours", [ours for _, ours in EQUIVALENTS])
def test_equivalents_run(world: World, ours: str) -> None:
    """Our side of each row is understood and does its work on an interface named eth0."""
    eth, other = world.host("eth"), world.host("other")
    world.link(eth, other)
    eth.ip("route add 224.0.0.0/4 dev eth0")
    if ours.startswith("ping"):  # the row that only asks for the bare index
        inner = re.search(r"\$\(mcastctl (.*?)\)", ours)
        assert inner
        assert eth.mcastctl(*shlex.split(inner[1])).stdout.strip() == str(eth.ifindex("eth0"))
        return
    arguments = shlex.split(ours)[1:]
    finished = {
        "send": ["-T", "300ms"],
        "listen": ["-T", "300ms"],
        "echo": ["-T", "300ms"],
        "ping": ["--interval", "100ms", "--wait", "100ms", "-c", "2"],
        "sniff": ["-T", "300ms"],
        "ifaces": [],
        "routes": [],
        "groups": [],
    }[arguments[0]]
    if "-T" in arguments:
        arguments[arguments.index("-T") + 1] = "300ms"
        finished = []
    outcome = eth.mcastctl(*arguments, *finished, input="hello\n")
    silent = arguments[0] in ("listen", "echo", "ping")  # nobody is there: the answer is no
    # What a new link says of itself may come before sniff hears, or after.
    expected = {0, 1} if arguments[0] == "sniff" else {int(silent)}
    assert outcome.returncode in expected, outcome.stderr
    assert "error" not in outcome.stderr


TROUBLE = README.partition("## Troubleshooting")[2].partition("\n## ")[0]
OURS = [sys.executable, "-m", "mcastctl"]
SHORT = ["-T", "200ms"]
END_BY_THEMSELVES = {"ifaces", "routes", "groups", "send"}


def commands() -> list[str]:
    """Every command line of ours in the console blocks and in the table of symptoms."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    typed = [
        re.split(r" \| | && |   +#", re.split("[$#] ", line, maxsplit=1)[1])[0].strip()
        for block in blocks
        for line in block.splitlines()
        if re.match(r"[-a-z]*[$#] ", line)
    ]
    asked = re.findall(r"^\| [^|]+ \| `([^`]+)`", TROUBLE, re.MULTILINE)
    ours = [re.sub(r"^sudo (setpriv .*?(?=mcastctl))?", "", line) for line in (*typed, *asked)]
    return list(dict.fromkeys(line for line in ours if line.startswith("mcastctl ")))


def test_every_command_names_real_options(here: Place) -> None:
    """Each parses: its help page knows every option."""
    assert len(commands()) >= 30
    for line in commands():
        words = shlex.split(line)[1:]
        page = here.mcastctl(words[0], "--help").stdout
        for word in words[1:]:
            if re.fullmatch(r"--?[A-Za-z][a-z-]*", word):
                assert re.search(rf"(^|[ ,]){re.escape(word)}\b", page, re.MULTILINE), word


def shortened(words: list[str]) -> list[str]:
    """The same command, for a moment only."""
    if words[0] == "ping":
        return [*words, "--interval", "100ms", "--wait", "50ms", *([] if "-c" in words else SHORT)]
    if "-T" in words:
        words[words.index("-T") + 1] = SHORT[1]
        return words
    single = words[0] in END_BY_THEMSELVES and not {"--live", "--watch"} & set(words)
    return words if single or {"-r", "--self-test"} & set(words) else [*words, *SHORT]


def test_every_command_runs(world: World, tmp_path: Path) -> None:
    """Each is typed on a host with the interfaces and files it names; none is an error."""
    eth, other = world.host("eth"), world.host("other")
    world.link(eth, other)
    world.link(eth, other)
    eth.ip("route add 224.0.0.0/4 dev eth0")
    for name in ("join.pcap", "tv.pcapng"):
        frame = frames.ether(control.IGMP["v3 report"])
        (tmp_path / name).write_bytes(frames.pcap([frame]))
    program = eth.popen([*OURS, "groups", "--watch"])  # somebody for --pid
    for line in commands():
        words = shortened(shlex.split(line)[1:])
        if words[0] == "matrix":  # over ssh: tests/test_matrix.py
            continue
        if "--pid" in words:
            words[words.index("--pid") + 1] = str(program.pid)
        outcome = eth.run([*OURS, *words], check=False, cwd=tmp_path, input="hello\n", timeout=40)
        assert outcome.returncode in (0, 1), f"{line}: {outcome.stderr}"


def test_every_promise_names_a_test_that_is_there() -> None:
    rows = README.partition("## Promises")[2].partition("\n\n- ")[0]
    named = re.findall(r"`(tests/[a-z_/]+\.py)(?:::(\w+))?`", rows)
    assert len(named) >= 12
    for path, name in named:
        source = (Path(__file__).parent.parent / path).read_text()
        assert f"def {name}(" in source if name else source
