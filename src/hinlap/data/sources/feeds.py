"""RSS 0.9x to 2.0 and Atom, by feedparser, and JSON Feed."""

from __future__ import annotations

import calendar
import html
import io
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urljoin, urlsplit

from hinlap.core.counting import counted
from hinlap.core.errors import InputError
from hinlap.data.sources.article import Found, Note, decode, html_to_text, make_article
from hinlap.data.sources.fetch import Fetcher
from hinlap.data.sources.pages import settle

_DECLARATION = re.compile(r"^\s*<\?xml\b[^>]*\?>")
_ENCODING = re.compile(rb"^[\s\xef\xbb\xbf]*<\?xml\b[^>]*?encoding\s*=\s*[\"']([\w.:-]+)[\"']")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_ROOT = re.compile(rb"<(?:\w+:)?(html|rss|feed|rdf)\b", re.IGNORECASE)
_JSON_FEED = "https://jsonfeed.org/version/"


def looks_like_feed(data: bytes) -> bool:
    """Whether ``data`` begins as RSS or Atom does, or is a JSON Feed; no promise that it is
    sound."""
    head = data[:4096].replace(b"\x00", b"")  # UTF-16 read as bytes
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _JSON_FEED.encode() in data.replace(b"\\/", b"/")
    root = _ROOT.search(head)
    return root is not None and root[1].lower() != b"html"


def is_json_feed(body: object) -> bool:
    """Whether ``body``, read from JSON, is a JSON Feed."""
    return isinstance(body, dict) and str(body.get("version", "")).startswith(_JSON_FEED)


def read_feed(
    data: bytes, *, where: str, url: str = "", charset: str = "", fetcher: Fetcher | None = None
) -> Iterator[Found]:
    """Articles of an RSS, Atom or JSON feed; its faults become notes.

    url:     where it was fetched, for relative links; or "".
    charset: as the server declared it, or "".
    fetcher: given, each entry's page is read for the whole text (see ``settle``).
    Raises InputError when it is no feed at all.
    """
    text, note = decode(data, charset or _declared(data))
    if note:
        yield Note(where, note)
    if text.lstrip().startswith("{"):
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"broken JSON ({error})", where=where) from None
        if not is_json_feed(body):
            raise InputError("this JSON is not a JSON Feed", where=where)
        yield from read_json_feed(body, where=where, url=url, fetcher=fetcher)
        return
    yield from _read_xml_feed(text, where, url, fetcher)


def read_json_feed(
    body: Mapping[str, object], *, where: str, url: str = "", fetcher: Fetcher | None = None
) -> Iterator[Found]:
    """Articles of a JSON Feed. Source: https://www.jsonfeed.org/version/1.1/"""
    items = body.get("items")
    name = _string(body, "title")
    for number, item in enumerate(items if isinstance(items, list) else [], 1):
        entry = item if isinstance(item, dict) else {}
        markup = _string(entry, "content_html")
        text = html_to_text(markup) if markup else _string(entry, "content_text")
        link = _string(entry, "url") or _string(entry, "external_url")
        tags = entry.get("tags")
        article = make_article(
            html.unescape(_string(entry, "title")),
            text or _string(entry, "summary"),
            url=urljoin(url, link),
            source=name,
            published=_string(entry, "date_published"),
            topic=str(tags[0]) if isinstance(tags, list) and tags else "",
        )
        yield from settle(article, where=f"{where}, entry {number}", fetcher=fetcher)


def _read_xml_feed(text: str, where: str, url: str, fetcher: Fetcher | None) -> Iterator[Found]:
    import feedparser  # type: ignore[import-untyped]

    # The text is Unicode by now: what the file said of its encoding no longer holds.
    text = _FORBIDDEN.sub("", _DECLARATION.sub("", text, count=1)).lstrip()
    feed = feedparser.parse(
        io.BytesIO(text.encode()),  # never a plain string, which could name a file or address
        response_headers={
            "content-type": "application/xml; charset=utf-8",
            "content-location": url,
        },
    )
    if not feed.entries and not feed.get("version"):
        raise InputError(
            "this is not a feed (no RSS, Atom or JSON Feed in it)",
            where=where,
            hint="give the feed's own address; a page is read when it ends in .html",
        )
    if feed.bozo:
        reason = str(feed.bozo_exception).replace("<unknown>:", "line ")
        had = counted(len(feed.entries), "entry", "entries")
        yield Note(where, f"broken XML ({reason}): read leniently, {had}")
    if not feed.entries:
        yield Note(where, "the feed has no entries")
    name = html_to_text(feed.feed.get("title", ""))
    for number, entry in enumerate(feed.entries, 1):
        bodies = [part.get("value", "") for part in entry.get("content", [])]
        texts = [html_to_text(part) for part in (*bodies, entry.get("summary", ""))]
        tags = entry.get("tags") or [{}]
        article = make_article(
            html_to_text(entry.get("title", "")),
            next((part for part in texts if part), ""),
            url=_entry_link(entry),
            source=name,
            published=_entry_date(entry),
            topic=tags[0].get("term") or "",
        )
        yield from settle(article, where=f"{where}, entry {number}", fetcher=fetcher)


def _declared(data: bytes) -> str:
    found = _ENCODING.match(data[:400])
    return found[1].decode("ascii", "replace") if found else ""


def _entry_link(entry: Mapping[str, object]) -> str:
    """The article's own address, without FeedBurner's or Google Alerts' detour."""
    link = _string(entry, "feedburner_origlink") or _string(entry, "link")
    parts = urlsplit(link)
    if parts.path == "/url" and (parts.hostname or "").startswith("www.google."):
        link = dict(parse_qsl(parts.query)).get("url", link)
    return link if link.startswith(("http://", "https://")) else ""


def _entry_date(entry: dict[str, object]) -> str:
    for name in ("published_parsed", "updated_parsed"):
        # Asked this way because feedparser answers for a missing one with the other and a warning.
        moment = dict.get(entry, name)
        if isinstance(moment, tuple):
            try:
                seconds = calendar.timegm(moment)
                return datetime.fromtimestamp(seconds, UTC).isoformat()
            except (ValueError, OverflowError, OSError):
                continue
    return ""


def _string(row: Mapping[str, object], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""
