"""Choosing a base: the rule on given figures, and tiny models measured for real."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import make_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from hinlap.core.errors import AppError, ModelError, UserError
from hinlap.core.progress import Silent
from hinlap.engines.catalogue import parameters_of
from hinlap.metrics.scores import mean_scores
from hinlap.stats.paired import holm
from hinlap.workflows.advice import Advice, Advised, Ranking, Standing, place_reasons, rank
from hinlap.workflows.advise import AdviseOptions, advise
from hinlap.workflows.advise_variant import (
    Variant,
    measure_variant,
    read_record,
    ways_to_ask,
)
from hinlap.workflows.load import load
from hinlap.workflows.measuring import Measured


def standing(
    name: str,
    values: Sequence[float] | None,
    bits: float | None = 1.0,
    seconds: float | None = 1.0,
    *,
    higher: bool = True,
) -> Standing:
    quality = None
    if values is not None:
        scores = mean_scores("m", list(values), "m", higher_is_better=higher)
        quality = Measured(scores, tuple(str(i) for i in range(len(values))))
    return Standing(name, quality, bits, seconds)


def ranked(*standings: Standing) -> list[tuple[str, str]]:
    return [(place.name, place.by) for place in rank(standings, "s.m", 0).places]


GOOD, POOR = [1.0] * 20, [0.0] * 20
EVEN = [0.0, 1.0] * 10
ODD = [1.0, 0.0] * 9 + [1.0, 1.0]  # a little better than EVEN, on other items: no test can tell


def test_decisively_better_quality_goes_before_bits_and_speed() -> None:
    poor = standing("poor", POOR, bits=0.1, seconds=0.1)
    assert ranked(poor, standing("good", GOOD)) == [("good", "quality"), ("poor", "quality")]


def test_a_tie_in_quality_goes_to_fewer_bits_per_byte() -> None:
    slow = standing("slow", EVEN, bits=1.0, seconds=9.0)
    assert ranked(standing("odd", ODD, bits=1.5), slow) == [("slow", "bits"), ("odd", "bits")]


def test_bits_within_a_hundredth_count_as_equal_and_the_faster_is_first() -> None:
    exact = standing("exact", EVEN, bits=1.0, seconds=2.0)
    quick = standing("quick", EVEN, bits=1.009, seconds=1.0)
    other = standing("other", EVEN, bits=1.011, seconds=0.5)
    assert ranked(exact, quick, other) == [
        ("quick", "speed"),
        ("exact", "speed"),
        ("other", "bits"),
    ]


def test_where_a_lower_figure_is_better_the_lower_is_first() -> None:
    standings = standing("high", GOOD, higher=False), standing("low", POOR, higher=False)
    assert ranked(*standings) == [("low", "quality"), ("high", "quality")]


def test_the_worse_are_ranked_among_themselves_by_the_same_rule() -> None:
    standings = (
        standing("poor-many-bits", POOR, bits=3.0),
        standing("poor-few-bits", POOR, bits=2.0),
        standing("good", GOOD, bits=9.0),
    )
    assert ranked(*standings) == [
        ("good", "quality"),
        ("poor-few-bits", "quality"),
        ("poor-many-bits", "bits"),
    ]


def test_undefined_quality_is_last_and_said_so() -> None:
    standings = standing("nothing", []), standing("poor", POOR), standing("none", None)
    ranking = rank(standings, "s.m", 0)
    assert [place.name for place in ranking.places] == ["poor", "nothing", "none"]
    assert "undefined" in place_reasons(ranking, standings)[1]


def test_without_a_metric_bits_rank_and_without_those_speed() -> None:
    assert ranked(standing("b", None, bits=2.0), standing("a", None, bits=1.0)) == [
        ("a", "bits"),
        ("b", "bits"),
    ]
    slow, quick = standing("slow", None, None, 2.0), standing("quick", None, None, 1.0)
    unknown = standing("unknown", None, None, None)
    assert [name for name, _ in ranked(unknown, slow, quick)] == ["quick", "slow", "unknown"]


def test_equal_in_all_keeps_the_order_given() -> None:
    assert ranked(standing("b", EVEN), standing("a", EVEN)) == [("b", "order"), ("a", "order")]


def test_tests_against_the_best_are_corrected_for_their_number() -> None:
    standings = [standing("good", GOOD), standing("odd", ODD), standing("even", EVEN)]
    tests = rank(standings, "s.m", 0).tests[:2]
    assert [(test.a, test.b) for test in tests] == [("good", "odd"), ("good", "even")]
    raw = [test.paired.p for test in tests]
    assert [test.p for test in tests] == holm([p for p in raw if p is not None])


def test_a_tie_says_how_many_items_would_tell() -> None:
    standings = [standing("odd", ODD), standing("even", EVEN, bits=2.0)]
    ranking = rank(standings, "s.m", 0)
    (needed,) = [test.items_needed for test in ranking.tests]
    assert needed is not None
    assert needed > 20
    first, second = place_reasons(ranking, standings)
    assert "cannot tell it from all others" in first
    assert f"a tie with odd in quality (about {needed:,} items would tell)" in second
    assert "more bits per byte than odd: 2 against 1" in second


def test_a_single_model_is_the_only_one() -> None:
    one = [standing("one", EVEN)]
    assert place_reasons(rank(one, "s.m", 0), one) == ["one: the only one that could be ranked"]
    assert rank([], "s.m", 0) == Ranking((), ())


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([0.0, 1.0]), min_size=6, max_size=6),
            st.none() | st.floats(0.1, 9),
            st.none() | st.floats(0.1, 9),
        ),
        max_size=5,
    )
)
def test_everyone_has_one_place_and_one_reason(figures: list[Any]) -> None:
    standings = [standing(str(i), *each) for i, each in enumerate(figures)]
    ranking = rank(standings, "s.m", 0)
    assert sorted(place.name for place in ranking.places) == sorted(s.name for s in standings)
    assert len(place_reasons(ranking, standings)) == len(standings)


APP = """\
name: towns
inputs: [text]
steps:
  - {name: summary, prompt: "Sum up: {{ text }}", max_tokens: 8}
  - {name: title, prompt: "A title for: {{ summary }}", max_tokens: 6}
