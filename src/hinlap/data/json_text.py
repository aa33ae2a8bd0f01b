"""A JSON text larger than memory: its values, one at a time."""

from __future__ import annotations

import json
import re
from typing import IO, Any

_CHUNK_CHARS = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")
_NEAR_THE_END_CHARS = 16  # a cut word (fals) is noticed where it begins


class BrokenJson(Exception):
    """No JSON here; ``reason`` is one sentence. What follows cannot be told apart any more."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def no_constant(name: str) -> Any:
    """For ``parse_constant`` of json: NaN and Infinity are not JSON."""
    raise ValueError(f"{name} is not JSON")


class JsonText:
    """A place in a text that moves from value to value.

    largest: characters of one value; a longer one is BrokenJson.
    Its own loop over ``raw_decode`` of json, and not ijson: that one gives up all values of a
    block together with the broken one.
    """

    def __init__(self, file: IO[str], largest: int) -> None:
        self._file = file
        self._largest = largest
        self._decoder = json.JSONDecoder(parse_constant=no_constant)
        self._buffer = ""
        self._place = 0
        self._counted = 0  # line ends are counted up to here
        self._ended = False
        self.line = 1

    def sign(self) -> str:
        """The next character that is no space, without taking it; "" at the end."""
        while True:
            found = _SPACE.match(self._buffer, self._place)
            assert found is not None
            self._place = found.end()
            if self._place < len(self._buffer):
                self._count_lines()
                return self._buffer[self._place]
            if not self._more():
                self._count_lines()
                return ""

    def take(self, wanted: str) -> bool:
        """Takes the next character where it is ``wanted``."""
        if self.sign() != wanted:
            return False
        self._place += 1
        return True

    def value(self) -> Any:
        """The next value, whole. Raises BrokenJson."""
        self.sign()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._place)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string")
                cut = cut or error.pos >= len(self._buffer) - _NEAR_THE_END_CHARS
                self._read_on(cut, f"broken JSON ({error.msg})")
            except ValueError as error:
                raise BrokenJson(str(error)) from None
            except RecursionError:
                raise BrokenJson("JSON that is nested too deeply") from None
            else:
                if end == len(self._buffer) and self._more():
                    continue  # a number may go on
                text = self._buffer[self._place : end]
                if not text.isascii():
                    _check_unicode(text)
                self._place = end
                return value

    def _read_on(self, cut: bool, reason: str) -> None:
        """More of a value that is not whole yet. Raises BrokenJson where there is none."""
        if len(self._buffer) - self._place > self._largest:
            raise BrokenJson(f"a value of more than {self._largest:,} characters")
        if not cut:
            raise BrokenJson(reason)
        # as much again, so that a long value is not tried too often
        if not self._more(max(_CHUNK_CHARS, len(self._buffer) - self._place)):
            raise BrokenJson("the file ends within a value: it was cut")

    def _more(self, size: int = _CHUNK_CHARS) -> bool:
        if self._ended:
            return False
        self._count_lines()
        self._buffer = self._buffer[self._place :]
        self._place = self._counted = 0
        chunk = self._file.read(size)
        self._buffer += chunk
        self._ended = not chunk
        return bool(chunk)

    def _count_lines(self) -> None:
        self.line += self._buffer.count("\n", self._counted, self._place)
        self._counted = self._place


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00  # as "surrogateescape" carries it
        raise BrokenJson(f"not UTF-8 (byte 0x{byte:02x})") from None
