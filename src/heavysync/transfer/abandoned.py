"""Uploads that will not be completed are aborted: best effort, told in words, and never holding anything up."""

from __future__ import annotations

import asyncio

from heavysync.errors import ObjectError, TransientError
from heavysync.events import Listener, Notice
from heavysync.state.uploads import Abandoned, AbandonedUpload
from heavysync.stores.base import Store

_TRIES = 3  # at once: a fault in passing shall not leave an upload for the next run
_FAILURES = 3  # so many uploads that cannot be aborted leave the others for the next run as well: nobody waits for them
_BATCH = 1000


async def abort_abandoned(abandoned: Abandoned, destination: Store, *, listener: Listener, stopping: asyncio.Event) -> None:
    """Abort the uploads that a range's file remembers; what fails is kept, and tried again by the next run.

    Raises:
        FatalError: the run cannot go on.
    """
    aborted, troubles = 0, list[str]()
    for upload in await abandoned.next(_BATCH):
        if stopping.is_set() or len(troubles) >= _FAILURES:
            break
        if trouble := await _abort(upload, destination):
            troubles.append(trouble)
            await abandoned.failed(upload.number)
        else:
            aborted += 1
            await abandoned.aborted(upload.number)
    if aborted:
        listener(Notice(f"{aborted} unfinished uploads that nobody will complete were aborted"))
    if troubles:
        listener(
            Notice(
                f"unfinished uploads at {destination.location} could not be aborted, so their parts go on taking room; "
                f"the next run tries again: {troubles[0]}"
            )
        )


async def _abort(upload: AbandonedUpload, destination: Store) -> str:
    """Abort one; answer what is wrong, or nothing."""
    trouble = ""
    for _ in range(_TRIES):
        try:
            await destination.abort_upload(upload.key, upload.state)
        except TransientError as error:
            trouble = str(error)
        except ObjectError as error:
            return str(error)
        else:
            return ""
    return trouble
