"""Gather articles from any sources into one JSONL file, each article once."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hinlap.core.counting import counted
from hinlap.core.errors import HinlapError, InputError
from hinlap.core.progress import Progress, Silent
from hinlap.data.near_duplicates import near_duplicates
from hinlap.data.sources import feeds, files, newsapi, pages
from hinlap.data.sources.article import Article, Dropped, Found, Note, canonical_url, redact
from hinlap.data.sources.fetch import Fetcher
from hinlap.data.whole_file import whole_file, write_whole

NEAR_COPY = 0.7
"""Jaccard similarity of title and text from which two articles count as one."""


@dataclass(frozen=True, slots=True)
class NewsOptions:
    """How to gather.

    limit:           at most so many articles from each source; None for all.
    full_text:       read each article's page for the whole text.
    allow_private:   fetch from addresses inside this machine or network too.
    timeout_seconds: for one address in all.       max_bytes: of one answer.
    max_chars:       of one article's text; longer ones are dropped.
    key_env:         the environment variable that holds the NewsAPI key.
    append:          add to OUT what is not in it.  overwrite: replace OUT.
    """

    limit: int | None = None
    full_text: bool = False
    allow_private: bool = False
    timeout_seconds: float = 20.0
    max_bytes: int = 5_000_000
    max_chars: int = 1_000_000
    key_env: str = "NEWSAPI_KEY"
    newsapi_url: str = newsapi.BASE_URL
    append: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What one source gave, before duplicates were taken out. ``failure`` is "" if it was read to
    its end."""

    source: str
    articles: int
    dropped: int
    failure: str = ""


