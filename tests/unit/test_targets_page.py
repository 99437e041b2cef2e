"""docs/targets.md says what the command line does."""

import re
import shlex
from pathlib import Path

import pytest

from commands.target import target
from connectors.catalogue import kind_of
from connectors.http.standing import GuardLimits
from connectors.kinds import checked

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / name).read_text() for name in ("docs/targets.md", "README.md")}
PAGE = PAGES["docs/targets.md"]


def commands(text: str) -> list[list[str]]:
    """Every `tieout target` of the shell blocks, as words."""
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = blocks.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[2:] for line in lines if line.startswith("tieout target ")]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_on_the_page_can_be_given(page):
    given = commands(PAGES[page])
    assert given
    for verb, *words in given:
        assert target.commands[verb].make_context(verb, words)


@pytest.mark.parametrize("page", PAGES)
def test_the_example_makes_a_target(page):
    [words] = [words for words in commands(PAGES[page]) if words[0] == "add"]
    said = target.commands["add"].make_context("add", words[1:]).params
    options, secrets = (dict(pair.split("=", 1) for pair in said[name]) for name in ("options", "secrets"))
    assert checked(kind_of(said["kind"]), options, secrets) == options


def test_every_verb_is_on_the_page():
    assert {words[0] for words in commands(PAGE)} == set(target.commands)


def test_the_limits_have_the_defaults_that_the_page_says():
    defaults = GuardLimits()
    assert f"after a quiet while ({defaults.burst})" in PAGE
    assert f"of all workers together ({defaults.concurrency})" in PAGE
    assert defaults.rate_per_s is None
