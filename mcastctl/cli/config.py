"""The configuration file: defaults per command, and names for endpoints.

    [groups]
    video = "239.1.1.1:5004"

    [listen]
    iface = ["eth0"]

Read from $XDG_CONFIG_HOME/mcastctl/config.toml (~/.config without it), never from the
current directory; root reads only what root alone may write. Options given on the command
line or in the environment win.
"""

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mcastctl.model.errors import McastError

MAX_SIZE = 1024 * 1024
"""Bytes of the largest file that is read."""


class ConfigError(McastError):
    """A configuration file that cannot be used."""


class Settings(NamedTuple):
    """What the file says: `defaults` per command and parameter, `groups` by name."""

    defaults: dict[str, dict[str, Any]]
    groups: dict[str, str]


def path(environ: Mapping[str, str]) -> str | None:
    """Return where the file would be, None without a home."""
    base = environ.get("XDG_CONFIG_HOME", "")
    if not base.startswith("/"):
        home = environ.get("HOME")
        base = os.path.join(home, ".config") if home else ""  # noqa: PTH118 (pathlib: 3 ms)
    return f"{base}/mcastctl/config.toml" if base else None


def load(environ: Mapping[str, str], commands: Iterable[str]) -> Settings:
    """Return the settings; empty when there is no file. Raises ConfigError."""
    where = path(environ)
    if where is None:
        return Settings({}, {})
    try:
        data = _read(where)
    except (FileNotFoundError, NotADirectoryError):
        return Settings({}, {})
    except PermissionError as error:
        if not _visible(where):  # another user's home, kept by who became this one
            return Settings({}, {})
        raise ConfigError(
            f"cannot read {where}: permission denied",
            hint="let its user read it, or name another directory by XDG_CONFIG_HOME",
        ) from error
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot read {where}: {cause.lower()}",
            hint=f"make it a readable file, or remove it: {where}",
        ) from error
    if len(data) > MAX_SIZE:
        raise ConfigError(f"{where} is larger than 1 MiB", hint="keep only settings in it")
    return parse(data, where, commands)


def _visible(where: str) -> bool:
    """Tell whether there is such a file, as far as its directories may be entered."""
    try:
        os.stat(where)  # noqa: PTH116 (pathlib: 3 ms)
    except OSError:
        return False
    return True


def _read(where: str) -> bytes:
    """Return at most a byte more than MAX_SIZE; a FIFO or device counts as unreadable."""
    descriptor = os.open(where, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        _require_ours(where, found)
        return file.read(MAX_SIZE + 1)


def _require_ours(where: str, found: os.stat_result) -> None:
    """Raise ConfigError when root would obey what another user may write (--exec runs it)."""
    if os.name != "posix" or os.geteuid() != 0:
        return
    whose = ""
    if found.st_uid != 0:
        whose = f"it belongs to uid {found.st_uid}"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        whose = "others may write it"
    if whose:
        raise ConfigError(
            f"{where} is not read as root: {whose}",
            hint="run with root's own HOME ('sudo -H'), or give the file to root with mode 0644",
        )


def parse(data: bytes, where: str, commands: Iterable[str]) -> Settings:
    """Return the settings of a file's bytes."""
    import tomllib  # only when there is a file

    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not valid TOML: {error}", hint="mend the file") from error
    groups = table.pop("groups", {})
    known = set(commands)
    for name, section in table.items():
        if name not in known or not isinstance(section, dict):
            raise ConfigError(
                f"{where} has a section '{name}' that means nothing",
                hint=f"sections are groups, {', '.join(sorted(known - {'groups'}))}",
            )
    if not isinstance(groups, dict) or not all(isinstance(one, str) for one in groups.values()):
        raise ConfigError(
            f"{where}: [groups] holds something that is no text",
            hint='write names like video = "239.1.1.1:5004"',
        )
    return Settings({name: _spelled(section) for name, section in table.items()}, groups)


def _spelled(section: dict[str, Any]) -> dict[str, Any]:
    """Return the section as the option parser expects it: option names, values as text."""
    return {name.replace("-", "_"): _value(value) for name, value in section.items()}


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return [_value(one) for one in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def check(section: Mapping[str, Any], command: str, parameters: Iterable[str]) -> None:
    """Raise ConfigError for a setting that `command` does not have."""
    known = set(parameters)
    for name in section:
        if name not in known:
            raise ConfigError(
                f"the configuration sets '{name}' for {command}, which has no such option",
                hint=f"see 'mcastctl {command} --help'",
            )
