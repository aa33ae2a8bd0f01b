"""Asking through the store: nothing is asked twice, nothing finished is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hinlap.core.errors import EngineError
from hinlap.core.messages import Completion, Continuation, Finish, Message, Prompt, Sampling
from hinlap.core.progress import Silent
from hinlap.engines.cache import answer_all, answer_key, weigh_all
from hinlap.engines.scripted import ScriptedEngine
from hinlap.store.store import Store

GREEDY = Sampling()


def ask(text: str) -> Prompt:
    return Prompt((Message("user", text),))


PROMPTS = [ask(f"question {number}") for number in range(6)]


def content(prompt: Prompt) -> str:
    return prompt.messages[-1].content


def failed(reason: str) -> Completion:
    return Completion("", Finish.FAILED, 0, 0, 0.0, error=reason)


class Counting(Silent):
    """Progress that adds up."""

    def __init__(self) -> None:
        self.done = 0

    def advance(self, done: int = 1, note: str = "") -> None:
        self.done += done


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "hinlap.db")
    yield opened
    opened.close()


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(lambda prompt: f"to {content(prompt)}")


def run(
    engine: ScriptedEngine,
    store: Store,
    prompts: list[Prompt] = PROMPTS,
    sampling: Sampling = GREEDY,
    *,
    alone: int = 0,
) -> list[Completion]:
    return answer_all(engine, store, prompts, sampling, Silent(), one_at_a_time=alone)


def test_answers_come_in_the_order_of_the_prompts(engine: ScriptedEngine, store: Store) -> None:
    assert [a.text for a in run(engine, store)] == [f"to question {n}" for n in range(6)]


def test_what_was_answered_is_not_asked_again(engine: ScriptedEngine, store: Store) -> None:
    first = run(engine, store)
    again = run(engine, store)
    assert engine.asked == PROMPTS
    assert [a.text for a in again] == [a.text for a in first]


def test_what_was_answered_outlives_the_store_object(
    engine: ScriptedEngine, store: Store, tmp_path: Path
) -> None:
    run(engine, store)
    reopened = Store(tmp_path / "hinlap.db")
    run(engine, reopened)
    reopened.close()
    assert len(engine.asked) == len(PROMPTS)


def test_only_what_is_new_is_asked(engine: ScriptedEngine, store: Store) -> None:
    run(engine, store, PROMPTS[:4])
    run(engine, store, PROMPTS[::-1])
    assert engine.asked == PROMPTS[:4] + PROMPTS[:3:-1]


def test_a_cached_answer_says_so_and_keeps_all_else(engine: ScriptedEngine, store: Store) -> None:
    first = run(engine, store)
    again = run(engine, store)
    assert not any(a.cached for a in first)
    assert again == [replace(a, cached=True) for a in first]
    assert again[0].seconds == first[0].seconds > 0


@pytest.mark.parametrize("finish", [Finish.LENGTH, Finish.REFUSED])
def test_cut_and_refused_answers_are_kept(store: Store, finish: Finish) -> None:
    answer = Completion("hm", finish, 5, 2, 0.5, cached_input_tokens=3, error="why")
    engine = ScriptedEngine(lambda prompt: answer)
    run(engine, store)
    assert run(engine, store) == [replace(answer, cached=True)] * len(PROMPTS)
    assert len(engine.asked) == len(PROMPTS)


def test_a_failure_is_not_kept(store: Store) -> None:
    replies = {"question 2": [failed("no luck"), "now"]}
    engine = ScriptedEngine(lambda prompt: replies.get(content(prompt), ["yes"] * 2).pop(0))
    assert run(engine, store)[2].error == "no luck"
    assert run(engine, store)[2].text == "now"
    assert engine.asked == [*PROMPTS, PROMPTS[2]]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"repeat": 1},
        {"max_tokens": 9},
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"top_k": 5},
        {"repetition_penalty": 1.2},
        {"stop": ("\n",)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_sampling_is_another_answer(
    engine: ScriptedEngine, store: Store, change: dict[str, object]
) -> None:
    run(engine, store)
    run(engine, store, sampling=replace(GREEDY, **change))  # type: ignore[arg-type]
    assert len(engine.asked) == 2 * len(PROMPTS)


def test_another_model_is_another_answer(store: Store) -> None:
    one, two = (ScriptedEngine(lambda prompt: "x", name=name) for name in ("one", "two"))
    run(one, store)
    run(two, store)
    assert (one.asked, two.asked) == (PROMPTS, PROMPTS)


def test_roles_are_part_of_the_question(engine: ScriptedEngine) -> None:
    user, system = (Prompt((Message(role, "x"),)) for role in ("user", "system"))
    assert answer_key(engine, user, GREEDY) != answer_key(engine, system, GREEDY)


def test_where_one_message_ends_is_part_of_the_question(engine: ScriptedEngine) -> None:
    one = Prompt((Message("user", "a"), Message("user", "b")))
    assert answer_key(engine, one, GREEDY) != answer_key(engine, ask("ab"), GREEDY)


def test_equal_prompts_are_asked_once(engine: ScriptedEngine, store: Store) -> None:
    found = run(engine, store, [PROMPTS[0], PROMPTS[1], PROMPTS[0]])
    assert engine.asked == PROMPTS[:2]
    assert [a.text for a in found] == ["to question 0", "to question 1", "to question 0"]


def test_the_first_few_asked_alone_give_a_latency(engine: ScriptedEngine, store: Store) -> None:
    assert [a.batch_size for a in run(engine, store, alone=2)] == [1, 1, 4, 4, 4, 4]


def test_asking_alone_asks_nothing_twice(engine: ScriptedEngine, store: Store) -> None:
    run(engine, store, [PROMPTS[0], PROMPTS[0], *PROMPTS], alone=3)
    assert sorted(map(content, engine.asked)) == sorted(map(content, PROMPTS))


def test_no_prompts_ask_nothing(engine: ScriptedEngine, store: Store) -> None:
    assert run(engine, store, [], alone=3) == []
    assert engine.asked == []


def test_progress_counts_every_prompt_once(engine: ScriptedEngine, store: Store) -> None:
    prompts = [PROMPTS[0], *PROMPTS]
    run(engine, store, PROMPTS[:2])
    progress = Counting()
    answer_all(engine, store, prompts, GREEDY, progress, one_at_a_time=3)
    assert progress.done == len(prompts)


def test_what_was_finished_before_a_breakdown_is_kept(store: Store) -> None:
    def breaks_at_three(prompt: Prompt) -> str:
        if content(prompt) == "question 3" and len(engine.asked) == 4:
            raise EngineError("the power went")
        return "yes"

    engine = ScriptedEngine(breaks_at_three)
    with pytest.raises(EngineError):
        run(engine, store)
    run(engine, store)
    assert engine.asked == [*PROMPTS[:4], *PROMPTS[3:]]


def test_weights_are_weighed_once(store: Store) -> None:
    weighed: list[str] = []

    def weigh(pair: Continuation) -> float:
        weighed.append(pair.text)
        return -float(len(pair.text))

    engine = ScriptedEngine(lambda prompt: "", weigh=weigh)
    pairs = [Continuation(PROMPTS[0], text) for text in ("a", "bb", "a", "ccc")]
    first = weigh_all(engine, store, pairs, Silent(), group=2)
    assert weigh_all(engine, store, pairs[::-1], Silent(), group=2) == first[::-1]
    assert first == [(-1.0, 1), (-2.0, 1), (-1.0, 1), (-3.0, 1)]
    assert weighed == ["a", "bb", "ccc"]


def test_weights_of_another_context_are_weighed_anew(store: Store) -> None:
    engine = ScriptedEngine(lambda prompt: "", weigh=lambda p: -float(len(content(p.context))))
    pairs = [Continuation(ask(context), "same") for context in ("a", "bb")]
    assert [w for w, _ in weigh_all(engine, store, pairs, Silent())] == [-1.0, -2.0]


CHILD = """
import sys, time
from pathlib import Path
from hinlap.core.messages import Message, Prompt, Sampling
from hinlap.core.progress import Silent
from hinlap.engines.cache import answer_all
from hinlap.engines.scripted import ScriptedEngine
from hinlap.store.store import Store

def slow(prompt):
    number = int(prompt.messages[0].content)
    print(number, flush=True)
    if number == 5:
        time.sleep(60)
    return f"to {number}"

prompts = [Prompt((Message("user", str(n)),)) for n in range(10)]
answer_all(ScriptedEngine(slow), Store(Path(sys.argv[1])), prompts, Sampling(), Silent())
"""


def test_a_process_killed_in_the_middle_loses_nothing_finished(tmp_path: Path) -> None:
    path = tmp_path / "hinlap.db"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True, env=os.environ
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == "5":  # the sixth is being made
                child.kill()
    assert child.returncode == -signal.SIGKILL

    engine = ScriptedEngine(lambda prompt: f"to {content(prompt)}")
    store = Store(path)
    found = run(engine, store, [ask(str(number)) for number in range(10)])
    store.close()
    assert [content(prompt) for prompt in engine.asked] == ["5", "6", "7", "8", "9"]
    assert [a.text for a in found] == [f"to {n}" for n in range(10)]
