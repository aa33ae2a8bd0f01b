"""NewsAPI.org, version 2: ``everything`` and ``top-headlines``, live or as recorded answers.

Source: https://newsapi.org/docs/endpoints and https://newsapi.org/docs/errors
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from hinlap.core.errors import EngineError, HinlapError, InputError, ServiceSetupError
from hinlap.data.sources.article import (
    Dropped,
    Found,
    Note,
    html_to_text,
    looks_like_html,
    make_article,
    redact,
)
from hinlap.data.sources.fetch import Fetched, Fetcher
from hinlap.data.sources.pages import settle

PREFIX = "newsapi:"
BASE_URL = "https://newsapi.org/v2"
PAGE_SIZE = 100

PARAMETERS = {
    "everything": (
        "q", "qInTitle", "searchIn", "sources", "domains", "excludeDomains", "from", "to",
        "language", "sortBy", "pageSize", "page",
    ),
    "top-headlines": ("country", "category", "sources", "q", "language", "pageSize", "page"),
}  # fmt: skip

_CUT = re.compile(r"\s*(?:…|\.\.\.)?\s*\[\+\d+ chars\]\s*$")
_CUT_NOTE = "NewsAPI cuts its texts at about 200 characters; --full-text fetches the whole pages"


@dataclass(frozen=True, slots=True)
class NewsApi:
    """How to reach the service. ``key`` goes into a header, never into an address or a message.

    key_env: the environment variable it came from, for messages.
    """

    fetcher: Fetcher
    key: str
    key_env: str = "NEWSAPI_KEY"
    base_url: str = BASE_URL


def read_newsapi(
    source: str, api: NewsApi, *, limit: int | None = None, full_text: bool = False
) -> Iterator[Found]:
    """Articles of ``newsapi:ENDPOINT?PARAMETERS``, page after page until all or ``limit``.

    Raises InputError (the request is wrong), ServiceSetupError (the key or its quota),
    EngineError (the service fails); what was yielded before stays good.
    """
    endpoint, params = parse_source(source)
    _check_access(api)
    size = int(params.pop("pageSize", min(PAGE_SIZE, limit or PAGE_SIZE)))
    first_page = page = int(params.pop("page", 1))
    seen: set[str] = set()
    had = 0
    while True:
        asked = {**params, "pageSize": str(size), "page": str(page)}
        fetched = api.fetcher.get(
            f"{api.base_url.rstrip('/')}/{endpoint}", {"X-Api-Key": api.key}, asked
        )
        body = _body(fetched, source, api)
        if body.get("code") == "maximumResultsReached" and had:
            yield Note(source, f"your NewsAPI plan gives no more than these {had} results")
            return
        _raise_for_error(body, fetched.status, source, api)
        rows = body.get("articles")
        total = body.get("totalResults")
        if not isinstance(rows, list) or not rows:
            return
        these = {json.dumps(row, sort_keys=True) for row in rows}
        if these <= seen:
            yield Note(source, f"page {page} repeats earlier ones: stopped there")
            return
        yield from articles_of(
            body, where=source, first=had + 1, fetcher=api.fetcher if full_text else None,
            tell_cut=not seen and not full_text,
        )  # fmt: skip
        seen |= these
        had += len(rows)
        if isinstance(total, int) and had + (first_page - 1) * size >= total:
            return
        page += 1


def parse_source(source: str) -> tuple[str, dict[str, str]]:
    """Endpoint and parameters of a ``newsapi:...`` source; InputError when it is not one.

    >>> parse_source("newsapi:top-headlines?country=us")
    ('top-headlines', {'country': 'us'})
    """
    endpoint, _, query = source.removeprefix(PREFIX).partition("?")
    params = dict(parse_qsl(query, keep_blank_values=True))
    where = redact(source)
    if endpoint not in PARAMETERS:
        raise InputError(
            f"NewsAPI has no endpoint {endpoint!r} here",
            where=where,
            hint="newsapi:everything?q=... or newsapi:top-headlines?country=..",
        )
    if any(name.lower() in ("apikey", "api_key", "x-api-key") for name in params):
        raise InputError(
            "a key does not belong on the command line, where others can read it",
            where=where,
            hint="put it into the environment variable NEWSAPI_KEY (or another: --key-env)",
        )
    for name, value in params.items():
        if name not in PARAMETERS[endpoint]:
            raise InputError(
                f"{endpoint} has no parameter {name!r}",
                where=where,
                hint=f"it has {', '.join(PARAMETERS[endpoint])}",
            )
        top = {"pageSize": PAGE_SIZE, "page": 10_000}.get(name)
        if top and not (value.isdecimal() and 1 <= int(value[:6]) <= top):
            raise InputError(f"{name} must be 1 to {top}, not {value!r}", where=where)
    return endpoint, params


def articles_of(
    body: Mapping[str, object],
    *,
    where: str,
    first: int = 1,
    fetcher: Fetcher | None = None,
    tell_cut: bool = True,
) -> Iterator[Found]:
    """Articles of one answer, numbered from ``first`` in messages. ``tell_cut``: whether to note
    once that texts are cut."""
    rows = body.get("articles")
    for number, row in enumerate(rows if isinstance(rows, list) else [], first):
        place = f"{where}, article {number}"
        if not isinstance(row, dict):
            yield Dropped(place, "not an object")
            continue
        if tell_cut and is_cut(row):
            yield Note(where, _CUT_NOTE)
            tell_cut = False
        yield from read_row(row, where=place, fetcher=fetcher)


def read_row(
    row: Mapping[str, object], *, where: str, fetcher: Fetcher | None = None
) -> Iterator[Found]:
    """One of NewsAPI's articles. The text is the description and, where it adds to it, the
    content without its mark of being cut."""
    title, description, content = (_text(row, k) for k in ("title", "description", "content"))
    if "[Removed]" in (title, content) or (not title and description == "[Removed]"):
        yield Dropped(where, "removed by its publisher")
        return
    shown = _CUT.sub("", content)
    head = description.rstrip("….").rstrip()
    parts = [shown] if head and shown.startswith(head) else [description, shown]
    name = row.get("source")
    article = make_article(
        title,
        "\n\n".join(part for part in parts if part),
        url=_text(row, "url"),
        source=_text(name, "name") if isinstance(name, dict) else "",
        published=_text(row, "publishedAt"),
    )
    yield from settle(article, where=where, fetcher=fetcher)


def is_cut(row: Mapping[str, object]) -> bool:
    """Whether the row's content ends in NewsAPI's ``[+N chars]``."""
    content = row.get("content")
    return isinstance(content, str) and _CUT.search(content) is not None


def is_response(body: object) -> bool:
    """Whether ``body`` is a recorded NewsAPI answer, good or an error."""
    return (
        isinstance(body, dict)
        and body.get("status") in ("ok", "error")
        and ("articles" in body or "code" in body)
    )


def _text(row: Mapping[str, object], name: str) -> str:
    value = row.get(name)
    text = value if isinstance(value, str) else ""
    return html_to_text(text) if looks_like_html(text) else text.strip()


def _check_access(api: NewsApi) -> None:
    if not api.key:
        raise ServiceSetupError(
            "NewsAPI needs a key, and there is none",
            where=f"environment variable {api.key_env}",
            hint=f"get one at https://newsapi.org/register, then: export {api.key_env}=...",
        )
    if not re.fullmatch(r"[\x21-\x7e]+", api.key):
        raise ServiceSetupError(
            "the key holds characters no key has (spaces, line ends or non-ASCII)",
            where=f"environment variable {api.key_env}",
            hint="copy it again from https://newsapi.org/account",
        )
    if not api.base_url.startswith("https://") and not api.fetcher.allow_private:
        raise InputError(
            "the key would travel unencrypted",
            where=f"--newsapi-url {redact(api.base_url)}",
            hint="use https, or --allow-private for a server of your own",
        )


def _body(fetched: Fetched, source: str, api: NewsApi) -> Mapping[str, object]:
    try:
        body = json.loads(fetched.body)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        return body
    if fetched.status in (401, 403):
        return {"status": "error", "code": "apiKeyInvalid"}
    if fetched.status == 429:
        return {"status": "error", "code": "rateLimited"}
    if fetched.status >= 400:
        return {"status": "error", "code": f"HTTP {fetched.status}"}
    raise EngineError(
        "the answer is not NewsAPI's JSON",
        where=source,
        hint=f"check --newsapi-url ({redact(api.base_url)}) and that no login page stands between",
    )


def _raise_for_error(body: Mapping[str, object], status: int, source: str, api: NewsApi) -> None:
    if body.get("status") == "ok" and status < 400:
        return
    code = str(body.get("code") or f"HTTP {status}")
    said = str(body.get("message") or "").replace(api.key, "***")[:300]
    key_at = f"the key is read from the environment variable {api.key_env}"
    known: dict[str, tuple[type[HinlapError], str]] = {
        "apiKeyInvalid": (ServiceSetupError, f"{key_at}; copy it from newsapi.org/account"),
        "apiKeyMissing": (ServiceSetupError, f"{key_at}; copy it from newsapi.org/account"),
        "apiKeyDisabled": (ServiceSetupError, "ask NewsAPI why, or use another key"),
        "apiKeyExhausted": (ServiceSetupError, "wait until your plan's quota starts anew"),
        "rateLimited": (ServiceSetupError, "wait (free plan: 100 requests in 24 hours)"),
        "maximumResultsReached": (InputError, "a lower page, or a plan that gives more"),
        "parameterInvalid": (InputError, "mend that parameter in the source"),
        "parametersMissing": (InputError, "add what is missing to the source"),
        "sourcesTooMany": (InputError, "ask for at most 20 sources at a time"),
        "sourceDoesNotExist": (InputError, "the names are at https://newsapi.org/sources"),
    }
    default: type[HinlapError] = (
        InputError if 400 <= status < 500 and status != 429 else EngineError
    )
    kind, hint = known.get(code, (default, "" if default is InputError else "try again later"))
    raise kind(f"NewsAPI says {code}" + (f": {said}" if said else ""), where=source, hint=hint)
