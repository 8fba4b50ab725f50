"""`PartialTable`: the rows of a batch that was interrupted, and the way to the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from forgesyte_nb.client.batch import table_of
from forgesyte_nb.errors import ForgeSyteError

if TYPE_CHECKING:
    from forgesyte_nb.client.gathering import Batch


class PartialTable(pd.DataFrame):
    """A table that is not complete.

    What is made of it, by selecting, sorting or copying, is an ordinary `DataFrame`.

    Attributes:
        told: How far it has come, such as "77 of 250 pictures; resume() of this table goes on".
    """

    _batch: Batch | None = None
    told = "the batch cannot go on"

    @classmethod
    def of(cls, batch: Batch, rows: list[dict[str, Any]], length: int | None) -> Self:
        """The rows so far of a batch, and how many there will be, if that is known."""
        table = cls(table_of(rows))
        object.__setattr__(table, "_batch", batch)
        of = "" if length is None else f" of {length}"
        object.__setattr__(table, "told", f"{len(rows)}{of} pictures; resume() of this table goes on")
        return table

    def resume(self) -> pd.DataFrame:
        """Go on with the pictures that are missing, and return the table of all.

        No picture is sent twice. Interrupted again, it returns another partial table.

        Raises:
            ForgeSyteError: If it was copied or loaded from a file, and does not know its batch.
            ConnectionLost: If the client was closed.
        """
        if self._batch is None:
            raise ForgeSyteError("this table does not know its batch any more: call fs.batch(…) again")
        return self._batch.table()

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n{self.told}"

    def _repr_html_(self) -> str | None:
        """What a notebook shows."""
        shown = super()._repr_html_()  # type: ignore[misc]  # the stubs lack it
        return None if shown is None else f"{shown}<p>{self.told}</p>"
