"""Requests that share forwards, against transformers doing one thing at a time."""

from __future__ import annotations

import gc
import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.conftest import TEXTS
from tests.engines.conftest import ARCHITECTURES, NOT_SHARING, SHARING, TokenPeer

from hinlap.core.messages import Continuation, Message, Prompt, Sampling
from hinlap.engines.local import LocalEngine

if TYPE_CHECKING:
    from hinlap.engines.generation import Generated
    from hinlap.engines.weights import Weights

Ids = tuple[int, ...]
_random = random.Random(11)


def some_tokens(n: int) -> Ids:
    return tuple(_random.randrange(3, 390) for _ in range(n))


PREAMBLE, OTHER_PREAMBLE = some_tokens(40), some_tokens(23)
QUESTIONS = [some_tokens(n) for n in (9, 1, 14)]
CHOICES = [some_tokens(n) for n in (1, 2, 5)]
BRANCHING = [(*CHOICES[2], *some_tokens(2)), (*CHOICES[2], *some_tokens(1)), CHOICES[2][:3]]
PAIRS: list[tuple[Ids, Ids]] = [
    *(  # one preamble, one question before its choices
        ((*PREAMBLE, *question), choice)
        for question in QUESTIONS
        for choice in (*CHOICES, *BRANCHING)
    ),
    *(((*OTHER_PREAMBLE, *QUESTIONS[0]), choice) for choice in CHOICES),
    ((*PREAMBLE, *QUESTIONS[0]), CHOICES[0]),  # as the first
    (PREAMBLE[:20], CHOICES[1]),  # a beginning of another
    (PREAMBLE[:20], PREAMBLE[20:30]),  # nothing that another does not have
    ((7,), (8,)),
    ((7,), (9,)),
    ((5,), some_tokens(3)),
    (some_tokens(60), some_tokens(90)),
    (some_tokens(70), some_tokens(2)),
]


@pytest.fixture(scope="module", params=SHARING)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected_of(
    peer_of: Callable[[str], TokenPeer],
) -> Callable[[str], list[tuple[list[float], list[int]]]]:
    """What transformers gives for each of `PAIRS`, by model."""
    known: dict[str, list[tuple[list[float], list[int]]]] = {}

    def expected(name: str) -> list[tuple[list[float], list[int]]]:
        if name not in known:
            known[name] = [peer_of(name).weigh(*pair) for pair in PAIRS]
        return known[name]

    return expected


def assert_weighed(found: Sequence[Any], expected: Sequence[tuple[list[float], list[int]]]) -> None:
    for got, (logprobs, ranks) in zip(found, expected, strict=True):
        assert got.logprobs == pytest.approx(logprobs, abs=1e-4)
        assert list(got.ranks) == ranks


def test_it_shares(architecture: str, weights_of: Callable[[str], Weights]) -> None:
    assert weights_of(architecture).why_not_shared == ""


@pytest.mark.parametrize("most_tokens", [16, 64, 1024])
def test_weighing_together_equals_plain_forwards(
    architecture: str,
    most_tokens: int,
    weights_of: Callable[[str], Weights],
    expected_of: Callable[[str], Any],
) -> None:
    from hinlap.engines.scoring import weigh

    found = weigh(weights_of(architecture), PAIRS, most_tokens=most_tokens)
    assert_weighed(found, expected_of(architecture))


def test_order_and_company_do_not_matter(
    architecture: str, weights_of: Callable[[str], Weights], expected_of: Callable[[str], Any]
) -> None:
    from hinlap.engines.scoring import weigh

    order = random.Random(3).sample(range(len(PAIRS)), 12)
    found = weigh(weights_of(architecture), [PAIRS[i] for i in order])
    assert_weighed(found, [expected_of(architecture)[i] for i in order])


PROMPTS: list[Ids] = [
    *((*PREAMBLE, *question) for question in QUESTIONS),
    *((*PREAMBLE, *QUESTIONS[0], *question) for question in QUESTIONS),  # a longer beginning
    PREAMBLE,  # a beginning of the others
    (*PREAMBLE, *QUESTIONS[0]),  # as the first
    (7,),
    some_tokens(33),
    some_tokens(4),
]
NEW = 12


