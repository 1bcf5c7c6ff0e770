"""The house rules: which room may import what, how long a file may be, and a few banned habits."""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "mcastctl"
HOUSE = Path(__file__).parent.parent / PACKAGE
ROOMS = {"cli", "model", "net", "host", "capture", "decode", "doctor", "output"}
THIRD_PARTY = {"click", "rich", "psutil", "scapy", "pyroute2"}

SOCKETS = {"socket", "_socket"}
OS_CALLS_AND_CLOCK = SOCKETS | {
    *("os", "posix", "time", "select", "selectors", "subprocess", "signal", "fcntl", "asyncio")
}

# Room: what it may import beside itself and the standard library, and what of the latter not.
# "" is the package itself: __init__ names the public parts, __main__ opens the front door.
MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    "": (ROOMS - {"cli", "output"}, set()),
    "model": (set(), OS_CALLS_AND_CLOCK),
    "decode": ({"model"}, OS_CALLS_AND_CLOCK),
    "net": ({"model", "decode", "psutil"}, set()),
    "host": ({"model", "decode", "psutil", "pyroute2"}, set()),
    "capture": ({"model", "decode", "psutil", "scapy"}, set()),
    "doctor": ({"model", "host", "net", "capture", "decode"}, set()),
    "output": ({"model", "rich"}, SOCKETS),
    "cli": (ROOMS | THIRD_PARTY, set()),
}
ALSO = {"decode/deep.py": {"scapy"}, "__main__.py": {"cli"}}

# What is in cli/ but no command of its own.
NOT_COMMANDS = {
    "__init__.py",
    "app.py",
    "options.py",
    "params.py",
    "refusals.py",
    "config.py",
    "completion.py",
    "run.py",
    "generate.py",
    "live.py",
    "messages.py",
    "metrics.py",
    "recording.py",
    "replay.py",
    "verdicts.py",
    "dump.py",
    "packets.py",
    "views.py",
}

# The last door: a bug becomes exit status 2 and two lines there, and nowhere else.
MAY_CATCH_ALL = {"cli/app.py": 1}


