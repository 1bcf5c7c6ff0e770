"""Parameter types: text of the command line to values, with errors that teach."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mcastctl.model import units
from mcastctl.model.endpoint import Endpoint, parse, parse_port, parse_source
from mcastctl.model.errors import AddressError, McastError, ValueRangeError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Offering(click.ParamType[Any]):
    """A parameter for which a shell can be offered values; `offered` says which."""

    def __init__(self, name: str, offered: str = "") -> None:
        self.name = name
        self._offered = offered

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> "list[CompletionItem]":
        """Offer what candidates.py knows of this kind."""
        from mcastctl.cli import candidates

        return candidates.offer(self._offered, incomplete)


class Parsed(Offering):
    """A parameter read by one of the model's parsers; `name` is its metavar."""

    def __init__(self, name: str, parser: Callable[[str], Any], offered: str = "") -> None:
        super().__init__(name, offered)
        self._parser = parser

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text; values that are parsed already (defaults) pass."""
        if not isinstance(value, str):
            return value
        try:
            return self._parser(value)
        except McastError as error:
            error.message = f"{_spelling(param)}: {error.message}"
            raise


class EndpointType(Parsed):
    """An endpoint, or its name in the configuration."""

    def __init__(self, *, unicast: bool = False, any_source: bool = False) -> None:
        super().__init__(
            "endpoint",
            lambda text: parse(text, unicast=unicast, any_source=any_source),
            "endpoints",
        )

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Look a configured name up, then parse."""
        settings = ctx.find_root().obj if ctx is not None else None
        if isinstance(value, str) and settings is not None and value in settings.groups:
            value = settings.groups[value]
        if isinstance(value, Endpoint):
            return value
        if settings is not None and re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", value):
            known = ", ".join(settings.groups) or "none"
            raise AddressError(
                f"'{value}' is neither a group nor a name in [groups] of the configuration",
                hint=f"names there: {known}; host names are not resolved",
            )
        return self._parser(value)


def _spelling(param: click.Parameter | None) -> str:
    if param is None:
        return "value"
    longest: str = max(param.opts, key=len)
    return longest


def whole(name: str, what: str, low: int, high: int) -> Parsed:
    """Return the type of a whole number in a range."""
    return Parsed(name, lambda text: units.parse_whole(text, what, low, high))


def parse_bind(text: str) -> tuple[str | None, int | None]:
    """Parse '[ADDR][:PORT]': '10.0.0.1', ':4000', '10.0.0.1:4000', '[fe80::1]:4000'."""
    from mcastctl.model.address import canonical

    hint = "write ADDR, :PORT or ADDR:PORT, with an address of this host"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
    elif text.count(":") > 1:
        host, rest = text, ""
    else:
        host, _, rest = text.partition(":")
        rest = f":{rest}" if _ else ""
    if rest and not rest.startswith(":"):
        raise ValueRangeError(f"'{text}' is no address and port", hint=hint)
    port = parse_port(rest[1:]) if rest else None
    return (canonical(host.partition("%")[0], hint) if host else None), port


ENDPOINT = EndpointType()
ANY_ENDPOINT = EndpointType(unicast=True)
DIAGNOSED = EndpointType(any_source=True)
IFACE = Offering("iface", "interfaces")
ANY_IFACE = Offering("iface", "captured")
FILE = Offering("file", "files")
NETNS = Offering("name|pid", "namespaces")
PORT = Parsed("port", parse_port)
SOURCE = Parsed("addr", parse_source)
ADDRESS = Parsed("addr", lambda text: parse_source(text)[0])
TIME = Parsed("time", units.parse_time)
SIZE = Parsed("size", units.parse_size)
RATE = Parsed("rate", units.parse_rate)
PERCENT = Parsed("pct", units.parse_percent)
DSCP = Parsed("dscp", units.parse_dscp, "dscps")
HEX = Parsed("hex", units.parse_hex)
BIND = Parsed("[addr][:port]", parse_bind)
COUNT = whole("n", "count", 1, 2**63)
MAX_SNAPLEN = 262_144
SNAPLEN = whole("size", "snap length", 64, MAX_SNAPLEN)
PID = whole("pid", "process", 1, 2**22)
TTL = whole("ttl", "TTL", 0, 255)
