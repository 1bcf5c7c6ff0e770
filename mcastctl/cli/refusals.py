"""What cannot go together in `mcastctl sniff`, or would do nothing, said before anything opens."""

from typing import Any

from mcastctl.cli import options
from mcastctl.model.errors import ValueRangeError

_SPELLED = {"streams": "--streams", "control": "--control", "write": "-w"}
_ROTATIONS = ("rotate_size", "rotate_time", "rotate_packets", "rotate_keep")


def check(given: dict[str, Any], name: str) -> None:
    """Raise ValueRangeError for the first contradiction; `name` is the output format."""
    for option, letter in (("read", "-r"), ("write", "-w")):
        if given[option] == "":
            raise ValueRangeError(f"{letter} '' names no file", hint=f"write {letter} FILE")
    if given["write"] == "-" and name != "text":
        raise ValueRangeError("-j and -w - both want standard output", hint="name a file for -w")
    live = [
        one for one in ("iface", "netns", "direction", "promisc") if given["read"] and given[one]
    ]
    if live:
        raise ValueRangeError(f"-r and --{live[0]} cannot go together", hint="a file is no wire")
    modes = [mode for mode in ("streams", "control", "write") if given[mode]]
    if len(modes) > 1:
        raise ValueRangeError(
            f"--{modes[0]} and --{modes[1]} cannot go together", hint="run it once for each"
        )
    if modes or name != "text":
        instead = _SPELLED[modes[0]] if modes else options.spelled_format(given, name)
        options.refuse_dumps(given, instead)
    _check_rotation(given)


def _check_rotation(given: dict[str, Any]) -> None:
    """Refuse limits of a file that is not there, that no packet keeps, or that nobody reaches."""
    asked = [f"--{one.replace('_', '-')}" for one in _ROTATIONS if given[one] is not None]
    typed = [f"--{one.replace('_', '-')}" for one in _ROTATIONS if options.typed(one)]
    if typed and given["read"] is not None:
        raise ValueRangeError(
            f"{typed[0]} is for live captures, and -r reads a file", hint=f"leave {typed[0]} out"
        )
    if typed and given["write"] is None:
        raise ValueRangeError(
            f"{typed[0]} is for the files of -w, which was not asked for", hint="add -w FILE"
        )
    for one in ("rotate_size", "rotate_time"):
        if given[one] == 0 and given["write"] is not None:
            raise ValueRangeError(
                f"--{one.replace('_', '-')}: 0 would begin a file for every packet",
                hint="write 100M or 10m, or --rotate-packets 1 if that is what you want",
            )
    if typed and asked == ["--rotate-keep"]:
        raise ValueRangeError(
            "--rotate-keep keeps the last of several files, and nothing begins a second",
            hint="add --rotate-size, --rotate-time or --rotate-packets",
        )
