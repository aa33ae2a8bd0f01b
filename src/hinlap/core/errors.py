"""The tree of errors. Every message says what went wrong, where, and what to do next.

HinlapError                what every door catches; ``exit_code`` is the process's
├── UserError       (2)    something the user can mend: a file, a flag, a key, a limit
│   ├── AppError           app.yaml or its example files
│   ├── InputError         a file of inputs, articles or data
│   ├── LeakError          a test example where only training examples may stand
│   ├── ModelError         a model that is not known, not there, or does not fit
│   ├── ServiceSetupError  no key, a wrong key, a wrong address, an unknown model
│   ├── BudgetError        the cap in USD is or would be reached
│   └── MissingExtraError  a package of an optional extra is not installed
└── ProgramError    (1)    something that failed although the user did nothing wrong
    ├── EngineError        a model or service that broke down
    └── StorageError       a full disk, a broken or newer store
"""

from __future__ import annotations


class HinlapError(Exception):
    """Root of the tree.

    what:  one sentence that says what is wrong.
    where: the file, line, field, flag or address it concerns; may be empty.
    hint:  what to do next; may be empty.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  → {self.hint}" if self.hint else head


class UserError(HinlapError):
    exit_code = 2


class AppError(UserError):
    """``app.yaml`` or a file it names is wrong."""


class InputError(UserError):
    """A file or address given as input cannot be used."""


class LeakError(UserError):
    """A test example, or a near copy of one, stands among the training examples."""


class ModelError(UserError):
    """The model is unknown, absent, unsafe to load, or does not fit this machine."""


class ServiceSetupError(UserError):
    """The service refuses for a reason that only the user can mend (key, address, model)."""


class BudgetError(UserError):
    """The cap in USD is reached, or the next request could cross it."""


class MissingExtraError(UserError):
    """A package that belongs to an optional extra is missing."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the package {package!r}, which is not installed",
            hint=f"pip install 'hinlap[{extra}]'",
        )


class ProgramError(HinlapError):
    exit_code = 1


class EngineError(ProgramError):
    """A model or a service failed although it was asked properly."""


class StorageError(ProgramError):
    """The store or the disk under it cannot be read or written."""
