"""``hinlap models advise`` from the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import make_tiny_model

from hinlap.core.progress import Silent
from hinlap.engines.catalogue import CATALOGUE, EMBEDDED
from hinlap.workflows.advise_variant import Variant, measure_variant, ways_to_ask
from hinlap.workflows.load import load

Run = Callable[..., Any]


def measured_here(app: Path, name: str, folder: Path) -> None:
    """What a process of its own would do: quicker, where it is not what is tested."""
    asked = ways_to_ask(load(app), None)
    measure_variant(asked, Variant(name, folder, "float32"), 5, Silent())


APP = """\
name: towns
inputs: [text]
steps: [{name: summary, prompt: "Sum up: {{ text }}", max_tokens: 6}]
examples: {test: test.jsonl}
routes: {remote: {kind: service, model: m, prices: {input: 1, output: 1}}}
metrics: [{metric: chrf, step: summary}]
decide: {by: summary.chrf, limits: {usable_share: 0}}
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "towns"
    folder.mkdir()
    (folder / "app.yaml").write_text(APP)
    rows = [
        {"text": "The harbour counted boats on Monday.", "summary": "Boats were counted."},
        {"text": "A baker sold nine hundred loaves before rain.", "summary": "Loaves sold."},
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_models_are_ranked_on_the_apps_items_and_all_figures_written(
    hinlap_here: Run, app: Path, tiny_model: Path, tmp_path: Path
) -> None:
    other = make_tiny_model(tmp_path / "other", "gpt2", chat=False)
    for folder in (tiny_model, other):
        measured_here(app, str(folder), folder)
    file = tmp_path / "advice.json"
    ended = hinlap_here(
        "models", "advise", app, "--models", f"{tiny_model},{other}", "--json", file
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(file.read_text("utf-8"))
    assert found["items"] == 2
    assert found["by"] == "summary.chrf"
    assert found["take"] == found["ranking"][0]
    assert sorted(found["ranking"]) == sorted(
        f"{model} float32 zero-shot" for model in (tiny_model, other)
    )
    assert len(found["reasons"]) == 2
    assert [(test["n"], test["verdict"]) for test in found["tests"]] == [(2, "not decisive")]
    for each in found["measured"]:
        assert each["peak_memory_bytes"] > 0
        assert each["output_tokens_per_second"] > 0
        assert each["seconds_per_item"]["n"] == 2
        for figure in (each["bits_per_byte"], each["quality"]["summary.chrf"]):
            assert figure["low"] <= figure["value"] <= figure["high"]
            assert figure["signature"]
    assert not found["not_here"]
    assert f"Take {found['take']}." in ended.stdout
    assert "The rule: Best first by the metric that decides." in " ".join(ended.stdout.split())
    assert "no chat template: it is asked in plain text" in ended.stdout


@pytest.mark.model
def test_without_names_the_embedded_model_is_measured_and_the_others_told(
    hinlap_here: Run, app: Path, embedded_model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "advice.json"
    measured_here(app, EMBEDDED, embedded_model)
    ended = hinlap_here("models", "advise", app, "--json", file)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(file.read_text("utf-8"))
    assert [each["kind"] for each in found["measured"]] == ["instruct"]
    listed = {each["model"]: each for each in found["not_here"]}
    assert set(listed) <= set(CATALOGUE) - {EMBEDDED}
    assert listed["dolly-v2-3b"]["licence"] == "MIT"
    assert "Not here" in ended.stdout


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--models", "smolm2"], "no model 'smolm2'"),
        (["--dtype", "int4"], "no precision 'int4'"),
        (["--json", "nowhere/a.json"], "there is no such folder to write to"),
        (["--limit", "0"], "Invalid value for '--limit'"),
    ],
)
def test_bad_input_is_told_in_one_message(
    hinlap_here: Run, app: Path, given: list[str], says: str
) -> None:
    ended = hinlap_here("models", "advise", app, *given)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_app_that_is_not_there_is_told(hinlap_here: Run, tmp_path: Path) -> None:
    ended = hinlap_here("models", "advise", tmp_path / "nothing")
    assert ended.returncode == 2
    assert "nothing" in ended.stderr
