"""Completion in the shells it is for: what is offered, and what becomes of the line."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from place import PATH
from terminal import Terminal
from world import Place, World, need

from mcastctl.cli import app, completion

ROOT = Path(__file__).parent.parent


@pytest.fixture
def shell(here: Place, tmp_path: Path) -> Place:
    """A place whose PATH has an mcastctl that runs this one."""
    program = tmp_path / "bin" / "mcastctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m mcastctl "$@"\n')
    program.chmod(0o755)
    return here


def in_shell(place: Place, name: str, script: str) -> list[str]:
    """Lines that a script prints to standard output, nothing to standard error."""
    need(name)
    quiet = {"zsh": ["zsh", "-f"], "fish": ["fish", "--no-config"], "bash": ["bash", "--norc"]}
    bin_ = place.config_home / "bin"
    outcome = place.run([*quiet[name], "-c", script], env={"PATH": f"{bin_}:{PATH}"})
    assert outcome.stderr == ""
    return outcome.stdout.splitlines()


@pytest.mark.parametrize(
    ("name", "file"), [("bash", "mcastctl.bash"), ("zsh", "_mcastctl"), ("fish", "mcastctl.fish")]
)
def test_a_script_parses(name: str, file: str) -> None:
    need(name)
    script = ROOT / "completions" / file
    outcome = subprocess.run([name, "-n", script], capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stderr) == (0, "")


def complete_bash(place: Place, *words: str) -> list[str]:
    """What bash offers for the last word."""
    line = shlex.quote(" ".join(words))
    script = f"""
        complete() {{ :; }}
        compopt() {{ :; }}
        . {ROOT}/completions/mcastctl.bash
        COMP_LINE={line}; COMP_POINT=${{#COMP_LINE}}; COMPREPLY=()
        _mcastctl_completion mcastctl
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return [line for line in in_shell(place, "bash", script) if line]


def test_bash_offers_commands_options_and_interfaces(shell: Place) -> None:
    assert complete_bash(shell, "mcastctl", "li") == ["listen"]
    assert complete_bash(shell, "mcastctl", "") == list(app.COMMANDS)
    assert complete_bash(shell, "mcastctl", "listen", "--expect-n") == ["--expect-none"]
    assert complete_bash(shell, "mcastctl", "listen", "-i", "l") == ["lo"]
    assert "lo" in complete_bash(shell, "mcastctl", "ifaces", "")
    assert complete_bash(shell, "mcastctl", "listen", "--color", "n") == ["never"]
    assert complete_bash(shell, "mcastctl", "nothing", "x") == []
    assert complete_bash(shell, "mcastctl", "groups", "ff02::1:") == ["1", "2", "3", "4", "5", "8"]


def test_bash_offers_configured_names(shell: Place) -> None:
    file = shell.config_home / "mcastctl" / "config.toml"
    file.parent.mkdir()
    file.write_text("[groups]\nvideo = '239.1.1.1:5004'\nvoice = '239.1.1.2:5004'\n")
    assert complete_bash(shell, "mcastctl", "send", "v") == ["video", "voice"]
    assert complete_bash(shell, "mcastctl", "listen", "239.1.1.9:5", "vi") == ["video"]


def test_bash_offers_what_a_value_may_be(shell: Place) -> None:
    """Well-known groups, formats, code points, and 'any' where a capture may take it."""
    assert complete_bash(shell, "mcastctl", "routes", "224.0.0.25") == [
        "224.0.0.251",
        "224.0.0.252",
        "224.0.0.253",
    ]
    assert "ff02::1:3" in complete_bash(shell, "mcastctl", "groups", "ff02")
    assert complete_bash(shell, "mcastctl", "listen", "-o", "j") == ["json", "jsonl"]
    assert complete_bash(shell, "mcastctl", "listen", "-o", "d") == ["dots="]
    assert complete_bash(shell, "mcastctl", "ifaces", "-o", "i") == ["index"]
    assert complete_bash(shell, "mcastctl", "send", "-Q", "af4") == ["af41", "af42", "af43"]
    assert complete_bash(shell, "mcastctl", "sniff", "-i", "a") == ["any"]


def test_completion_keeps_quiet_about_a_broken_configuration(shell: Place) -> None:
    file = shell.config_home / "mcastctl" / "config.toml"
    file.parent.mkdir()
    file.write_text("[groups\n")
    assert complete_bash(shell, "mcastctl", "send", "v") == []
    assert complete_bash(shell, "mcastctl", "send", "224.0.0.251") == ["224.0.0.251"]


def test_powershell_parses_its_script() -> None:
    need("pwsh")
    script = ROOT / "completions" / "mcastctl.ps1"
    parse = "$e = $null; $null = [System.Management.Automation.Language.Parser]::ParseFile("
    told = f"{parse}'{script}', [ref]$null, [ref]$e); $e.Count"
    outcome = subprocess.run(
        ["pwsh", "-NoProfile", "-c", told], capture_output=True, text=True, check=True
    )
    assert outcome.stdout.strip() == "0"


def test_bash_registers_it(shell: Place) -> None:
    (line,) = in_shell(shell, "bash", f". {ROOT}/completions/mcastctl.bash; complete -p mcastctl")
    assert "-F _mcastctl_completion mcastctl" in line


class Typist:
    """An interactive shell on a terminal, into which lines are typed and completed."""

    START: ClassVar = {
        "bash": (["bash", "--norc", "--noprofile", "-i"], ["PS1='$ '", ". {0}/mcastctl.bash"]),
        "zsh": (
            ["zsh", "-f", "-i"],
            ["PS1='$ '", "fpath=({0} $fpath)", "autoload -Uz compinit; compinit -u -D"],
        ),
        "fish": (
            ["fish", "--no-config", "-i"],
            ["function fish_prompt; echo '$ '; end", "source {0}/mcastctl.fish"],
        ),
    }

    def __init__(self, place: Place, name: str, terminal: Terminal) -> None:
        args, begin = self.START[name]
        self._terminal = terminal
        streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.theirs)
        env = {"PATH": f"{place.config_home / 'bin'}:{PATH}", "TERM": "xterm"}
        place.popen(["setsid", "-c", "-w", *args], env=env, cwd=place.config_home, **streams)
        for line in begin:
            terminal.press(line.format(ROOT / "completions") + "\r")
        terminal.press("echo rea''dy\r")
        terminal.wait("^ready")

    def see(self, typed: str, pattern: str) -> None:
        """Type a line up to the cursor, complete it, wait for what it became; erase it."""
        self._terminal.press(f"\x15\x0c{typed}")
        self._terminal.wait(rf"\$ +{re.escape(typed.rstrip())}")
        self._terminal.press("\t")
        self._terminal.wait(pattern)


COMPLETED = [
    ("mcastctl li", r"mcastctl listen$"),
    ("mcastctl listen -i l", r"-i lo$"),
    ("mcastctl listen -il", r"-ilo$"),
    ("mcastctl listen --iface=l", r"--iface=lo$"),
    ("mcastctl listen --color=al", r"--color=always$"),
    ("mcastctl sniff --read=o", r"--read=one\.pcap$"),
    ("mcastctl sniff -r 'tw", r"-r 'two words\.pcap'$"),
    ('mcastctl send vid "it\'s one" --dsc', r"vid \"it's one\" --dscp$"),
    ("mcastctl routes -- ff02::16", r"-- ff02::16$"),
]


@pytest.mark.parametrize("name", Typist.START)
def test_a_shell_completes_what_is_typed(shell: Place, name: str) -> None:
    """The real shells: values behind '=' and a letter, quoted words, files, well-known groups."""
    need(name, "setsid")
    for file in ("one.pcap", "two words.pcap"):
        (shell.config_home / file).touch()
    with Terminal(100) as terminal:
        typist = Typist(shell, name, terminal)
        for typed, pattern in COMPLETED:
            typist.see(typed, pattern)


def test_fish_tells_what_candidates_are(shell: Place) -> None:
    source = f"source {ROOT}/completions/mcastctl.fish;"
    (line,) = in_shell(shell, "fish", f"{source} complete -C 'mcastctl send ff02::1:3'")
    assert line == "ff02::1:3\tLLMNR, link-local"


def test_the_line_is_understood_wherever_it_breaks() -> None:
    def read(line: str, kind: type[completion._Line] = completion.Zsh) -> tuple[list[str], str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("COMP_CWORD", raising=False)
            patch.setenv("COMP_WORDS", line)
            return kind(app.cli, {}, "mcastctl", "").get_completion_args()

    assert read("mcastctl listen ") == (["listen"], "")
    assert read("mcastctl listen 'a b") == (["listen"], "a b")
    assert read("A=1 mcastctl li", completion.Fish) == ([], "li")
    assert read(r"mcastctl send a\ b\ ") == (["send"], "a b ")
    assert read("") == ([], "")


def test_interfaces_of_a_host_are_offered(world: World) -> None:
    a = world.host("a")
    world.link(a, world.host("b"))
    script = "COMP_WORDS='mcastctl listen -i ' COMP_CWORD=3 _MCASTCTL_COMPLETE=bash_complete"
    outcome = a.sh(f"{script} {shlex.quote(sys.executable)} -c {shlex.quote(MAIN)}")
    assert outcome.stdout.splitlines() == ["plain,lo", "plain,a0"]


MAIN = "import sys; sys.argv[0] = 'mcastctl'; from mcastctl.cli.app import main; main()"


def test_completion_asked_for_by_no_shell(here: Place) -> None:
    asked = {"_MCASTCTL_COMPLETE": "bash_complete", "COMP_WORDS": "mcastctl l", "COMP_CWORD": "x"}
    outcome = here.mcastctl(env=asked, check=False)
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("mcastctl: error: cannot complete: COMP_WORDS and COMP_CWORD")


def test_the_program_itself_has_the_script(shell: Place) -> None:
    """As the README tells those who did not install the files."""
    for name, file in (("bash", "mcastctl.bash"), ("zsh", "_mcastctl"), ("fish", "mcastctl.fish")):
        told = shell.mcastctl(env={"_MCASTCTL_COMPLETE": f"{name}_source"}, check=True).stdout
        assert told.strip() == (ROOT / "completions" / file).read_text().strip()