def generated(
    weights: Weights, prompts: Sequence[Ids], samplings: Sequence[Sampling] | Sampling, eos: int = 2
) -> list[Generated]:
    from hinlap.engines.decoding import Ending
    from hinlap.engines.generation import Batch, Request

    if isinstance(samplings, Sampling):
        samplings = [samplings] * len(prompts)
    requests = [Request(p, s, s.max_tokens) for p, s in zip(prompts, samplings, strict=True)]
    batch = Batch(weights, requests, Ending(None, [eos]))
    found = dict(batch.run())
    assert sorted(found) == list(range(len(prompts)))
    assert batch._stored == {}
    return [found[i] for i in range(len(prompts))]


@pytest.fixture(params=[3, 32], ids=["rows-join-and-leave", "all-at-once"])
def most_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    rows = int(request.param)
    monkeypatch.setattr("hinlap.engines.generation.MOST_ROWS", {"cpu": rows, "cuda": rows})
    return rows


def test_greedy_answers_in_a_batch_equal_transformers_generate(
    architecture: str,
    most_rows: int,
    weights_of: Callable[[str], Weights],
    peer_of: Callable[[str], TokenPeer],
) -> None:
    first = peer_of(architecture).generate(PROMPTS[0], NEW)
    eos = first[4]  # so that some end earlier than others
    # ragged in room, too
    rooms = [NEW - place % 5 for place in range(len(PROMPTS))]
    expected = [
        peer_of(architecture).generate(prompt, room, eos=(eos,))
        for prompt, room in zip(PROMPTS, rooms, strict=True)
    ]
    samplings = [Sampling(max_tokens=room) for room in rooms]
    found = generated(weights_of(architecture), PROMPTS, samplings, eos)
    assert [list(answer.tokens) for answer in found] == expected
    assert len({len(tokens) for tokens in expected}) > 2
    assert max(answer.rows for answer in found) == min(most_rows, len(PROMPTS))


def test_sampled_answers_are_the_same_alone_and_in_company(
    architecture: str, most_rows: int, weights_of: Callable[[str], Weights]
) -> None:
    weights = weights_of(architecture)
    draws = [Sampling(max_tokens=8, temperature=1.0, seed=5, repeat=r) for r in range(4)]
    requests = [(PROMPTS[0], draw) for draw in draws] + [(p, draws[0]) for p in PROMPTS[1:5]]
    together = generated(weights, [p for p, _ in requests], [s for _, s in requests])
    alone = [generated(weights, [prompt], draw)[0] for prompt, draw in requests]
    assert [a.tokens for a in together] == [a.tokens for a in alone]
    assert len({a.tokens for a in together[:4]}) == 4  # four draws of one prompt


def test_log_probabilities_of_an_answer_equal_weighing_it(
    architecture: str, weights_of: Callable[[str], Weights]
) -> None:
    from hinlap.engines.scoring import weigh

    weights = weights_of(architecture)
    hot = Sampling(max_tokens=8, temperature=1.5, top_k=50, repetition_penalty=1.3)
    answers = [
        (prompt, answer)
        for prompt, answer in zip(PROMPTS, generated(weights, PROMPTS, hot), strict=True)
        if answer.tokens
    ]
    weighed = weigh(weights, [(prompt, answer.tokens) for prompt, answer in answers])
    for (_, answer), again in zip(answers, weighed, strict=True):
        assert answer.logprobs == pytest.approx(again.logprobs, abs=1e-4)


