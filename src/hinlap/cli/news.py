"""``hinlap news``: articles from NewsAPI, feeds, pages, folders and files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hinlap.core.counting import counted

if TYPE_CHECKING:
    from hinlap.data.sources.article import Dropped
    from hinlap.workflows.gather_news import NewsReport

_SHOWN = 5


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .jsonl to write.")
@click.option("--limit", type=int, help="At most N articles from each source.")
@click.option("--full-text", is_flag=True, help="Read each article's page for the whole text.")
@click.option("--allow-private", is_flag=True, help="Fetch from this machine or network too.")
@click.option("--timeout", type=float, default=20.0, show_default=True, help="Seconds an address.")
@click.option(
    "--max-bytes", type=int, default=5_000_000, show_default=True, help="Bytes of one answer."
)
@click.option(
    "--max-chars", type=int, default=1_000_000, show_default=True, help="Characters of one text."
)
@click.option(
    "--key-env", default="NEWSAPI_KEY", show_default=True, help="Variable with the NewsAPI key."
)
@click.option(
    "--newsapi-url", default="https://newsapi.org/v2", show_default=True, help="NewsAPI's address."
)
@click.option("--append", is_flag=True, help="Add to the file what it does not hold.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the report here.")
def news(
    sources: tuple[str, ...],
    out: Path,
    limit: int | None,
    full_text: bool,
    allow_private: bool,
    timeout: float,
    max_bytes: int,
    max_chars: int,
    key_env: str,
    newsapi_url: str,
    append: bool,
    overwrite: bool,
    json_path: Path | None,
) -> None:
    """Gather articles from any SOURCEs into one JSONL file, each article once.

    A SOURCE is newsapi:everything?q=..., newsapi:top-headlines?country=.., the address of a feed
    or page, or a file or folder (txt, md, html, json, jsonl, csv, feeds; also gzipped).
    """
    import os

    from hinlap.core.progress import Silent
    from hinlap.workflows.gather_news import NewsOptions, gather_news, save_report

    class Lines(Silent):
        def say(self, message: str) -> None:
            click.echo(message, err=True)

    report = gather_news(
        sources,
        out=out,
        options=NewsOptions(
            limit=limit,
            full_text=full_text,
            allow_private=allow_private,
            timeout_seconds=timeout,
            max_bytes=max_bytes,
            max_chars=max_chars,
            key_env=key_env,
            newsapi_url=newsapi_url,
            append=append,
            overwrite=overwrite,
        ),
        environment=os.environ,
        progress=Lines(),
    )
    _show(report)
    if json_path:
        save_report(report, json_path)
    if report.failures:
        raise report.failures[0]


def _show(report: NewsReport) -> None:
    found = sum(source.articles for source in report.sources)
    total = f", {report.present + report.written:,} in all" if report.present else ""
    click.echo(
        f"{counted(found, 'article')} from {counted(len(report.sources), 'source')}; "
        f"{report.written:,} written to {report.out}{total}"
    )
    _show_dropped("dropped", report.dropped)
    _show_dropped("counted once, left out", report.duplicates)
    for note in report.notes[: 2 * _SHOWN]:
        click.echo(f"note: {note}")
    if len(report.notes) > 2 * _SHOWN:
        click.echo(f"note: {len(report.notes) - 2 * _SHOWN} more (all of them: --json FILE)")
    for failure in report.failures[1:]:
        click.echo(f"failed: {failure}", err=True)


def _show_dropped(label: str, items: tuple[Dropped, ...]) -> None:
    if not items:
        return
    counts = Counter(item.reason.partition(" (")[0].partition(" http")[0] for item in items)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common(_SHOWN))
    click.echo(f"{label} {len(items):,}: {reasons}")
    for item in items[:_SHOWN]:
        click.echo(f"  {item.where}: {item.reason}")
    if len(items) > _SHOWN:
        click.echo(f"  and {len(items) - _SHOWN:,} more (all of them: --json FILE)")
