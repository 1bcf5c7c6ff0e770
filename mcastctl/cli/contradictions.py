"""Options that mean nothing beside each other, refused before anything is opened.

An option that is silently without effect is a question answered otherwise than it was asked.
"""

from collections.abc import Sequence
from typing import Any

from mcastctl.cli import options as shared
from mcastctl.model import probe
from mcastctl.model.address import family
from mcastctl.model.endpoint import Endpoint
from mcastctl.model.errors import AddressError, PayloadError, ValueRangeError


def sending(given: dict[str, Any]) -> None:
    """Refuse two payloads, sizes of what has its own size, and a run without time."""
    sources = {
        "DATA": given["data"] is not None,
        "--file": given["file"] is not None,
        "--hex": given["hex_data"] is not None,
        "--probe": given["probe"],
        "--raw-stdin": given["raw_stdin"],
        "--replay": given["replay"] is not None,
    }
    chosen = [name for name, used in sources.items() if used]
    if len(chosen) > 1:
        raise PayloadError(f"{' and '.join(chosen)} contradict each other", hint="keep one")
    if given["timeout"] == 0:
        raise ValueRangeError("-T 0 would send nothing", hint="write a time such as 500ms or 10s")
    if given["size"] is None:
        return
    pieces = given["raw_stdin"] or given["file"] is not None or given["message"]
    if not pieces and not given["probe"]:
        what = chosen[0] if chosen else "a line of standard input"
        raise PayloadError(
            f"-s {given['size']} has no effect: {what} has its own size",
            hint="-s goes with --probe, --file and --raw-stdin",
        )
    least = probe.MIN_SIZE if given["probe"] else 1
    if given["size"] < least:
        raise PayloadError(f"-s {given['size']} is too small", hint=f"it takes {least} or more")


def listening(given: dict[str, Any], endpoints: Sequence[Endpoint]) -> None:
    """Refuse what can never be met, and reports without end."""
    if given["interval"] == 0:
        raise ValueRangeError("--interval: 0 would report without end", hint="write 500ms or 1s")
    count, expected = given["count"], given["expect"]
    if count is not None and expected is not None and expected > count:
        raise ValueRangeError(
            f"--expect {expected} can never be met: -c {count} stops before",
            hint=f"leave -c out, or write -c {expected}",
        )
    positive = count or expected or given["expect_from"]
    quality = given["max_loss"] is not None or given["max_jitter"] is not None
    if given["expect_none"] and (positive or quality):
        raise ValueRangeError(
            "--expect-none contradicts the other expectations", hint="keep one kind"
        )
    heard_from(given["expect_from"], endpoints)


def heard_from(addresses: Sequence[str], endpoints: Sequence[Endpoint]) -> None:
    """Refuse to wait for a host that no endpoint can bring."""
    families = {one.family for one in endpoints}
    for address in addresses:
        if family(address) not in families:
            raise AddressError(
                f"--expect-from {address} can never be met: no endpoint is IPv{family(address)}",
                hint="name an address of the family of the group",
            )


def routing(given: dict[str, Any]) -> None:
    """Refuse what chooses a route where no route is shown."""
    shown = [one for one in ("forwarding", "bridge") if given[one]]
    for name in ("iface", "source"):
        if shown and not given["groups"] and shared.typed(name):
            raise ValueRangeError(
                f"--{name} is about the way of a group, and --{shown[0]} names none",
                hint=f"name a group, or leave --{name} out",
            )
