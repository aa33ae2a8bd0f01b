"""Raters of texts: what they give, what they refuse, and that nothing is rated twice."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TEXTS, make_tiny_model, reply, serving

from hinlap.core.errors import EngineError, MissingExtraError, ModelError, ServiceSetupError
from hinlap.core.progress import Silent
from hinlap.engines.cache import rate_all
from hinlap.engines.classifier import Classifier, open_classifier
from hinlap.engines.classifier_hugging_face import HuggingFaceClassifier
from hinlap.engines.classifier_offline import OfflineClassifier
from hinlap.engines.classifier_perspective import PerspectiveClassifier
from hinlap.store.store import Store

KEY = "a-key-that-nobody-may-see"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "hinlap.db")
    yield opened
    opened.close()


def ratings(classifier: Classifier, texts: Sequence[str]) -> list[float | None]:
    """In the order of the texts; each must come once."""
    given = list(classifier.rate(texts))
    found = dict(given)
    assert sorted(place for place, _ in given) == list(range(len(texts)))
    return [found[place] for place in range(len(texts))]


class Heard(Silent):
    def __init__(self) -> None:
        self.done = 0
        self.said: list[str] = []

    def advance(self, done: int = 1, note: str = "") -> None:
        self.done += done

    def say(self, message: str) -> None:
        self.said.append(message)


# through the store


@dataclass
class Scripted:
    """Rates by a table; raises at a text that it holds as an error."""

    table: dict[str, float | Exception | None]
    digest: str = "d"
    name: str = "scripted"
    asked: list[str] = field(default_factory=list)

    def rate(self, texts: Sequence[str]) -> Iterator[tuple[int, float | None]]:
        for place in reversed(range(len(texts))):  # any order is allowed
            self.asked.append(texts[place])
            found = self.table[texts[place]]
            if isinstance(found, Exception):
                raise found
            yield place, found


def test_equal_texts_are_rated_once_and_come_back_in_order(store: Store) -> None:
    rater, heard = Scripted({"a": 0.1, "b": 0.9}), Heard()
    assert rate_all(rater, store, ["a", "b", "a", "b", "a"], heard) == [0.1, 0.9, 0.1, 0.9, 0.1]
    assert sorted(rater.asked) == ["a", "b"]
    assert heard.done == 5


def test_what_was_rated_is_not_asked_again(store: Store) -> None:
    rate_all(Scripted({"a": 0.1}), store, ["a"], Silent())
    rater, heard = Scripted({"b": 0.5}), Heard()
    assert rate_all(rater, store, ["a", "b", "a"], heard) == [0.1, 0.5, 0.1]
    assert rater.asked == ["b"]
    assert heard.done == 3


def test_another_classifier_rates_anew(store: Store) -> None:
    rate_all(Scripted({"a": 0.1}), store, ["a"], Silent())
    assert rate_all(Scripted({"a": 0.7}, digest="e"), store, ["a"], Silent()) == [0.7]


def test_what_cannot_be_rated_is_none_and_asked_again(store: Store) -> None:
    assert rate_all(Scripted({"a": None, "b": 0.0}), store, ["a", "b"], Silent()) == [None, 0.0]
    assert rate_all(Scripted({"a": 0.4}), store, ["a", "b"], Silent()) == [0.4, 0.0]


def test_a_failure_half_way_keeps_what_was_rated(store: Store) -> None:
    failing = Scripted({"a": EngineError("it broke down"), "b": 0.2, "c": 0.3})
    with pytest.raises(EngineError, match="it broke down"):
        rate_all(failing, store, ["a", "b", "c"], Silent())
    rater = Scripted({"a": 0.1})
    assert rate_all(rater, store, ["a", "b", "c"], Silent()) == [0.1, 0.2, 0.3]
    assert rater.asked == ["a"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1.0, [0, 1, 2, 3, 4]), (0.001, [0, 0, 0, 0, 0])],
    ids=["slow: each before the next", "fast: together"],
)
def test_a_slow_raters_ratings_are_written_one_by_one(
    store: Store, seconds: float, expected: list[int]
) -> None:
    now, there = [0.0], []

    class Slow(Scripted):
        def rate(self, texts: Sequence[str]) -> Iterator[tuple[int, float | None]]:
            reader = Store(store.path)
            for place in range(len(texts)):
                there.append(len(reader.ratings(list(keys_of(store)))))
                now[0] += seconds
                yield place, 0.5
            reader.close()

    rate_all(Slow({}), store, list("abcde"), Silent(), clock=lambda: now[0])
    assert there == expected
    assert len(keys_of(store)) == 5


def keys_of(store: Store) -> list[str]:
    import sqlite3

    connection = sqlite3.connect(store.path)
    found = [key for (key,) in connection.execute("select key from ratings")]
    connection.close()
    return found


# offline


def test_the_offline_rater_tells_abuse_from_small_talk() -> None:
    rude, kind = ratings(
        OfflineClassifier(), ["You are a stupid bitch.", "Have a nice day with your aunt."]
    )
    assert rude is not None
    assert kind is not None
    assert kind < 0.1 < 0.9 < rude


def test_the_offline_rater_gives_what_its_package_gives() -> None:
    from profanity_check import predict_prob

    texts = [f"{text} {n}" for n in range(150) for text in TEXTS]  # more than a batch
    assert ratings(OfflineClassifier(), texts) == list(predict_prob(texts))


def test_nothing_said_is_nothing_toxic() -> None:
    assert ratings(OfflineClassifier(), ["", " \n\t"]) == [0.0, 0.0]
    assert list(OfflineClassifier().rate([])) == []


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "profanity_check", None)
    with pytest.raises(MissingExtraError, match=r"hinlap\[toxicity\]"):
        list(OfflineClassifier().rate(["a text"]))


def test_the_offline_rater_is_the_one_of_its_name() -> None:
    assert open_classifier("offline", Silent()).name.startswith("alt-profanity-check 1.")


# Perspective


@dataclass
class Perspective:
    """What a server of the API saw, and the answers it is to give."""

    url: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    answer: Callable[[str], tuple[int, Any]] = lambda text: scored(len(text) / 100)


def scored(value: float) -> tuple[int, Any]:
    summary = {"value": value, "type": "PROBABILITY"}
    return 200, {"attributeScores": {"TOXICITY": {"summaryScore": summary}}, "languages": ["en"]}


def refused(kind: str, status: int = 400) -> tuple[int, Any]:
    return status, {"error": {"code": status, "message": "no", "details": [{"errorType": kind}]}}


@contextmanager
def perspective() -> Iterator[Perspective]:
    state = Perspective()

    def answer(request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        state.seen.append(body)
        state.keys.append(request.headers["X-Goog-Api-Key"])
        state.paths.append(request.path)
        status, content = state.answer(body["comment"]["text"])
        reply(request, json.dumps(content).encode(), status, Content_Type="application/json")

    with serving(answer) as url:
        state.url = url
        yield state


@dataclass
class Time:
    """A clock that only sleeping moves."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def asking(server: Perspective, time: Time | None = None, **more: str) -> PerspectiveClassifier:
    time = time or Time()
    environment = {"PERSPECTIVE_API_KEY": KEY, **more}
    return PerspectiveClassifier(server.url, environment, time.sleep, lambda: time.now)


