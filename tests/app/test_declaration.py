from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from hinlap.app.declaration import json_schema
from hinlap.core.errors import AppError
from hinlap.workflows.init_app import TEMPLATES
from hinlap.workflows.load import load

Declared = Callable[..., Path]
ROOT = Path(__file__).parents[2]
SHIPPED = sorted([*TEMPLATES.glob("*/app.yaml"), *(ROOT / "examples").glob("*/app.yaml")])

PROMPT = 'prompt: "Sum up: {{ text }}"'
OPEN = "{kind: zero-shot}"
PLACES = [
    # what is changed, by what; the line, the field and the words of the message
    ("name: plain", "name: ''", 1, "name", "at least 1 character"),
    ("name: plain", "name: 2024-01-01", 1, "name", "put it into quotes"),
    ("name: plain", "nmae: plain", 1, "nmae", "unknown field"),
    ("name: plain", "description: x", 1, "name", "this field is missing"),
    ("[text]", "[]", 2, "inputs", "at least 1 item"),
    ("[text]", "text", 2, "inputs", "valid list"),
    ("[text]", "[text, text]", 2, "inputs.1", "the name 'text' is taken"),
    ("[text]", "[text, id]", 2, "inputs.1", "the name 'id' is taken"),
    ("[text]", "[text, Text]", 2, "inputs.1", "lower-case letters a to z or Thai"),
    ("name: summary", "name: text", 4, "steps.0.name", "the name 'text' is taken"),
    ("name: summary", "name: The Summary", 4, "steps.0.name", "lower-case letters a to z"),
    (PROMPT, "promt: x", 5, "steps.0.promt", "unknown field"),
    (PROMPT, "system: x", 4, "steps.0.prompt", "this field is missing"),
    (PROMPT, "prompt: ''", 5, "steps.0.prompt", "at least 1 character"),
    (PROMPT, "prompt: '{{ txet }}'", 5, "steps.0.prompt", "names 'txet', but this step can only"),
    (PROMPT, "prompt: '{{ summary }}'", 5, "steps.0.prompt", "names 'summary'"),
    (PROMPT, "prompt: '{{ text'", 5, "steps.0.prompt", "does not parse"),
    (PROMPT, "prompt: x\n    system: '{{ y }}'", 6, "steps.0.system", "names 'y'"),
    (PROMPT, PROMPT + "\n    max_tokens: 0", 6, "steps.0.max_tokens", "greater than or equal to 1"),
    (PROMPT, PROMPT + "\n    max_tokens: many", 6, "steps.0.max_tokens", "valid integer"),
    (PROMPT, PROMPT + "\n    stop: ['']", 4, "steps.0", "a stop string must not be empty"),
    (PROMPT, PROMPT + "\n    sampling: {top_p: 0}", 6, "steps.0.sampling.top_p", "greater than 0"),
    (PROMPT, PROMPT + "\n    parse: jsno", 6, "steps.0.parse", "should be 'text'"),
    (PROMPT, PROMPT + "\n    parse: {one_off: [a, b]}", 6, "steps.0.parse", "{one_of: [...]}"),
    (PROMPT, PROMPT + "\n    parse: {one_of: [a]}", 6, "steps.0.parse.one_of", "at least 2 items"),
    (PROMPT, PROMPT + "\n    parse: {one_of: [a, a]}", 6, "steps.0.parse", "a value stands twice"),
    (
        PROMPT,
        PROMPT + "\n    parse: {one_of: [yes, no]}",
        6,
        "steps.0.parse.one_of.0",
        "put it into quotes",
    ),
    (
        PROMPT,
        PROMPT + "\n    parse: {json_schema: {type: objekt}}",
        6,
        "steps.0.parse.json_schema",
        "not a JSON schema",
    ),
    (OPEN, "{}", 7, "routes.open", "the field 'kind' is missing"),
    (OPEN, "{kind: zeroshot}", 7, "routes.open", "no kind 'zeroshot'; kinds are: 'zero-shot'"),
    (OPEN, "{kind: zero-shot, k: 3}", 7, "routes.open.k", "unknown field"),
    (OPEN, "{kind: few-shot, k: 0}", 7, "routes.open.k", "greater than or equal to 1"),
    (OPEN, "{kind: few-shot, select: best}", 7, "routes.open.select", "'fixed', 'random'"),
    (OPEN, "{kind: service, model: m}", 7, "routes.open.prices", "this field is missing"),
    (
        OPEN,
        "{kind: service, model: m, prices: {input: -1, output: 1}}",
        7,
        "routes.open.prices.input",
        "greater than or equal to 0",
    ),
    (
        OPEN,
        "{kind: service, model: m, key_env: sk-123, prices: {input: 1, output: 1}}",
        7,
        "routes.open.key_env",
        "match pattern",
    ),
    ("  open:", "  Open:", 7, "routes.Open", "lower-case letters a to z, digits and -"),
]


