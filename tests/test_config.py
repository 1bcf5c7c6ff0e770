"""The configuration file: where it is, what it may say, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcastctl.cli import config
from mcastctl.cli.config import ConfigError, Settings

COMMANDS = ["send", "listen"]


def parse(text: str) -> Settings:
    return config.parse(text.encode(), "config.toml", COMMANDS)


def refusal(text: str | bytes) -> ConfigError:
    """The error for a file's content; it names the file and the remedy."""
    with pytest.raises(ConfigError) as caught:
        config.parse(text.encode() if isinstance(text, str) else text, "the/config.toml", COMMANDS)
    assert "the/config.toml" in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}, "/x/mcastctl/config.toml"),
        ({"HOME": "/h"}, "/h/.config/mcastctl/config.toml"),
        ({"XDG_CONFIG_HOME": "", "HOME": "/h"}, "/h/.config/mcastctl/config.toml"),
        # XDG Base Directory Specification: a relative path is to be ignored.
        ({"XDG_CONFIG_HOME": "x", "HOME": "/h"}, "/h/.config/mcastctl/config.toml"),
        ({"HOME": ""}, None),
        ({}, None),
    ],
)
def test_where_it_is(environ: dict[str, str], expected: str | None) -> None:
    assert config.path(environ) == expected


def test_never_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path, tmp_path / "mcastctl"):
        place.mkdir(exist_ok=True)
        (place / "config.toml").write_text("[groups]\nx = '239.1.1.1'\n")
    for environ in ({}, {"XDG_CONFIG_HOME": "."}, {"HOME": ""}):
        assert config.load(environ, COMMANDS) == Settings({}, {})


def write(folder: Path, content: str | bytes) -> dict[str, str]:
    """Put a file where it belongs; returns the environment that names it."""
    file = folder / "mcastctl" / "config.toml"
    file.parent.mkdir()
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return {"XDG_CONFIG_HOME": str(folder)}


def test_load(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert config.load(environ, COMMANDS) == Settings({}, {})
    environ = write(tmp_path, "[groups]\nvideo = '239.1.1.1:5004'\n[listen]\nport = 5\n")
    expected = Settings({"listen": {"port": "5"}}, {"video": "239.1.1.1:5004"})
    assert config.load(environ, COMMANDS) == expected


def test_too_large(tmp_path: Path) -> None:
    environ = write(tmp_path, b"#" * config.MAX_SIZE)
    assert config.load(environ, COMMANDS) == Settings({}, {})
    with (tmp_path / "mcastctl" / "config.toml").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        config.load(environ, COMMANDS)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    where = tmp_path / "mcastctl" / "config.toml"
    where.mkdir(parents=True)
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"cannot read .*: is a directory"):
        config.load(environ, COMMANDS)
    where.rmdir()
    where.symlink_to(where)
    with pytest.raises(ConfigError, match=r"cannot read .*: too many levels of symbolic links"):
        config.load(environ, COMMANDS)
    # A file where the directory should be is as good as no settings at all.
    assert config.load({"XDG_CONFIG_HOME": __file__}, COMMANDS) == Settings({}, {})


def test_values_become_what_the_command_line_would_say() -> None:
    settings = parse(
        """
        [listen]
        count = 5
        timeout = 1.5
        idle = "2s"
        no-loop = true
        json = false
        iface = ["eth0", 3]
        expect_none = true
        """
    )
    assert settings.defaults == {
        "listen": {
            "count": "5",
            "timeout": "1.5",
            "idle": "2s",
            "no_loop": "true",
            "json": "false",
            "iface": ["eth0", "3"],
            "expect_none": "true",
        }
    }
    assert settings.groups == {}


def test_empty() -> None:
    assert parse("") == parse("# nothing\n") == parse("[groups]\n") == Settings({}, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[listen", "is not valid TOML"),
        (b"\xff\xfe", "is not valid TOML"),
        ("a = " + "[" * 5000, "is not valid TOML"),
        ("[lisen]\nport = 1", "a section 'lisen' that means nothing"),
        ("port = 1", "a section 'port' that means nothing"),
        ("listen = 3", "a section 'listen' that means nothing"),
        ("[[listen]]\nport = 1", "a section 'listen' that means nothing"),
        ("[groups]\nvideo = 5", "something that is no text"),
        ("[groups.video]\naddress = '239.1.1.1'", "something that is no text"),
        ("groups = 'video'", "something that is no text"),
        ("groups = ['video']", "something that is no text"),
    ],
)
def test_refused(text: str | bytes, said: str) -> None:
    assert said in refusal(text).message


def test_the_hint_lists_the_sections() -> None:
    assert refusal("[lisen]").hint == "sections are groups, listen, send"


def test_check() -> None:
    config.check({"port": "5", "iface": ["a"]}, "listen", ["port", "iface", "count"])
    config.check({}, "listen", [])
    with pytest.raises(ConfigError) as caught:
        config.check({"port": "5", "prot": "6"}, "listen", ["port", "iface"])
    assert "'prot' for listen" in caught.value.message
    assert "mcastctl listen --help" in caught.value.hint
