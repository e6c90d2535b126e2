"""The errors of heavysync, and what each of them means for the object and for the run.

HeavysyncError
├── TransientError          try again, for ever; never seen above `retry`
│   └── DamagedError        the bytes arrived as others; not for ever (`transfer.context.undamaged`)
├── ObjectError             this object only; the others go on
│   ├── NotFoundError       there is no such object (any more)
│   ├── ConditionError      a precondition failed: somebody else wrote meanwhile
│   ├── UploadGoneError     the multipart upload, resumable session or rewrite token is dead
│   └── PermanentError      no further attempt can help; `code` says why
└── RunError                ends the run; `exit_code` says how
    ├── UsageError          2: what was asked for makes no sense
    ├── FatalError          3: cannot start or go on (bucket, permission, credentials, state, disk)
    ├── GuardError          4: refused, so that nothing is lost
    └── StoppedEarlyError   130: stopped before the run had begun
"""

from __future__ import annotations


class HeavysyncError(Exception):
    """The root of all errors that heavysync raises on purpose."""


class TransientError(HeavysyncError):
    """Something that passes by itself: the same request may succeed later.

    Args:
        message: operation, key, and the provider's own words.
        retry_after: seconds that the provider asked to wait, if it did.
        throttled: the provider said "slow down", so the rate has to be cut.

    Attributes:
        served: requests of the same kind that the server had carried out by then; None: not known. If it grows from one failure
            of a step to the next, others go through.
        answered: requests of any kind that it had carried out by then.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, throttled: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.throttled = throttled
        self.served: int | None = None
        self.answered: int | None = None


class DamagedError(TransientError):
    """The provider refused bytes because they are not those that their digest speaks of."""


class ObjectError(HeavysyncError):
    """An error that concerns one object; all others still get done.

    Args:
        message: operation, key, and the provider's own words.
        code: a short stable name, the provider's error code where there is one.
    """

    default_code = "error"

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code or self.default_code


class NotFoundError(ObjectError):
    """The object, or the version asked for, does not exist (any more)."""

    default_code = "not-found"


class ConditionError(ObjectError):
    """A precondition failed: the object is not the one that was listed."""

    default_code = "changed"


class UploadGoneError(ObjectError):
    """The upload cannot be continued: it was completed, aborted or has expired."""

    default_code = "upload-gone"


class PermanentError(ObjectError):
    """The provider refuses this object for good."""

    default_code = "permanent"


class RunError(HeavysyncError):
    """An error that ends the run."""

    exit_code = 3


class UsageError(RunError):
    """What was asked for makes no sense; nothing was started."""

    exit_code = 2


class FatalError(RunError):
    """The run cannot start or go on; what was committed stays and is taken up again."""

    exit_code = 3


class GuardError(RunError):
    """A guard refused a step that could lose data."""

    exit_code = 4


class StoppedEarlyError(RunError):
    """The run was stopped before it had begun; there is nothing to resume."""

    exit_code = 130


def cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of a group that a person should see: one that ends the run before any other."""
    flat = [cause(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    by_weight = [error for kind in (RunError, HeavysyncError) for error in flat if isinstance(error, kind)]
    return (by_weight or flat)[0]
