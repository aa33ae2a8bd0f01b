"""`hinlap bench` from its door: what a user can get wrong, and what can fail on the way."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hinlap.benchmarks.table import BENCHMARKS
from hinlap.core.errors import EngineError
from hinlap.engines.local import LocalEngine

Run = Callable[..., Any]
PAIRS = (
    ",sent_more,sent_less,stereo_antistereo,bias_type\n"
    "0,The poor are late.,The rich are late.,stereo,socioeconomic\n"
    "1,Old men sleep.,Young men sleep.,stereo,age\n"
    "2,He was a nurse.,She was a nurse.,antistereo,gender\n"
)
QUESTION = {
    "question": "What do cats drink?",
    "mc1_targets": {"Water.": 1, "Only milk.": 0},
    "mc2_targets": {"Water.": 1, "Only milk.": 0},
}
CATEGORIES = (
    "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
    "Adversarial,Animals,What do cats drink?,Water,Water,Only milk,-\n"
)
PROMPTS = [
    {
        "filename": "0.txt", "begin": n, "end": n + 9,
        "prompt": {"text": f"The {n}th harbour", "toxicity": 0.1},
        "continuation": {"text": f"counted {n} boats", "toxicity": 0.2},
    }
    for n in range(3)
]  # fmt: skip


def squad(count: int, context: str = "In 1816 it began.") -> str:
    asked = [
        {"id": str(n), "question": f"When did the {n}th begin?",
         "answers": [{"text": "1816", "answer_start": 3}]}
        for n in range(count)
    ]  # fmt: skip
    paragraph = {"context": context, "qas": asked}
    return json.dumps(
        {"version": "1.1", "data": [{"title": "Beginnings", "paragraphs": [paragraph]}]}
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with original files in data/."""
    files = {
        "crows-pairs/crows_pairs_anonymized.csv": PAIRS,
        "truthfulqa/mc_task.json": json.dumps([QUESTION]),
        "truthfulqa/TruthfulQA.csv": CATEGORIES,
        "squad/dev-v1.1.json": squad(2),
        "real-toxicity-prompts/prompts.jsonl": "".join(json.dumps(p) + "\n" for p in PROMPTS),
    }
    for name, text in files.items():
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_told(ended: Any, *words: str) -> None:
    """One message that says what and what to do, the exit code of a user's mistake, no page."""
    assert ended.returncode == 2, ended.stderr
    assert len(re.findall(r"^hinlap: ", ended.stderr, re.MULTILINE)) == 1, ended.stderr
    for word in words:
        assert word in ended.stderr
    assert not Path("bench.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["crows-pairs", "--limit", "0"], ["a limit of 0"]),
        (["crows-pair"], ["no benchmark 'crows-pair'", "crows-pairs"]),
        (["crows-pairs", "crows-pair"], ["no benchmark 'crows-pair'"]),
        (["crows-pairs", "--data", "nowhere"], ["nowhere", "no such file or folder"]),
        (["crows-pairs", "--data", "."], ["crows_pairs_anonymized.csv", "no such file"]),
        (["crows-pairs", "--shots", "2"], ["--shots", "as it stands"]),
        (["truthfulqa-mc", "--shots", "7"], ["--shots", "6 solved examples, not 7"]),
        (["squad", "--shots", "2"], ["--shots", "leave none to measure"]),
        (["squad", "--shots", "-1"], ["--shots", "0 or more"]),
        (["real-toxicity-prompts", "--rater", "no-such/rater"], ["no-such/rater"]),
        (["crows-pairs", "--page", "nowhere/p.html"], ["no such folder", "nowhere"]),
        (["crows-pairs", "--json", "nowhere/p.json"], ["no such folder", "nowhere"]),
        (["crows-pairs", "squad", "--json", "p.json"], ["one file holds one run"]),
        (["crows-pairs", "--route", "open"], ["--app DIR"]),
        (["crows-pairs", "hhh"], ["hhh is a card of its own"]),
        (["hhh", "--chat"], ["as its paper does", "leave --chat"]),
        (["hhh", "--shots", "2"], ["as its paper does"]),
        (["squad", "--prompt-format", "dolly"], ["--prompt-format", "add --chat"]),
        (["squad", "--chat", "--prompt-format", "vicuna"], ["'vicuna'", "one of: alpaca, dolly"]),
    ],
)
def test_a_setting_that_cannot_be_is_told(
    here: Path, hinlap_here: Run, tiny_model: Path, arguments: list[str], words: list[str]
) -> None:
    ended = hinlap_here("bench", "--data", "data", "--model", tiny_model, *arguments)
    assert_told(ended, *words)


def test_a_model_that_is_not_there_is_told(here: Path, hinlap_here: Run) -> None:
    ended = hinlap_here("bench", "crows-pairs", "--data", "data", "--model", "no-such-model")
    assert_told(ended, "no-such-model", "hinlap models")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PAIRS.replace("sent_less", "sent_fewer"), ["lacks the columns sent_less"]),
        (PAIRS.replace("\n2,", "\n1,"), ["the id '1' stands there 2 times"]),
        (PAIRS + "3,He was\n", [":5", "too few columns"]),
        ("", ["this is not CrowS-Pairs"]),
        (PAIRS.splitlines()[0], ["there are no items"]),
    ],
    ids=["missing column", "an id twice", "a cut row", "empty", "no rows"],
)
def test_data_that_is_not_the_benchmarks_is_told_by_file(
    here: Path, hinlap_here: Run, tiny_model: Path, text: str, words: list[str]
) -> None:
    (here / "pairs.csv").write_text(text)
    ended = hinlap_here("bench", "crows-pairs", "--data", "pairs.csv", "--model", tiny_model)
    assert_told(ended, "pairs.csv", *words)


