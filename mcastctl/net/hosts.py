"""Lists of hosts: a file of lines, or an inventory that Ansible reads for us."""

import json
import subprocess
from pathlib import Path
from typing import Any

from mcastctl.model.errors import McastError
from mcastctl.model.shell import word
from mcastctl.net.reach import HERE

MAX_FILE = 1 << 20
"""Bytes of the largest list that is read."""
_PATIENCE_S = 60


class HostsError(McastError):
    """A list of hosts that cannot be read."""


def from_file(name: str) -> list[str]:
    """Return the hosts of a file, one a line; '#' begins a comment. Raises HostsError."""
    try:
        with Path(name).open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise HostsError(
            f"cannot read the hosts of '{name}': {cause.lower()}", hint="name a readable file"
        ) from error
    if len(data) > MAX_FILE:
        raise HostsError(f"'{name}' is larger than 1 MiB", hint="is it a list of hosts?")
    lines = (line.partition("#")[0].strip() for line in data.decode("utf-8", "replace").split("\n"))
    return [line for line in lines if line]


def from_inventory(name: str) -> list[str]:
    """Return the hosts of an inventory as `ansible-inventory --list` tells them, as ssh URLs.

    It knows every format, plugin and variable; ansible_host, ansible_user, ansible_port and a
    local ansible_connection are honoured. Raises HostsError.
    """
    command = ["ansible-inventory", "-i", name, "--list"]
    try:
        said = subprocess.run(command, capture_output=True, timeout=_PATIENCE_S, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        cause = getattr(error, "strerror", None) or "no answer in time"
        raise HostsError(
            f"cannot run ansible-inventory: {cause.lower()}",
            hint="install ansible-core, or list the hosts in a file: --hosts FILE",
        ) from error
    try:
        return _listed(json.loads(said.stdout))
    except (ValueError, RecursionError) as error:
        raise _unreadable(name, said.stderr) from error


def _listed(inventory: object) -> list[str]:
    """Return the hosts of what `ansible-inventory --list` prints. Raises ValueError."""
    groups = _mapping(inventory)
    variables = _mapping(_mapping(groups.get("_meta")).get("hostvars"))
    names: dict[str, None] = {}
    for group, members in sorted(groups.items()):
        if group != "_meta":
            listed = _mapping(members).get("hosts", [])
            if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
                raise ValueError("hosts that are no names")
            names.update(dict.fromkeys(listed))
    if not names:
        raise ValueError("no hosts")
    return [_spelled(host, _mapping(variables.get(host, {}))) for host in names]


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("no mapping")
    return value


def _unreadable(name: str, stderr: bytes) -> HostsError:
    lines = stderr.decode("utf-8", "replace").split("\n")
    complaint = next((one.strip() for one in lines if one.strip()), "no host in it")
    return HostsError(
        f"ansible-inventory finds no hosts in '{name}': {complaint}",
        hint=f"try it: ansible-inventory -i {word(name)} --list",
    )


def _variable(variables: dict[str, Any], name: str) -> object:
    """Return a connection variable by its name or its older one."""
    return variables.get(f"ansible_{name}", variables.get(f"ansible_ssh_{name}"))


def _spelled(host: str, variables: dict[str, Any]) -> str:
    if variables.get("ansible_connection") == HERE:
        return HERE
    address, user, port = (_variable(variables, name) for name in ("host", "user", "port"))
    address = host if address is None else str(address)
    if user is None and port is None:
        return address
    if ":" in address:
        address = f"[{address}]"
    return f"ssh://{f'{user}@' if user else ''}{address}{f':{port}' if port else ''}"
