"""The command group, and the frame that turns errors and signals into exit statuses."""

import importlib
import os
import sys
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from mcastctl import __version__
from mcastctl.cli.options import help_option
from mcastctl.model.errors import COULD_NOT_ASK, McastError, SocketError
from mcastctl.model.shortage import shortage
from mcastctl.output import stream
from mcastctl.output.escape import escape, fit

if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # see `cli`

COMMANDS = {
    "send": "Send datagrams to a group.",
    "listen": "Join groups and print what arrives.",
    "echo": "Answer each request by unicast.",
    "ping": "One request, many answers: who hears a group.",
    "ifaces": "Show the interfaces and their multicast state.",
    "routes": "Where a group leaves this host, and why.",
    "groups": "Who on this host has joined what.",
    "sniff": "Capture and explain multicast on the wire.",
    "doctor": "Why a datagram does not arrive, and the fix.",
    "matrix": "Who hears whom, over many hosts, by ssh.",
}
"""Each command with its short help, so that `--help` imports none of them."""

EPILOG = """\b
Examples:
  mcastctl listen 239.1.1.1:5004                 hear a group
  mcastctl send 239.1.1.1:5004 hello             send to it
Exit status: 0 yes, 1 no, 2 could not ask. Settings and files: man mcastctl."""


class UsageProblem(McastError):
    """A command line that names what does not exist."""


class LazyGroup(click.Group):
    """Imports a command when it is used, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"mcastctl.cli.{cmd_name}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the one that was meant."""
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            from mcastctl.cli import misuse

            close = misuse.close(args[0], COMMANDS)
            hint = f"did you mean '{close[0]}'?" if close else "see 'mcastctl --help'"
            raise UsageProblem(f"no such command '{args[0]}'", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        python = ".".join(map(str, sys.version_info[:3]))
        stream.say(f"mcastctl {__version__} (Python {python}, {sys.platform})")
        ctx.exit(0)


@click.group(
    cls=LazyGroup,
    name="mcastctl",
    context_settings={
        "max_content_width": 100,
    },
    help="Send, hear, answer and explain IP multicast.",
    epilog=EPILOG,
    add_help_option=False,
    params=[help_option()],
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Hold the commands."""


def main() -> NoReturn:
    """Run the command line and end with its exit status."""
    sys.excepthook = _report_internal_error
    _reserve_standard_descriptors()
    fit(os.environ)
    status = run(sys.argv[1:])
    if status > 128:
        _die_of(status - 128)
    sys.exit(status)


def script() -> NoReturn:
    """Be the installed command: `main`, but leave without taking the interpreter down.

    That would cost a sixth of the time of a short run, and nothing of ours is left to close.
    """
    try:
        main()
    except SystemExit as end:
        with suppress(OSError, AttributeError):  # AttributeError: no standard output at all
            sys.stdout.flush()  # what click printed for a shell's completion
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status; above 128 a signal number is meant."""
    try:
        if "_MCASTCTL_COMPLETE" in os.environ:
            _complete(arguments)
        # Not click's main(): it takes a broken pipe for the answer 'no'.
        with cli.make_context("mcastctl", list(arguments)) as context:
            status = cli.invoke(context)
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        stream.notice(error.format_message())
        return COULD_NOT_ASK
    except click.ClickException as error:
        from mcastctl.cli import misuse

        _fail(*misuse.explain(error))
    except SocketError as error:
        from mcastctl.cli.run import explained

        _fail(error.message, explained(error).hint)
    except McastError as error:
        _fail(error.message, error.hint)
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except (OSError, ImportError, MemoryError) as error:
        if (lacking := shortage(error)) is None:
            raise
        _fail(lacking.message, lacking.hint)
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    return COULD_NOT_ASK


def _complete(arguments: list[str]) -> None:
    """Let click answer a shell that asks for completions; it exits then."""
    from mcastctl.cli import completion

    completion.register()
    try:
        cli.main(args=arguments, prog_name="mcastctl")
    except (KeyError, ValueError) as error:
        raise UsageProblem(
            f"cannot complete: COMP_WORDS and COMP_CWORD are no words and a number ({error})",
            hint="unset _MCASTCTL_COMPLETE; only a shell's completion sets it",
        ) from error


def _fail(message: str, hint: str) -> None:
    stream.notice(f"mcastctl: error: {escape(message)}")
    stream.notice(f"hint: {escape(hint)}")


def _reserve_standard_descriptors() -> None:
    """Occupy closed descriptors 0 to 2: a socket there would become 'stdout'.

    Input is then empty; writing to what is open for reading fails, as it does when closed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)
            os.set_inheritable(descriptor, True)  # nor shall a child's file become its 'stderr'


def _report_internal_error(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Keep an unforeseen error from looking like the answer 'no' (Python would exit 1)."""
    if issubclass(kind, KeyboardInterrupt):
        _die_of(signal.SIGINT)  # between two places that expect it
    if (lacking := shortage(error)) is not None:  # what was being said of it took more still
        _fail(lacking.message, lacking.hint)
        os._exit(COULD_NOT_ASK)
    if any(one.startswith("-vv") for one in sys.argv):
        from traceback import format_exception

        for line in "".join(format_exception(kind, error, trace)).splitlines():
            stream.notice(escape(line))
    _fail(
        f"internal error: {kind.__name__}: {error}", "this is a bug; -vv shows where, please report"
    )
    os._exit(COULD_NOT_ASK)


def _die_of(number: int) -> NoReturn:
    """End by the signal itself, so that the shell sees a true signal death."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def command_table() -> dict[str, Any]:
    """Return every command by name (for the generators of man pages and completions)."""
    context = click.Context(cli)
    return {name: cli.get_command(context, name) for name in COMMANDS}