def test_perspective_is_asked_as_its_api_wants() -> None:
    with perspective() as server:
        assert ratings(asking(server), ["hello", "ช้าง"]) == [0.05, 0.04]
    assert server.paths == ["/v1alpha1/comments:analyze"] * 2
    assert server.keys == [KEY] * 2
    assert server.seen[1] == {
        "comment": {"text": "ช้าง"},
        "languages": ["en"],
        "requestedAttributes": {"TOXICITY": {}},
        "doNotStore": True,
    }


def test_empty_texts_and_those_too_long_are_not_sent() -> None:
    with perspective() as server:
        assert ratings(asking(server), [" ", "ก" * 7000, "ab"]) == [0.0, None, 0.02]
    assert len(server.seen) == 1


@pytest.mark.parametrize(("rate", "apart"), [({}, 1.0), ({"PERSPECTIVE_API_QPS": "4"}, 0.25)])
def test_requests_keep_to_the_rate(rate: dict[str, str], apart: float) -> None:
    time = Time()
    with perspective() as server:
        ratings(asking(server, time, **rate), ["a", "b", "c", "d"])
    assert time.slept == [apart] * 3


def test_being_told_to_wait_is_waited_for_twice_as_long_each_time() -> None:
    time, statuses = Time(), [429, 503, 429]
    with perspective() as server:
        server.answer = lambda text: (statuses.pop(0), {}) if statuses else scored(0.5)
        assert ratings(asking(server, time), ["a"]) == [0.5]
    assert time.slept == [1.0, 2.0, 4.0]


