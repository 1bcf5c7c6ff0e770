"""What is generated from the command line is up to date, and works in the programs it is for."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from place import PATH
from world import Place, World, need

from mcastctl.cli import app, generate

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for path in generate.pages() if path.startswith("man/"))


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


def test_files_are_up_to_date() -> None:
    """`python -m mcastctl.cli.generate` would change nothing."""
    wanted = generate.pages()
    there = {
        f"{folder}/{file.name}": file.read_text()
        for folder in ("man", "completions")
        for file in (ROOT / folder).iterdir()
    }
    assert set(wanted) == set(there)
    for path, text in wanted.items():
        assert there[path] == text, f"{path}: run python -m mcastctl.cli.generate"


def test_the_readme_has_every_command_with_its_options() -> None:
    readme = (ROOT / "README.md").read_text()
    assert generate.reference() in readme, "run python -m mcastctl.cli.generate"
    assert generate.with_reference(readme) == readme
    for name, command in app.command_table().items():
        usage = generate.reference().partition(f"mcastctl {name} ")[2].partition("\n\n")[0]
        for param in command.params:
            if isinstance(param, click.Option) and not param.hidden and param.name != "help":
                assert max(param.opts, key=len) in usage, param.opts


def test_generating_is_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    before = generate.pages()
    monkeypatch.setenv("COLUMNS", "33")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("MCASTCTL_LISTEN_COUNT", "7")
    assert generate.pages() == before


def test_every_command_is_there() -> None:
    table = app.command_table()
    assert list(table) == list(app.COMMANDS)
    modules = {file.stem for file in (ROOT / "mcastctl" / "cli").glob("*.py")}
    assert set(app.COMMANDS) <= modules
    assert set(PAGES) == {"man/mcastctl.1", *(f"man/mcastctl-{name}.1" for name in table)}


# --- help


@pytest.mark.parametrize("name", app.COMMANDS)
def test_help_of_a_command(here: Place, name: str) -> None:
    outcome = here.mcastctl(name, "--help", env={"COLUMNS": "100"}, check=True)
    assert outcome.stderr == ""
    assert outcome.stdout == here.mcastctl(name, "-h", env={"COLUMNS": "100"}).stdout
    text = outcome.stdout
    assert text.startswith(f"Usage: mcastctl {name} ")
    assert max(map(len, text.splitlines())) <= 100
    examples = re.findall(rf"^ +.*\bmcastctl {name}\b.*$", text, re.MULTILINE)
    assert len(examples) >= 3
    assert text.index("Examples:") < text.index("Options:")
    command = app.command_table()[name]
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            assert param.help, param.opts
            assert max(param.opts, key=len) in text


@pytest.mark.parametrize("name", app.COMMANDS)
def test_examples_have_options_that_exist(name: str) -> None:
    command = app.command_table()[name]
    known = {opt for param in command.params for opt in param.opts} | {"-h", "--help"}
    used = set()
    for line in command.examples.strip().splitlines():
        ours = re.search(rf"mcastctl {name}( .*?)?(  +|[|)]|$)", line)
        if ours:
            used |= set(re.findall(r"(?<= )--?[A-Za-z0-9][-a-z0-9]*", ours[1] or ""))
    assert used - known == set()


def test_the_first_page_fits_a_small_terminal(here: Place) -> None:
    outcome = here.mcastctl("--help", env={"COLUMNS": "80"}, check=True)
    lines = outcome.stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    for name, short in app.COMMANDS.items():
        assert any(re.fullmatch(rf"  {name} +{re.escape(short)}", line) for line in lines)
        assert len(short) <= 60
        assert re.fullmatch(r"[A-Z].*\.", short)
    bare = here.mcastctl()
    assert (bare.returncode, bare.stdout) == (2, "")
    assert "Usage: mcastctl" in bare.stderr


# --- man pages


@pytest.mark.parametrize("path", PAGES)
def test_a_man_page_is_good_roff(path: str) -> None:
    need("groff")
    options = ["-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=100n"]
    outcome = subprocess.run(
        ["groff", *options, ROOT / path], capture_output=True, text=True, check=True
    )
    assert outcome.stderr == ""
    text = outcome.stdout
    sections = re.findall(r"^[A-Z][A-Z ]+$", text, re.MULTILINE)
    assert sections[:2] == ["NAME", "SYNOPSIS"]
    assert {"OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES"} <= set(sections)
    if path == "man/mcastctl.1":
        for name in app.COMMANDS:
            assert f"mcastctl-{name}(1)" in text
        return
    name = path.removeprefix("man/mcastctl-").removesuffix(".1")
    command = app.command_table()[name]
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            assert all(option in text for option in param.opts if option != "-I"), param.opts
    for line in command.examples.strip().splitlines():
        assert line.split("   ")[0].strip() in text  # quotes, backslashes and dashes as typed


RECORDS = {
    "send": ["start", "datagram", "notice", "summary"],
    "listen": ["start", "membership", "datagram", "notice", "summary", "stream"],
    "echo": ["start", "membership", "datagram", "notice", "summary"],
    "ping": ["start", "reply", "notice", "summary"],
    "ifaces": ["interface", "interface_rates"],
    "routes": ["route", "forwarding", "forwarding_interface", "forwarding_entry", "bridge", "mdb"],
    "groups": ["host_membership"],
    "sniff": ["start", "packet", "notice", "summary"],
    "doctor": ["finding"],
    "matrix": ["host", "pair", "finding"],
}
"""What each command prints with -j, as the schema calls it."""


@pytest.mark.parametrize("name", app.COMMANDS)
def test_a_page_names_every_key_and_every_status(name: str) -> None:
    """The JSON section of a page has each key the schema requires, EXIT STATUS all of 0, 1, 2."""
    page = (ROOT / "man" / f"mcastctl-{name}.1").read_text()
    section = page.partition(".SH JSON\n")[2].partition(".SH ")[0]
    words = set(re.findall(r"[a-z][a-z0-9_]*", section))
    definitions = json.loads((ROOT / "tests" / "schema.json").read_text())["$defs"]
    for kind in RECORDS[name]:
        keys = set(definitions[kind].get("required", ()))
        if kind == "summary":
            keys |= set(definitions["report"]["required"])
        assert keys - words - {"ts"} == set(), kind
    assert ".SH DIAGNOSIS\n" in page
    statuses = page.partition('.SH "EXIT STATUS"\n')[2].partition(".SH ")[0]
    listed = re.findall(r"^\.BR? (\d+)", statuses, re.MULTILINE)
    assert listed in (["0", "1", "2", "130"], ["0", "2", "130"])


def test_man_finds_and_shows_a_page(here: Place) -> None:
    need("man")
    page = ROOT / "man" / "mcastctl-ping.1"
    outcome = here.run(["man", "--warnings", "-l", page], env={"MANPAGER": "cat", "MANWIDTH": "90"})
    assert outcome.stderr == ""
    assert "ping '[ff02::123%eth0]:7645' -c 3" in outcome.stdout


def test_apropos_can_read_the_names() -> None:
    """A page's NAME is one line, 'name - what', or mandb(8) does not list it."""
    for path in PAGES:
        text = (ROOT / path).read_text()
        (line,) = re.findall(r"^\.SH NAME\n(.*)\n\.SH", text, re.MULTILINE)
        assert re.fullmatch(r"mcastctl(\\-[a-z]+)? \\- [a-z].*[^.]", line), line


