"""When every object fails for the same reason it is no matter of the objects: the run ends and says what is missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from heavysync.errors import FatalError
from heavysync.outcomes import Done, Failed, Outcome

MARK = "the first"
"""How the message of such an end begins."""

LONGEST = 50
"""So many objects may be refused for one reason of `SYSTEMATIC`, with none going through or in sync, before the run ends."""

SYSTEMATIC = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "InvalidStorageClass",
        "KMS.DisabledException",
        "KMS.AccessDeniedException",
        "MethodNotAllowed",
        "NotImplemented",
        "SignatureDoesNotMatch",
        "http-401",
        "http-403",
        "http-405",
        "http-501",
        "401",
        "403",
        "405",
        "forbidden",
        "insufficientPermissions",
        "required",
    }
)
"""Codes of `Failed` that speak of permissions or of the server, not of one object. What failed with one of them before a run
was interrupted is taken up again with it, since that is what had to be mended."""


class Streak:
    """Watches outcomes for the same refusal of one object after the other.

    Args:
        is_watched: False where the run has already been ended by a streak once and was started again: then each is recorded.
        longest: see `LONGEST`.
    """

    def __init__(self, *, is_watched: bool = True, longest: int = LONGEST) -> None:
        self._is_watched = is_watched
        self._longest = longest
        self._code = ""
        self._length = 0
        self._message = ""

    def note(self, outcome: Outcome) -> None:
        """Take note of an outcome, each of another object."""
        if isinstance(outcome, Done):
            self.excuse()  # it works: what is refused is a matter of the objects
        if not self._is_watched or not isinstance(outcome, Failed) or outcome.code not in SYSTEMATIC:
            return
        if outcome.code != self._code:
            self._code, self._length = outcome.code, 0
        self._length += 1
        self._message = outcome.message

    @property
    def is_long(self) -> bool:
        """Whether the first objects of the run were all refused for the same reason."""
        return self._is_watched and self._length >= self._longest

    def excuse(self) -> None:
        """There are objects that are in sync, so it is no matter of the whole."""
        self._is_watched = False

    async def judge(self, has_equal: Callable[[], Awaitable[bool]], is_proven: Callable[[], Awaitable[bool]]) -> None:
        """Find out what a long streak means.

        Args:
            has_equal: whether the range at hand has an object that is in sync.
            is_proven: the same of finished ranges.

        Raises:
            FatalError: nothing shows that the reason lies in the objects.
        """
        if not (await has_equal() or await is_proven()):
            raise streak_error(self._length, self._message)
        self.excuse()


def streak_error(length: int, message: str) -> FatalError:
    """What a long streak means, `message` being the last refusal."""
    return FatalError(
        f"{MARK} {length} objects failed for the same reason and none went through, the last one with: "
        f"{message}; mend that and start again: they are taken up again"
    )
