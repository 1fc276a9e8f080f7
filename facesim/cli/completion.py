"""Completion of commands, options and values in a shell: `facesim completion bash`."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from facesim.cli.output import echo
from facesim.cli.parsing import Choice, command

#: What a shell sets, to a word such as `bash_complete`, when it asks what can be completed.
VARIABLE = "_FACESIM_COMPLETE"

#: Unlike click's own it also completes `python -m facesim`, and leaves Python's other words to whatever completed them.
_BASH = """\
_facesim_completion() {
    local IFS=$'\\n' words=("${COMP_WORDS[@]}") at=$COMP_CWORD ask=("$1") completion type value
    if [[ ${words[0]##*/} == python* ]]; then
        if [[ ${words[1]} != -m || ${words[2]} != facesim || $at -lt 3 ]]; then
            [[ -n $_facesim_python ]] && "$_facesim_python" "$@" || compopt -o default
            return
        fi
        ask=("$1" -m facesim) words=(facesim "${words[@]:3}") at=$((at - 2))
    fi
    for completion in $(env COMP_WORDS="${words[*]}" COMP_CWORD=$at VARIABLE=bash_complete "${ask[@]}" 2>/dev/null)
    do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}
_facesim_python=$(complete -p python 2>/dev/null | sed -n 's/.* -F \\([^ ]*\\) .*/\\1/p')
[[ $_facesim_python == _facesim_completion ]] && _facesim_python=
complete -o nosort -F _facesim_completion facesim python python3
"""

SHELLS = {
    "bash": 'put `eval "$(facesim completion bash)"` into ~/.bashrc',
    "zsh": 'put `eval "$(facesim completion zsh)"` into ~/.zshrc',
    "fish": "run `facesim completion fish > ~/.config/fish/completions/facesim.fish`",
}


@command(epilog="\b\n" + "\n".join(f"{shell:5}{what}" for shell, what in SHELLS.items()))
@click.argument("shell", type=Choice(list(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what lets a SHELL complete commands, options and values."""
    echo(script(shell, ctx.find_root().command).rstrip("\n"))


def script(shell: str, program: click.Command) -> str:
    """What a shell has to execute."""
    if shell == "bash":
        return _BASH.replace("VARIABLE", VARIABLE)
    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(f"click knows no shell {shell!r}")
    known = kind(program, {}, "facesim", VARIABLE)
    return known.source_template % known.source_vars()


def paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A file or folder, whatever its name."""
    return [CompletionItem(incomplete, type="file")]


def data_sets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A data set by its name, or a file or folder."""
    from facesim.data import DATASETS

    named: list[Any] = [CompletionItem(name) for name in DATASETS if name.startswith(incomplete)]
    return [*named, *paths(ctx, param, incomplete)]
