"""The pictures in a folder: also in folders inside it, in natural order, by content."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from forgesyte_nb.client.sources.content import is_picture_file

_MOST_SUFFIXES_NAMED = 6


@dataclass(frozen=True)
class FoundPictures:
    """What a folder holds.

    Attributes:
        files: The pictures in natural order.
        left_out: Text that says what is left out: number of files by suffix; empty if nothing is.
    """

    files: list[Path]
    left_out: str


def find_pictures(folder: Path) -> FoundPictures:
    """Find the pictures in a folder and in the folders inside it. Hidden files and folders are skipped."""
    found, others = [], Counter[str]()
    seen = set[tuple[int, int]]()
    unreadable: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=unreadable.append, followlinks=True):
        there = os.stat(parent)
        if (there.st_dev, there.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((there.st_dev, there.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            file = Path(parent, name)
            if name.startswith(".") or not file.is_file():
                continue
            if is_picture_file(file):
                found.append(file)
            else:
                others[file.suffix.lower() or "without suffix"] += 1
    return FoundPictures(sorted(found, key=natural_key), _left_out(others, len(unreadable)))


def _left_out(others: Counter[str], unreadable: int) -> str:
    parts = []
    if others:
        by_count = sorted(others.items(), key=lambda item: (-item[1], item[0]))
        named = [f"{count} {suffix}" for suffix, count in by_count[:_MOST_SUFFIXES_NAMED]]
        more = f", {len(others) - len(named)} other suffixes" if len(others) > len(named) else ""
        count = others.total()
        parts.append(f"{count} file{'s' if count > 1 else ''} of other kinds ({', '.join(named)}{more})")
    if unreadable:
        parts.append(f"{unreadable} folder{'s' if unreadable > 1 else ''} that cannot be read")
    return " and ".join(parts)


def natural_key(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts frame2 before frame10."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part.lower()) for part in parts]