def test_a_prefix_is_computed_once_for_weighing_and_for_writing(
    weights_of: Callable[[str], Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hinlap.engines.scoring import weigh
    from hinlap.engines.weights import Weights

    computed: list[int] = []
    forward = Weights.forward

    def counting(self: Weights, ids: Any, *more: Any) -> Any:
        computed.append(len(ids))
        return forward(self, ids, *more)

    monkeypatch.setattr(Weights, "forward", counting)
    weights = weights_of("llama")
    prompts = [(*PREAMBLE, token) for token in range(50, 60)]
    weigh(weights, [(prompt, (9,)) for prompt in prompts])
    assert sum(computed) == len(PREAMBLE) + 10
    computed.clear()
    generated(weights, prompts, Sampling(max_tokens=1))
    assert sum(computed) == len(PREAMBLE) + 10


def test_every_beginning_of_a_long_text_is_weighed(
    weights_of: Callable[[str], Weights], peer_of: Callable[[str], TokenPeer]
) -> None:
    """Trees as deep as they can be: each text a beginning of the next, with and without a
    branch at every token."""
    from hinlap.engines.scoring import weigh

    text = some_tokens(450)
    straight = [(text[:n], text[n : n + 1]) for n in range(1, 450)]
    branching = [(text[:n], (7, 8)) for n in range(1, 100)]
    values, _ = peer_of("llama").weigh(text[:1], text[1:])
    for pairs in (straight, straight[:99] + branching):
        for most_tokens in (64, 1024):
            found = weigh(weights_of("llama"), pairs, most_tokens=most_tokens)
            n = 449 if pairs is straight else 99
            assert [w.logprobs[0] for w in found[:n]] == pytest.approx(values[:n], abs=1e-4)


class Live:
    """Counts the keys and values that are held, and the most at any time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from hinlap.engines.tree_attention import KeysValues

        self.now = self.most = 0
        live = self

        class Counted(KeysValues):
            def __init__(self, start: int, length: int) -> None:
                super().__init__(start, length)
                live.now += 1
                live.most = max(live.most, live.now)

            def __del__(self) -> None:
                live.now -= 1

        for module in ("scoring", "generation"):
            monkeypatch.setattr(f"hinlap.engines.{module}.KeysValues", Counted)


def test_keys_and_values_are_freed(
    weights_of: Callable[[str], Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hinlap.engines.scoring import weigh

    live = Live(monkeypatch)
    weigh(weights_of("llama"), PAIRS, most_tokens=16)
    assert live.most > 0
    live.most = 0
    generated(weights_of("llama"), PROMPTS, Sampling(max_tokens=3))
    assert live.most > 0
    gc.collect()
    assert live.now == 0


def test_weighing_more_items_holds_no_more_keys_and_values(
    weights_of: Callable[[str], Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored at any time belongs to one path of the tree."""
    from hinlap.engines.scoring import weigh

    live = Live(monkeypatch)
    items = [((*PREAMBLE, *some_tokens(30)), choice) for _ in range(40) for choice in CHOICES]
    weigh(weights_of("llama"), items[:6], most_tokens=32)
    few, live.most = live.most, 0
    weigh(weights_of("llama"), items, most_tokens=32)
    assert 0 < live.most <= few + 1


class MemoryLimit:
    """Forwards of more than ``most`` tokens run out of memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        from hinlap.engines.weights import OutOfMemoryError, Weights

        self.refused = 0
        forward = Weights.forward

        def limited(weights: Weights, ids: Any, *more: Any) -> Any:
            if len(ids) > most:
                self.refused += 1
                raise OutOfMemoryError(weights.name)
            return forward(weights, ids, *more)

        monkeypatch.setattr(Weights, "forward", limited)


@pytest.mark.parametrize("most", [300, 100, 20])
def test_weighing_halves_its_forwards_when_memory_runs_out(
    most: int,
    weights_of: Callable[[str], Weights],
    expected_of: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hinlap.engines.scoring import weigh

    limit = MemoryLimit(monkeypatch, most)
    assert_weighed(weigh(weights_of("llama"), PAIRS), expected_of("llama"))
    assert 0 < limit.refused < 20


def test_weighing_gives_up_where_not_even_the_least_fits(
    weights_of: Callable[[str], Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hinlap.engines.scoring import weigh
    from hinlap.engines.weights import OutOfMemoryError

    limit = MemoryLimit(monkeypatch, 0)
    with pytest.raises(OutOfMemoryError, match=r"memory ran out .*\n.*smaller model"):
        weigh(weights_of("llama"), PAIRS)
    assert limit.refused < 12


@pytest.mark.parametrize("most", [100, 65])
def test_writing_runs_fewer_rows_when_memory_runs_out(
    most: int, weights_of: Callable[[str], Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of("llama")
    samplings = [
        Sampling(max_tokens=6, temperature=0.8 * (place % 2)) for place in range(len(PROMPTS))
    ]
    expected = [answer.tokens for answer in generated(weights, PROMPTS, samplings)]
    limit = MemoryLimit(monkeypatch, most)
    found = generated(weights, PROMPTS, samplings)
    assert [answer.tokens for answer in found] == expected
    assert 0 < limit.refused < 20


def test_rows_cut_off_in_the_middle_of_their_answers_start_again(
    weights_of: Callable[[str], Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hinlap.engines.weights import OutOfMemoryError, Weights

    weights = weights_of("llama")
    hot = Sampling(max_tokens=10, temperature=1.0)
    expected = [answer.tokens for answer in generated(weights, PROMPTS, hot)]
    forward, steps = Weights.forward, itertools.count()

    def tight_for_a_moment(weights: Weights, ids: Any, *more: Any) -> Any:
        if next(steps) in (6, 7, 12):
            raise OutOfMemoryError(weights.name)
        return forward(weights, ids, *more)

    monkeypatch.setattr(Weights, "forward", tight_for_a_moment)
    assert [a.tokens for a in generated(weights, PROMPTS, hot)] == expected


def test_writing_gives_up_where_one_row_does_not_fit(
    weights_of: Callable[[str], Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hinlap.engines.weights import OutOfMemoryError

    limit = MemoryLimit(monkeypatch, 10)
    with pytest.raises(OutOfMemoryError, match=r"memory ran out .*\n.*smaller model"):
        generated(weights_of("llama"), PROMPTS, Sampling(max_tokens=6))
    assert limit.refused < 12


@pytest.mark.parametrize("name", NOT_SHARING)
def test_what_cannot_share_takes_the_plain_path(
    name: str, model_of: Callable[[str], Path], peer_of: Callable[[str], TokenPeer]
) -> None:
    engine = LocalEngine(name, model_of(name))
    peer = peer_of(name)
    assert engine.why_not_shared
    prompts = [Prompt((Message("user", text),)) for text in TEXTS[:3]]
    rendered = [engine.encode(engine.render(prompt)) for prompt in prompts]

    pairs = [(ids, text) for ids in rendered for text in CHOICES]
    assert_weighed(engine.score_tokens(pairs), [peer.weigh(*pair) for pair in pairs])
    assert engine.score([Continuation(prompts[0], " boats")])[0].total < 0

    found = dict(engine.generate(prompts, Sampling(max_tokens=NEW)))
    for index, ids in enumerate(rendered):
        expected = peer.generate(ids, NEW)
        text = engine.tokenizer.decode(expected, skip_special_tokens=True)
        assert found[index].text == text.rstrip("\ufffd")
        assert found[index].batch_size == 1
        weighed = peer.weigh(ids, expected)[0]
        assert found[index].logprobs == pytest.approx(weighed, abs=1e-4)


def test_bfloat16_weighs_nearly_as_float32_and_says_so_in_its_digest(
    model_of: Callable[[str], Path],
) -> None:
    exact = LocalEngine("llama", model_of("llama"))
    rough = LocalEngine("llama", model_of("llama"), dtype="bfloat16")
    assert rough.why_not_shared == ""
    gaps = [
        np.abs(np.subtract(a.logprobs, b.logprobs))
        for a, b in zip(exact.score_tokens(PAIRS), rough.score_tokens(PAIRS), strict=True)
    ]
    assert 0 < np.concatenate(gaps).mean() < 0.1  # nats a token; 8 bits of mantissa
    assert np.concatenate(gaps).max() < 0.5
    assert exact.digest != rough.digest


def test_each_architecture_is_in_one_of_the_two_lists() -> None:
    assert [*SHARING, *NOT_SHARING] == list(ARCHITECTURES)
