"""Weighing texts by a server's echo, against a real HTTP server that computes real ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TEXTS, ChatServer

from hinlap.core.errors import EngineError, ModelError, ServiceSetupError
from hinlap.core.messages import Continuation, Message, Prompt
from hinlap.core.progress import Silent
from hinlap.engines.budget import Budget, Prices
from hinlap.engines.cache import weigh_all
from hinlap.engines.catalogue import model_folder
from hinlap.engines.connection import ServiceAddress
from hinlap.engines.local import LocalEngine
from hinlap.engines.pool import open_scorer
from hinlap.engines.service_scoring import ServiceScorer, scorer_at, spelled
from hinlap.store.store import Store
from hinlap.workflows.perplexity import measure_perplexity

KEY = "sk-test-5f3a9c"
PRICES = Prices(input=1.0, output=4.0, cached_input=0.1)
THAI = TEXTS[4]
PAIRS = [
    ("The harbour town counted", " its boats on Monday."),
    ("The harbour town counted ", "its boats"),  # the space is the continuation's
    ("The harbour town counted  ", "its boats"),
    ("A baker in the valley\n", "sold nine hundred loaves"),
    ("Which?\n\nA small museum of clocks", " asks"),
    ("Which?\n\nA small museum of clocks", " guesses its visitors"),
    ("Which?\n\nA small museum of clocks", "\nเดิน"),
    (THAI[:12], THAI[12:]),
    (f"{THAI} ", "และรถทุกคัน"),
    ("A choir 😀", "😃 sang"),
]


class Echoes:
    """The endpoint as vLLM serves it: what a model says of each token of a prompt, and one more.

    decode: the text of each token, from all ids.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.decode: Callable[[list[int]], list[str]] = self.one_by_one
        self.lock = threading.Lock()

    def one_by_one(self, ids: list[int]) -> list[str]:
        return [self.tokenizer.decode([token]) for token in ids]

    def when_whole(self, ids: list[int]) -> list[str]:
        """Cut letters come with the token that ends them, as newer vLLM gives them."""
        texts, held = [], []
        for token in ids:
            held.append(token)
            text = self.tokenizer.decode(held)
            texts.append("" if text.endswith("\ufffd") else text)
            held = held if text.endswith("\ufffd") else []
        return texts

    def with_begin(self, ids: list[int]) -> list[str]:
        """SentencePiece's way: a single token loses its first space."""
        return [text[1:] if text[0] == " " else text for text in self.one_by_one(ids)]

    def __call__(self, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        import torch

        assert body["echo"] is True
        assert (body["logprobs"], body["max_tokens"], body["temperature"]) == (1, 1, 0)
        ids = self.tokenizer(body["prompt"])["input_ids"]
        with self.lock, torch.inference_mode():
            all_logprobs = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)  # (T, V)
        new = int(all_logprobs[-1].argmax())
        texts = self.decode([*ids, new])
        logprobs: list[float | None] = [None]
        tops: list[dict[str, float] | None] = [None]
        for at, token in enumerate([*ids, new][1:], 1):
            best = int(all_logprobs[at - 1].argmax())
            logprobs.append(float(all_logprobs[at - 1, token]))
            mine = {texts[at]: float(all_logprobs[at - 1, token])}
            tops.append(mine | {self.tokenizer.decode([best]): float(all_logprobs[at - 1, best])})
            if best == token:
                tops[-1] = mine
        offsets = [sum(map(len, texts[:at])) for at in range(len(texts))]
        return completion(body["prompt"] + texts[-1], texts, logprobs, tops, offsets, len(ids))


def completion(
    text: str,
    tokens: Any,
    logprobs: Any,
    tops: Any = None,
    offsets: Any = None,
    prompt_tokens: Any = None,
) -> tuple[int, dict[str, str], Any]:
    said = {
        "tokens": tokens,
        "token_logprobs": logprobs,
        "top_logprobs": tops,
        "text_offset": offsets,
    }
    choice = {"index": 0, "text": text, "logprobs": said, "finish_reason": "length"}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 1}
    return 200, {}, {"object": "text_completion", "choices": [choice], "usage": usage}


def problem(status: int, message: str = "no") -> tuple[int, dict[str, str], Any]:
    return status, {}, {"error": {"message": message}}


@pytest.fixture(scope="module")
def module_echoes(tiny_model: Path) -> Echoes:
    return Echoes(tiny_model)


@pytest.fixture
def echoes(module_echoes: Echoes, chat_server: ChatServer) -> Echoes:
    """The endpoint, behind ``chat_server``."""
    module_echoes.decode = module_echoes.one_by_one
    chat_server.answer = module_echoes
    return module_echoes


