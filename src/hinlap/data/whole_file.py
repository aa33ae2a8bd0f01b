"""A file that is there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hinlap.core.errors import HinlapError, InputError, StorageError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, beside ``path``; it takes its place when the block ends well.

    Raises InputError where nothing may be written, StorageError where the disk fails. After
    either, and after any error within the block, ``path`` is as it was and nothing lies beside it.
    """
    path = Path(os.path.realpath(path))  # through a link, to what it stands for
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as sink:
                yield sink
                sink.flush()
                os.fsync(sink.fileno())
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise writing_error(path, error) from error


def writing_error(path: Path, error: OSError) -> HinlapError:
    """What to raise when ``path`` could not be written."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR,
                       errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG):  # fmt: skip
        return InputError(
            f"cannot be written here ({error.strerror})",
            where=str(path),
            hint="name a file in a folder you may write to",
        )
    return StorageError(
        f"could not be written ({error.strerror or error})",
        where=str(path),
        hint="check the space on the disk and run it again; an older file is untouched",
    )


def write_whole(path: Path, content: bytes) -> None:
    """All of ``content`` or nothing. Raises as ``whole_file``."""
    with whole_file(path) as sink:
        sink.write(content)
