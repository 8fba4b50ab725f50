"""The report's charts as inline SVG, coloured by its style sheet: plain numbers in, markup out."""

from __future__ import annotations

from collections.abc import Sequence

from forgesyte_nb.demo.html import Markup, tag


def curve(values: Sequence[float], *, label: str, per_s: float) -> Markup:
    """Values from 0 to 1 over time, one for each frame.

    Args:
        values: At least two.
        label: What it shows, for those who cannot see it.
        per_s: Frames per second.
    """
    width, height, left = 1000, 150, 40
    step = (width - left) / (len(values) - 1)
    top = max(0.1, *values)
    points = [(left + index * step, height * (1 - value / top)) for index, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [_rule(left, width, height * (1 - share), f"{share * top:.0%}") for share in (0, 0.5, 1)]
    parts.append(tag("polygon", class_="area", points=f"{left},{height} {line} {width},{height}"))
    parts.append(tag("polyline", class_="curve", points=line))
    for second in range(int((len(values) - 1) / per_s) + 1):
        parts.append(tag("text", f"{second} s", x=f"{left + second * per_s * step:.0f}", y=height + 18))
    return tag("svg", *parts, viewBox=f"0 -8 {width} {height + 32}", role="img", aria_label=label)


def _rule(left: float, right: float, y: float, text: str) -> Markup:
    line = tag("line", class_="axis", x1=left, x2=right, y1=f"{y:.1f}", y2=f"{y:.1f}")
    return Markup(line + tag("text", text, x=left - 6, y=f"{y + 4:.1f}", text_anchor="end"))


def histogram(counts: Sequence[int], *, label: str) -> Markup:
    """Bars side by side, the highest as high as the picture."""
    width, height = 240, 44
    highest, wide = max(1, *counts), width / len(counts)
    bars = [
        tag(
            "rect",
            class_="bar",
            x=f"{index * wide:.1f}",
            y=f"{height * (1 - count / highest):.1f}",
            width=f"{wide - 1:.1f}",
            height=f"{height * count / highest:.1f}",
        )
        for index, count in enumerate(counts)
    ]
    return tag("svg", *bars, class_="histogram", viewBox=f"0 0 {width} {height}", role="img", aria_label=label)


def answers_over_time(times: Sequence[tuple[str, Sequence[float]]], *, busy: tuple[float, float], label: str) -> Markup:
    """When answers came, one row of dots for each plugin, over the time that the kernel was busy.

    Args:
        times: Plugin, and the times of its answers, in seconds.
        busy: From when to when the kernel was busy, on the same clock.
        label: What it shows, for those who cannot see it.
    """
    width, left, row = 1000, 130, 24
    height = row * len(times)
    began, ended = busy
    first, last = began - 0.04 * (ended - began), ended + 0.04 * (ended - began)
    scale = (width - left) / (last - first)

    def x(at: float) -> float:
        return left + (at - first) * scale

    busy_width = f"{(ended - began) * scale:.1f}"
    parts = [tag("rect", class_="busy", x=f"{x(began):.1f}", y=0, width=busy_width, height=height, rx=6)]
    for index, (plugin, at) in enumerate(times):
        y = row * (index + 0.5)
        parts.append(tag("text", plugin, x=left - 12, y=y + 4, text_anchor="end"))
        parts += [tag("circle", class_="dot", cx=f"{x(one):.1f}", cy=y, r=2.4, opacity=0.55) for one in at]
    middle = f"{(x(began) + x(ended)) / 2:.0f}"
    said = f"the long cell is running: {ended - began:.1f} s"
    parts.append(tag("text", said, x=middle, y=height + 18, text_anchor="middle"))
    return tag("svg", *parts, viewBox=f"0 0 {width} {height + 26}", role="img", aria_label=label)
