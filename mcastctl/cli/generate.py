"""Write man/ and completions/ from the click definitions: `python -m mcastctl.cli.generate`.

The pages are reproducible: no date of the day, no width of a terminal. A test regenerates them
and compares.
"""

import sys
import textwrap
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from mcastctl import __version__
from mcastctl.cli import app, completion, options

ROOT = Path(__file__).parent.parent.parent
_COMPLETIONS = {
    "bash": "mcastctl.bash",
    "zsh": "_mcastctl",
    "fish": "mcastctl.fish",
    "powershell": "mcastctl.ps1",
}

_REFERENCE = (
    "<!-- From the command line itself: python -m mcastctl.cli.generate -->",
    "<!-- end -->",
)
"""What stands around the reference in the README."""
_WIDE = 30
_HARD = "\N{NO-BREAK SPACE}"
MANUAL = Path(__file__).parent / "manual"
"""What a command's page says in prose, as roff (man(7)): sections up to its exit status."""

_ALSO = {
    "listen": "socat(1)",
    "echo": "ping(8)",
    "ping": "ping(8)",
    "ifaces": "ip-link(8), ip-address(8)",
    "routes": "ip-route(8), ip-mroute(8), bridge(8)",
    "groups": "ip-maddress(8), netstat(8)",
    "sniff": "tcpdump(8), pcap-filter(7)",
    "doctor": "nft(8), dropwatch(1)",
    "matrix": "ssh(1), ssh_config(5), ansible-inventory(1)",
}
_EXIT_STATUS = """\
.SH "EXIT STATUS"
.TP
.B 0
Asked, and the answer is yes.
.TP
.B 1
Asked, and the answer is no: too few datagrams, too lossy, nothing heard, a check failed.
.TP
.B 2
Could not ask: usage, no such interface, permission, port in use, damaged input; standard output
full or closed; no /proc where only it knows the answer.
"""
_BY_SIGNAL = """\
.TP
.BR 129 ", " 130 ", " 143
Ended by SIGHUP, SIGINT or SIGTERM, after the summary (a second SIGINT ends at once); 141 when the
reader of the output went away.
.PP
A standard output that is full or closed is status 2; locale, home and terminal change no status.
"""
_ENVIRONMENT = """\
.SH ENVIRONMENT
Every option reads MCASTCTL_<COMMAND>_<OPTION>, for example MCASTCTL_LISTEN_IFACE.
NO_COLOR, FORCE_COLOR and CLICOLOR_FORCE choose colour where \\-\\-color does not. With TERM=dumb
lines are printed where a table would be drawn; without UTF\\-8 in LC_ALL, LC_CTYPE or LANG
nothing but ASCII is.
.SH FILES
.TP
.I $XDG_CONFIG_HOME/mcastctl/config.toml
Defaults per command, one section each, and names for endpoints in
.BR [groups] .
"""


def pages() -> dict[str, str]:
    """Return {path below the project: text} of every generated file."""
    commands = app.command_table()
    found = {"man/mcastctl.1": _front_page(commands)}
    for name, command in commands.items():
        found[f"man/mcastctl-{name}.1"] = _page(name, command)
    for shell, file in _COMPLETIONS.items():
        found[f"completions/{file}"] = _completion(shell)
    return found


def reference() -> str:
    """Return every command with its options, for the README."""
    blocks = []
    for name, command in app.command_table().items():
        context = click.Context(command, info_name=f"mcastctl {name}")
        words = [one for one in command.collect_usage_pieces(context) if one != "[OPTIONS]"]
        words += [
            f"[{record[0].rpartition(', ')[2] if len(record[0]) > _WIDE else record[0]}]"
            for one in command.get_params(context)
            if isinstance(one, click.Option) and not one.hidden and one.name != "help"
            if (record := one.get_help_record(context))
        ]
        head = f"mcastctl {name} "
        blocks.append(
            textwrap.fill(
                " ".join(word.replace(" ", _HARD) for word in words),
                initial_indent=head,
                subsequent_indent=" " * len(head),
                width=100,
                break_long_words=False,
                break_on_hyphens=False,
            ).replace(_HARD, " ")
        )
    joined = "\n\n".join(blocks)
    return f"{_REFERENCE[0]}\n```text\n{joined}\n```\n{_REFERENCE[1]}"