@dataclass(frozen=True, slots=True)
class NewsReport:
    """What came of it. ``written`` new rows stand in ``out`` after ``present`` older ones."""

    out: Path
    written: int
    present: int
    sources: tuple[SourceReport, ...]
    dropped: tuple[Dropped, ...]
    duplicates: tuple[Dropped, ...]
    notes: tuple[str, ...]
    failures: tuple[HinlapError, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Plain values, for a file."""
        return {
            "out": str(self.out),
            "written": self.written,
            "present": self.present,
            "sources": [asdict(source) for source in self.sources],
            "dropped": [asdict(item) for item in self.dropped],
            "duplicates": [asdict(item) for item in self.duplicates],
            "notes": list(self.notes),
        }


def gather_news(
    sources: Sequence[str],
    *,
    out: Path,
    options: NewsOptions,
    environment: Mapping[str, str],
    fetcher: Fetcher | None = None,
    progress: Progress | None = None,
) -> NewsReport:
    """Writes the articles of ``sources`` to ``out``, one JSON object a line.

    A source:    ``newsapi:ENDPOINT?PARAMETERS``, an http(s) address of a feed or page, or a path.
    Once each:   the same canonical URL, or title and text alike from ``NEAR_COPY`` up; the longer
                 text is kept, in the place of the first. Rows already in ``out`` always stay.
    A source that fails does not lose the others, nor what it gave before: it is in ``failures``,
    which the caller raises after showing the report.
    environment: where the NewsAPI key is looked up.
    Raises InputError (nothing to do, options that clash, ``out`` in the way; nothing is written),
    StorageError (the disk; ``out`` is left as it was). An interrupt is raised again after what
    was had is written.
    """
    _check(sources, out, options)
    progress = progress or Silent()
    fetcher = fetcher or Fetcher(
        timeout_seconds=options.timeout_seconds,
        max_bytes=options.max_bytes,
        allow_private=options.allow_private,
    )
    api = newsapi.NewsApi(
        fetcher, environment.get(options.key_env, "").strip(), options.key_env, options.newsapi_url
    )
    before = out.read_bytes() if options.append and out.exists() else b""
    present = [item for item in files.read_path(out) if isinstance(item, Article)] if before else []
    had: list[tuple[Article, str]] = []
    dropped: list[Dropped] = []
    notes: list[str] = []
    reports: list[SourceReport] = []
    failures: list[HinlapError] = []
    interrupt: KeyboardInterrupt | None = None
    for source in sources:
        name, articles_before, dropped_before = redact(source), len(had), len(dropped)
        failure = ""
        try:
            progress.say(f"reading {name}")
            with closing(_open(source, api, options)) as found:
                for item in found:
                    if isinstance(item, Note):
                        notes.append(f"{redact(item.where)}: {item.text}")
                    elif isinstance(item, Dropped):
                        dropped.append(Dropped(redact(item.where), item.reason))
                    elif len(item.text) > options.max_chars:
                        most = counted(options.max_chars, "character")
                        reason = f"text longer than {most} (--max-chars)"
                        dropped.append(Dropped(f"{name}: {item.title or item.id}", reason))
                    else:
                        had.append((item, name))
                        if options.full_text and (len(had) - articles_before) % 20 == 0:
                            progress.say(f"  {len(had) - articles_before} articles so far")
                        if len(had) - articles_before == options.limit:
                            break
        except HinlapError as error:
            failures.append(error)
            failure = str(error)
        except KeyboardInterrupt as stop:
            interrupt, failure = stop, "interrupted"
        reports.append(
            SourceReport(name, len(had) - articles_before, len(dropped) - dropped_before, failure)
        )
        if interrupt:
            break
    kept, duplicates = _each_once(present, had)
    if not had and not failures and not interrupt:
        reasons = ", ".join(dict.fromkeys(item.reason for item in dropped[:50]))[:200]
        failures.append(
            InputError(
                "no article was found"
                + (f" ({len(dropped)} dropped: {reasons})" if reasons else ""),
                where=", ".join(report.source for report in reports),
                hint="nothing was written; check that the source is the one you mean",
            )
        )
    if had:
        with whole_file(out) as sink:
            sink.writelines(_lines(before, _with_own_ids(present, kept)))
    if interrupt:
        raise interrupt
    return NewsReport(
        out, len(kept), len(present), tuple(reports), tuple(dropped), tuple(duplicates),
        tuple(dict.fromkeys(notes)), tuple(failures),
    )  # fmt: skip


def save_report(report: NewsReport, path: Path) -> None:
    """Writes ``report`` as JSON. Raises InputError or StorageError."""
    text = json.dumps(report.as_json(), ensure_ascii=False, indent=2)
    write_whole(path, text.encode() + b"\n")


def _check(sources: Sequence[str], out: Path, options: NewsOptions) -> None:
    if not sources:
        raise InputError("no source is given", hint="a file, a folder, an address or newsapi:...")
    if options.append and options.overwrite:
        raise InputError("--append and --overwrite exclude each other", hint="give one of them")
    for flag, value in (
        ("--limit", 1 if options.limit is None else options.limit),
        ("--timeout", options.timeout_seconds),
        ("--max-bytes", options.max_bytes),
        ("--max-chars", options.max_chars),
    ):
        if not value > 0:
            raise InputError(f"must be above 0, not {value}", where=flag)
    if out.suffix.lower() != ".jsonl":
        raise InputError("the file to write must end in .jsonl", where=f"--out {out}")
    if out.exists() and not out.is_file():
        raise InputError("this is not a file", where=f"--out {out}", hint="name a .jsonl file")
    folder = next(parent for parent in out.resolve().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise InputError(
            f"nothing can be written in {folder}",
            where=f"--out {out}",
            hint="name a folder you may write to",
        )
    if out.exists() and not (options.append or options.overwrite):
        raise InputError(
            "the file exists",
            where=f"--out {out}",
            hint="--append adds what is new to it, --overwrite replaces it",
        )


def _open(source: str, api: newsapi.NewsApi, options: NewsOptions) -> Generator[Found, None, None]:
    """Everything ``source`` gives; as a generator, so that it can be closed at the limit."""
    fetcher = api.fetcher
    pages_by = fetcher if options.full_text else None
    if source.startswith(newsapi.PREFIX):
        yield from newsapi.read_newsapi(
            source, api, limit=options.limit, full_text=options.full_text
        )
    elif "://" in source:
        fetched = fetcher.get(source).checked()
        where, body = redact(source), fetched.body
        head = body[:1024].lower()
        if feeds.looks_like_feed(body):
            yield from feeds.read_feed(
                body, where=where, url=fetched.url, charset=fetched.charset, fetcher=pages_by
            )
        elif "html" in fetched.media_type or b"<html" in head or b"<!doctype html" in head:
            yield from pages.read_page(body, where=where, url=fetched.url, charset=fetched.charset)
        else:
            raise InputError(
                f"neither a feed nor a page, but {fetched.media_type or 'of no declared kind'}",
                where=where,
                hint="fetch it by other means and give the file",
            )
    else:
        path = Path(source)
        if not path.exists():
            raise InputError(
                "there is no such file or folder",
                where=redact(source),
                hint="check the name; addresses begin with https://, NewsAPI with newsapi:",
            )
        yield from files.read_path(path, fetcher=pages_by)


def _each_once(
    present: Sequence[Article], had: Sequence[tuple[Article, str]]
) -> tuple[list[Article], list[Dropped]]:
    """The articles of ``had`` that are new, and what was left out for which other.

    Of two copies the longer text stays, in the place of the first; ``present`` ones always stay.
    """
    everything = [*present, *(article for article, _ in had)]
    names = ["the file itself"] * len(present) + [name for _, name in had]
    duplicates: list[Dropped] = []

    def leave_out(loser: int, winner: int, reason: str) -> None:
        article, other = everything[loser], everything[winner]
        where = f"{names[loser]}: {article.url or article.title or article.id}"
        what = other.url or other.title or other.id
        if names[winner] != names[loser]:
            what = f"{what} in {names[winner]}"
        duplicates.append(Dropped(where, f"{reason} {what}"))

    def better(new: int, old: int) -> bool:
        return old >= len(present) and len(everything[new].text) > len(everything[old].text)

    by_address: dict[str, int] = {}  # canonical URL to its place in standing
    standing: list[int] = list(range(len(present)))  # indices into everything
    for i, article in enumerate(everything):
        address = canonical_url(article.url)
        slot = by_address.get(address) if address else None
        if i < len(present):
            by_address.setdefault(address, i)
        elif slot is None:
            by_address[address] = len(standing)
            standing.append(i)
        elif better(i, standing[slot]):
            leave_out(standing[slot], i, "same address as")
            standing[slot] = i
        else:
            leave_out(i, standing[slot], "same address as")

    texts = [f"{everything[i].title}\n{everything[i].text}" for i in standing]
    alike: dict[int, dict[int, float]] = {}
    for later, earlier, similarity in near_duplicates(texts, threshold=NEAR_COPY):
        alike.setdefault(later, {})[earlier] = similarity
    places: list[int] = []  # indices into standing
    place_of: dict[int, int] = {}
    for j, i in enumerate(standing):
        copies = [k for k in sorted(alike.get(j, {})) if k in place_of]
        if i < len(present) or not copies:
            place_of[j] = len(places)
            places.append(j)
            continue
        old = copies[0]
        reason = f"near-copy ({alike[j][old]:.2f}) of"
        if better(i, standing[old]):
            leave_out(standing[old], i, reason)
            place_of[j] = place_of.pop(old)
            places[place_of[j]] = j
        else:
            leave_out(i, standing[old], reason)
    return [everything[standing[j]] for j in places if standing[j] >= len(present)], duplicates


def _with_own_ids(present: Sequence[Article], articles: Sequence[Article]) -> Iterator[Article]:
    """``articles`` with an id that is already taken given a number behind it."""
    taken = {article.id for article in present}
    for article in articles:
        own, number = article.id, 1
        while own in taken:
            number += 1
            own = f"{article.id}-{number}"
        taken.add(own)
        yield replace(article, id=own)


def _lines(before: bytes, articles: Iterable[Article]) -> Iterator[bytes]:
    if before:
        yield before if before.endswith(b"\n") else before + b"\n"
    for article in articles:
        yield json.dumps(asdict(article), ensure_ascii=False).encode() + b"\n"
