"""The test texts that a training set is held against: of a file, an app, a benchmark folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hinlap.app.app import FILE_NAME, read_app
from hinlap.benchmarks.benchmark import Benchmark, Item
from hinlap.benchmarks.table import BENCHMARKS
from hinlap.core.errors import InputError
from hinlap.core.progress import Progress, Silent
from hinlap.core.rows import BadRow
from hinlap.data.gates.overlap import HeldOut
from hinlap.data.row_files import read_rows
from hinlap.data.sources.pinned import pinned_file
from hinlap.data.text_file import read_utf8


def held_out_texts(path: Path, progress: Progress) -> list[HeldOut]:
    """What stands at ``path``: an app (its test items), a folder of benchmarks' original files, or
    a file of rows in any known format.

    Raises InputError, AppError: nothing is there, or nothing that can be read.
    """
    if path.name == FILE_NAME or (path.is_dir() and (path / FILE_NAME).is_file()):
        found = list(_of_app(path))
    elif path.is_dir():
        found = list(_of_benchmarks(path, progress))
    else:
        found = list(_of_rows(path, progress))
    if not found:
        raise InputError("there are no test items", where=str(path), hint=_HINT)
    return found


_HINT = "--against takes a file of rows, an app's folder, or a folder with benchmarks' files"


def _of_app(path: Path) -> Iterator[HeldOut]:
    app = read_app(path)
    for example in app.test:
        for text in example.inputs.values():
            yield HeldOut(f"app {app.name}", example.id, text, asks=True)
        for text in example.wanted.values():
            yield HeldOut(f"app {app.name}", example.id, text, asks=False)


def _of_rows(path: Path, progress: Progress) -> Iterator[HeldOut]:
    bad = 0
    for row in read_rows(path):
        if isinstance(row, BadRow):
            bad += 1
            continue
        yield HeldOut(path.name, row.id, row.asked(), asks=True)
        if row.input:
            yield HeldOut(path.name, row.id, row.instruction, asks=False)
            yield HeldOut(path.name, row.id, row.input, asks=True)
        yield HeldOut(path.name, row.id, row.output, asks=False)
    if bad:
        progress.say(f"{path}: {bad:,} records are no rows and were passed over")


def _of_benchmarks(folder: Path, progress: Progress) -> Iterator[HeldOut]:
    for benchmark in BENCHMARKS.values():
        file = _file(benchmark, folder)
        if file is None:
            continue
        if benchmark.running:
            yield HeldOut(benchmark.name, file.name, read_utf8(file), asks=False)
            continue
        try:
            items = benchmark.read(file)
        except InputError as error:
            progress.say(f"{benchmark.name} was passed over: {error.what} ({error.where})")
            continue
        for item in items:
            yield from _of_item(benchmark, item)


def _file(benchmark: Benchmark, folder: Path) -> Path | None:
    try:
        return pinned_file(benchmark.files[0], folder, Silent())
    except InputError:
        return None


def _of_item(benchmark: Benchmark, item: Item) -> Iterator[HeldOut]:
    """A question by its parts where it has some; else the sentences that are weighed."""
    name = benchmark.name
    if item.parts:
        for part, text in item.parts.items():
            yield HeldOut(name, item.id, text, asks=part != "context")
        return
    if item.question:
        yield HeldOut(name, item.id, item.question, asks=True)
    for text in dict.fromkeys(each.question + each.text for each in item.texts):
        yield HeldOut(name, item.id, text, asks=True)
