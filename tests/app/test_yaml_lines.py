from __future__ import annotations

import re
from pathlib import Path

import pytest

from hinlap.app.yaml_lines import LinedYaml
from hinlap.core.errors import AppError

APP = Path("app.yaml")

DOCUMENT = """\
name: ข่าว 📰
steps:
  - name: one
    prompt: |
      first
      second
  - name: two
routes: {a: {kind: x}, b: {kind: y}}
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("name",), 1),
        (("steps",), 2),
        (("steps", 0), 3),
        (("steps", 0, "prompt"), 4),
        (("steps", 1, "name"), 7),
        (("routes", "b", "kind"), 8),
    ],
)
def test_every_field_knows_its_line(place: tuple[str | int, ...], line: int) -> None:
    assert LinedYaml(APP, DOCUMENT).line_of(place) == line


def test_a_field_that_is_not_there_has_the_line_of_the_one_around_it() -> None:
    assert LinedYaml(APP, DOCUMENT).line_of(("steps", 1, "prompt", "deeper")) == 7


def test_a_place_reads_as_file_line_and_field() -> None:
    assert LinedYaml(APP, DOCUMENT).where(("steps", 1, "name")) == "app.yaml:7: steps.1.name"


def test_the_place_of_the_whole_file_has_no_field() -> None:
    assert LinedYaml(APP, DOCUMENT).where(()) == "app.yaml:1"


def test_thai_and_emoji_are_read_as_they_stand() -> None:
    assert LinedYaml(APP, DOCUMENT).data["name"] == "ข่าว 📰"


def test_a_value_taken_over_by_an_anchor_is_read() -> None:
    text = "a: &one {kind: x}\nb:\n  <<: *one\n  more: 2\n"
    assert LinedYaml(APP, text).data["b"] == {"kind": "x", "more": 2}


def nested(first: str, level: str) -> str:
    """Nine levels, each of nine aliases of the one before: a billion values in ten lines."""
    lines = [f"a0: &a0 {first}"]
    for n in range(1, 10):
        aliases = ", ".join([f"*a{n - 1}"] * 9)
        lines.append(f"a{n}: &a{n} {level.format(aliases)}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        nested("[lol]", "[{}]"),
        nested("lol", "[{}]"),
        nested("{x: lol}", "{{<<: [{}]}}"),
        nested("{x: lol}", "{{y: [{}]}}"),
    ],
    ids=["lists", "words", "merged mappings", "mappings"],
)
def test_aliases_that_multiply_are_refused_before_they_do(text: str) -> None:
    with pytest.raises(AppError, match=r"repeat more than 10,000 values") as caught:
        LinedYaml(APP, text)
    assert re.fullmatch(r"app\.yaml:\d+: a\d", caught.value.where)
    assert caught.value.hint


def test_aliases_in_a_key_are_refused_as_a_key() -> None:
    levels = [f"&a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    text = f"? [{', '.join(['&a0 [lol]', *levels])}]\n: 1\n"
    with pytest.raises(AppError, match="found unhashable key"):
        LinedYaml(APP, text)


def test_a_few_hundred_aliases_are_read() -> None:
    text = "a: &a {x: 1, y: [2, 3]}\nb: [" + ", ".join(["*a"] * 500) + "]\n"
    assert LinedYaml(APP, text).data["b"] == [{"x": 1, "y": [2, 3]}] * 500


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "app.yaml", "the file is empty"),
        ("# only a comment\n", "app.yaml", "the file is empty"),
        ("- a\n- b\n", "app.yaml:1", "expected fields (name: value) at the top"),
        ("just words", "app.yaml:1", "expected fields (name: value) at the top"),
        ("a: 1\nb: 2\na: 3\n", "app.yaml:3", "the field 'a' stands twice"),
        ("a:\n  x: 1\n  x: 2\n", "app.yaml:3", "the field 'x' stands twice"),
        ("a: 1\n b: 2\n", "app.yaml:2", "not valid YAML: mapping values are not allowed here"),
        ("a: 1\n\tb: 2\n", "app.yaml:2", "not valid YAML: found character '\\t'"),
        ("a: [1, 2\nb: 3\n", "app.yaml:2", "not valid YAML: expected ',' or ']'"),
        ('a: "open\n', "app.yaml:2", "not valid YAML: found unexpected end of stream"),
        ("a: *nobody\n", "app.yaml:1", "not valid YAML: found undefined alias"),
        ("a: 1\nb: \x07\n", "app.yaml:2", "the character U+0007 may not stand in it"),
        ("a: 1\nb: 2024-13-45\n", "app.yaml:2", "month must be in 1..12"),
        ("a: 1\n---\nb: 2\n", "app.yaml:2", "not valid YAML: but found another document"),
        ("a: &x [*x]\n", "app.yaml", "nested too deeply, or a value that holds itself"),
        ("a: " + "[" * 1000, "app.yaml", "nested too deeply, or a value that holds itself"),
        ("a: !!python/object/apply:os.getcwd []\n", "app.yaml:1", "could not determine a constr"),
        ("? [1, 2]\n: 3\n", "app.yaml:1", "not valid YAML: found unhashable key"),
    ],
)
def test_what_is_not_a_yaml_mapping_is_told_with_its_line(text: str, where: str, what: str) -> None:
    with pytest.raises(AppError) as caught:
        LinedYaml(APP, text)
    assert caught.value.where == where
    assert what in caught.value.what
    assert caught.value.hint
