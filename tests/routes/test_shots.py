from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hinlap.app.app import App
from hinlap.core.errors import AppError
from hinlap.core.examples import Example, Split
from hinlap.core.messages import Prompt
from hinlap.core.progress import Silent
from hinlap.engines.tokens import estimate_tokens
from hinlap.routes.shots import Select, shots_prompt
from hinlap.workflows.load import load


@dataclass
class Heard(Silent):
    """Keeps what is said."""

    lines: list[str] = field(default_factory=list)

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def app(small_app: Path) -> App:
    return load(small_app)


def count(prompt: Prompt) -> int:
    return sum(estimate_tokens(message.content) for message in prompt.messages)


def prompt_of(
    app: App,
    text: str,
    *,
    k: int = 2,
    select: Select = "fixed",
    seed: int = 0,
    step: int = 0,
    window: int = 0,
    heard: Heard | None = None,
) -> Prompt:
    make = shots_prompt(
        "few",
        app,
        k=k,
        select=select,
        seed=seed,
        window=lambda: window,
        count_tokens=count,
        progress=heard or Heard(),
    )
    return make(app.spec.steps[step], {"text": text, "summary": "What came before."})


def shown(prompt: Prompt) -> list[str]:
    """The texts of the examples before the item, in order."""
    users = [m.content for m in prompt.messages if m.role == "user"]
    return [content.partition(": ")[2] for content in users[:-1]]


def solved(index: int, text: str, **wanted: str) -> Example:
    return Example(f"solved-{index}", {"text": text}, Split.TRAIN, wanted)


def test_examples_are_earlier_turns_and_the_item_is_the_last(app: App) -> None:
    prompt = prompt_of(app, "An item.")
    roles = [message.role for message in prompt.messages]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert prompt.messages[-1].content == "Summarise: An item."


def test_an_example_shows_its_wanted_output(app: App) -> None:
    prompt = prompt_of(app, "An item.", k=1)
    assert prompt.messages[1].content == app.train[0].wanted["summary"].strip()


def test_a_later_step_shows_examples_of_that_step(app: App) -> None:
    prompt = prompt_of(app, "An item.", k=1, step=1)
    assert prompt.messages[0].content == f"Riddle about: {app.train[0].wanted['summary']}".strip()
    assert prompt.messages[1].content == app.train[0].wanted["riddle"]


def test_fixed_takes_the_first_of_the_file(app: App) -> None:
    assert shown(prompt_of(app, "An item.")) == [e.inputs["text"] for e in app.train[:2]]


def test_random_draws_the_same_for_every_item(app: App) -> None:
    one = shown(prompt_of(app, "An item.", select="random", seed=3))
    other = shown(prompt_of(app, "Another item.", select="random", seed=3))
    assert one == other
    assert len(set(one)) == 2


def test_random_draws_otherwise_with_another_seed(app: App) -> None:
    drawn = {tuple(shown(prompt_of(app, "x", select="random", seed=s))) for s in range(8)}
    assert len(drawn) > 1


def test_similar_puts_the_most_similar_last(app: App) -> None:
    texts = shown(prompt_of(app, "The baker sold loaves before rain.", select="similar"))
    assert texts[-1] == app.train[1].inputs["text"]


def test_similar_works_in_thai(app: App) -> None:
    train = (
        solved(0, "รัฐบาลประกาศขึ้นภาษีน้ำมันในเดือนหน้า", summary="ภาษี"),
        solved(1, "ช้างป่าเดินเข้าหมู่บ้านตอนกลางคืน", summary="ช้าง"),
        solved(2, "นักวิทยาศาสตร์พบดาวเคราะห์ดวงใหม่", summary="ดาว"),
    )
    thai = replace(app, train=train)
    texts = shown(prompt_of(thai, "พบช้างป่าสองตัวใกล้หมู่บ้าน", k=2, select="similar"))
    assert texts[-1] == train[1].inputs["text"]


def test_similar_to_a_text_without_words_still_shows_examples(app: App) -> None:
    assert len(shown(prompt_of(app, "🎉 🎉", select="similar"))) == 2


def test_only_rows_with_the_output_and_all_before_it_are_shown(app: App) -> None:
    train = (
        solved(0, "no summary", riddle="r"),
        solved(1, "no riddle", summary="s"),
        solved(2, "both", summary="s", riddle="r"),
    )
    assert prompt_of(replace(app, train=train), "x", k=1, step=1).messages[1].content == "r"
    with pytest.raises(AppError, match="shows 2 examples, but the train file has only 1 with"):
        prompt_of(replace(app, train=train), "x", k=2, step=1)


def test_too_few_examples_are_told_with_file_and_remedy(app: App) -> None:
    with pytest.raises(AppError) as caught:
        prompt_of(app, "x", k=5)
    assert "the route 'few' shows 5 examples, but the train file has only 4" in caught.value.what
    assert caught.value.where == str(app.folder / "data/train.jsonl")
    assert caught.value.hint == "add examples, or lower k in app.yaml"


@pytest.mark.parametrize("select", ["fixed", "random", "similar"])
def test_no_test_item_is_ever_shown(app: App, select: Select) -> None:
    of_test = {example.inputs["text"] for example in app.test}
    for example in app.test:
        texts = shown(prompt_of(app, example.inputs["text"], k=4, select=select))
        assert of_test.isdisjoint(texts)


LONG = "A very long article about nothing in particular. " * 40


@pytest.fixture
def long_app(app: App) -> App:
    train = [solved(0, "alpha " + LONG, summary="a"), solved(1, "beta", summary="b")]
    return replace(app, train=tuple(train))


def test_examples_that_do_not_fit_the_window_are_dropped_whole(long_app: App) -> None:
    texts = shown(prompt_of(long_app, "alpha", select="similar", window=200))
    assert texts == []  # the most similar is the long one: it is dropped last, and does not fit


def test_the_least_similar_example_is_dropped_first(long_app: App) -> None:
    texts = shown(prompt_of(long_app, "beta", select="similar", window=200))
    assert texts == ["beta"]


def test_of_fixed_examples_the_last_is_dropped_first(long_app: App) -> None:
    back = replace(long_app, train=long_app.train[::-1])
    assert shown(prompt_of(back, "x", window=200)) == ["beta"]


def test_what_was_dropped_is_said_once_a_step(long_app: App) -> None:
    heard = Heard()
    make = shots_prompt(
        "few",
        long_app,
        k=2,
        select="fixed",
        seed=0,
        window=lambda: 200,
        count_tokens=count,
        progress=heard,
    )
    for text in ("one", "two"):
        make(long_app.spec.steps[0], {"text": text})
    assert len(heard.lines) == 1
    assert "examples dropped before step 'summary'" in heard.lines[0]


def test_an_item_that_does_not_fit_by_itself_is_left_to_the_engine(long_app: App) -> None:
    prompt = prompt_of(long_app, LONG, window=100)
    assert [message.role for message in prompt.messages] == ["user"]


def test_a_large_window_drops_nothing(long_app: App) -> None:
    assert len(shown(prompt_of(long_app, "x", window=100_000))) == 2
