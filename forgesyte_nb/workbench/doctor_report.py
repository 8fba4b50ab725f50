"""What an examination found: `Finding`, one line of it, and `Diagnosis`, all of them as a table.

The table is the same text for the same findings, whatever the terminal; as HTML every text in it is escaped. Control
characters, which a server or a log may hold, are shown as "·".
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

State = Literal["ok", "warning", "problem", "skipped"]

COLUMNS = 110
"""Width of the table as text."""

_HEAD = ("check", "state", "found")
_COLOURS = {"ok": "#1a7f37", "warning": "#9a6700", "problem": "#cf222e", "skipped": "#6e7781"}


@dataclass(frozen=True)
class Finding:
    """One line of a diagnosis.

    Attributes:
        check: What was looked at, such as "port".
        state: "ok"; "warning", something is lacking that not everyone needs; "problem"; "skipped", with the reason.
        found: What was found.
        remedy: What to do; empty if there is nothing to do.
    """

    check: str
    state: State
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        """One line of text."""
        text = f"{self.check}: {self.state}: {self.found}"
        return _printable(f"{text} → {self.remedy}" if self.remedy else text)


class Diagnosis:
    """The findings in the order of the checks; shows as a table in a cell.

    Attributes:
        url: Of the server that was examined.
        findings: All of them.
    """

    def __init__(self, url: str, findings: list[Finding]) -> None:
        """Hold findings."""
        self.url = url
        self.findings = tuple(findings)

    @property
    def ok(self) -> bool:
        """Whether there is no problem; warnings do not count."""
        return not self.problems

    @property
    def problems(self) -> list[Finding]:
        """The findings that are problems."""
        return [finding for finding in self.findings if finding.state == "problem"]

    def of(self, check: str) -> list[Finding]:
        """The findings of one check.

        Raises:
            KeyError: If there is no such check.
        """
        found = [finding for finding in self.findings if finding.check == check]
        if not found:
            raise KeyError(f"no check {check!r}; there is {', '.join(dict.fromkeys(f.check for f in self.findings))}")
        return found

    def reworded(self, say: Callable[[str], str]) -> Diagnosis:
        """The same in other words: what `say` makes of each finding and of each remedy."""
        told = [replace(one, found=say(one.found), remedy=say(one.remedy)) for one in self.findings]
        return Diagnosis(self.url, told)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __repr__(self) -> str:
        """The table as text: found and, below it, the remedy."""
        checks = max(map(len, (_HEAD[0], *(finding.check for finding in self.findings))))
        states = max(map(len, ("problem", "warning", "skipped")))
        width = COLUMNS - checks - states - 4
        lines = [f"{_HEAD[0]:<{checks}}  {_HEAD[1]:<{states}}  {_HEAD[2]}"]
        for finding in self.findings:
            texts = textwrap.wrap(_printable(finding.found), width) or [""]
            texts += textwrap.wrap(_printable(finding.remedy), width, initial_indent="→ ", subsequent_indent="  ")
            lines.append(f"{finding.check:<{checks}}  {finding.state:<{states}}  {texts[0]}")
            lines += [f"{'':<{checks}}  {'':<{states}}  {text}" for text in texts[1:]]
        return "\n".join([*(line.rstrip() for line in lines), self._verdict()])

    def _repr_html_(self) -> str:
        rows = "".join(map(_row, self.findings))
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in (*_HEAD, "remedy"))
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"<p>{html.escape(_printable(self._verdict()))}</p>"
        )

    def _verdict(self) -> str:
        count = len(self.problems)
        return f"{'no problem' if not count else '1 problem' if count == 1 else f'{count} problems'} at {self.url}"


def _row(finding: Finding) -> str:
    cells = (finding.check, finding.state, finding.found, finding.remedy)
    check, state, found, remedy = (html.escape(_printable(text)) for text in cells)
    colour = _COLOURS[finding.state]
    texts = "".join(f"<td style='text-align:left'>{text}</td>" for text in (found, remedy))
    return f"<tr><th style='text-align:left'>{check}</th><td style='color:{colour}'>{state}</td>{texts}</tr>"


def _printable(text: str) -> str:
    """On one line, without control characters."""
    return "".join(sign if sign.isprintable() else "·" for sign in " ".join(text.split()))