@pytest.fixture
def local(tiny_model: Path) -> LocalEngine:
    return LocalEngine("tiny", tiny_model)


@pytest.fixture
def make_scorer(chat_server: ChatServer) -> Iterator[Callable[..., ServiceScorer]]:
    made = []

    def make(
        *, concurrency: int = 1, timeout_seconds: float = 5.0, key: str = KEY, cap_usd: float = 1.0
    ) -> ServiceScorer:
        address = ServiceAddress(
            chat_server.url, "m", "TEST_KEY", PRICES, concurrency, timeout_seconds, max_retries=2
        )
        environment = {"TEST_KEY": key} if key else {}
        waits: list[float] = []
        made.append(ServiceScorer(address, Budget(cap_usd), waits.append, environment))
        return made[-1]

    yield make
    for scorer in made:
        scorer.close()


@pytest.fixture
def scorer(make_scorer: Callable[..., ServiceScorer]) -> ServiceScorer:
    return make_scorer()


@pytest.mark.parametrize("way", ["one_by_one", "when_whole", "with_begin"])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: repr(pair[1][:12]))
def test_numbers_are_those_of_the_local_engine(
    echoes: Echoes, scorer: ServiceScorer, local: LocalEngine, pair: tuple[str, str], way: str
) -> None:
    echoes.decode = getattr(echoes, way)
    [got], [wanted] = scorer.score_texts([pair]), local.score_texts([pair])
    assert got.logprobs == pytest.approx(wanted.logprobs, abs=1e-5)
    assert got.tokens == (-1,) * len(wanted.tokens)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_weights_belong_to_their_texts_whatever_the_order(
    echoes: Echoes,
    make_scorer: Callable[..., ServiceScorer],
    local: LocalEngine,
    concurrency: int,
) -> None:
    got = make_scorer(concurrency=concurrency).score_texts(PAIRS)
    wanted = local.score_texts(PAIRS)
    assert [g.total for g in got] == pytest.approx([w.total for w in wanted], abs=1e-4)


