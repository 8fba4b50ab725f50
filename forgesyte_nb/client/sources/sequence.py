"""Pictures one by one: arrays, Pillow images, bytes, paths, or anything iterable that yields them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

from forgesyte_nb.client.sources.base import Source, Take
from forgesyte_nb.errors import SourceError
from forgesyte_nb.image.pictures import Picture, as_picture

OpenInner = Callable[[Any, str], Source | None]
"""Opens an element, given its name, that is itself a source of several pictures; None if it is one picture."""


class PictureSource(Source):
    """Pictures one by one; an element may be a source of its own, such as a folder, a video or a TIFF of many pages."""

    def __init__(
        self, elements: Iterable[Any], *, name: str, open_inner: OpenInner, names: list[str] | None = None, **pace: Any
    ) -> None:
        """Make a source of `elements`, called `names` if those are given."""
        super().__init__(**pace)
        self.name = name
        self._elements, self._names, self._open_inner = elements, names, open_inner
        self.length = len(elements) if isinstance(elements, Sized) else None

    def _takes(self) -> Iterator[Take]:
        damage = []
        for index, element in enumerate(self._elements):
            is_path = isinstance(element, (str, os.PathLike))
            name = self._names[index] if self._names else "" if is_path else f"{self.name}#{index}"
            try:
                inner = self._open_inner(element, name)
            except SourceError as error:
                yield _failing(error)
                continue
            if inner is None:
                yield _taker(element, name)
                continue
            try:
                with inner:
                    yield from inner._takes()
            except SourceError as error:
                damage.append(str(error))  # of one element; the others are read all the same
        if damage:
            raise SourceError("; ".join(damage))


def _taker(element: Any, name: str) -> Take:
    return lambda seq: as_picture(element, name=name, seq=seq)


def _failing(error: SourceError) -> Take:
    def take(_seq: int) -> Picture:
        raise error

    return take
