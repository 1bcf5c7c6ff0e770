"""What click finds wrong with a command line, as message and remedy; loaded for errors only."""

from collections.abc import Iterable
from difflib import SequenceMatcher

import click

from mcastctl.cli import app

_ALIKE = 0.7
"""Least likeness of a name that may have been meant (difflib's ratio, without the dashes)."""
_TELLING = 0.1
"""How much less alike than the best one another may be."""
_MOST = 3


def explain(error: click.ClickException) -> tuple[str, str]:
    """Return message and hint."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "mcastctl"
    page = f"see '{path} --help'"
    if isinstance(error, click.NoSuchOption):
        return f"no such option '{error.option_name}'", _meant(error.option_name, context) or page
    message = error.format_message().rstrip(".")
    message = message[:1].lower() + message[1:]
    if isinstance(error, click.BadOptionUsage) and context and "requires" in message:
        return message, _spelled(error.option_name, context) or page
    if "unexpected extra argument" in message:
        return message, f"quote words that belong together; {page}"
    for mark in (" Did you mean ", " (Did you mean "):
        head, found, suggestion = message.partition(mark)
        if found:
            return head.rstrip(". "), f"did you mean {suggestion.rstrip('?).')}?"
    return message, page


def close(name: str, known: Iterable[str]) -> list[str]:
    """Return the names that were probably meant, the likeliest first.

    Those that go on where `name` ends, else those much alike.
    """
    typed = name.lstrip("-").lower()
    words = list(dict.fromkeys(known))
    longer = [one for one in words if one.lstrip("-").startswith(typed)] if len(typed) > 2 else []
    if longer:
        return longer[:_MOST]
    ranked = sorted(
        ((SequenceMatcher(None, typed, one.lstrip("-")).ratio(), one) for one in words),
        key=lambda pair: -pair[0],
    )
    least = max(_ALIKE, ranked[0][0] - _TELLING) if ranked else 1
    return [one for ratio, one in ranked if ratio >= least][:_MOST]


def _meant(name: str, context: click.Context | None) -> str:
    """Return the option that was meant, or where that option is at home."""
    if context is None:
        return ""
    shown = [one for one in _spellings(context.command, context) if len(one) > 2]
    if len(name) > 2 and (alike := close(name, shown)):
        return f"did you mean {' or '.join(map(repr, alike))}?"
    homes = [
        one
        for one, command in app.command_table().items()
        if command is not context.command and name in _spellings(command, context)
    ]
    if not homes:
        return ""
    if context.parent is None:
        return f"options of a command stand behind it: mcastctl {homes[0]} {name}"
    return f"that is an option of {_listed(homes)}; see '{context.command_path} --help'"


def _spellings(command: click.Command, context: click.Context) -> list[str]:
    return [
        spelled
        for one in command.get_params(context)
        if isinstance(one, click.Option) and not one.hidden
        for spelled in (*one.opts, *one.secondary_opts)
    ]


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _spelled(name: str, context: click.Context) -> str:
    """Return how an option is written with its value."""
    for one in context.command.get_params(context):
        if name in one.opts:
            return f"write {name} {one.make_metavar(context).replace('[', '').replace(']', '')}"
    return ""