def imports(tree: ast.AST, path: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything a module imports, also inside functions."""
    package = [PACKAGE, *Path(path).parts[:-1]]
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                base = package[: len(package) - node.level + 1] if node.level else []
                base = [*base, *(node.module.split(".") if node.module else [])]
                yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def import_faults(path: str, source: str) -> Iterator[str]:
    """What a module imports although its room may not; path is relative to the package."""
    room = path.partition("/")[0] if "/" in path else ""
    allowed, banned = MAY_IMPORT[room]
    allowed = allowed | {room} | ALSO.get(path, set())
    for line, name in imports(ast.parse(source), path):
        where = f"{PACKAGE}/{path}:{line}: {room or 'the package'} may not import"
        top, _, rest = name.partition(".")
        if top == PACKAGE:
            other = rest.partition(".")[0]
            if other in ROOMS and other not in allowed:
                yield f"{where} the room {other} ({name})"
            elif other not in {*ROOMS, "", "__version__"}:
                yield f"{where} {name}: import from the room it lives in"
        elif top in THIRD_PARTY:
            if top not in allowed:
                yield f"{where} {top}"
        elif top not in sys.stdlib_module_names:
            yield f"{where} {top}: not a dependency of this project"
        elif top in banned:
            yield f"{where} {top}: this room is pure"


def habit_faults(path: str, source: str) -> Iterator[str]:
    """A missing docstring, a catch-all that keeps what it caught, a print."""
    tree = ast.parse(source)
    where = f"{PACKAGE}/{path}"
    if not ast.get_docstring(tree):
        yield f"{where}: says nothing about itself (no module docstring)"
    caught = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {kind.id if isinstance(kind, ast.Name) else kind for kind in kinds}
            passes_on = node.body[-1:] and ast.unparse(node.body[-1]) == "raise"  # only tidies up
            if names & {None, "Exception", "BaseException"} and not passes_on:
                caught += 1
                if caught > MAY_CATCH_ALL.get(path, 0):
                    yield f"{where}:{node.lineno}: catches everything; name the error it expects"
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            yield f"{where}:{node.lineno}: print(): hand a record to a sink"


def modules() -> dict[str, str]:
    """Every module of the package: path relative to it, and source."""
    return {path.relative_to(HOUSE).as_posix(): path.read_text() for path in HOUSE.rglob("*.py")}


def test_every_room_is_in_the_table() -> None:
    rooms = {path.parent.name for path in HOUSE.glob("*/*.py")}
    assert rooms <= ROOMS, f"rooms without rules: {sorted(rooms - ROOMS)}"
    doors = {path.name for path in HOUSE.glob("*.py")}
    assert doors <= {"__init__.py", "__main__.py"}, f"modules outside every room: {sorted(doors)}"


def test_rooms_import_only_what_they_may() -> None:
    faults = [fault for module in modules().items() for fault in import_faults(*module)]
    assert not faults, "\n".join(["", *faults])


def test_habits() -> None:
    faults = [fault for module in modules().items() for fault in habit_faults(*module)]
    assert not faults, "\n".join(["", *faults])


def test_files_are_short() -> None:
    lengths = {path: len(source.splitlines()) for path, source in modules().items()}
    long = {path: length for path, length in lengths.items() if length >= 450}
    assert not long, f"450 lines or more: {long}"
    commands = {
        path: length
        for path, length in lengths.items()
        if path.startswith("cli/") and Path(path).name not in NOT_COMMANDS and length >= 150
    }
    assert not commands, f"command files of 150 lines or more: {commands}"
    assert statistics.median(lengths.values()) < 150


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("model/address.py", "import socket", "model may not import socket: this room is pure"),
        ("model/stats.py", "from time import monotonic", "model may not import time"),
        ("model/stats.py", "def f():\n    import os.path", "stats.py:2: model may not import os"),
        ("model/address.py", "import click", "model may not import click"),
        ("decode/ip.py", "from ..net import sender", "the room net (mcastctl.net.sender)"),
        ("decode/igmp.py", "from scapy.all import IP", "decode may not import scapy"),
        ("net/sender.py", "from mcastctl import host", "net may not import the room host"),
        ("net/sender.py", "import pyroute2", "net may not import pyroute2"),
        ("host/routes.py", "import scapy", "host may not import scapy"),
        ("capture/ring.py", "import mcastctl.output.text", "the room output"),
        ("doctor/rules.py", "import rich.table", "doctor may not import rich"),
        ("output/text.py", "import _socket", "output may not import _socket"),
        ("output/text.py", "from mcastctl.decode import ip", "the room decode"),
        ("output/text.py", "from mcastctl import Sender", "import from the room it lives in"),
        ("net/sender.py", "from ..cli.options import iface", "the room cli"),
        ("net/sender.py", "import importlib\nimportlib.import_module('click')", "import click"),
        ("net/sender.py", "import numpy", "numpy: not a dependency of this project"),
        ("__init__.py", "from mcastctl.cli.app import main", "the package may not import"),
        ("net/x.py", "'''Doc.'''\ntry: f()\nexcept (OSError, Exception): pass", "catches"),
        ("net/x.py", "'''Doc.'''\ntry: f()\nexcept BaseException: raise X", "x.py:3: catches"),
        ("net/x.py", "'''Doc.'''\ntry: f()\nexcept: pass", "x.py:3: catches everything"),
        ("net/x.py", "'''Doc.'''\nprint(1)", "x.py:2: print()"),
        ("net/x.py", "x = 1", "no module docstring"),
    ],
)
def test_the_checker_sees_a_planted_fault(path: str, source: str, fault: str) -> None:
    check = habit_faults if path == "net/x.py" else import_faults
    assert [found for found in check(path, source) if fault in found]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("model/stats.py", "from __future__ import annotations\nfrom .address import Endpoint"),
        ("decode/deep.py", "from scapy.all import IP\nfrom mcastctl.model import records"),
        ("host/routes.py", "import os, socket, psutil\nfrom pyroute2 import IPRoute"),
        ("output/jsonl.py", "import json, os\nfrom mcastctl import __version__"),
        ("cli/send.py", "import click\ndef send():\n    from mcastctl.net import sender"),
        ("__main__.py", "from .cli.app import main"),
    ],
)
def test_the_checker_lets_permitted_imports_pass(path: str, source: str) -> None:
    assert list(import_faults(path, source)) == []


def test_the_checker_lets_good_habits_pass() -> None:
    source = (
        "'Doc.'\ntry: f()\nexcept (OSError, ValueError): pass\nexcept BaseException:\n g()\n raise"
    )
    assert list(habit_faults("net/x.py", source)) == []