def test_a_service_that_stays_down_is_told_without_the_key() -> None:
    time = Time()
    with perspective() as server:
        server.answer = lambda text: (503, {})
        with pytest.raises(EngineError, match=r"no rating \(status 503\)\n.*is kept") as told:
            ratings(asking(server, time), ["a"])
    assert time.now > 60  # a quota counts by the minute
    assert KEY not in str(told.value)


def test_an_address_where_nobody_listens_is_told() -> None:
    with perspective() as server:
        pass
    with pytest.raises(EngineError, match="ConnectError"):
        ratings(asking(server), ["a"])


@pytest.mark.parametrize(
    "kind", ["LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE", "LANGUAGE_DETECTION_FAILED", "COMMENT_TOO_LONG"]
)
def test_a_text_that_the_service_cannot_rate_is_none_and_the_rest_goes_on(kind: str) -> None:
    with perspective() as server:
        server.answer = lambda text: refused(kind) if text == "b" else scored(0.25)
        assert ratings(asking(server), ["a", "b", "c"]) == [0.25, None, 0.25]


def test_a_request_that_is_refused_as_such_is_an_error_and_not_repeated() -> None:
    with perspective() as server:
        server.answer = lambda text: refused("INVALID_REQUEST")
        with pytest.raises(EngineError, match="status 400"):
            ratings(asking(server), ["a", "b"])
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (403, {"error": {"status": "PERMISSION_DENIED"}}),
        (400, {"error": {"message": "API key not valid. Please pass a valid API key."}}),
    ],
    ids=["no permission", "not valid"],
)
def test_a_refused_key_is_the_users_to_mend(answer: tuple[int, Any]) -> None:
    with perspective() as server:
        server.answer = lambda text: answer
        with pytest.raises(ServiceSetupError, match="PERSPECTIVE_API_KEY") as told:
            ratings(asking(server), ["a"])
    assert KEY not in str(told.value)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "content",
    [{}, {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 7}}}}, []],
    ids=["no scores", "no probability", "no object"],
)
def test_an_answer_without_a_probability_is_none(content: Any) -> None:
    with perspective() as server:
        server.answer = lambda text: (200, content)
        assert ratings(asking(server), ["a"]) == [None]


@pytest.mark.parametrize("key", ["", "a key", "ключ"])
def test_what_is_no_key_is_not_sent(key: str) -> None:
    with perspective() as server:
        rater = asking(server, PERSPECTIVE_API_KEY=key)
        with pytest.raises(ServiceSetupError, match="PERSPECTIVE_API_KEY"):
            list(rater.rate(["a"]))
    assert server.seen == []


@pytest.mark.parametrize("rate", ["0", "-1", "fast", "nan"])
def test_a_rate_that_is_none_is_told(rate: str) -> None:
    with perspective() as server:
        rater = asking(server, PERSPECTIVE_API_QPS=rate)
        with pytest.raises(ServiceSetupError, match="PERSPECTIVE_API_QPS"):
            list(rater.rate(["a"]))


def test_perspective_failing_half_way_goes_on_where_it_was(store: Store) -> None:
    with perspective() as server:
        server.answer = lambda text: (500, {}) if text == "c" else scored(0.5)
        with pytest.raises(EngineError):
            rate_all(asking(server), store, ["a", "b", "c", "d"], Silent())
        server.seen.clear()
        server.answer = lambda text: scored(0.25)
        again = rate_all(asking(server), store, ["a", "b", "c", "d"], Silent())
    assert again == [0.5, 0.5, 0.25, 0.25]
    assert [body["comment"]["text"] for body in server.seen] == ["c", "d"]


