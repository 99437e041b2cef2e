"""docs/mapping.md is what people map by: what it shows works, and what it lists is what there is."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from contracts import DOCUMENT_TYPES
from ops.catalogue import find_contract
from ops.ingest.layout import Column, MappingFile, MappingRules
from ops.ingest.mapping import load_mapping
from tests.unit.ingest.files import a_file, translate

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "mapping.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = [text for kind, text in BLOCKS if kind == "toml"]
RECIPES = re.findall(r"^\| [^|`]*(?:`[^`|]*`[^|`]*)*\| (`.*`.*) \|$", PAGE.partition("## Recipes")[2], re.MULTILINE)


def load(folder: Path, text: str) -> MappingRules:
    path = folder / "mapping.toml"
    path.write_text(text, "utf-8")
    return load_mapping(path)


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_example_beside_a_file_maps_every_row_of_it(tmp_path):
    pairs = [
        (kind, text, follows)
        for (kind, text), (_, follows) in pairwise(BLOCKS)
        if kind in ("csv", "json") and "document_type" in follows
    ]
    assert len(pairs) == 3
    for kind, text, mapping in pairs:
        file = a_file(tmp_path, text, "export.jsonl" if kind == "json" else "export.csv")
        mapped, refused, filtered = translate(file, load(tmp_path, mapping))
        assert (refused, filtered) == ([], 0)
        assert mapped


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_a_mapping_that_loads(tmp_path, text):
    assert load(tmp_path, text).fields


def test_every_line_of_the_recipes_loads(tmp_path):
    lines = [line for cell in RECIPES for line in re.findall(r"`([a-z_]+ = [^`]+)`", cell)]
    assert len(lines) > 12
    for line in lines:
        (key,) = tomllib.loads(line)
        document_type = {"hours": "time_entry", "valid_to": "rate_card"}.get(key, "expense")
        fields = [field for field in msgspec.structs.fields(find_contract(document_type)[1]) if field.name != "id"]
        required = [f'{field.name} = "{field.name}"' for field in fields if field.required and field.name != key]
        top, below = (line, "") if key in MappingFile.__struct_fields__ else ("", line)
        own_id = "" if key == "id" else 'id = "id"'
        head = [f'document_type = "{document_type}"', 'source = "recipes"', own_id, top]
        load(tmp_path, "\n".join([*head, "[fields]", *required, below]))


def test_every_key_there_is_is_described():
    top, fields = section("The top of the file"), section("fields")
    for key in MappingFile.__struct_fields__:
        assert key == "fields" or f"| `{key}` |" in top, key
    for key in Column.__struct_fields__:
        assert f"`{key}`" in fields, key


@pytest.mark.parametrize("name", DOCUMENT_TYPES)
def test_every_field_of_a_document_type_is_listed_and_the_required_are_bold(name):
    (line,) = re.findall(rf"^\| `{name.partition('.')[0]}` \| (.*) \|$", section("The document types"), re.MULTILINE)
    listed = [field.partition(" ")[0] for field in line.split(", ")]
    fields = [field for field in msgspec.structs.fields(DOCUMENT_TYPES[name]) if field.name != "id"]
    assert sorted(field.strip("*") for field in listed) == sorted(field.name for field in fields)
    assert {field.strip("*") for field in listed if field.startswith("**")} == {f.name for f in fields if f.required}
