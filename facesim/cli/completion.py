"""Completion of commands, options and values in a shell: `facesim completion bash`."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from facesim.cli.output import echo
from facesim.cli.parsing import Choice, command

#: What a shell sets, to a word such as `bash_complete`, when it asks what can be completed.
VARIABLE = "_FACESIM_COMPLETE"

# Unlike click's own, these also complete `python -m facesim`, and leave Python's other words to what completed them
# before.
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

_ZSH = """\
_facesim_completion() {
    local -a ask=("$words[1]") given=("${words[@]}") plain described
    local at=$((CURRENT - 1)) type value help
    if [[ ${words[1]:t} == python* ]]; then
        if [[ $words[2] != -m || $words[3] != facesim ]] || (( CURRENT < 4 )); then
            (( $+functions[_python] )) && _python || _default
            return
        fi
        ask+=(-m facesim) given=(facesim "${(@)words[4,-1]}") at=$((at - 2))
    fi
    local answer="$(env COMP_WORDS="${given[*]}" COMP_CWORD=$at VARIABLE=zsh_complete "${ask[@]}" 2>/dev/null)"
    for type value help in "${(@f)answer}"; do
        case $type in
            dir) _path_files -/ ;;
            file) _path_files ;;
            plain) [[ $help == _ ]] && plain+=("$value") || described+=("$value:$help") ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -V unsorted -a plain
}
compdef _facesim_completion facesim python python3
"""

_FISH = """\
function _facesim_by_python
    set -l words (commandline -opc)
    test "$words[2] $words[3]" = "-m facesim"
end

function _facesim_completion
    set -l ask (commandline -opc)[1]
    set -l given (commandline -cp)
    if _facesim_by_python
        set ask $ask -m facesim
        set given (string replace -r '^\\s*\\S+\\s+-m\\s+' '' -- $given)
    end
    for completion in (env COMP_WORDS="$given" COMP_CWORD=(commandline -ct) VARIABLE=fish_complete $ask 2>/dev/null)
        set -l parts (string split -m 1 , -- $completion)
        switch $parts[1]
            case dir
                __fish_complete_directories (commandline -ct)
            case file
                __fish_complete_path (commandline -ct)
            case plain
                echo $parts[2]
        end
    end
end

complete --no-files --command facesim --arguments "(_facesim_completion)"
for python in python python3
    complete --no-files --command $python --condition _facesim_by_python --arguments "(_facesim_completion)"
end
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

SHELLS = {
    "bash": 'put `eval "$(facesim completion bash)"` into ~/.bashrc',
    "zsh": 'put `eval "$(facesim completion zsh)"` into ~/.zshrc',
    "fish": "run `facesim completion fish > ~/.config/fish/conf.d/facesim.fish`",
}


@command(epilog="\b\n" + "\n".join(f"{shell:5}{what}" for shell, what in SHELLS.items()))
@click.argument("shell", type=Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print what lets a SHELL complete commands, options and values."""
    echo(script(shell).rstrip("\n"))


def script(shell: str) -> str:
    """What a shell has to execute."""
    return _SCRIPTS[shell].replace("VARIABLE", VARIABLE)


def paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A file or folder, whatever its name."""
    return [CompletionItem(incomplete, type="file")]


def data_sets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A data set by its name, or a file or folder."""
    from facesim.data import DATASETS

    named: list[Any] = [CompletionItem(name) for name in DATASETS if name.startswith(incomplete)]
    return [*named, *paths(ctx, param, incomplete)]
