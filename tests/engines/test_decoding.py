"""How an answer is held, ended and interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from tests.conftest import TEXTS

from hinlap.core.errors import EngineError, ModelError, UserError
from hinlap.core.messages import Completion, Finish, Message, Prompt, Sampling
from hinlap.core.progress import Silent
from hinlap.engines.cache import answer_all
from hinlap.engines.local import LocalEngine
from hinlap.store.store import Store

if TYPE_CHECKING:
    from hinlap.engines.weights import Weights

ASKED = [Prompt((Message("user", text),)) for text in TEXTS[:4]]
SCHEMAS: dict[str, dict[str, Any]] = {
    "nested": {
        "type": "object",
        "properties": {
            "animal": {
                "type": "object",
                "properties": {"legs": {"type": "integer", "minimum": 0, "maximum": 99}},
                "required": ["legs"],
                "additionalProperties": False,
            },
            "kind": {"enum": ["bird", "fish"]},
        },
        "required": ["animal", "kind"],
        "additionalProperties": False,
    },
    "enum": {"enum": ["yes", "no", "ไม่แน่ใจ"]},
    "integer": {"type": "integer", "minimum": -5, "maximum": 120},
    "thai": {
        "type": "object",
        "properties": {"คำตอบ": {"type": "string", "pattern": "^[ก-ฮ]{1,4}$"}},
        "required": ["คำตอบ"],
        "additionalProperties": False,
    },
    "list": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
}


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> LocalEngine:
    return LocalEngine("tiny", tiny_model)


def answers(engine: LocalEngine, requests: list[tuple[Prompt, Sampling]]) -> list[Completion]:
    found = dict(engine.generate_each(requests))
    return [found[i] for i in range(len(requests))]


def held(schema: str, seed: int, temperature: float = 1.0, **more: Any) -> Sampling:
    text = json.dumps(SCHEMAS[schema])
    return Sampling(max_tokens=150, temperature=temperature, seed=seed, json_schema=text, **more)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_answer_held_to_a_schema_always_follows_it(engine: LocalEngine, schema: str) -> None:
    # whitespace between the parts is free, so a random model may go on with it for long
    requests = [(ASKED[seed % 4], held(schema, seed, top_k=seed % 3 * 20)) for seed in range(5)]
    done = answers(engine, [*requests, (ASKED[0], held(schema, 0, temperature=0.0))])
    for answer in done:
        if answer.finish is Finish.STOP:
            jsonschema.validate(json.loads(answer.text), SCHEMAS[schema])
    assert sum(answer.finish is Finish.STOP for answer in done) >= 5


def test_answers_held_and_free_do_not_disturb_each_other(engine: LocalEngine) -> None:
    free = Sampling(max_tokens=20, temperature=1.0, seed=3)
    requests = [
        (ASKED[0], held("nested", 1)),
        (ASKED[0], free),
        (ASKED[1], held("thai", 2)),
        (ASKED[1], Sampling(max_tokens=20)),
        (ASKED[2], held("integer", 1)),
    ]
    together = [answer.text for answer in answers(engine, requests)]
    assert together == [answers(engine, [request])[0].text for request in requests]


def test_a_held_answer_is_weighed_by_the_model_itself(engine: LocalEngine) -> None:
    [answer] = answers(engine, [(ASKED[0], held("integer", 4))])
    assert sum(answer.logprobs) < -1  # a random model would rather say something else


@pytest.mark.parametrize(
    "schema", ['{"type": "nonsense"}', "not JSON", '{"$ref": "#/nowhere"}', "[]"]
)
def test_a_schema_that_cannot_be_followed_is_told_before_anything_runs(
    engine: LocalEngine, schema: str
) -> None:
    with pytest.raises(UserError, match="JSON schema cannot be followed"):
        answers(engine, [(ASKED[0], Sampling(json_schema=schema))])


def ended(engine: LocalEngine, text: str, stop: str) -> int:
    """After how many of a text's tokens a stop string ends it; -1 if never."""
    from hinlap.engines.decoding import End, Ending

    ids = engine.tokenizer(text, add_special_tokens=False)["input_ids"]
    ending = Ending(engine.tokenizer, [2])
    for n in range(1, len(ids) + 1):
        if ending.reached(ids[:n], 10_000, (stop,), False) is End.STOP:
            return n
    return -1


@pytest.mark.parametrize("stop", ["\n", "boats", "น้ำ", "ำ", "ใจ", " then ", "ใจ\n\nQ:"])
def test_a_stop_string_ends_an_answer_at_the_token_that_completes_it(
    engine: LocalEngine, stop: str
) -> None:
    text = "One boat and then two boats: น้ำใจ\n\nQ: no more"
    tokenizer = engine.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    first = next(n for n in range(1, len(ids) + 1) if stop in tokenizer.decode(ids[:n]))
    assert ended(engine, text, stop) == first
    assert ended(engine, "x" * 300 + text, stop) > 0