def with_reference(readme: str) -> str:
    """Return the README with its reference as of now."""
    before, begin, rest = readme.partition(_REFERENCE[0])
    _, end, after = rest.partition(_REFERENCE[1])
    return before + reference() + after if begin and end else readme


def _completion(shell: str) -> str:
    completion.register()
    kind = get_completion_class(shell)
    if kind is None:
        raise SystemExit(f"click knows no completion for {shell}")
    return str(kind(app.cli, {}, "mcastctl", "_MCASTCTL_COMPLETE").source()).strip() + "\n"


def _roff(text: str) -> str:
    """Escape text for roff: backslashes, hyphens, quotes and a dot that begins a line."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in escaped.split("\n"))


def _title(name: str) -> str:
    return f'.TH {name.upper()} 1 "" "mcastctl {__version__}" "mcastctl manual"\n.nh\n'


def _front_page(commands: dict[str, click.Command]) -> str:
    listed = "".join(
        f".TP\n.BR mcastctl\\-{name} (1)\n{_roff(app.COMMANDS[name])}\n" for name in commands
    )
    return (
        _title("mcastctl")
        + ".SH NAME\nmcastctl \\- send, hear, answer and explain IP multicast\n"
        + ".SH SYNOPSIS\n.B mcastctl\n.I command\n.RI [ options ]\n.RI [ arguments ]\n"
        + f".SH COMMANDS\n{listed}"
        + ".SH ENDPOINTS\n.nf\n"
        + _roff(
            "[scheme://][SRC[,SRC...]@]GROUP[%IFACE][:PORT][+N]\n"
            "239.1.1.1:5004              a group and port\n"
            "[ff15::42%eth0]:5004        IPv6 in brackets, with the interface\n"
            "192.0.2.9@232.1.1.1:5004    from one source (SSM)\n"
            "!192.0.2.9@239.1.1.1:5004   from all but one source\n"
            "239.1.1.1:5004+3            four groups, 239.1.1.0/30:5004 likewise\n"
        )
        + ".fi\n"
        + f".SH OPTIONS\n{_options(app.cli)}"
        + _EXIT_STATUS
        + _BY_SIGNAL
        + _ENVIRONMENT
    )


def _page(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    examples = getattr(command, "examples", "").strip()
    others = [f".BR mcastctl\\-{one} (1)" for one in app.COMMANDS if one != name]
    for page in filter(None, _ALSO.get(name, "").split(", ")):
        title, _, section = page.partition("(")
        others.append(f".BR {_roff(title)} ({section}")
    return (
        _title(f"mcastctl-{name}")
        + f".SH NAME\nmcastctl\\-{name} \\- {_roff(app.COMMANDS[name].rstrip('.').lower())}\n"
        + f".SH SYNOPSIS\n.B mcastctl {name}\n{_roff(usage)}\n"
        + f".SH DESCRIPTION\n{_roff(command.help or '')}\n"
        + f".SH EXAMPLES\n.nf\n{_roff(examples)}\n.fi\n"
        + f".SH OPTIONS\n{_options(command)}"
        + ".SH VALUES\n"
        + "".join(f".TP\n.I {name}\n{_roff(meaning)}\n" for name, meaning in options.VALUES)
        + (MANUAL / f"{name}.man").read_text()
        + _BY_SIGNAL
        + _ENVIRONMENT
        + ".SH SEE ALSO\n.BR mcastctl (1),\n"
        + ",\n".join(others)
        + "\n"
    )


def _options(command: click.Command) -> str:
    context = click.Context(command, info_name=command.name)
    lines = []
    for parameter in command.get_params(context):
        if not isinstance(parameter, click.Option) or parameter.hidden:
            continue
        record = parameter.get_help_record(context)
        if record:
            lines.append(f".TP\n.B {_roff(record[0])}\n{_roff(record[1])}\n")
    return "".join(lines)


def main() -> None:
    """Write every generated file below the project."""
    for path, text in pages().items():
        target = ROOT / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)
        sys.stderr.write(f"{path}\n")
    readme = ROOT / "README.md"
    readme.write_text(with_reference(readme.read_text()))


if __name__ == "__main__":
    main()