def test_greedy_is_told_where_it_is_known(
    echoes: Echoes, scorer: ServiceScorer, local: LocalEngine
) -> None:
    for pair in PAIRS[:6]:
        [got], [wanted] = scorer.score_texts([pair]), local.score_texts([pair])
        if got.ranks:
            assert [rank == 0 for rank in got.ranks] == [rank == 0 for rank in wanted.ranks]
    ids = echoes.tokenizer("The harbour")["input_ids"]
    best = echoes(
        {"prompt": "The harbour", "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}
    )[2]["choices"][0]["logprobs"]["tokens"][len(ids)]
    [got] = scorer.score_texts([("The harbour", best)])
    if best.strip() and "\ufffd" not in best and len(got.tokens) == 1:
        assert got.greedy is True


def test_a_prompt_is_rendered_without_a_template(
    echoes: Echoes, scorer: ServiceScorer, local: LocalEngine, tmp_path: Path
) -> None:
    context = Prompt((Message("user", "Name a town."),))
    pair = Continuation(context, "The harbour town")
    [got] = scorer.score([pair])
    rendered = [("Name a town.\n", "The harbour town")]
    [wanted] = local.score_tokens(local.encode_pairs(rendered, [False]))
    assert got.total == pytest.approx(wanted.total, abs=1e-5)
    store = Store(tmp_path / "store.db")
    kept = weigh_all(scorer, store, [pair, pair], Silent())
    store.close()
    assert kept == [(pytest.approx(got.total), len(got.tokens))] * 2


def test_a_special_first_token_is_none_of_the_text(
    scorer: ServiceScorer, chat_server: ChatServer
) -> None:
    tokens, numbers = ["<s>", "A", " boat", "!"], [None, -3.0, -2.0, -1.0]
    chat_server.answer = lambda body: completion("A boat!", tokens, numbers, prompt_tokens=3)
    [got] = scorer.score_texts([("A", " boat")])
    assert (got.logprobs, got.ranks) == ((-2.0,), ())
    [whole] = scorer.score_texts([("", "A boat")])
    assert whole.logprobs == (-3.0, -2.0)


def test_a_token_that_spans_the_border_is_the_continuation_s(
    scorer: ServiceScorer, chat_server: ChatServer
) -> None:
    numbers = [None, -2.0, -1.0]
    chat_server.answer = lambda body: completion("A boats!", ["A", " boats", "!"], numbers)
    [got] = scorer.score_texts([("A boat", "s")])
    assert got.logprobs == (-2.0,)


def test_what_a_tokenizer_normalises_is_counted_by_the_context_alone(
    scorer: ServiceScorer, chat_server: ChatServer
) -> None:
    def lower(body: dict[str, Any]) -> Any:
        words = body["prompt"].lower().split(" ")
        numbers = [None, -1.0, -2.0, -3.0][: len(words) + 1]
        return completion(body["prompt"] + " x", [*words, "x"], numbers)

    chat_server.answer = lower
    [got] = scorer.score_texts([("One TWO", " Three")])
    assert got.logprobs == (-2.0,)


def test_text_before_which_nothing_stands_cannot_be_weighed(
    echoes: Echoes, scorer: ServiceScorer
) -> None:
    with pytest.raises(ModelError, match="first of all"):
        scorer.score_texts([("", "The harbour town")])


@pytest.mark.parametrize(("pair", "words"), [(("a", " "), "empty"), (("a", "\ud83d"), "surrogate")])
def test_what_cannot_be_sent_is_told_before_asking(
    scorer: ServiceScorer, chat_server: ChatServer, pair: tuple[str, str], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        scorer.score_texts([pair])
    assert chat_server.seen == []


@pytest.mark.parametrize(
    "answer",
    [
        problem(400, "Only no echo is supported"),
        (200, {}, {"choices": [{"text": "A boat!", "logprobs": None}]}),
        (200, {}, {"choices": [{"text": "!"}]}),
        (200, {}, {"choices": [{"text": "!", "logprobs": {"content": [{"token": "!"}]}}]}),
        completion("!", ["!"], [-1.0]),
        completion("A boat!", ["!"], [-1.0]),
    ],
    ids=["refuses echo", "null", "no echo", "chat's form", "new token", "echo, new token"],
)
def test_a_server_that_cannot_weigh_is_told_once(
    scorer: ServiceScorer, chat_server: ChatServer, answer: Any
) -> None:
    chat_server.answer = lambda body: answer
    with pytest.raises(ModelError, match="cannot weigh given texts") as caught:
        scorer.score_texts([("A", " boat")] * 3)
    assert caught.value.where == chat_server.url
    assert "vLLM" in caught.value.hint
    assert len(chat_server.seen) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (completion("A ship!", ["A", " ship", "!"], [None, -1.0, -1.0]), "not the text"),
        (completion("A boat!", ["A", " ship", "!"], [None, -1.0, -1.0]), "do not spell"),
        (completion("A boat!", ["A", " boat", "!"], [None, -1.0]), "do not match"),
        (completion("A boat!", ["A", 7, "!"], [None, -1.0, -1.0]), "do not match"),
        (completion("A boat!", ["A", " boat", "!"], [None, None, -1.0]), "None"),
        (completion("A boat!", ["A", " boat", "!"], [None, float("nan"), -1.0]), "nan"),
        (completion("A boat!", ["A", " boat", "!"], [None, float("-inf"), -1.0]), "inf"),
        (completion("A boat!", ["A", " boat", "!"], [None, -9999.0, -1.0]), "-9999"),
        (completion("A boat!", ["A", " boat", "!"], [None, 0.4, -1.0]), "0.4"),
        (completion("A boat!", ["A", " boat", "!"], [None, "low", -1.0]), "low"),
        (completion("A boat!", ["A", " boat", "!"], [None, -1.0, -1.0], None, [0, 5, 2]), "back"),
        ((200, {}, b"{not json"), "cannot be read"),
        ((200, {}, {"choices": []}), "cannot be read"),
    ],
)
def test_words_that_do_not_hold_together_are_refused(
    scorer: ServiceScorer, chat_server: ChatServer, answer: Any, words: str
) -> None:
    chat_server.answer = lambda body: answer
    with pytest.raises((EngineError, ModelError), match=words) as caught:
        scorer.score_texts([("A", " boat")])
    assert caught.value.where == chat_server.url


def test_busy_then_good_is_asked_again(
    echoes: Echoes, scorer: ServiceScorer, chat_server: ChatServer, local: LocalEngine
) -> None:
    left = [problem(429), problem(503)]
    chat_server.answer = lambda body: left.pop(0) if left else echoes(body)
    [got], [wanted] = scorer.score_texts(PAIRS[:1]), local.score_texts(PAIRS[:1])
    assert got.total == pytest.approx(wanted.total, abs=1e-5)
    usage = len(local.encode(PAIRS[0][0] + PAIRS[0][1]))
    assert scorer.budget.spent_usd == pytest.approx(PRICES.cost_usd(usage, 1))


def test_a_server_that_stays_down_ends_the_call(
    scorer: ServiceScorer, chat_server: ChatServer
) -> None:
    chat_server.answer = lambda body: problem(500, "broken")
    with pytest.raises(EngineError, match=r"HTTP 500: broken \(after 2 retries\)"):
        scorer.score_texts(PAIRS)
    assert len(chat_server.seen) == 3


