"""The pictures of all jobs under way, bounded in bytes: in memory first, then in the spool's file, then refused.

`add` takes a picture and returns how it is kept: the image itself, or a `Spooled` that reads an image file back from
the temporary file when it is wanted; `remove` lets it go. Raw pixels are kept in memory or refused.
"""

from __future__ import annotations

import tempfile

from forgesyte_nb.errors import QueueFull
from forgesyte_nb.image.data import ImageData, size_bytes
from forgesyte_nb.spool import Spool, Spooled, SpoolFull

StoredImage = ImageData | Spooled


class Backlog:
    """Pictures of jobs under way.

    Attributes:
        memory_bytes: Of the pictures in memory.
    """

    def __init__(self, spool: Spool, *, memory_limit_bytes: int) -> None:
        """Make an empty one, which goes on in a file."""
        self._memory_limit_bytes = memory_limit_bytes
        self._spool = spool
        self.memory_bytes = 0

    def add(self, image: ImageData) -> StoredImage:
        """Keep a picture.

        Raises:
            QueueFull: If there is no room for it, or the file cannot be written.
        """
        size = size_bytes(image)
        if self.memory_bytes + size <= self._memory_limit_bytes:
            self.memory_bytes += size
            return image
        waiting = f"{self.memory_bytes / 1048576:.0f} MiB of pictures wait in memory"
        if not isinstance(image, bytes):
            raise QueueFull(
                f"{waiting}, the limit; send on when results have come, or raise queue_bytes in the Settings"
            )
        try:
            return self._spool.add(image)
        except SpoolFull:
            setting = "spool_bytes" if self._spool.limit_bytes else "queue_bytes"
            raise QueueFull(
                f"{waiting} and {self._spool.bytes / 1048576:.0f} MiB in a file, the limit; send on when results have "
                f"come, or raise {setting} in the server's Settings"
            ) from None
        except OSError as error:
            raise QueueFull(
                f"{waiting}, and the temporary file for more in {tempfile.gettempdir()} cannot be written "
                f"({error.strerror or error}); send on when results have come"
            ) from error

    def remove(self, image: StoredImage) -> None:
        """Let a picture go."""
        if isinstance(image, Spooled):
            self._spool.remove(image)
        else:
            self.memory_bytes -= size_bytes(image)
