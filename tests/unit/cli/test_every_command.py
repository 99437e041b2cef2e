"""What holds for every command there is."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from cli import COMMANDS, main

#: They stay until they are told to stop, and print nothing.
PROCESSES = ("run", "worker", "clock")


def every_command() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(main, info_name="tieout")
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                yield f"{name} {inner}", command.commands[inner]


COMMANDS_BY_NAME = dict(every_command())
LEAVES = {name: command for name, command in COMMANDS_BY_NAME.items() if not isinstance(command, click.Group)}


@pytest.mark.parametrize("name", COMMANDS_BY_NAME)
def test_help_has_an_example_that_begins_with_the_command(name):
    help_text = COMMANDS_BY_NAME[name].help or ""
    assert "Example:" in help_text
    assert f"tieout {name}" in help_text.partition("Example:")[2]


@pytest.mark.parametrize("name", sorted(LEAVES.keys() - set(PROCESSES)))
def test_every_command_that_answers_can_do_so_in_json(name):
    assert any("--json" in parameter.opts for parameter in LEAVES[name].params)


@pytest.mark.parametrize("name", LEAVES)
def test_no_option_letter_is_used_twice(name):
    options = [option for parameter in LEAVES[name].params for option in (*parameter.opts, *parameter.secondary_opts)]
    assert len(options) == len(set(options))


def test_a_letter_means_the_same_option_in_every_command():
    meanings: dict[str, set[str]] = {}
    for command in LEAVES.values():
        for parameter in command.params:
            short = [option for option in parameter.opts if len(option) == 2]
            for letter in short:
                meanings.setdefault(letter, set()).add(parameter.opts[-1])
    several = {letter: names for letter, names in meanings.items() if len(names) > 1}
    assert several == {"-n": {"--limit", "--samples"}}


def test_the_root_lists_every_command_and_loads_none():
    show_help = "import sys, cli; cli.main(['--help'], standalone_mode=False)"
    loaded = subprocess.run(
        [sys.executable, "-c", f"{show_help}; print([m for m in sys.modules if m in ('sqlalchemy', 'pika', 'redis')])"],
        capture_output=True,
        text=True,
        check=True,
    )
    *help_lines, modules = loaded.stdout.splitlines()
    assert modules == "[]"
    assert all(any(line.startswith(f"  {name} ") for line in help_lines) for name in COMMANDS)
    assert list(COMMANDS) == main.list_commands(click.Context(main))


@pytest.mark.parametrize("name", ["tieout", "dead", "map", "period", "target", "contracts"])
def test_a_list_of_commands_says_what_each_does_without_cutting_it(name):
    command = main if name == "tieout" else COMMANDS_BY_NAME[name]
    text = command.get_help(click.Context(command, info_name=name))
    assert "..." not in text.partition("Commands:")[2]
