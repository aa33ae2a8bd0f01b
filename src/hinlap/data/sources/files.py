"""Articles from folders and files: text, pages, feeds, JSON, JSONL, CSV, all also gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from hinlap.core.counting import counted
from hinlap.core.errors import HinlapError, InputError
from hinlap.data.sources import feeds, newsapi, pages
from hinlap.data.sources.article import (
    Dropped,
    Found,
    Note,
    decode,
    html_to_text,
    looks_like_html,
    make_article,
    tidy,
)
from hinlap.data.sources.fetch import Fetcher

FIELDS = {
    "title": ("title", "headline"),
    "text": ("text", "article", "content", "body", "description"),
    "url": ("url", "link"),
    "source": ("source", "publisher", "site"),
    "published": ("published", "publishedat", "published_at", "date", "pubdate", "date_published"),
    "topic": ("topic", "category", "section"),
    "id": ("id",),
}
"""By field of an article, the column names read for it in any case; the first that is filled."""

KINDS = (
    ".txt", ".md", ".html", ".htm", ".xhtml", ".json", ".jsonl", ".ndjson", ".csv", ".tsv",
    ".xml", ".rss", ".atom",
)  # fmt: skip

_LINE_BYTES = 64_000_000
_TITLE_CHARS = 200


def read_path(path: Path, *, fetcher: Fetcher | None = None) -> Iterator[Found]:
    """Articles of a file, or of all files below a folder in the order of their names.

    fetcher: given, feeds' entries and rows with a URL are filled up from their pages.
    A bad row, or a bad file in a folder, is dropped with its reason and the rest goes on.
    Raises InputError when ``path`` itself cannot be read.
    """
    if not path.is_dir():
        yield from _read_file(path, fetcher)
        return
    for folder, folders, names in os.walk(path, onerror=_cannot_read):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            file = Path(folder, name)
            try:
                yield from _read_file(file, fetcher)
            except HinlapError as error:
                yield Dropped(error.where or str(file), error.what)


def _read_file(path: Path, fetcher: Fetcher | None) -> Iterator[Found]:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind not in KINDS:
        raise InputError(
            "not a kind of file that articles are read from",
            where=str(path),
            hint=f"these are: {' '.join(KINDS)}, each also with .gz",
        )
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            handle: io.BufferedIOBase = gzip.GzipFile(fileobj=raw) if packed else raw
            if kind in (".jsonl", ".ndjson"):
                yield from _read_jsonl(handle, str(path), fetcher)
            else:
                yield from _read_whole(handle.read(), kind, str(path), fetcher)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise InputError(
            "the gzip file is broken or was cut off",
            where=str(path),
            hint="copy it again; what could be read before is kept",
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _read_whole(data: bytes, kind: str, where: str, fetcher: Fetcher | None) -> Iterator[Found]:
    if not data.strip():
        yield Note(where, "the file is empty")
    elif kind in (".html", ".htm", ".xhtml"):
        yield from pages.read_page(data, where=where)
    elif kind in (".xml", ".rss", ".atom"):
        yield from feeds.read_feed(data, where=where, fetcher=fetcher)
    elif kind == ".json":
        yield from _read_json(data, where, fetcher)
    else:
        text, note = decode(data)
        if note:
            yield Note(where, note)
        if kind in (".csv", ".tsv"):
            yield from _read_csv(text, "\t" if kind == ".tsv" else "", where, fetcher)
        else:
            yield from _read_text(text, where)


def _read_text(text: str, where: str) -> Iterator[Found]:
    """A first line of at most 200 characters is the title, if anything follows it."""
    head, _, rest = tidy(text).partition("\n")
    head = head.lstrip("# ") if head.startswith("#") else head
    if rest.strip() and len(head) <= _TITLE_CHARS:
        article = make_article(head, rest)
    else:
        article = make_article("", f"{head}\n{rest}")
    yield article if article.text else Dropped(where, "no text")


def _read_json(data: bytes, where: str, fetcher: Fetcher | None) -> Iterator[Found]:
    text, note = decode(data)
    if note:
        yield Note(where, note)
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"broken JSON ({error.msg})",
            where=f"{where}, line {error.lineno}, column {error.colno}",
            hint="mend it there; with one object a line the file's name should end in .jsonl",
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"JSON that cannot be read ({error})", where=where) from None
    if newsapi.is_response(body):
        if body["status"] == "error":
            raise InputError(f"a recorded NewsAPI error: {body.get('code')}", where=where)
        yield from newsapi.articles_of(body, where=where, fetcher=fetcher, tell_cut=not fetcher)
        return
    if feeds.is_json_feed(body):
        yield from feeds.read_json_feed(body, where=where, fetcher=fetcher)
        return
    if isinstance(body, dict):
        lists = [value for value in body.values() if isinstance(value, list)]
        body = lists[0] if len(lists) == 1 and not _named(body, "text") else [body]
    if not isinstance(body, list):
        raise InputError("neither a list nor an object", where=where, hint="a list of objects")
    rows = _Rows(where, fetcher)
    for number, row in enumerate(body, 1):
        yield from rows.read(row, f"{where}, item {number}")


def _read_jsonl(handle: io.BufferedIOBase, where: str, fetcher: Fetcher | None) -> Iterator[Found]:
    rows = _Rows(where, fetcher)
    number = 0
    while line := handle.readline(_LINE_BYTES):
        number += 1
        place = f"{where}, line {number}"
        if len(line) == _LINE_BYTES and not line.endswith(b"\n"):
            while (rest := handle.readline(_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield Dropped(place, f"the line is longer than {_LINE_BYTES:,} bytes")
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield Dropped(place, f"not UTF-8 (byte {error.start + 1} of the line)")
        except json.JSONDecodeError as error:
            yield Dropped(place, f"broken JSON ({error.msg}, column {error.colno})")
        except (ValueError, RecursionError):
            yield Dropped(place, "JSON that cannot be read (too deep or a number too long)")
        else:
            yield from rows.read(row, place)
    if not number:
        yield Note(where, "the file is empty")


def _read_csv(text: str, delimiter: str, where: str, fetcher: Fetcher | None) -> Iterator[Found]:
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    first = text.lstrip().partition("\n")[0]
    delimiter = delimiter or max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    rows = _Rows(where, fetcher)
    while True:
        place = f"{where}, line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            known = "a quote that opens here is never closed"
            reason = known if "unexpected end" in str(error) else f"broken CSV ({error})"
            yield Dropped(place, reason)
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            if not any(_named(dict.fromkeys(header, "x"), field) for field in ("title", "text")):
                raise InputError(
                    f"the first line names no column for a text: {', '.join(header)[:200]}",
                    where=place,
                    hint=f"name one of them {' or '.join(FIELDS['text'])}",
                )
        elif len(cells) > len(header):
            yield Dropped(
                place, f"{counted(len(cells), 'cell')}, but the first line names {len(header)}"
            )
        else:
            yield from rows.read(dict(zip(header, cells, strict=False)), place)


class _Rows:
    """Rows of one file: what is said once for a file is said at its first row."""

    def __init__(self, where: str, fetcher: Fetcher | None) -> None:
        self._where = where
        self._fetcher = fetcher
        self._told: set[str] = set()

    def read(self, row: object, where: str) -> Iterator[Found]:
        """The article of ``row``, or why there is none."""
        if not isinstance(row, dict):
            yield Dropped(where, "not an object")
            return
        if "publishedAt" in row and "content" in row:
            if newsapi.is_cut(row) and not self._fetcher:
                yield from self._once("texts cut by NewsAPI at about 200 characters")
            yield from newsapi.read_row(row, where=where, fetcher=self._fetcher)
            return
        fields = {name: _named(row, name) for name in FIELDS}
        known = {alias for aliases in FIELDS.values() for alias in aliases}
        if not any(str(name).strip().lower() in known for name in row):
            names = ", ".join(map(str, row))[:100]
            yield Dropped(where, f"no title or text among its fields ({names})")
            return
        others = sorted(str(name) for name in row if str(name).strip().lower() not in known)
        if others:
            yield from self._once(f"fields not kept: {', '.join(others)[:200]}")
        if looks_like_html(fields["text"]):
            fields["text"] = html_to_text(fields["text"])
            yield from self._once("HTML tags were taken out of texts")
        article = make_article(
            fields["title"],
            fields["text"],
            url=fields["url"],
            source=fields["source"],
            published=fields["published"],
            topic=fields["topic"],
            own_id=fields["id"],
        )
        if fields["published"] and not article.published:
            yield from self._once(f"dates like {fields['published'][:40]!r} could not be read")
        yield from pages.settle(article, where=where, fetcher=self._fetcher)

    def _once(self, text: str) -> Iterator[Note]:
        kind = text.partition(":")[0].partition("'")[0]
        if kind not in self._told:
            self._told.add(kind)
            yield Note(self._where, text)


def _named(row: Mapping[str, object], field: str) -> str:
    """The first filled column of ``row`` that goes by one of ``field``'s names, as text."""
    columns = {str(name).strip().lower(): value for name, value in row.items()}
    for alias in FIELDS[field]:
        value = columns.get(alias)
        if isinstance(value, dict):  # as NewsAPI gives a source
            value = value.get("name")
        if isinstance(value, list):  # paragraphs
            value = "\n\n".join(part for part in value if isinstance(part, str))
        if isinstance(value, int | float) and field == "id":
            value = str(value)
        if isinstance(value, str) and value.strip():
            return value
    return ""


def _cannot_read(error: OSError) -> None:
    raise _unreadable(Path(str(error.filename)), error)


def _unreadable(path: Path, error: OSError) -> InputError:
    hint = "check the name" if isinstance(error, FileNotFoundError) else "check its permissions"
    return InputError(f"cannot be read ({error.strerror})", where=str(path), hint=hint)