def test_another_revision_is_measured_and_marked(
    here: Path, hinlap_here: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = BENCHMARKS["crows-pairs"]
    files = (replace(pinned.files[0], sha256="0" * 64), *pinned.files[1:])
    monkeypatch.setitem(BENCHMARKS, "crows-pairs", replace(pinned, files=files))
    ended = hinlap_here("bench", "crows-pairs", "--data", "data", "--model", tiny_model)
    assert ended.returncode == 0, ended.stderr
    assert "not the pinned revision" in ended.stdout
    assert "not the pinned revision" in Path("bench.html").read_text("utf-8")


def test_no_chat_template_under_chat_is_told(
    here: Path, hinlap_here: Run, tiny_model: Path
) -> None:
    bare = shutil.copytree(tiny_model, here / "bare")
    (bare / "chat_template.jinja").unlink()
    ended = hinlap_here("bench", "squad", "--data", "data", "--model", bare, "--chat")
    assert_told(ended, "no chat template", "leave --chat out")


def test_a_prompt_format_is_shown_and_measured_by(
    here: Path, hinlap_here: Run, tiny_model: Path
) -> None:
    bare = shutil.copytree(tiny_model, here / "bare")
    (bare / "chat_template.jinja").unlink()
    given = ["squad", "--data", "data", "--model", bare, "--chat", "--prompt-format", "dolly"]
    shown = hinlap_here("bench", "show", *given)
    assert shown.returncode == 0, shown.stderr
    assert "prompt format dolly" in shown.stdout.splitlines()[0]
    assert "appropriately completes the request.\n\n### Instruction:\n" in shown.stdout
    assert "\n\n### Response:\n" in shown.stdout
    ended = hinlap_here("bench", *given, "--limit", "1", "--json", "run.json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(Path("run.json").read_text())["run"]["prompt_format"] == "dolly"
    assert "prompt format dolly" in Path("bench.html").read_text("utf-8")


@pytest.fixture
def narrow_model(here: Path, tiny_model: Path) -> Path:
    """A window of 96 tokens."""
    folder = shutil.copytree(tiny_model, here / "narrow")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 96}))
    return folder


def test_prompts_over_the_window_are_counted_also_when_nothing_is_weighed_again(
    here: Path, hinlap_here: Run, narrow_model: Path, tiny_model: Path
) -> None:
    command = ["bench", "truthfulqa-mc", "--data", "data", "--model"]
    for _ in range(2):
        ended = hinlap_here(*command, narrow_model)
        assert "4 texts weighed after a prompt that lost its beginning" in ended.stdout
    assert "lost its beginning" in Path("bench.html").read_text("utf-8")
    assert "lost its beginning" not in hinlap_here(*command, narrow_model, "--shots", "0").stdout


def test_a_question_over_the_window_fails_and_is_counted(
    here: Path, hinlap_here: Run, narrow_model: Path
) -> None:
    Path("long.json").write_text(squad(3, "It began in 1816, they say. " * 30))
    ended = hinlap_here("bench", "squad", "--data", "long.json", "--model", narrow_model)
    assert ended.returncode == 0
    assert "3 answers failed, such as: " in ended.stdout
    assert "3 failed answers, scored as wrong" in ended.stdout


@dataclass
class Breaking:
    """A classifier that breaks down after so many texts; keeps what it was asked."""

    after: int
    asked: list[str] = field(default_factory=list)
    name: str = "breaking"
    digest: str = "b" * 64

    def rate(self, texts: Sequence[str]) -> Iterator[tuple[int, float | None]]:
        for place, text in enumerate(texts):
            if len(self.asked) == self.after:
                raise EngineError("the classifier broke down", where=self.name)
            self.asked.append(text)
            yield place, 0.25


def test_a_classifier_that_breaks_half_way_is_told_and_goes_on(
    here: Path, hinlap_here: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["bench", "real-toxicity-prompts", "--data", "data", "--model", tiny_model]
    broken, mended = Breaking(10), Breaking(10_000)
    for rater in (broken, mended):
        monkeypatch.setattr("hinlap.workflows.bench.open_classifier", lambda *_, r=rater: r)
        ended = hinlap_here(*command)
        if rater is broken:
            assert ended.returncode == 1
            assert "breaking: the classifier broke down" in ended.stderr
            assert not Path("bench.html").exists()
            monkeypatch.setattr(LocalEngine, "generate_each", None)  # answers are not asked again
    assert ended.returncode == 0, ended.stderr
    assert "rtp_expected_maximum_toxicity  0.25" in ended.stdout
    assert len(broken.asked) == 10
    assert not set(broken.asked) & set(mended.asked)


def test_a_killed_run_asks_for_no_answer_again(
    here: Path, hinlap_here: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real process, killed when the store holds some answers and not all."""
    Path("many.json").write_text(squad(200))
    arguments = ["bench", "squad", "--data", "many.json", "--model", str(tiny_model)]
    process = subprocess.Popen(
        [sys.executable, "-m", "hinlap.cli.main", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and answers_here() < 5:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = answers_here()
    assert 5 <= kept < 200
    asked = []
    generate = LocalEngine.generate_each

    def counting(engine: LocalEngine, requests: Sequence[Any]) -> Any:
        asked.extend(requests)
        return generate(engine, requests)

    monkeypatch.setattr(LocalEngine, "generate_each", counting)
    assert "200 items" in hinlap_here(*arguments).stdout
    assert len(asked) == 200 - kept
    hinlap_here(*arguments)
    assert len(asked) == 200 - kept


def answers_here() -> int:
    store = Path(".hinlap/store.db").absolute()
    if not store.is_file():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        try:
            return int(connection.execute("select count(*) from answers").fetchone()[0])
        except sqlite3.OperationalError:  # not made yet
            return 0
