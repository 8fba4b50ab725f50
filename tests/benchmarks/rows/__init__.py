"""The rows of the tables: each module measures some of them at a given scale."""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks.bench import Bench
from tests.benchmarks.rows import in_kernel, jobs, many, plots, plugins, round_trip, start, throughput, viewing
from tests.benchmarks.table import Row, Scale

Measure = Callable[[Bench, Scale], list[Row]]

ROWS: dict[str, tuple[Measure, str]] = {
    "noop": (throughput.noop, "area clients"),
    "image_stats": (plugins.image_stats, "area clients"),
    "motion_detector": (plugins.motion_detector, "area clients"),
    "ocr": (plugins.ocr, "area clients"),
    "block_mapper": (plugins.block_mapper, "area clients"),
    "face_detector": (plugins.face_detector, "area clients"),
    "in_kernel": (in_kernel.clips_in_the_kernel, ""),
    "round_trip": (round_trip.idle, "area clients"),
    "busy_cell": (round_trip.busy_cell, "area clients"),
    "fan_out": (many.fan_out, "area clients"),
    "idle_memory": (many.idle_memory, "clients"),
    "start": (start.import_and_serve, ""),
    "first_result": (start.first_result, "area"),
    "jobs": (jobs.flat_memory, "area clients"),
    "plot": (plots.live_plot, ""),
    "viewing": (viewing.watched, "clients"),
    "first_picture": (viewing.first_picture, ""),
}
"""By the name that `--only` takes: what measures it, and in which ways it grows."""
