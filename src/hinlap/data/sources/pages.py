"""Article pages: the article out of all that surrounds it, by trafilatura."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from hinlap.core.errors import HinlapError, InputError
from hinlap.data.sources.article import (
    Article,
    Dropped,
    Found,
    Note,
    canonical_url,
    decode,
    make_article,
    one_line,
)
from hinlap.data.sources.fetch import Fetched, Fetcher

_META_CHARSET = re.compile(rb"<meta[^>]*charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_NOTHING = "no article text was found on the page (a list, a video, a wall, or built by scripts)"


def read_page(data: bytes, *, where: str, url: str = "", charset: str = "") -> Iterator[Found]:
    """The article of one HTML page, or why there is none.

    url:     where it was fetched, or ""; the page's own canonical URL goes before it.
    charset: as the server declared it, or "".
    """
    article, note = _extract(data, url, charset)
    if note:
        yield Note(where, note)
    yield article if article.text else Dropped(where, _NOTHING)


def settle(article: Article, *, where: str, fetcher: Fetcher | None) -> Iterator[Found]:
    """What becomes of a feed's ``article``: with a ``fetcher`` its page is read for the whole
    text, the longer of the two is kept, and a page that fails costs only what it would have
    added. Without any text in the end, it is dropped."""
    reason = "no text" if article.title else "neither title nor text"
    if fetcher is not None and article.url:
        try:
            page, note = _extract_fetched(fetcher.get(article.url).checked())
            if note:
                yield Note(where, note)
            if len(page.text) > len(article.text):
                article = replace(article, title=article.title or page.title, text=page.text)
            elif not page.text:
                reason = f"{reason}, and {_NOTHING}"
                if article.text:
                    yield Note(where, f"{_NOTHING}; the feed's own text is kept")
        except HinlapError as error:
            reason = f"{reason}, and its page could not be read: {error.what}"
            if article.text:
                yield Note(where, f"its page could not be read ({error.what}); text kept as it is")
    yield article if article.text else Dropped(where, reason)


def _extract_fetched(fetched: Fetched) -> tuple[Article, str]:
    if fetched.media_type not in ("", "text/html", "application/xhtml+xml", "text/plain"):
        raise InputError(f"it is {fetched.media_type}, not a page")
    return _extract(fetched.body, fetched.url, fetched.charset)


def _extract(data: bytes, url: str, charset: str) -> tuple[Article, str]:
    import trafilatura

    declared = _META_CHARSET.search(data[:4096])
    html, note = decode(data, charset or (declared[1].decode("ascii") if declared else ""))
    document = trafilatura.bare_extraction(
        html.replace("\x00", ""), url=url or None, include_comments=False, with_metadata=True
    )
    if document is None or isinstance(document, dict):
        return make_article("", "", url=url), note
    own = document.url or ""
    host = urlsplit(url).hostname or ""
    article = make_article(
        document.title or "",
        _paragraphs(document.text or "", document.title or ""),
        # A canonical link to a home page, as careless sites have on every page, is none.
        url=own if canonical_url(own) else url,
        source=document.sitename or document.hostname or host,
        published=document.date or "",
        topic=(document.categories or [""])[0],
    )
    return article, note


def _paragraphs(text: str, title: str) -> str:
    """Trafilatura's one line a paragraph as paragraphs, less a headline repeated on top."""
    lines = [line for line in text.split("\n") if line.strip()]
    if lines and one_line(lines[0]) == one_line(title):
        del lines[0]
    return "\n\n".join(lines)
