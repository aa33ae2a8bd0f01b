"""``hinlap data annotate``"""

from __future__ import annotations

import contextlib
import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hinlap.cli.writer_options import writer_options

if TYPE_CHECKING:
    from hinlap.workflows.annotate import Annotating


@click.command("annotate")
@click.argument("file", type=click.Path(path_type=Path))
@writer_options(required=False)
@click.option("--terminal", is_flag=True, help="Ask here instead of on a page.")
@click.option("--new", is_flag=True, help="Begin an empty set where there is no file.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the page; without it a "
              "free one is taken.")  # fmt: skip
@click.option("--annotator", help="Your name in the log; without it, that of your account.")
@click.option(
    "--guidelines",
    type=click.Path(path_type=Path),
    help="A Markdown file to show beside; headings like ## `closed_qa` are categories.",
)
@click.option("--lang", type=click.Choice(["en", "th"]), help="Of the page; without it the "
              "browser's.")  # fmt: skip
@click.option("--max-tokens", type=click.IntRange(1, 8192), default=512, show_default=True,
              help="Of a draft, at the most.")  # fmt: skip
@click.option("--finish", is_flag=True, help="Only write what the log holds into the set.")
def data_annotate(
    file: Path,
    model: str | None,
    key_env: str,
    usd_in: float | None,
    usd_out: float | None,
    budget_usd: float | None,
    terminal: bool,
    new: bool,
    port: int,
    annotator: str | None,
    guidelines: Path | None,
    lang: str | None,
    max_tokens: int,
    finish: bool,
) -> None:
    """Write and correct examples by hand, a model's draft beside each.

    FILE is a set of any format that `hinlap data` reads. Every save goes to
    FILE.annotations.jsonl and is on disk before the page says so; the set itself is written when
    you end with Ctrl-C, or by --finish after a crash.
    """
    from hinlap.cli.progress import TerminalProgress
    from hinlap.workflows.annotate import annotating
    from hinlap.workflows.data_engine import Writer

    name = (annotator or _account()).strip()[:60]
    writer = None
    if model is not None and not finish:
        writer = Writer(model, key_env, usd_in, usd_out, budget_usd, max_retries=1)
    with contextlib.ExitStack() as cleanup:
        with TerminalProgress() as progress:  # ends before the form begins to write
            work = cleanup.enter_context(
                annotating(file, progress, writer=writer, new=new, max_tokens=max_tokens)
            )
        if finish:
            _finish(work, name)
        elif terminal:
            from hinlap.cli.data_annotate_terminal import ask_all

            ask_all(work, name)
            _finish(work, name)
        else:
            _serve(work, name, port, guidelines, lang or "")
            _finish(work, name)


def _serve(work: Annotating, name: str, port: int, guidelines: Path | None, language: str) -> None:
    import threading

    from hinlap.core.errors import MissingExtraError

    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "starlette", "web") from error
    from hinlap.web.annotate import annotation_app
    from hinlap.web.guard import new_token
    from hinlap.web.guidelines import read_guidelines
    from hinlap.web.serve import HOST, bind, serve

    shown = read_guidelines(guidelines) if guidelines else []
    bound = bind(port)
    token = new_token()
    app = annotation_app(work, token, annotator=name, guidelines=shown, language=language)
    threading.Thread(target=work.desk.index, daemon=True).start()
    click.echo(f"open  http://{HOST}:{bound.getsockname()[1]}/?token={token}")
    click.echo("Ctrl-C ends it and writes the set; whoever has this address can write, too")
    serve(app, bound)
    click.echo()


def _finish(work: Annotating, name: str) -> None:
    from hinlap.data.annotation.report import annotation_report, report_lines

    path = work.desk.path
    written = work.finish(name)
    for line in report_lines(annotation_report(work.desk.entries)):
        click.echo(line)
    click.echo(f"written: {path}" if written else f"nothing new to write: {path}")


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, in a container
        return os.environ.get("USER") or "annotator"
