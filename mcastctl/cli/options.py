"""Option bundles: one letter, one meaning, spelled the same in every command."""

import gc
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from mcastctl.cli import config
from mcastctl.cli import params as p
from mcastctl.model.address import canonical
from mcastctl.model.endpoint import Endpoint, with_sources
from mcastctl.model.errors import AddressError, ValueRangeError
from mcastctl.output import stream

F = TypeVar("F", bound=Callable[..., Any])


class Command(click.Command):
    """A command whose configuration section is checked and whose examples come first."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        kwargs["add_help_option"] = False
        super().__init__(*args, **kwargs)
        self.params.append(help_option())
        self.examples = examples
        self._settings: dict[str, click.Parameter] = {}
        for param in self.params:
            spelled = max(param.opts, key=len)
            if spelled.startswith("--") and spelled != "--help":
                setting = spelled.removeprefix("--").replace("-", "_")
                self._settings[setting] = param
                param.envvar = f"MCASTCTL_{self.name}_{setting}".upper()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the configuration, refuse settings this command does not have, then parse.

        A broken file does not keep anybody from the help page.
        """
        parent = ctx.parent
        if parent is not None and not ctx.resilient_parsing and not _HELP.intersection(args):
            group = parent.command
            names = group.list_commands(parent) if isinstance(group, click.Group) else []
            settings = config.load(os.environ, names)
            section = settings.defaults.get(self.name or "", {})
            config.check(section, self.name or "", self._settings)
            parent.obj = settings
            ctx.default_map = {
                self._settings[key].name or "": _as_given(self._settings[key], value)
                for key, value in section.items()
            }
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click leaves it out where a value is missing
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with garbage collected from here on."""
        gc.freeze()
        gc.enable()
        return super().invoke(ctx)

    def make_parser(self, ctx: click.Context) -> Any:
        """Let short options be found at the first look.

        click looks '-i' up among the long options, and only an error, for which it loads the
        locale and difflib (4 ms), sends it to the short ones.
        """
        parser: Any = super().make_parser(ctx)
        known = getattr(parser, "_long_opt", {})
        for spelling, option in getattr(parser, "_short_opt", {}).items():
            known.setdefault(spelling, option)
        parse = parser.parse_args

        def checked(args: list[str]) -> Any:
            parsed = parse(args)
            _refuse_second_files(parsed[2])
            return parsed

        parser.parse_args = checked
        return parser

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say how values are written."""
        with formatter.section("Values"):
            formatter.write_dl(VALUES)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description and then the examples, before any option."""
        super().format_help_text(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


VALUES = [
    ("TIME", "500ms, 10s, 5m, 1h; a bare number is seconds"),
    ("RATE", "200k, 5M, 2.5G, per second"),
    ("SIZE", "1316, 64k (1000), 4MiB (1024 x 1024)"),
    ("PCT", "0.1% or 0.1"),
]
"""How the values of options are written, for help and man pages."""

_HELP = {"-h", "--help"}


def _as_given(param: click.Parameter, value: Any) -> Any:
    """Return a setting as the option takes it: one value may stand for a list of one."""
    return [value] if param.multiple and not isinstance(value, list) else value


def _refuse_second_files(order: list[click.Parameter]) -> None:
    """Refuse an option that names a file a second time: of two files one would be forgotten."""
    for at, param in enumerate(order):
        if param.type is p.FILE and not param.multiple and param in order[:at]:
            hint = "run it once for each file"
            if param.name == "read":
                hint += "; to read captures as one: mergecap -w - A B | mcastctl sniff -r -"
            raise ValueRangeError(
                f"{'/'.join(param.opts)} names two files, but takes one", hint=hint
            )


def help_option() -> click.Option:
    """Return -h; click's own loads the locale to translate one sentence of its help."""

    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            stream.say(ctx.get_help())
            ctx.exit()

    return click.Option(
        ["-h", "--help"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show this page and exit.",
    )


class IfaceOption(click.Option):
    """-i, with tcpdump's neighbour ping's -I as an alias that help keeps quiet about."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Leave the alias out."""
        record = super().get_help_record(ctx)
        return record and (record[0].replace("-I, ", "").replace(", -I", ""), record[1])


def bundle(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator that adds all options in the order given."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def iface(help_text: str, kind: p.Offering = p.IFACE) -> Callable[[F], F]:
    """Return the -i option."""
    return click.option(
        "-i", "-I", "--iface", "iface", cls=IfaceOption, type=kind, multiple=True, help=help_text
    )


_PRINTING = (
    click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        help="Colour what people read.",
    ),
    click.option("-n", "--numeric", is_flag=True, hidden=True, help="Numeric (the default)."),
    click.option("-q", "--quiet", count=True, help="Only the summary; -qq only the status."),
    click.option("-v", "--verbose", count=True, help="Tell decisions; -vv also for bugs."),
)


def _output_option(formats: str) -> Callable[[F], F]:
    def offered(*asked: Any) -> Any:
        from mcastctl.cli import candidates

        return candidates.formats(*asked)

    return click.option(
        "-o",
        "--output",
        "output",
        metavar="FORMAT",
        help=f"Print as {formats}.",
        shell_complete=offered,
    )


def output(*extra_formats: str) -> Callable[[F], F]:
    """Return the options of everything that prints."""
    formats = ", ".join((*_FORMATS, *extra_formats))
    return bundle(
        _output_option(formats),
        click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON (-o json)."),
        *_PRINTING,
    )


def snapshot(*extra_formats: str) -> Callable[[F], F]:
    """Return the options of what prints once: one JSON array with -j."""
    formats = ", ".join(("text", "json", "jsonl", *extra_formats))
    return bundle(
        _output_option(formats),
        click.option("-j", "--json", "as_json", is_flag=True, help="Print one JSON array."),
        *_PRINTING,
    )


def records() -> Callable[[F], F]:
    """Return the options of what streams records that have no payload of their own."""
    return bundle(
        _output_option("text, json, jsonl"),
        click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON lines (-o json)."),
        *_PRINTING,
    )


_FORMATS = ("text", "json", "jsonl", "hex", "raw")

dumps = bundle(
    click.option("-x", "detail", flag_value="x", help="Dump each payload in hex."),
    click.option("-X", "detail", flag_value="X", help="Dump in hex and ASCII."),
    click.option("-A", "detail", flag_value="A", help="Dump in ASCII."),
)

family = bundle(
    click.option("-4", "--ipv4", "ipv4", is_flag=True, help="Only the IPv4 endpoints."),
    click.option("-6", "--ipv6", "ipv6", is_flag=True, help="Only the IPv6 endpoints."),
)

port = click.option("-p", "--port", type=p.PORT, help="UDP port of endpoints without one.")

source = click.option(
    "-S",
    "--source",
    type=p.SOURCE,
    multiple=True,
    help="Only from this sender (SSM); '!ADDR' excludes it.",
)

limits = bundle(
    click.option("-c", "--count", type=p.COUNT, help="Stop after this many."),
    click.option("-T", "--timeout", type=p.TIME, help="Stop after this time in all."),
)

late = click.option("--wait", is_flag=True, help="Wait for an interface that is not there yet.")

netns = click.option(
    "--netns", type=p.NETNS, help="Look into this network namespace ('ip netns', or a pid)."
)

capture = bundle(
    late,
    netns,
    click.option(
        "--direction", type=click.Choice(["in", "out"]), help="Only what comes in, or goes out."
    ),
    click.option(
        "--promisc",
        is_flag=True,
        help="Also frames for other hosts. Without it the interface passes what is for this "
        "host and every group (all-multicast mode; tcpdump -p shows only groups joined here).",
    ),
    click.option(
        "-s", "--size", type=p.SNAPLEN, default=p.MAX_SNAPLEN, help="Bytes kept of each frame."
    ),
    click.option(
        "--rcvbuf", type=p.SIZE, default=16 << 20, help="Memory for frames not looked at yet."
    ),
    click.option("--rotate-size", type=p.SIZE, help="-w: next file at this size."),
    click.option("--rotate-time", type=p.TIME, help="-w: next file after this time."),
    click.option("--rotate-packets", type=p.COUNT, help="-w: next file after this many."),
    click.option("--rotate-keep", type=p.COUNT, help="-w: delete all but the last N files."),
)

egress = bundle(
    click.option("-t", "--ttl", type=p.TTL, default=1, show_default=True, help="TTL or hop limit."),
    click.option("-L", "--no-loop", is_flag=True, help="Listeners on this host do not hear it."),
    click.option("-Q", "--dscp", type=p.DSCP, default=0, help="DSCP: 0-63, ef, af41, cs5 ..."),
    click.option("--bind", type=p.BIND, default=(None, None), help="Source address and port."),
)


def typed(name: str) -> bool:
    """Tell whether an option stands on the command line; settings for every run bind nobody."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def spelled_format(given: Mapping[str, Any], name: str) -> str:
    """Return how the output format was asked for: '-j' or '-o raw'."""
    return "-j" if given["as_json"] else f"-o {name}"


def refuse_dumps(given: Mapping[str, Any], instead: str) -> None:
    """Refuse -x, -X, -A and -e where `instead` of lines of text something else comes out."""
    asked = [f"-{given['detail']}"] if given["detail"] else []
    asked += ["-e"] if given.get("link") and typed("link") else []
    if asked:
        raise ValueRangeError(
            f"{asked[0]} adds to lines of text, and {instead} prints none",
            hint=f"leave {asked[0]} or {instead} out",
        )


def enter_netns(text: str | None) -> None:
    """Move into the namespace of --netns; call it before anything opens a socket."""
    if text is not None:
        from mcastctl.host import netns as namespaces

        namespaces.enter(text)


def refuse_without(given: dict[str, Any], switch: str) -> None:
    """Refuse -T and --interval where nothing runs that they could concern: without `switch`."""
    if given["timeout"] is not None and not given[switch]:
        raise ValueRangeError(
            f"-T ends --{switch}, which was not asked for", hint=f"add --{switch}, or leave -T out"
        )
    if given.get("interval") is not None and not given[switch]:
        raise ValueRangeError(
            f"--interval is how often --{switch} looks, which was not asked for",
            hint=f"add --{switch}, or leave --interval out",
        )


def complete(
    endpoints: tuple[Endpoint, ...] | list[Endpoint],
    *,
    port: int | None,
    source: tuple[tuple[str, bool], ...] = (),
    ipv4: bool = False,
    ipv6: bool = False,
) -> list[Endpoint]:
    """Return the endpoints with port and sources filled in, of the families asked for."""
    if ipv4 and ipv6:
        raise ValueRangeError(
            "-4 and -6 contradict each other", hint="without either, both families are meant"
        )
    chosen = [
        one
        for one in endpoints
        if ipv4 == ipv6 or (ipv4 and one.family == 4) or (ipv6 and one.family == 6)
    ]
    if not chosen:
        version = 4 if ipv4 else 6
        raise AddressError(
            f"-{version} leaves none of the endpoints", hint=f"name an IPv{version} group"
        )
    completed = []
    for one in chosen:
        number = one.port or port
        if number is None:
            raise AddressError(
                f"no port for {one.group}", hint=f"write {_with_port(one)}, or add -p PORT"
            )
        completed.append(with_sources(one._replace(port=number), source))
    return completed


def _with_port(endpoint: Endpoint) -> str:
    """Return how the group is written with a port, the one that was probably meant."""
    if endpoint.family == 4:
        return f"{endpoint.group}:PORT"
    head, _, tail = endpoint.group.rpartition(":")
    if re.fullmatch(r"[1-9][0-9]*", tail) and len(tail) > 1 and _is_address(head):
        return f"[{head}]:{tail} if {tail} is the port, else [{endpoint.group}]:PORT"
    return f"[{endpoint.group}]:PORT"


def _is_address(text: str) -> bool:
    try:
        return canonical(text, "") != ""
    except AddressError:
        return False


def exec_argv(command: str | None) -> list[str] | None:
    """Return the arguments of --exec CMD, None without it; what runs then gets no capability.

    Raises ExecError and CapabilityError.
    """
    if command is None:
        return None
    from mcastctl.net import capabilities, children  # costs what subprocess costs

    argv = children.parse(command)
    capabilities.keep_from_children()
    return argv


def _chosen(output: str | None, as_json: bool) -> str:
    name = output or ("json" if as_json else "text")
    if as_json and name not in ("json", "jsonl"):
        raise ValueRangeError(f"-j and -o {name} contradict each other", hint="keep one of them")
    return name


def output_format(output: str | None, as_json: bool, extra: tuple[str, ...] = ()) -> str:
    """Return the format asked for; `extra` are the command's own."""
    name = _chosen(output, as_json)
    if name not in _FORMATS and not name.startswith(extra or "\0"):
        known = ", ".join(_FORMATS + extra).replace("dots=", "dots=BYTES")
        raise ValueRangeError(f"'{name}' is not an output format", hint=f"use {known}")
    return name


def snapshot_format(output: str | None, as_json: bool, extra: tuple[str, ...] = ()) -> str:
    """Return the format asked of a command that prints once."""
    known = ("text", "json", "jsonl", *extra)
    if output is not None and output not in known:
        command = click.get_current_context().info_name
        raise ValueRangeError(
            f"'{output}' is not an output format of {command}", hint=f"use {', '.join(known)}"
        )
    return _chosen(output, as_json)
