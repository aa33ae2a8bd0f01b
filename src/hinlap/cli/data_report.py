"""What commands of ``hinlap data`` print alike: bad rows, and options of one form."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hinlap.core.counting import counted

if TYPE_CHECKING:
    from hinlap.core.rows import BadRow

_SHOWN = 5


def command_line() -> str:
    """The command as it was typed, for the manifest."""
    return shlex.join(["hinlap", *sys.argv[1:]])


def pairs_of(texts: Sequence[str], option: str) -> dict[str, str]:
    """``A=B`` as {A: B}. Raises UserError."""
    from hinlap.core.errors import UserError

    found: dict[str, str] = {}
    for text in texts:
        left, equal, right = text.partition("=")
        if not (left and equal and right) or left in found:
            raise UserError(
                f"{text!r} is not one name for another", where=option,
                hint=f"{option} instruction=question: the column question is the instruction",
            )  # fmt: skip
        found[left] = right
    return found


def print_bad(count: int, shown: Sequence[BadRow], where: Path | None, verb: str) -> None:
    """Bad rows, the first ones with place and reason."""
    if not count:
        return
    kept = f"; they are in {where}" if where else ""
    click.echo(f"{counted(count, 'record')} {verb}{kept}")
    for bad in shown[:_SHOWN]:
        click.echo(f"  {bad.where}: {bad.reason}")
    if count > _SHOWN and shown:
        click.echo(f"  and {count - min(_SHOWN, len(shown)):,} more")