def test_a_stop_string_that_never_comes_ends_nothing(engine: LocalEngine) -> None:
    assert ended(engine, "One boat and then two boats: น้ำใจ", "three") == -1


def test_a_character_cut_by_the_limit_is_left_out(engine: LocalEngine) -> None:
    from hinlap.engines.decoding import End
    from hinlap.engines.generation import Generated

    ids = engine.tokenizer("ก ข", add_special_tokens=False)["input_ids"]
    assert "\ufffd" in engine.tokenizer.decode(ids[:-1])

    def completion(ended: End) -> str:
        answer = Generated(tuple(ids[:-1]), ended, len(ids) - 1, (), 0.0, 1)
        return engine._completion(answer, 1, Sampling()).text

    assert completion(End.LENGTH) == "ก "
    assert completion(End.TOKEN).endswith("\ufffd")  # the model's own doing is shown


def test_an_empty_prompt_fails_alone(model_of: Callable[[str], Path]) -> None:
    engine = LocalEngine("tiny", model_of("llama"))
    engine.tokenizer.chat_template = "{{ messages[0]['content'] }}"
    empty = Prompt((Message("user", ""),))
    first, failed = answers(engine, [(ASKED[0], Sampling(max_tokens=3)), (empty, Sampling())])
    assert first.finish is Finish.LENGTH
    assert (failed.finish, failed.error[:19]) == (Finish.FAILED, "the prompt is empty")


def test_a_prompt_of_one_token_is_answered_and_continued(engine: LocalEngine) -> None:
    [scored] = engine.score_tokens([([5], [6, 7])])
    assert len(scored.logprobs) == 2
    assert scored.greedy in (True, False)


@pytest.mark.parametrize(("context", "text"), [([], [5]), ([5], [])])
def test_nothing_is_not_weighed(engine: LocalEngine, context: list[int], text: list[int]) -> None:
    with pytest.raises(ModelError, match="empty text"):
        engine.score_tokens([(context, text)])


def test_a_context_over_the_window_is_cut_from_the_left_and_counted(engine: LocalEngine) -> None:
    context, text = [5 + n % 300 for n in range(600)], [7, 8, 9]
    long, short = engine.score_tokens([(context, text), (context[-100:], text)])
    assert (long.cut, short.cut) == (600 - (512 + 1 - 3), 0)
    assert long.logprobs == engine.score_tokens([(context[-510:], text)])[0].logprobs


def test_a_text_that_fills_the_window_keeps_one_token_of_its_context(engine: LocalEngine) -> None:
    text = [5 + n % 300 for n in range(512)]
    [scored] = engine.score_tokens([([9, 10], text)])
    assert (scored.cut, len(scored.logprobs)) == (1, 512)
    with pytest.raises(ModelError, match="513 tokens to weigh, the window is 512"):
        engine.score_tokens([([9], [*text, 5])])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "hinlap.db")
    yield opened
    opened.close()


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt, EngineError("the machine is on fire")])
def test_what_was_answered_before_an_interrupt_is_kept(
    engine: LocalEngine,
    store: Store,
    stopped_by: type[BaseException] | BaseException,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hinlap.engines.weights import Weights

    monkeypatch.setattr("hinlap.engines.generation.MOST_ROWS", {"cpu": 2, "cuda": 2})
    sampling = Sampling(max_tokens=4)
    expected = [answers(engine, [(prompt, sampling)])[0].text for prompt in ASKED]
    forward, steps = Weights.forward, iter(range(1000))

    def interrupted(weights: Weights, *more: Any) -> Any:
        if next(steps) == 5:  # the first two rows are done after four
            raise stopped_by
        return forward(weights, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Weights, "forward", interrupted)
        with pytest.raises(BaseException) as caught:  # noqa: PT011
            answer_all(engine, store, ASKED, sampling, Silent())
    assert caught.type in (KeyboardInterrupt, EngineError)
    again = answer_all(engine, store, ASKED, sampling, Silent())
    assert [answer.text for answer in again] == expected
    assert sum(answer.cached for answer in again) == 2


def test_a_generator_closed_midway_leaves_the_engine_as_it_was(engine: LocalEngine) -> None:
    requests = [(prompt, Sampling(max_tokens=2 + 3 * n)) for n, prompt in enumerate(ASKED)]
    expected = [answer.text for answer in answers(engine, requests)]
    running = engine.generate_each(requests)
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert [answer.text for answer in answers(engine, requests)] == expected