@pytest.mark.parametrize(("old", "new", "line", "field", "words"), PLACES)
def test_an_error_names_file_line_and_field(
    declared: Declared, old: str, new: str, line: int, field: str, words: str
) -> None:
    folder = declared((old, new))
    with pytest.raises(AppError) as caught:
        load(folder)
    message = str(caught.value)
    first = next(text for text in message.splitlines() if words in text)
    assert first.startswith(f"{folder / 'app.yaml'}:{line}: {field}")
    assert "→" in message


@pytest.mark.parametrize(
    ("more", "field", "words"),
    [
        ("colour: red\n", "colour", "unknown field"),
        ("metrics:\n", "metrics", "valid list"),
        ("metrics: [{metric: rougeX, step: summary}]\n", "metrics.0.metric", "no metric 'rougeX'"),
        ("metrics: [{metric: bleu, step: sumary}]\n", "metrics.0.step", "no step 'sumary'"),
        ("metrics: [{metric: solvable, step: summary}]\n", "metrics.0", "needs 'label'"),
        (
            "metrics: [{metric: bleu, step: summary}, {metric: bleu, step: summary}]\n",
            "metrics.1",
            "summary.bleu stands twice",
        ),
        ("decide: {by: bleu}\n", "decide.by", "no such measure 'bleu'"),
        ("decide: {limits: {}}\n", "decide.by", "this field is missing"),
        ("costs: {months: 0}\n", "costs.months", "greater than 0"),
        ("costs: {months: .inf}\n", "costs.months", "finite number"),
        ("examples: {test: data/nowhere.jsonl}\n", "examples.test", "is not there"),
        ("examples: {tests: data/test.jsonl}\n", "examples.tests", "unknown field"),
        ("language: fr\n", "language", "'en' or 'th'"),
    ],
)
def test_an_error_below_the_routes_names_its_field(
    declared: Declared, more: str, field: str, words: str
) -> None:
    folder = declared(more=more)
    with pytest.raises(AppError, match=r"(?s)app\.yaml:8: ") as caught:
        load(folder)
    assert f": {field}: " in str(caught.value)
    assert words in str(caught.value)


def test_a_label_that_no_test_item_has_is_told_with_the_columns_there_are(small_app: Path) -> None:
    file = small_app / "app.yaml"
    metric = "{metric: is_riddle, step: riddle}"
    text = file.read_text().replace(metric, metric[:-1] + ", label: titel}")
    file.write_text(text)
    with pytest.raises(AppError, match=r"metrics\.1\.label: no test item has the column 'titel'"):
        load(small_app)


def test_all_wrong_fields_are_told_at_once(declared: Declared) -> None:
    folder = declared(("name: plain", "nmae: plain"), more="colour: red\nseed: x\n")
    with pytest.raises(AppError) as caught:
        load(folder)
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()[:-1]] == [
        "name",
        "seed",
        "nmae",
        "colour",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name: a\ndescription: \xe0\xb8\n", "not UTF-8 at byte 21"),
        ("name: ก".encode("utf-16"), "not UTF-8"),
        ("name: ก".encode("cp874"), "not UTF-8"),
    ],
)
def test_a_file_that_is_not_utf8_is_told(declared: Declared, content: bytes, words: str) -> None:
    folder = declared()
    (folder / "app.yaml").write_bytes(content)
    with pytest.raises(AppError, match=words):
        load(folder)


def test_a_byte_order_mark_is_no_part_of_the_first_field(declared: Declared) -> None:
    folder = declared()
    raw = (folder / "app.yaml").read_bytes()
    (folder / "app.yaml").write_bytes(b"\xef\xbb\xbf" + raw)
    assert load(folder).name == "plain"


def test_an_app_is_a_folder_or_its_file(declared: Declared) -> None:
    folder = declared()
    assert load(folder).digest() == load(folder / "app.yaml").digest()


def test_a_folder_without_an_app_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(AppError, match=r"no app\.yaml here\n  → `hinlap init"):
        load(tmp_path)


def test_a_path_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(AppError, match="no such file or folder"):
        load(tmp_path / "nowhere")


def test_the_schema_for_editors_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: "-".join(file.parts[-3:-1]))
def test_the_schema_for_editors_accepts_every_app_that_is_shipped(file: Path) -> None:
    jsonschema.validate(yaml.safe_load(file.read_text("utf-8")), json_schema())


def test_the_schema_for_editors_refuses_what_loading_refuses(declared: Declared) -> None:
    data = yaml.safe_load((declared(more="colour: red\n") / "app.yaml").read_text("utf-8"))
    with pytest.raises(jsonschema.ValidationError, match="'colour' was unexpected"):
        jsonschema.validate(data, json_schema())


def test_the_digest_changes_with_an_example(small_app: Path) -> None:
    before = load(small_app).digest()
    file = small_app / "data" / "test.jsonl"
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    rows[0]["text"] += " Then it rained."
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert load(small_app).digest() != before
