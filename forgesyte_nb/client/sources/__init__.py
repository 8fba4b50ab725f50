"""Sources: arrays, files, folders, clips, cameras and network streams as pictures in order.

`open_source` makes a `Source` of a path, URL, array, image or iterable. `opening` imports all kinds of sources, each of
which imports `base`; nothing imports `opening`.
"""

from forgesyte_nb.client.sources.base import Source, SourceStatus, Take
from forgesyte_nb.client.sources.opening import open_source
from forgesyte_nb.client.sources.single import collection_kind, first_and_count

__all__ = ["Source", "SourceStatus", "Take", "collection_kind", "first_and_count", "open_source"]