examples: {train: train.jsonl, test: test.jsonl}
routes:
  plain: {kind: zero-shot, model: no-such-model}
  again: {kind: zero-shot, model: another}
  shown: {kind: few-shot, k: 1}
  tuned: {kind: fine-tuned}
metrics:
  - {metric: chrf, step: summary}
decide: {by: summary.chrf, limits: {usable_share: 0}}
"""
ITEMS = 12
TOWNS = ["Harbour", "Valley", "Coast", "Bridge", "Museum", "Tunnel", "Orchard", "Ferry"]


def write_app(folder: Path, *changes: tuple[str, str], items: int = 4) -> Path:
    text = APP
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.yaml").write_text(text, encoding="utf-8")
    rows = [
        {
            "id": f"{town}-{i}",
            "text": f"{town} {i} counted {i * 37 + 5} boats and {i + 2} old mills {town * 3}.",
            "summary": f"{town} {i} counted boats and mills.",
            "title": f"{town} {i}",
        }
        for i, town in enumerate((TOWNS * 9)[: items + 2])
    ]
    for name, part in (("train", rows[:2]), ("test", rows[2:])):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders: a llama with a chat template and a card, and a gpt_neox without, that is narrow."""
    home = tmp_path_factory.mktemp("models")
    chatty = make_tiny_model(home / "chatty", "llama", chat=True)
    (chatty / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# Chatty\n")
    make_tiny_model(home / "narrow", "gpt_neox", chat=False, more={"max_position_embeddings": 40})
    return home


def options(models: Path, *names: str, **more: Any) -> AdviseOptions:
    return AdviseOptions(models=tuple(str(models / name) for name in names), **more)


def measured_here(app: Path, model: Path, dtype: str = "float32", requests: int = 5) -> None:
    """What a process of its own would do: quicker, where it is not what is tested."""
    variant = Variant(str(model), model, dtype)
    measure_variant(ways_to_ask(load(app), None), variant, requests, Silent())


@dataclass(frozen=True)
class Story:
    """A run that was killed, the same again to its end, and one of chatty that nothing broke.

    running: processes still there after the kill. kept: answers of the killed run. records: those
    of it that say a model is done.
    """

    app: Path
    broken: Path
    running: Sequence[psutil.Process]
    kept: dict[str, tuple[str, float]]
    records: Sequence[Path]
    advice: Advice
    unbroken: Advice


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Story:
    """One run for many tests: each process loads torch and transformers, which takes seconds."""
    home = tmp_path_factory.mktemp("story")
    app = write_app(home / "towns", ("max_tokens: 8", "max_tokens: 40"), items=ITEMS)
    other = Path(shutil.copytree(app, home / "other"))
    broken = Path(shutil.copytree(models / "narrow", home / "broken"))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    names = ["models", "advise", str(app), "--models", str(models / "chatty")]
    with subprocess.Popen(
        [sys.executable, "-m", "hinlap.cli.main", *names, "--latency-requests", str(ITEMS)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 100
        while len(answers(app)) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        children = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
    assert children
    psutil.wait_procs(children, timeout=20)
    running = [child for child in children if child.is_running()]
    kept, records = answers(app), list(app.glob(".hinlap/advise/*.json"))

    measured_here(app, models / "narrow", requests=ITEMS)
    measured_here(other, models / "chatty", requests=ITEMS)
    asked = options(models, "chatty", "narrow", latency_requests=ITEMS)
    advice = advise(app, replace(asked, models=(str(broken), *asked.models)), Silent())
    unbroken = advise(other, options(models, "chatty", latency_requests=ITEMS), Silent())
    return Story(app, broken, running, kept, records, advice, unbroken)


@pytest.fixture(scope="module")
def advice(story: Story) -> Advice:
    return story.advice


def test_every_model_is_asked_as_each_of_the_apps_open_routes(advice: Advice, models: Path) -> None:
    assert {(each.model, each.route) for each in advice.measured} == {
        (str(models / name), route) for name in ("chatty", "narrow") for route in ("plain", "shown")
    }


def test_a_window_that_is_too_short_leaves_a_model_out_with_the_reason(advice: Advice) -> None:
    out = [each for each in advice.measured if each.excluded]
    assert {Path(each.model).name for each in out} == {"narrow"}
    for each in out:
        assert f"{ITEMS} items of {ITEMS} do not fit its window of 40 tokens" in each.excluded
        assert each.over_window == ITEMS
        assert each.longest > 40
        assert each.bits_per_byte is None
    assert len(advice.ranked) == 2


def test_what_is_known_of_a_model_stands_beside_its_figures(advice: Advice) -> None:
    by_name = {(Path(e.model).name, e.route): e for e in advice.measured}
    chatty, narrow = by_name["chatty", "plain"], by_name["narrow", "plain"]
    assert chatty.licence == "cc-by-nc-4.0"
    assert chatty.as_json()["licence_terms"].startswith("no commercial use")
    assert narrow.as_json()["licence_terms"] == "terms not known"
    assert chatty.machine.chat_template
    assert not chatty.notes
    assert any("no chat template" in note for note in narrow.notes)
    assert chatty.latency.n == ITEMS
    assert chatty.machine.window == 512
    assert chatty.machine.peak_memory_bytes is not None
    assert 5e7 < chatty.machine.peak_memory_bytes < 4e9
    assert chatty.tokens_per_second
    for each in (chatty, narrow):
        weights = AutoModelForCausalLM.from_pretrained(each.model)
        assert each.parameters == sum(p.numel() for p in weights.parameters())


def test_bits_per_byte_are_those_of_the_references_by_transformers_itself(
    models: Path, story: Story
) -> None:
    folder = models / "chatty"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    nats, size, count = 0.0, 0, 0
    for row in map(json.loads, (story.app / "test.jsonl").read_text().splitlines()):
        for asked, wanted in (
            (f"Sum up: {row['text']}", row["summary"]),
            (f"A title for: {row['summary']}", row["title"]),
        ):
            said = [{"role": "user", "content": asked}]
            context = tokenizer.apply_chat_template(
                said, tokenize=False, add_generation_prompt=True
            )
            before = tokenizer(context, add_special_tokens=False)["input_ids"]
            ids = tokenizer(context + wanted, add_special_tokens=False)["input_ids"]
            assert ids[: len(before)] == before
            with torch.no_grad():
                logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            after = ids[len(before) :]
            nats -= sum(
                float(logprobs[len(before) - 1 + i, token]) for i, token in enumerate(after)
            )
            size += len(wanted.encode())
            count += len(after)
    (found,) = [e for e in story.advice.measured if e.model == str(folder) and e.route == "plain"]
    assert found.bits_per_byte is not None
    assert found.nats_per_token is not None
    assert found.bits_per_byte.interval.value == pytest.approx(nats / math.log(2) / size, rel=1e-4)
    assert found.nats_per_token.interval.value == pytest.approx(nats / count, rel=1e-4)
    assert found.bits_per_byte.interval.n == ITEMS


def steady(found: Advice) -> dict[str, Any]:
    """All but when it was made, and what failed."""
    return {**found.as_json(), "made_at": "", "failed": []}


def test_a_second_run_asks_nothing_and_says_the_same(models: Path, story: Story) -> None:
    before = answers(story.app)
    again = advise(story.app, options(models, "chatty", "narrow"), Silent())
    assert steady(again) == steady(story.advice)
    assert answers(story.app) == before


def answers(app: Path) -> dict[str, tuple[str, float]]:
    """Text and seconds by key; none while the store is being made."""
    file = app / ".hinlap" / "hinlap.db"
    if not file.is_file():
        return {}
    connection = sqlite3.connect(file)
    try:
        rows = connection.execute("select key, text, seconds from answers").fetchall()
    except sqlite3.OperationalError:
        return {}
    finally:
        connection.close()
    return {key: (text, seconds) for key, text, seconds in rows}


def test_killed_it_leaves_no_process_and_no_record_but_what_was_answered(story: Story) -> None:
    assert not story.running
    assert not story.records
    assert 3 <= len(story.kept) < 4 * ITEMS  # two steps of two routes


def test_killed_it_goes_on_and_ends_as_an_unbroken_run(models: Path, story: Story) -> None:
    def of_chatty(found: Advice) -> list[Advised]:
        return [each for each in found.measured if each.model == str(models / "chatty")]

    assert story.kept.items() <= answers(story.app).items()
    pairs = list(zip(of_chatty(story.advice), of_chatty(story.unbroken), strict=True))
    assert {resumed.route for resumed, _ in pairs} == {"plain", "shown"}
    for resumed, whole in pairs:
        assert (resumed.route, resumed.counts) == (whole.route, whole.counts)
        assert (resumed.quality, resumed.machine.fits) == (whole.quality, whole.machine.fits)
        assert resumed.bits_per_byte is not None
        assert whole.bits_per_byte is not None
        weighed = whole.bits_per_byte.per_item  # float32: to rounding
        assert resumed.bits_per_byte.per_item == pytest.approx(weighed, rel=1e-6)


def test_a_model_that_fails_is_reported_and_the_others_go_on(story: Story, models: Path) -> None:
    found = story.advice
    assert [each.model for each in found.failed] == [f"{story.broken} float32"]
    assert found.failed[0].reason
    assert {each.model for each in found.ranked} == {str(models / "chatty")}
    assert len(found.errors) == 1


def test_two_precisions_of_a_model_are_two_variants(tmp_path: Path, models: Path) -> None:
    app = write_app(tmp_path / "towns")
    for dtype in ("float32", "bfloat16"):
        measured_here(app, models / "chatty", dtype)
    both = options(models, "chatty", dtypes=("float32", "bfloat16"))
    found = [e for e in advise(app, both, Silent()).measured if e.route == "plain"]
    assert {each.dtype for each in found} == {"float32", "bfloat16"}
    exact, coarse = sorted(found, key=lambda each: each.dtype, reverse=True)
    assert exact.bits_per_byte is not None
    assert coarse.bits_per_byte is not None
    assert exact.bits_per_byte.interval.value != coarse.bits_per_byte.interval.value
    assert coarse.bits_per_byte.interval.value == pytest.approx(
        exact.bits_per_byte.interval.value, rel=0.05
    )


def test_a_catalogue_model_is_asked_in_the_format_it_was_tuned_by(models: Path) -> None:
    asked = Variant("dolly-v2-3b", models / "narrow", "float32").engine(Silent())
    assert asked.prompt_format == "dolly"
    assert Variant("pythia-2.8b", models / "narrow", "float32").engine(Silent()).prompt_format == ""


def test_ways_to_ask_are_the_open_routes_once_each_or_zero_shot(tmp_path: Path) -> None:
    app = load(write_app(tmp_path / "app"))
    assert list(ways_to_ask(app, 3).spec.routes) == ["plain", "shown"]
    assert len(ways_to_ask(app, 3).test) == 3
    only_tuned = app.spec.model_copy(update={"routes": {"tuned": app.spec.routes["tuned"]}})
    asked = ways_to_ask(type(app)(only_tuned, app.folder, app.file, app.train, app.test), None)
    assert [spec.kind for spec in asked.spec.routes.values()] == ["zero-shot"]
    assert len(asked.test) == 4


def test_a_record_that_is_broken_counts_as_none(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    for content in ("", "[]", "{}", '{"fits": {"a": 1}}'):
        record.write_text(content)
        assert read_record(record) is None


def test_an_app_without_test_items_is_refused(tmp_path: Path, models: Path) -> None:
    app = write_app(tmp_path / "app", (", test: test.jsonl", ""))
    with pytest.raises(AppError, match=r"no test items.*\n.*examples\.test"):
        advise(app, options(models, "chatty"), Silent())


def test_an_app_with_nothing_to_rank_by_is_refused(tmp_path: Path, models: Path) -> None:
    app = write_app(tmp_path / "app", ("decide: {by: summary.chrf, limits: {usable_share: 0}}", ""))
    rows = [json.loads(line) for line in (app / "test.jsonl").read_text().splitlines()]
    bare = "".join(json.dumps({"text": row["text"]}) + "\n" for row in rows)
    (app / "test.jsonl").write_text(bare)
    with pytest.raises(AppError, match="nothing to rank models by"):
        advise(app, options(models, "chatty"), Silent())


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("smolm2-135m", "no model 'smolm2-135m'"),
        ("http://127.0.0.1:9/v1#m", "a server does not give"),
    ],
)
def test_a_model_that_is_none_is_refused_before_anything_runs(
    tmp_path: Path, model: str, says: str
) -> None:
    app = write_app(tmp_path / "app")
    with pytest.raises(ModelError, match=says):
        advise(app, AdviseOptions((model,)), Silent())
    assert not (app / ".hinlap").exists()


def test_a_folder_with_pickles_only_is_refused(tmp_path: Path, models: Path) -> None:
    folder = Path(shutil.copytree(models / "chatty", tmp_path / "pickled"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights"):
        advise(write_app(tmp_path / "app"), AdviseOptions((str(folder),)), Silent())


def test_a_model_over_the_memory_is_left_out_without_being_loaded(
    tmp_path: Path, models: Path
) -> None:
    folder = Path(shutil.copytree(models / "chatty", tmp_path / "huge"))
    header = json.dumps(
        {"w": {"dtype": "BF16", "shape": [10**7, 10**6], "data_offsets": [0, 0]}}
    ).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert parameters_of(folder) == 10**13
    app = write_app(tmp_path / "app")
    with pytest.raises(ModelError, match=r"needs about 40001\.0 GB.*20001\.0 GB") as caught:
        advise(app, AdviseOptions((str(folder),), dtypes=("float32", "bfloat16")), Silent())
    assert "none of the models can be measured" in caught.value.what


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]"])
def test_a_file_that_is_no_safetensors_is_named(
    tmp_path: Path, models: Path, content: bytes
) -> None:
    folder = Path(shutil.copytree(models / "chatty", tmp_path / "torn"))
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors: no whole safetensors file"):
        advise(write_app(tmp_path / "app"), AdviseOptions((str(folder),)), Silent())


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no precision 'int4'"):
        advise(write_app(tmp_path / "app"), AdviseOptions(dtypes=("int4",)), Silent())
