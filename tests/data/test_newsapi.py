from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.conftest import reply, serving

from hinlap.core.errors import EngineError, HinlapError, InputError, ServiceSetupError
from hinlap.data.sources.article import Article, Found, Note, collect
from hinlap.data.sources.fetch import Fetcher
from hinlap.data.sources.newsapi import NewsApi, articles_of, parse_source, read_newsapi

RECORDED = Path(__file__).parents[2].parent / "shared/data/newsapi"
KEY = "0123456789abcdef0123456789abcdef"
Reply = tuple[int, object]


def newsapi_server(
    answer: Callable[[str, dict[str, str], str | None], Reply],
) -> AbstractContextManager[str]:
    def handle(request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        params = {name: values[0] for name, values in parse_qs(parts.query).items()}
        status, body = answer(parts.path, params, request.headers["X-Api-Key"])
        reply(request, body if isinstance(body, bytes) else json.dumps(body).encode(), status)

    return serving(handle)


def api(url: str, key: str = KEY) -> NewsApi:
    fetcher = Fetcher(allow_private=True, sleep=lambda seconds: None)
    return NewsApi(fetcher, key, base_url=f"{url}/v2")


def row(number: int, **changes: object) -> dict[str, object]:
    return {
        "source": {"id": None, "name": "The Paper"},
        "author": None,
        "title": f"Story {number}",
        "description": f"What happened at place {number}.",
        "url": f"https://paper.example/{number}",
        "urlToImage": None,
        "publishedAt": "2024-05-01T10:00:00Z",
        "content": f"It was morning at place {number} when… [+1234 chars]",
        **changes,
    }


def failing(found: Iterator[Found]) -> tuple[list[Found], HinlapError]:
    had: list[Found] = []
    with pytest.raises(HinlapError) as error:
        for item in found:
            had.append(item)
    return had, error.value


def test_all_pages_are_read_with_the_key_in_a_header_only() -> None:
    asked: list[tuple[str, dict[str, str], str | None]] = []

    def answer(path: str, params: dict[str, str], key: str | None) -> Reply:
        asked.append((path, params, key))
        first = (int(params["page"]) - 1) * 100
        rows = [row(n) for n in range(first, min(first + 100, 230))]
        return 200, {"status": "ok", "totalResults": 230, "articles": rows}

    with newsapi_server(answer) as url:
        batch = collect(read_newsapi("newsapi:everything?q=thai rice&language=en", api(url)))
    assert [article.title for article in batch.articles] == [f"Story {n}" for n in range(230)]
    assert [params for _, params, _ in asked] == [
        {"q": "thai rice", "language": "en", "pageSize": "100", "page": str(page)}
        for page in (1, 2, 3)
    ]
    assert {(path, key) for path, _, key in asked} == {("/v2/everything", KEY)}
    assert len(batch.notes) == 1
    assert "--full-text" in batch.notes[0]


def test_an_article_is_its_description_and_content_without_the_mark_of_the_cut() -> None:
    (article,) = collect(articles_of({"articles": [row(1)]}, where="x")).articles
    assert article.text == "What happened at place 1.\n\nIt was morning at place 1 when"
    assert (article.source, article.published) == ("The Paper", "2024-05-01T10:00:00+00:00")


def test_a_description_that_opens_the_content_is_not_told_twice() -> None:
    body = {"articles": [row(1, description="It was morning at…")]}
    (article,) = collect(articles_of(body, where="x")).articles
    assert article.text == "It was morning at place 1 when"


def test_removed_empty_and_odd_rows_are_dropped_with_a_reason() -> None:
    rows = [
        row(1, title="[Removed]", description="[Removed]", content="[Removed]"),
        row(2, description=None, content=None),
        row(3, title=None, description="", content=None),
        "odd",
        row(5, title=None, source=None, url=None, publishedAt=None),
        row(6, description="<ul><li>One &amp; two</li></ul>", content="<p>Three"),
    ]
    batch = collect(articles_of({"articles": rows}, where="x"))
    assert [(item.where, item.reason) for item in batch.dropped] == [
        ("x, article 1", "removed by its publisher"),
        ("x, article 2", "no text"),
        ("x, article 3", "neither title nor text"),
        ("x, article 4", "not an object"),
    ]
    assert [article.text for article in batch.articles][1] == "One & two\n\nThree"


def test_a_plans_limit_of_results_keeps_what_was_had() -> None:
    def answer(path: str, params: dict[str, str], key: str | None) -> Reply:
        if params["page"] == "1":
            rows = [row(n) for n in range(100)]
            return 200, {"status": "ok", "totalResults": 5000, "articles": rows}
        return 426, {"status": "error", "code": "maximumResultsReached", "message": "Upgrade."}

    with newsapi_server(answer) as url:
        batch = collect(read_newsapi("newsapi:everything?q=x", api(url)))
    assert len(batch.articles) == 100
    assert any("no more than these 100" in note for note in batch.notes)


def test_a_service_that_repeats_its_page_does_not_loop() -> None:
    body = {"status": "ok", "totalResults": 5000, "articles": [row(1)]}
    with newsapi_server(lambda path, params, key: (200, body)) as url:
        batch = collect(read_newsapi("newsapi:everything?q=x", api(url)))
    assert len(batch.articles) == 1
    assert any("repeats" in note for note in batch.notes)


def test_a_failure_on_a_later_page_comes_after_the_articles_of_the_first() -> None:
    def answer(path: str, params: dict[str, str], key: str | None) -> Reply:
        if params["page"] == "1":
            rows = [row(n) for n in range(100)]
            return 200, {"status": "ok", "totalResults": 500, "articles": rows}
        return 500, b"<h1>oops</h1>"

    with newsapi_server(answer) as url:
        had, error = failing(read_newsapi("newsapi:everything?q=x", api(url)))
    assert len([item for item in had if isinstance(item, Article)]) == 100
    assert isinstance(error, EngineError)
    assert error.exit_code == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "apiKeyInvalid", ServiceSetupError),
        (401, "apiKeyMissing", ServiceSetupError),
        (401, "apiKeyDisabled", ServiceSetupError),
        (429, "apiKeyExhausted", ServiceSetupError),
        (429, "rateLimited", ServiceSetupError),
        (400, "parameterInvalid", InputError),
        (400, "parametersMissing", InputError),
        (400, "sourcesTooMany", InputError),
        (400, "sourceDoesNotExist", InputError),
        (426, "maximumResultsReached", InputError),
        (400, "somethingNew", InputError),
        (500, "unexpectedError", EngineError),
    ],
)
def test_each_error_of_the_service_is_told_with_what_to_do(
    status: int, code: str, kind: type[HinlapError]
) -> None:
    body = {"status": "error", "code": code, "message": f"Your API key {KEY} says no"}
    with newsapi_server(lambda path, params, key: (status, body)) as url:
        had, error = failing(read_newsapi("newsapi:top-headlines?country=us", api(url)))
    assert had == []
    assert type(error) is kind
    assert code in error.what
    assert KEY not in str(error)
    assert error.hint or code == "somethingNew"