# --- completion


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
    listed = " ".join(map(shlex.quote, words))
    script = f"""
        complete() {{ :; }}
        . {ROOT}/completions/mcastctl.bash
        COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; COMPREPLY=()
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


def test_fish_offers_commands_and_interfaces(shell: Place) -> None:
    source = f"source {ROOT}/completions/mcastctl.fish;"
    for typed, expected in (
        ("mcastctl li", "listen"),
        ("mcastctl listen -i l", "lo"),
        ("mcastctl send 224.0.0.2", "224.0.0.251"),
    ):
        offered = in_shell(shell, "fish", f"{source} complete -C {shlex.quote(typed)}")
        assert expected in [line.split("\t")[0] for line in offered], (typed, offered)


def test_zsh_offers_commands_and_interfaces(shell: Place) -> None:
    """The function itself, with what the completion system would have set."""
    for words, expected in (
        ("mcastctl li", "listen"),
        ("mcastctl listen -i l", "lo"),
        ("mcastctl send 224.0.0.2", "224.0.0.251"),
    ):
        script = f"""
            compdef() {{ :; }}
            _describe() {{ print -rl -- "${{(@P)3}}"; }}
            compadd() {{ print -rl -- "${{(@P)5}}"; }}
            . {ROOT}/completions/_mcastctl
            words=({words}); CURRENT=$#words
            _mcastctl_completion
        """
        offered = in_shell(shell, "zsh", script)
        assert expected in [line.partition(":")[0] for line in offered], (words, offered)


def test_interfaces_of_a_host_are_offered(world: World) -> None:
    a = world.host("a")
    world.link(a, world.host("b"))
    script = "COMP_WORDS='mcastctl listen -i ' COMP_CWORD=3 _MCASTCTL_COMPLETE=bash_complete"
    outcome = a.sh(f"{script} {shlex.quote(sys.executable)} -c {shlex.quote(MAIN)}")
    assert outcome.stdout.splitlines() == ["plain,lo", "plain,a0"]


@pytest.mark.parametrize("asked", [{}, {"COMP_WORDS": "mcastctl 'l", "COMP_CWORD": "x"}])
def test_completion_asked_for_by_no_shell(here: Place, asked: dict[str, str]) -> None:
    outcome = here.mcastctl(env={"_MCASTCTL_COMPLETE": "bash_complete", **asked}, check=False)
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("mcastctl: error: cannot complete: COMP_WORDS and COMP_CWORD")


MAIN = "import sys; sys.argv[0] = 'mcastctl'; from mcastctl.cli.app import main; main()"
