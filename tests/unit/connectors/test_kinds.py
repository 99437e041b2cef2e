"""What can be said about a target: options by type, groups of them, secrets that are named and never told."""

from typing import Annotated, Literal

import msgspec
import pytest
from msgspec.structs import replace

from connectors.catalogue import KINDS, UnknownKind, kind_of
from connectors.http.secrets import Secret
from connectors.kinds import InvalidOptions, checked, made, options_of
from tests.shelf import SHELF, ShelfConfig, Waits

PLACE = {"place": "cellar 1"}
KEY = {"key": "SHELF_KEY"}
SECRETS = {"key": Secret("hunter2")}


def test_every_option_tells_its_type_its_default_and_what_it_means():
    options = {option.name: option for option in options_of(SHELF)}
    assert list(options) == ["place", "key", "width", "colours", "locked", "waits.total_ms"]
    assert [name for name, option in options.items() if option.required] == ["place", "key"]
    assert [name for name, option in options.items() if option.secret] == ["key"]
    assert options["place"].about == "where it stands, room and number: what is said here goes on for a line."
    assert (options["width"].type, options["width"].default) == ("a whole number", 10)
    assert (options["colours"].type, options["colours"].about) == ("a list, separated by commas", "")
    assert (options["locked"].type, options["waits.total_ms"].default) == ("true or false", 1_000)
    assert options["waits.total_ms"].about == "for a call."


def test_text_becomes_values_of_the_options_types_and_these_a_struct():
    said = PLACE | {"width": "4", "colours": "red, green,", "locked": "true", "waits.total_ms": "5"}
    values = checked(SHELF, said, KEY)
    assert msgspec.json.decode(msgspec.json.encode(values)) == {
        "place": "cellar 1",
        "width": 4,
        "colours": ["red", "green"],
        "locked": True,
        "waits.total_ms": 5,
    }
    assert made(SHELF, "attic", msgspec.json.decode(msgspec.json.encode(values)), SECRETS) == ShelfConfig(
        name="attic",
        place="cellar 1",
        key=Secret("hunter2"),
        width=4,
        colours=("red", "green"),
        locked=True,
        waits=Waits(total_ms=5),
    )


def test_what_is_not_said_is_not_written_down_and_has_the_default_of_the_day():
    assert checked(SHELF, PLACE, KEY) == PLACE


@pytest.mark.parametrize(
    ("said", "secrets", "words"),
    [
        ({"colour": "red"}, KEY, ["no option 'colour'", "place (text)", "key (a secret)", "width (a whole number)"]),
        ({"name": "x"}, KEY, ["no option 'name'"]),
        ({"waits": "x"}, KEY, ["no option 'waits'", "waits.total_ms"]),
        ({"width": "wide"}, KEY, ["width='wide'", "a whole number"]),
        ({"width": "0"}, KEY, ["width='0'", ">= 1"]),
        ({"width": "13"}, KEY, ["width = 13: nobody puts anything there"]),
        ({"locked": "perhaps"}, KEY, ["locked='perhaps'", "true or false"]),
        ({"place": " "}, KEY, ["place is empty"]),
        ({}, {}, ["needs key", "--secret key=VARIABLE"]),
        ({}, KEY | {"place": "X"}, ["place is no secret", "--set place=VALUE"]),
        ({}, {"lock": "X"}, ["no option 'lock'"]),
    ],
)
def test_what_makes_no_target_is_refused_with_what_to_say_instead(said, secrets, words):
    with pytest.raises(InvalidOptions) as caught:
        checked(SHELF, PLACE | said, secrets)
    assert [word for word in words if word not in str(caught.value)] == []


def test_what_must_be_said_is_named_all_at_once():
    with pytest.raises(InvalidOptions, match=r"shelf needs place, key: --set place=VALUE --secret key=VARIABLE"):
        checked(SHELF, {}, {})


@pytest.mark.parametrize(
    ("said", "secrets"),
    [
        ({"key": "hunter2"}, {}),
        ({"kye": "hunter2"}, KEY),
        ({}, {"key": "hunter2!"}),
        ({"place": "https://me:hunter2@shelf.example.com/"}, KEY),
        ({"place": "https://hunter2@shelf.example.com"}, KEY),
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_and_not_repeated(said, secrets):
    with pytest.raises(InvalidOptions) as caught:
        checked(SHELF, PLACE | said, secrets)
    assert "hunter2" not in str(caught.value)


def test_options_of_a_later_release_are_refused_by_this_one():
    with pytest.raises(InvalidOptions, match="depth"):
        made(SHELF, "attic", PLACE | {"depth": 3}, SECRETS)


def test_choices_and_what_may_be_left_out_are_told_in_words():
    class Config(msgspec.Struct, kw_only=True):
        mode: Annotated[Literal["slow", "fast"], msgspec.Meta(description="how")] = "slow"
        limit: float | None = None
        token: Secret | None = None

    kind = replace(SHELF, options=Config)
    assert [(one.name, one.type, one.secret) for one in options_of(kind)] == [
        ("mode", "slow or fast", False),
        ("limit", "a number", False),
        ("token", "a secret", True),
    ]
    assert checked(kind, {"limit": "1.5"}, {}) == {"limit": 1.5}
    with pytest.raises(InvalidOptions, match="slow or fast"):
        checked(kind, {"mode": "idle"}, {})


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_the_catalogue_is_declared_under_its_name_and_explains_what_must_be_said(name):
    kind = kind_of(name)
    assert (kind.name, bool(kind.summary)) == (name, True)
    assert "name" in kind.options.__struct_fields__
    assert [option.name for option in options_of(kind) if option.secret and not option.about] == []


def test_a_kind_that_is_not_there_is_named_beside_those_that_are():
    with pytest.raises(UnknownKind, match=r"'sap': there are .*tryton"):
        kind_of("sap")
