"""YAML read so that every value still knows its line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from hinlap.core.errors import AppError

Location = tuple[str | int, ...]

MOST_REPEATED = 10_000
"""Values that aliases (*name) may repeat in one file; nine lines of them can make a billion."""


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # 2024-13-01 looks like a date and is none
            raise yaml.constructor.ConstructorError(
                problem=f"{error} (a text? put it into quotes)", problem_mark=node.start_mark
            ) from error


class LinedYaml:
    """A YAML document as plain data, and the line of every field in it.

    Raises AppError, naming file and line, when the text is not YAML, repeats a key, is not a
    mapping at the top, or repeats more than `MOST_REPEATED` values by aliases.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._lines: dict[Location, int] = {(): 1}
        self._seen: set[yaml.Node] = set()
        self._repeated = 0
        try:
            loader = _Loader(text)
        except yaml.reader.ReaderError as error:
            raise AppError(
                f"not valid YAML: the character {_shown(error.character)} may not stand in it",
                where=f"{path}:{text[: error.position].count(chr(10)) + 1}",
                hint="remove it; in double quotes it may be written with a backslash",
            ) from error
        try:
            node = loader.get_single_node()
            if node is None:
                raise AppError("the file is empty", where=str(path), hint="see `hinlap init DIR`")
            self._walk(node, ())
            self.data: Any = loader.construct_document(node)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            what = error.problem or error.context or "cannot be read"
            raise AppError(
                f"not valid YAML: {what}",
                where=f"{path}:{line}",
                hint="check indentation, colons and quotes around that line",
            ) from error
        except yaml.YAMLError as error:
            raise AppError(f"not valid YAML: {error}", where=str(path)) from error
        except RecursionError as error:
            raise AppError(
                "nested too deeply, or a value that holds itself (&name, *name)",
                where=str(path),
                hint="see `hinlap init DIR` for a working file",
            ) from error
        finally:
            loader.dispose()
        if not isinstance(self.data, dict):
            raise AppError(
                "expected fields (name: value) at the top",
                where=f"{path}:1",
                hint="see `hinlap init DIR` for a working file",
            )

    def line_of(self, location: Sequence[str | int]) -> int:
        """The line (from 1) of a field, or of the nearest field around it that is there."""
        place = tuple(location)
        while place not in self._lines:
            place = place[:-1]
        return self._lines[place]

    def where(self, location: Sequence[str | int]) -> str:
        """``file:line: field.path`` as messages show it."""
        dotted = ".".join(str(part) for part in location)
        head = f"{self.path}:{self.line_of(location)}"
        return f"{head}: {dotted}" if dotted else head

    def _walk(self, node: yaml.Node, place: Location) -> None:
        """Notes the lines; goes the whole way that every alias makes, so it must bound it."""
        self._repeated += node in self._seen
        self._seen.add(node)
        if self._repeated > MOST_REPEATED:
            raise AppError(
                f"its aliases (*name) repeat more than {MOST_REPEATED:,} values",
                where=self.where(place[:1]),
                hint="write out what is meant, or let fewer aliases stand in one another",
            )
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):  # it could hold any number of aliases
                    raise yaml.constructor.ConstructorError(
                        problem="found unhashable key", problem_mark=key.start_mark
                    )
                name = str(key.value)
                if name in seen:
                    raise AppError(
                        f"the field {name!r} stands twice",
                        where=f"{self.path}:{key.start_mark.line + 1}",
                        hint="keep one of them",
                    )
                seen.add(name)
                self._lines[(*place, name)] = key.start_mark.line + 1
                self._walk(value, (*place, name))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._lines[(*place, index)] = value.start_mark.line + 1
                self._walk(value, (*place, index))


def _shown(character: object) -> str:
    return f"U+{character:04X}" if isinstance(character, int) else repr(character)
