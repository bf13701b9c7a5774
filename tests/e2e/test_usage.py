"""Every command's help, its errors of usage, and the completion of its words in a shell: as a process shows them."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cvji.cli import app
from tests.e2e.kit import EXECUTABLE

LINES, COLUMNS = 50, 100  # of one screen
CHOICES = re.compile(r"(--[a-z-]+) \[([a-z|]+)\]")
EXAMPLE = re.compile(r"Example: .*?(cvji .*)")
FILL = {"explain": ("team/j",), "holders": ("n",), "nodeconfig delete": ("n",)}  # arguments that must be given


def every_command(command: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """The program, its groups and its commands."""
    yield words
    for name, below in getattr(command, "commands", {}).items():
        yield from every_command(below, *words, name)


COMMANDS = list(every_command(get_command(app)))
WORKING = [words for words in COMMANDS if words and words != ("jobconfig",) and words != ("nodeconfig",)]


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "COLUMNS": str(COLUMNS), **env}
    return subprocess.run([EXECUTABLE, *words], env=clean, check=False, capture_output=True, text=True, timeout=60)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error of wrong usage."""
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert done.stderr.startswith("cvji: ")
    return done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_is_one_screen_with_a_purpose_an_example_and_choices(command: tuple[str, ...]) -> None:
    done = run(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    assert not [line for line in lines if line.endswith(("...", "\u2026")) and not line.startswith("Usage:")]
    _usage, purpose, *_ = filter(None, lines)
    assert purpose.startswith("  ")
    example = EXAMPLE.search(done.stdout)
    assert example
    assert example[1].startswith(" ".join(("cvji", *command)))
    asked = [word for word in shlex.split(example[1]) if word.startswith("--")]
    assert all(f" {option} " in done.stdout for option in asked)
    assert ("--output <str>" in done.stdout, "--log-level <str>" in done.stdout) == (False, False)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_unknown_option_is_one_line_that_says_where_help_is(command: tuple[str, ...]) -> None:
    said = one_line(run(*command, "--no-such-option"))
    assert "--no-such-option" in said
    assert said.endswith(f"; see {' '.join(('cvji', *command))} --help\n")


@pytest.mark.parametrize("command", WORKING, ids=" ".join)
def test_a_value_that_is_no_choice_is_one_line_with_the_option_and_the_choices(command: tuple[str, ...]) -> None:
    found = CHOICES.findall(run(*command, "--help").stdout)
    assert found
    for option, choices in found:
        said = one_line(run(*command, *FILL.get(" ".join(command), ()), option, "nonsense"))
        assert option in said
        assert f"it must be one of {choices.replace('|', ', ')}" in said


# --- completion ------------------------------------------------------------------------------------------------------

COMPLETED = {
    "cvji ": ["informer", "discover", "explain", "check", "holders", "reconcile", "jobconfig", "nodeconfig"],
    "cvji re": ["reconcile"],
    "cvji nodeconfig ": ["send", "delete"],
    "cvji check --out": ["--output"],
    "cvji check --output ": ["text", "json"],
    "cvji discover -o y": ["yaml"],
    "cvji informer --jobconfig-mode ": ["interface", "node"],
    "cvji explain --no-such": [],
}


@pytest.mark.parametrize("typed", COMPLETED)
def test_commands_options_and_choices_are_completed_in_each_shell(typed: str) -> None:
    words = typed.split(" ")
    env = {"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    bash = run(_CVJI_COMPLETE="complete_bash", **env)
    assert bash.stdout.split() == COMPLETED[typed]
    zsh = run(_CVJI_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=typed)
    assert re.findall(r'^(?:_arguments .*\(\()?"([^"]+)"', zsh.stdout, re.MULTILINE) == COMPLETED[typed]
    action = {"_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    fish = run(_CVJI_COMPLETE="complete_fish", **action)
    assert [line.partition("\t")[0] for line in fish.stdout.split("\n") if line] == COMPLETED[typed]
    assert bash.stderr + zsh.stderr + fish.stderr == ""


def test_bash_completes_by_the_script_that_is_shown_and_by_the_one_that_is_installed(tmp_path: Path) -> None:
    """A shell is recognized by the process that the program was started by."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "cvji").symlink_to(EXECUTABLE)
    env = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    ask = "COMP_WORDS=(cvji check -o j); COMP_CWORD=3; _cvji_completion cvji; echo ${COMPREPLY[@]}"
    for get in ('eval "$(cvji --show-completion)"', "cvji --install-completion >said; . ~/.bashrc"):
        script = f"{get}; complete -p cvji; {ask}"
        done = subprocess.run(
            ["bash", "--norc", "-c", script], env=env, check=False, capture_output=True, text=True, cwd=tmp_path
        )
        assert (done.stderr, done.stdout) == ("", "complete -o default -F _cvji_completion cvji\njson\n")
    assert "bash completion installed in" in (tmp_path / "said").read_text()