def test_a_late_server_ends_the_call(
    make_scorer: Callable[..., ServiceScorer], chat_server: ChatServer
) -> None:
    release = threading.Event()

    def never(body: dict[str, Any]) -> Any:
        release.wait(10)
        return problem(500)

    chat_server.answer = never
    with pytest.raises(EngineError, match=r"no answer within 0\.2 s"):
        make_scorer(timeout_seconds=0.2).score_texts(PAIRS[:1])
    release.set()


def test_a_text_over_the_window_is_told_with_the_server_s_words(
    scorer: ServiceScorer, chat_server: ChatServer
) -> None:
    chat_server.answer = lambda body: problem(400, "maximum context length is 8 tokens")
    with pytest.raises(ModelError, match="maximum context length") as caught:
        scorer.score_texts(PAIRS)
    assert "shorten" in caught.value.hint


@pytest.mark.parametrize(("key", "words"), [(KEY, "refuses the key"), ("", "wants a key")])
def test_a_refused_or_missing_key_is_told(
    make_scorer: Callable[..., ServiceScorer], chat_server: ChatServer, key: str, words: str
) -> None:
    chat_server.answer = lambda body: problem(401, f"not {KEY}")
    with pytest.raises(ServiceSetupError, match=words) as caught:
        make_scorer(key=key).score_texts(PAIRS)
    assert "TEST_KEY" in str(caught.value)
    assert key == "" or key not in str(caught.value)
    assert len(chat_server.seen) == 1


def test_a_server_without_a_key_is_asked_without_one(
    echoes: Echoes, make_scorer: Callable[..., ServiceScorer], chat_server: ChatServer
) -> None:
    make_scorer(key="").score_texts(PAIRS[:1])
    assert chat_server.keys == ["Bearer none"]


def test_an_address_names_a_scorer_and_all_else_local_weights(tiny_model: Path) -> None:
    served = open_scorer("http://host:8000/v1#org/model-name", Silent())
    assert isinstance(served, ServiceScorer)
    assert (served.name, served.address.base_url) == ("org/model-name", "http://host:8000/v1")
    assert served.digest != scorer_at("http://other:8000/v1#org/model-name").digest
    assert isinstance(open_scorer(str(tiny_model), Silent()), LocalEngine)


@pytest.mark.parametrize(
    "address", ["http://host:8000/v1", "http://#m", "http://[bad/v1#m", "https://me:pw@host/v1#m"]
)
def test_an_address_that_names_no_model_is_told(address: str) -> None:
    with pytest.raises(ModelError) as caught:
        open_scorer(address, Silent())
    assert "pw" not in str(caught.value)
    assert caught.value.hint


def test_where_weights_are_needed_an_address_is_told(
    tmp_path: Path,
) -> None:
    with pytest.raises(ModelError, match="own weights and tokens"):
        model_folder("http://host:8000/v1#m", Silent())
    text = tmp_path / "text.txt"
    text.write_text("A boat.", encoding="utf-8")
    with pytest.raises(ModelError, match="own weights and tokens"):
        measure_perplexity(
            "http://host:8000/v1#m",
            text,
            field=None,
            window=None,
            stride=None,
            dtype="float32",
            progress=Silent(),
        )


@pytest.mark.parametrize(
    ("tokens", "border", "found"),
    [
        (["\ufffd", "\ufffd", "\ufffd", "\ufffd", "x"], 3, ([2], 4)),
        (["\ufffd"] * 5 + ["x"], 3, ([2, 3], 5)),  # two and three, or three and two
        (["", "", "กข", "x"], 3, ([1, 2], 3)),
        (["ก", "ค", "x"], 3, ([], 0)),
    ],
)
def test_cut_letters_are_spelled_or_left_open(
    tokens: list[str], border: int, found: tuple[list[int], int]
) -> None:
    assert spelled(tokens, "กข", border) == found


def test_a_long_run_of_cut_letters_is_left_open_at_once() -> None:
    began = time.perf_counter()
    assert spelled(["\ufffd"] * 8000 + ["x"], "ก" * 4000, 3 * 2000) == ([], 0)
    assert time.perf_counter() - began < 5


def test_a_long_run_of_cut_letters_is_weighed_by_counting(
    echoes: Echoes, scorer: ServiceScorer, local: LocalEngine
) -> None:
    pair = ("ฬ" * 75, "ฬ" * 75)
    [got], [wanted] = scorer.score_texts([pair]), local.score_texts([pair])
    assert got.logprobs == pytest.approx(wanted.logprobs, abs=1e-5)
