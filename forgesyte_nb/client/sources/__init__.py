"""Sources: arrays, files, folders, clips, cameras and network streams as pictures in order.

`open_source` makes a `Source` of whatever a user has. Modules of this package import each other downwards only:
`opening` knows all kinds of sources, every kind knows `base`.
"""

from forgesyte_nb.client.sources.base import Source, SourceStatus, Take
from forgesyte_nb.client.sources.opening import held_by, many_in, open_source

__all__ = ["Source", "SourceStatus", "Take", "held_by", "many_in", "open_source"]
