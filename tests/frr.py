"""A host that routes by FRR, as the machine's own root: FRR changes to a user of its own, which
the user namespace of a world does not have."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from place import Place, Running, until
from world import Host

PROGRAMS = Path("/usr/lib/frr")


@contextmanager
def speaking_pim(here: Place, host: Host, *interfaces: str) -> Iterator[Running]:
    """Let zebra and pimd run in a host while the context lasts; yields pimd."""
    config = "".join(f"interface {name}\n ip pim\n ip igmp\n" for name in interfaces)
    inside = ["nsenter", f"--net=/proc/{host.pid}/ns/net", "setpriv", "--pdeathsig=KILL"]
    with tempfile.TemporaryDirectory(prefix="mcastctl-frr-") as name:  # short: it holds sockets
        folder = Path(name)
        shutil.chown(folder, "frr", "frr")
        daemons = []
        for daemon, text, ready in (("zebra", "", "api"), ("pimd", config, "pimd.vty")):
            written = folder / f"{daemon}.conf"
            written.write_text(text)
            command: list[str | Path] = [PROGRAMS / daemon, "-u", "frr", "-g", "frr", "-P", "0"]
            command += ["-f", written, "-i", folder / f"{daemon}.pid"]
            command += ["-z", folder / "api", "--vty_socket", folder]
            daemons.append(here.popen([*inside, *command]))
            until((folder / ready).exists)
        yield daemons[-1]
        for one in reversed(daemons):
            one.stop()
