"""One object, store to store: by the provider, in one write, or in parts; verified, pinned, resumable."""

from heavysync.transfer.abandoned import abort_abandoned
from heavysync.transfer.context import Context, SaveUpload
from heavysync.transfer.whole import copy_object

__all__ = ["Context", "SaveUpload", "abort_abandoned", "copy_object"]
