"""Completion in a shell: a script for bash, or zsh, that knows commands, flags, config files and keys.

Written here and not by a library: what is typed most, `--config=FILE` and `--config.KEY=VALUE`, is no flag of argparse,
and both shells run one script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fpclass.config import base_config, config_files, flatten

ZSH = "autoload -U +X compinit bashcompinit && compinit -u && bashcompinit\n"
"""Before the script in zsh, which runs completions written for bash."""
SCRIPT = r"""
_fpclass() {
  local line=${COMP_LINE:0:$COMP_POINT} words files before=
  local word=${line##*[[:space:]]}
  case "${COMP_WORDS[1]}" in
@COMMANDS@
  esac
  [[ "$COMP_CWORD" -le 1 ]] && words="@NAMES@"
  case "$word" in
    --config=*) words="@CONFIGS@" ;;
    --*=*) words= ;;
    --config.*) [[ " $words " == *" --workdir "* ]] && words="@KEYS@" ;;
    -*) ;;
    *) [[ "$line" == *--config[s\ ]* ]] && words="@CONFIGS@" ;;
  esac
  if [[ "$word" == *=* ]]; then  # bash completes what follows "=" alone, zsh the whole word
    [[ -n "$ZSH_VERSION" ]] && before=${word%%=*}=
    word=${word#*=}
  fi
  [[ "$COMP_CWORD" -gt 1 && "$word" != -* ]] && files=$(compgen -f -- "$word")
  COMPREPLY=($(compgen -P "$before" -W "$words $files" -- "$word"))
  [[ "${COMPREPLY[0]}" == *= || -d "${COMPREPLY[0]}" ]] && compopt -o nospace 2>/dev/null
  return 0
}
complete -F _fpclass fpclass
"""


def script_for(shell: str, flags: Mapping[str, Sequence[str]]) -> str:
    """The script for "bash" or "zsh"; `flags` of each command by its name."""
    keys = [f"--config.{key}=" for key in flatten(base_config())]
    cases = [f'    {name}) words="{" ".join(own)}" ;;' for name, own in flags.items()]
    parts = {"NAMES": flags, "COMMANDS": cases, "KEYS": keys, "CONFIGS": config_files()}
    script = SCRIPT
    for part, words in parts.items():
        script = script.replace(f"@{part}@", ("\n" if part == "COMMANDS" else " ").join(words))
    return (ZSH if shell == "zsh" else "") + script.rstrip("\n")