@pytest.mark.parametrize(
    ("status", "kind"), [(401, ServiceSetupError), (429, ServiceSetupError), (502, EngineError)]
)
def test_errors_without_a_body_are_told_by_their_status(
    status: int, kind: type[HinlapError]
) -> None:
    with newsapi_server(lambda path, params, key: (status, b"")) as url:
        _, error = failing(read_newsapi("newsapi:everything?q=x", api(url)))
    assert type(error) is kind


def test_an_answer_that_is_not_json_is_told() -> None:
    with newsapi_server(lambda path, params, key: (200, b"<html>login</html>")) as url:
        _, error = failing(read_newsapi("newsapi:everything?q=x", api(url)))
    assert isinstance(error, EngineError)
    assert "--newsapi-url" in error.hint


def test_no_key_or_a_broken_one_is_told_before_anything_is_sent() -> None:
    for key in ("", "two words", "key\nX-Evil: 1", "ключ"):
        _, error = failing(read_newsapi("newsapi:everything?q=x", api("http://127.0.0.1:1", key)))
        assert isinstance(error, ServiceSetupError)
        assert "NEWSAPI_KEY" in str(error)
        assert not key or key not in str(error)


def test_the_key_does_not_travel_unencrypted() -> None:
    plain = NewsApi(Fetcher(), KEY, base_url="http://newsapi.example/v2")
    _, error = failing(read_newsapi("newsapi:everything?q=x", plain))
    assert "unencrypted" in error.what


@pytest.mark.parametrize(
    "source",
    [
        "newsapi:", "newsapi:sources", "newsapi:everything?lang=en", "newsapi:everything?page=0",
        "newsapi:everything?pageSize=1000", "newsapi:everything?q=x&apiKey=s3cret",
    ],
)  # fmt: skip
def test_a_source_the_service_does_not_know_is_refused(source: str) -> None:
    with pytest.raises(InputError) as error:
        parse_source(source)
    assert "s3cret" not in str(error.value)


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded answers are not here")
@pytest.mark.parametrize(
    ("name", "articles", "dropped"),
    [
        ("everything-2019-05", 98, 2),
        ("everything-2022-04", 20, 0),
        ("top-headlines-2020-12", 20, 0),
    ],
)
def test_recorded_answers_give_their_articles(name: str, articles: int, dropped: int) -> None:
    body = json.loads((RECORDED / f"{name}.json").read_text("utf-8"))
    found = list(articles_of(body, where=name))
    batch = collect(found)
    assert (len(batch.articles), len(batch.dropped)) == (articles, dropped)
    assert not any(" chars]" in article.text for article in batch.articles)
    assert len([item for item in found if isinstance(item, Note)]) == 1
