"""The line up to the cursor to what a shell may put there, also behind '=', ':' and '-i'.

click's own scripts for bash, zsh and fish hand over words and lose what stands between them; ours
hand over the line, and get the whole word in exchange, or for bash the part that it replaces.
"""

import os
import re
from typing import Any, ClassVar

import click
from click import shell_completion as click_completion
from click.shell_completion import CompletionItem

_END = "\0"
"""Stands for the cursor: no line has it."""
_ATTACHED = re.compile(r"(--[^=]+=)(.*)", re.DOTALL)
_SHORT = re.compile(r"(-[A-Za-z])(.+)", re.DOTALL)

_BASH = """\
%(complete_func)s() {
    local line=${COMP_LINE:0:COMP_POINT} program=$1 type value
    type -P -- "$program" > /dev/null || program=%(prog_name)s
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(
        exec env COMP_WORDS="%(prog_name)s${line#*"$1"}" _MCASTCTL_BREAKS="$COMP_WORDBREAKS" \
%(complete_var)s=bash_complete "$program" 2> /dev/null
    )
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace
    fi
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""
_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a plain open described response
    local type key descr added=1 program=${~words[1]}
    (( $+commands[$program] )) || [[ -x $program ]] || program=%(prog_name)s
    response=("${(@f)$(COMP_WORDS="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX" \
%(complete_var)s=zsh_complete $program 2> /dev/null)}")

    for type key descr in "${(@)response}"; do
        if [[ $type == plain ]]; then
            if [[ $key == *= ]]; then
                open+=("$key")
            elif [[ $descr == _ ]]; then
                plain+=("$key")
            else
                described+=("$key:$descr")
            fi
        elif [[ $type == (dir|file) ]]; then
            [[ $PREFIX == --*=* ]] && compset -P '*='
            if [[ $type == dir ]]; then _path_files -/; else _path_files -f; fi && added=0
        fi
    done
    (( $#described )) && _describe -V unsorted described -U && added=0
    (( $#plain )) && compadd -U -V unsorted -a -- plain && added=0
    (( $#open )) && compadd -U -S '' -V unsorted -a -- open && added=0
    return added
}

if [[ $zsh_eval_context[-1] == (loadautofunc|shfunc) ]]; then
    # from fpath: this file is the function, at the first call and at each later one
    %(complete_func)s "$@"
else
    # eval/source/. command, register function for later
    compdef %(complete_func)s %(prog_name)s
fi
"""
_FISH = """\
function %(complete_func)s
    set -l head (string match -r -- '^--[^=]+=' (commandline -ct))
    set -l line (commandline -cp | string collect)
    for found in (env %(complete_var)s=fish_complete COMP_WORDS=$line %(prog_name)s 2>/dev/null)
        set -l parts (string split -m 1 , -- $found)
        switch $parts[1]
            case plain
                echo -- $parts[2]
            case file
                for path in (__fish_complete_path $parts[2])
                    echo -- "$head"$path
                end
            case dir
                for path in (__fish_complete_directories $parts[2])
                    echo -- "$head"$path
                end
        end
    end
end

complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class _Line(click_completion.ShellComplete):
    """What all shells share: words from the line, and candidates for a whole word."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one at the cursor, and that one as far as it is typed."""
        if "COMP_CWORD" in os.environ:  # by whoever speaks click's own protocol
            return super().get_completion_args()
        words = click_completion.split_arg_string(os.environ.get("COMP_WORDS", "") + _END)
        while words and re.match(r"[A-Za-z_]\w*=", words[0]):  # NAME=VALUE mcastctl
            del words[0]
        *before, last = words
        return before[1:], last.removesuffix(_END)

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Return candidates that begin with all that is typed of the word."""
        head = ""
        if "--" not in args:
            if found := _ATTACHED.fullmatch(incomplete):
                head = found[1]
            elif (found := _SHORT.fullmatch(incomplete)) and self._takes_value(args, found[1]):
                head = found[1]
                args, incomplete = [*args, head], found[2]
        items = super().get_completions(args, incomplete)
        for one in items:
            if head and one.type == "plain" and not one.value.startswith(head):
                one.value = head + one.value
        return items

    def _takes_value(self, args: list[str], letter: str) -> bool:
        named = [one for one in args if not one.startswith("-")]
        if not named or not isinstance(self.cli, click.Group):
            return False
        command = self.cli.get_command(click.Context(self.cli), named[0])
        return any(
            isinstance(one, click.Option) and letter in one.opts and not (one.is_flag or one.count)
            for one in (command.params if command else ())
        )


class Bash(_Line, click_completion.BashComplete):
    """bash replaces only what stands behind the last '=' or ':' of an unquoted word."""

    source_template: ClassVar[str] = _BASH

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Return candidates without what bash leaves standing."""
        breaks = os.environ.get("_MCASTCTL_BREAKS", "")
        items = super().get_completions(args, incomplete)
        kept = max((incomplete.rfind(one) + 1 for one in "=:" if one in breaks), default=0)
        for one in items:
            if one.type == "plain":
                one.value = one.value[kept:]
        return items


class Zsh(_Line, click_completion.ZshComplete):
    """zsh replaces the word."""

    source_template: ClassVar[str] = _ZSH


class Fish(_Line, click_completion.FishComplete):
    """fish replaces the word."""

    source_template: ClassVar[str] = _FISH


class PowerShell(_Line, click_completion.PowerShellComplete):
    """PowerShell replaces the word."""


_SHELLS: tuple[Any, ...] = (Bash, Zsh, Fish, PowerShell)


def register() -> None:
    """Have click use these."""
    for kind in _SHELLS:
        click_completion.add_completion_class(kind)
