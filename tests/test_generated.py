"""What is generated from the command line is up to date, and works in the programs it is for."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import click
import pytest
from world import Place, need

from mcastctl.cli import app, generate

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for path in generate.pages() if path.startswith("man/"))


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
    """The JSON section of a page has each key of the schema, EXIT STATUS all of 0, 1, 2."""
    page = (ROOT / "man" / f"mcastctl-{name}.1").read_text()
    section = page.partition(".SH JSON\n")[2].partition(".SH ")[0]
    words = set(re.findall(r"[a-z][a-z0-9_]*", section))
    definitions = json.loads((ROOT / "tests" / "schema.json").read_text())["$defs"]
    for kind in RECORDS[name]:
        keys = set(definitions[kind].get("required", ()))
        if kind == "summary":  # one for all commands
            keys |= set(definitions["report"]["required"])
        elif kind != "notice" and (name, kind) != ("doctor", "finding"):  # its receiver: matrix
            keys |= set(definitions[kind].get("properties", ()))
        assert keys - words - {"ts"} == set(), kind
    assert ".SH DIAGNOSIS\n" in page
    statuses = page.partition('.SH "EXIT STATUS"\n')[2].partition(".SH ")[0]
    listed = re.findall(r"^\.BR? (\d+)", statuses, re.MULTILINE)
    assert listed in (["0", "1", "2", "129"], ["0", "2", "129"])


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