def test_what_perspective_rated_before_needs_no_key(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with perspective() as server:
        rate_all(asking(server), store, ["a"], Silent())
    monkeypatch.delenv("PERSPECTIVE_API_KEY", raising=False)
    heard = Heard()
    rater = open_classifier("perspective", heard)
    assert "PERSPECTIVE_API_KEY is not set" in heard.said[0]
    assert rate_all(rater, store, ["a", " "], Silent()) == [0.01, 0.0]


def test_the_key_is_in_no_representation() -> None:
    with perspective() as server:
        assert KEY not in repr(asking(server))


# Hugging Face

LENGTHS = [" ".join(TEXTS[: 1 + n % 4])[: 5 + 37 * n] for n in range(12)]


@pytest.fixture(scope="session")
def classifier_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a tiny random classifier with these labels, made once."""

    @functools.cache
    def make(
        labels: tuple[str, ...], problem: str | None = None, kind: str = "bert", **more: int
    ) -> Path:
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification

        folder = tmp_path_factory.mktemp("classifiers") / kind
        make_tiny_model(folder, "llama", chat=False)  # for its tokenizer
        shape = {
            "vocab_size": 400,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            **more,
        }
        names = dict(enumerate(labels))
        config = AutoConfig.for_model(
            kind,
            **shape,
            id2label=names,
            label2id={label: place for place, label in names.items()},
            problem_type=problem,
        )
        torch.manual_seed(11)
        model = AutoModelForSequenceClassification.from_config(config)
        with torch.no_grad():  # spread, so that ratings differ
            for parameter in model.parameters():
                parameter.mul_(6.0)
        model.save_pretrained(folder)
        return folder

    return make


def peer_logits(folder: Path, text: str, window: int) -> list[float]:
    """transformers alone, one text at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = tokenizer(text)["input_ids"][:window]
    with torch.inference_mode():
        logits: list[float] = model(input_ids=torch.tensor([ids])).logits[0].tolist()
    return logits


def probability(logits: list[float], place: int, problem: str | None) -> float:
    import torch

    values = torch.tensor(logits, dtype=torch.float64)
    several = problem == "multi_label_classification" or len(logits) == 1
    return float(values.sigmoid()[place] if several else values.softmax(0)[place])


SOFT = (("neutral", "toxic"), None, 1)
SEVERAL = (("obscene", "severe_toxic", "toxic"), "multi_label_classification", 2)
SINGLE = (("toxicity",), None, 0)


@pytest.mark.parametrize("case", [SOFT, SEVERAL, SINGLE], ids=["softmax", "sigmoid", "one logit"])
def test_ratings_are_those_of_transformers_alone(
    case: tuple[tuple[str, ...], str | None, int], classifier_of: Callable[..., Path]
) -> None:
    labels, problem, place = case
    folder = classifier_of(labels, problem)
    expected = [probability(peer_logits(folder, text, 64), place, problem) for text in LENGTHS]
    found = ratings(open_classifier(str(folder), Silent()), LENGTHS)
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.01


def test_positions_that_begin_after_the_padding_leave_a_smaller_window(
    classifier_of: Callable[..., Path],
) -> None:
    folder = classifier_of(("non-toxic", "toxic"), None, "roberta", type_vocab_size=1)
    texts = [*LENGTHS, " ".join(TEXTS)]
    expected = [probability(peer_logits(folder, text, 63), 1, None) for text in texts]
    assert ratings(open_classifier(str(folder), Silent()), texts) == pytest.approx(
        expected, abs=1e-5
    )


def test_a_model_that_does_not_know_its_padding_rates_one_text_at_a_time(
    classifier_of: Callable[..., Path],
) -> None:
    folder = classifier_of(("neutral", "toxic"), None, "gpt2", eos_token_id=2, bos_token_id=1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
    expected = [probability(peer_logits(folder, text, 64), 1, None) for text in LENGTHS]
    found = ratings(open_classifier(str(folder), Silent()), LENGTHS)
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_rating_does_not_depend_on_the_texts_beside_it(
    classifier_of: Callable[..., Path],
) -> None:
    rater = open_classifier(str(classifier_of(("neutral", "toxic"))), Silent())
    alone = [ratings(rater, [text])[0] for text in LENGTHS]
    assert ratings(rater, LENGTHS) == pytest.approx(alone, abs=1e-5)


def test_empty_texts_and_halves_of_letters_are_rated(classifier_of: Callable[..., Path]) -> None:
    rater = open_classifier(str(classifier_of(("neutral", "toxic"))), Silent())
    empty, half, question = ratings(rater, ["  ", "a \ud83d b", "a ? b"])
    assert empty == 0.0
    assert half == question


def test_a_rating_that_is_no_number_is_none(classifier_of: Callable[..., Path]) -> None:
    import torch

    rater = HuggingFaceClassifier("tiny", classifier_of(("neutral", "toxic")))
    with torch.no_grad():
        rater._net.classifier.bias.fill_(float("nan"))
    assert ratings(rater, ["a text", ""]) == [None, 0.0]


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        (("neutral", "toxic"), "toxic"),
        (("Toxic", "Non-Toxic"), "Toxic"),
        (("NOT_TOXIC", "TOXIC"), "TOXIC"),
        (("nontoxic", "toxicity"), "toxicity"),
        (("is_not_toxic", "is_toxic"), "is_toxic"),
        (("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"), "toxic"),
        (("safe", "very toxic"), "very toxic"),
    ],
)
def test_the_toxic_label_is_the_one_that_says_so(
    labels: tuple[str, ...], chosen: str, tmp_path: Path
) -> None:
    assert HuggingFaceClassifier("m", configured(tmp_path, labels)).name == f"m@{chosen}"


