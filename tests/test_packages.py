"""What is shipped: the wheel, the source archive, what an installation finds, the service unit."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from world import need

ROOT = Path(__file__).parent.parent
MAN = {path.name for path in (ROOT / "man").glob("*.1")}
SHARED = {f"share/man/man1/{name}" for name in MAN} | {
    "share/bash-completion/completions/mcastctl",
    "share/zsh/site-functions/_mcastctl",
    "share/fish/vendor_completions.d/mcastctl.fish",
    "share/mcastctl/mcastctl.ps1",
}


def build(into: Path) -> tuple[Path, Path]:
    """Build wheel and source archive without asking an index for anything."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(into)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,), (source,) = into.glob("*.whl"), into.glob("*.tar.gz")
    return wheel, source


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source archive."""
    return build(tmp_path_factory.mktemp("dist"))


def test_the_wheel_has_the_program_its_manual_and_its_completions(
    built: tuple[Path, Path],
) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        (points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "mcastctl = mcastctl.cli.app:script" in wheel.read(points).decode()
    shared = {name.partition(".data/data/")[2] for name in names if ".data/data/" in name}
    assert shared == SHARED
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "mcastctl").rglob("*.py")}
    assert ours | {"mcastctl/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests/", "man/")) or ".pyc" in name]


def test_the_source_archive_can_be_tested_and_built_again(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    for wanted in ("LICENSE", "README.md", "CHANGELOG.md", "tests/conftest.py", ".ci/run"):
        assert wanted in names
    assert {f"man/{name}" for name in MAN} <= names
    (tree,) = tmp_path.iterdir()
    into = tmp_path / "again"
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    (wheel,) = into.iterdir()
    assert wheel.read_bytes() == built[0].read_bytes()  # reproducible, from either


def test_an_installed_wheel_is_found_by_man_and_by_bash(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    """In a prefix of its own, as pipx and 'uv tool' make one for each tool."""
    need("man", "bash")
    # -I: or pip takes away what is installed already, this very checkout among it.
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "-I"]
    subprocess.run(
        [*install, "--prefix", str(tmp_path), str(built[0])], check=True, capture_output=True
    )
    share = tmp_path / "share"
    if not share.is_dir():  # Debian's own Python puts a prefix's files below local
        share = tmp_path / "local" / "share"
    found = subprocess.run(
        ["man", "-M", str(share / "man"), "-w", "mcastctl-listen"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(share / "man" / "man1" / "mcastctl-listen.1")
    script = share / "bash-completion" / "completions" / "mcastctl"
    told = subprocess.run(
        ["bash", "--norc", "-c", f". '{script}'; complete -p mcastctl"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "-F _mcastctl_completion mcastctl" in told.stdout


UNIT = re.search(r"```ini\n(\[Unit\]\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_service_unit_is_good_and_tight(tmp_path: Path) -> None:
    need("systemd-analyze")
    assert UNIT
    unit = tmp_path / "mcastctl-listen@.service"
    (program,) = re.findall(r"^ExecStart=(\S+)", UNIT[1], re.MULTILINE)
    unit.write_text(UNIT[1].replace(program, sys.executable))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-300:]  # exposure of 2.0 or less, of 10