@pytest.mark.parametrize(
    "labels",
    [
        ("LABEL_0", "LABEL_1"),
        ("LABEL_0",),
        ("nothate", "hate"),
        ("mildly toxic", "very toxic"),
        ("non-toxic", "other"),
    ],
)
def test_labels_that_do_not_say_are_asked_for(labels: tuple[str, ...], tmp_path: Path) -> None:
    folder = configured(tmp_path, labels)
    with pytest.raises(ModelError, match=rf"m@LABEL, one of {', '.join(labels)}"):
        _ = HuggingFaceClassifier("m", folder).name
    assert HuggingFaceClassifier("m", folder, labels[-1]).name == f"m@{labels[-1]}"
    with pytest.raises(ModelError, match="no label 'rude'"):
        _ = HuggingFaceClassifier("m", folder, "rude").name


def configured(folder: Path, labels: Sequence[str], **more: Any) -> Path:
    names = {str(place): label for place, label in enumerate(labels)}
    (folder / "config.json").write_text(json.dumps({"id2label": names, **more}))
    return folder


def test_a_chosen_label_is_rated_and_kept_apart(classifier_of: Callable[..., Path]) -> None:
    folder = classifier_of(("neutral", "toxic"))
    toxic, neutral = (
        open_classifier(f"{folder}{label}", Silent()) for label in ("@toxic", "@neutral")
    )
    both = zip(ratings(toxic, LENGTHS), ratings(neutral, LENGTHS), strict=True)
    assert [a + b for a, b in both if a is not None and b is not None] == pytest.approx(
        [1.0] * len(LENGTHS), abs=1e-6
    )
    assert toxic.digest != neutral.digest


def test_a_folder_with_an_at_in_its_name_is_a_folder(
    classifier_of: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "me@home"
    folder.symlink_to(classifier_of(("neutral", "toxic")))
    assert open_classifier(str(folder), Silent()).name == f"{folder}@toxic"
    assert open_classifier(f"{folder}@neutral", Silent()).name == f"{folder}@neutral"


def test_a_model_that_writes_is_refused_before_anything_is_rated(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"no classifier of texts: it is a LlamaForCausalLM"):
        open_classifier(str(tiny_model), Silent())


def test_a_head_that_was_never_trained_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    del config["architectures"]
    config["id2label"] = {"0": "neutral", "1": "toxic"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    rater = open_classifier(str(tmp_path), Silent())
    with pytest.raises(ModelError, match=r"it lacks score\.weight"):
        list(rater.rate(["a text"]))


def test_a_head_that_gives_values_is_refused(tmp_path: Path) -> None:
    folder = configured(tmp_path, ["toxicity"], problem_type="regression")
    with pytest.raises(ModelError, match="a value, not a probability"):
        _ = HuggingFaceClassifier("m", folder).name


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    configured(tmp_path, ["neutral", "toxic"])
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(ModelError, match="only pickled weights"):
        open_classifier(str(tmp_path), Silent())


def test_other_weights_have_another_digest(classifier_of: Callable[..., Path]) -> None:
    one, other = (
        open_classifier(str(classifier_of(labels)), Silent())
        for labels in (("neutral", "toxic"), ("non-toxic", "toxic"))
    )
    assert one.digest != other.digest
