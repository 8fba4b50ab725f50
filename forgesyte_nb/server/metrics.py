"""`/metrics`: the server's tally in Prometheus' text format, made when asked for.

Nothing is counted here; `exposition` turns the plain numbers of `Tally`, the sessions and the engines into metric
families through prometheus-client, so that the hot path pays for no metric objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric

from forgesyte_nb.dispatch import Dispatcher
from forgesyte_nb.tally import BUCKETS_MS, STAGES, Stage


class _Families:
    """A collector that reads the tally when it is scraped."""

    def __init__(self, dispatcher: Dispatcher, engines: dict[str, dict[str, Any]]) -> None:
        self._dispatcher = dispatcher
        self._engines = engines

    def collect(self) -> Iterator[Metric]:
        yield from self._frames()
        yield from self._clients()
        yield from self._lanes()

    def _frames(self) -> Iterator[Metric]:
        tally = self._dispatcher.tally
        results = CounterMetricFamily("forgesyte_results", "Frames with a result.", labels=["plugin"])
        errors = CounterMetricFamily("forgesyte_errors", "Frames that failed.", labels=["plugin", "error_code"])
        stages = HistogramMetricFamily(
            "forgesyte_stage_seconds", "Time of a frame in each stage.", labels=["plugin", "stage"]
        )
        for name, plugin in sorted(tally.plugins.items()):
            results.add_metric([name], plugin.results)
            for code, count in sorted(plugin.errors.items()):
                errors.add_metric([name, code], count)
            for stage in STAGES:
                buckets, sum_s = _cumulative(plugin.stages[stage])
                stages.add_metric([name, stage], buckets, sum_s)
        refused = CounterMetricFamily(
            "forgesyte_refused", "Messages refused before they became a job.", labels=["error_code"]
        )
        for code, count in sorted(tally.refused.items()):
            refused.add_metric([code], count)
        yield from (results, errors, refused, stages)
        yield CounterMetricFamily("forgesyte_accepted", "Frames that became a job.", value=tally.accepted)
        yield GaugeMetricFamily("forgesyte_active_jobs", "Jobs under way.", value=len(self._dispatcher.jobs.active))

    def _clients(self) -> Iterator[Metric]:
        sessions = self._dispatcher.sessions
        yield CounterMetricFamily(
            "forgesyte_connections", "Connections so far.", value=self._dispatcher.tally.connections
        )
        yield GaugeMetricFamily("forgesyte_sessions", "Sessions, with and without connection.", value=len(sessions))
        yield GaugeMetricFamily(
            "forgesyte_connected_clients", "Clients with a connection.", value=len(sessions.connected())
        )
        yield CounterMetricFamily(
            "forgesyte_dropped_broadcasts",
            "Broadcasts that clients were too slow for.",
            value=self._dispatcher.reception.dropped,
        )
        away = [session for session in sessions if session.away_since is not None]
        yield GaugeMetricFamily(
            "forgesyte_kept_bytes",
            "Size of the messages kept for clients that are away.",
            value=sum(session.outbox.kept_bytes for session in away),
        )
        yield GaugeMetricFamily(
            "forgesyte_backlog_bytes",
            "Pictures of jobs under way, in memory.",
            value=self._dispatcher.backlog.memory_bytes,
        )
        yield GaugeMetricFamily(
            "forgesyte_unread_bytes",
            "Answers that clients have not read, in memory or in the temporary file.",
            value=sum(session.outbox.owed_bytes for session in sessions),
        )
        yield GaugeMetricFamily(
            "forgesyte_spool_bytes",
            "Size of the temporary file of pictures and answers that wait.",
            value=self._dispatcher.spool.bytes,
        )

    def _lanes(self) -> Iterator[Metric]:
        for name, what in (
            ("lanes", "Lanes of an engine."),
            ("busy", "Lanes at work."),
            ("waiting", "Jobs that wait for a lane."),
            ("replaced", "Lanes that died and were replaced."),
        ):
            family = GaugeMetricFamily(f"forgesyte_engine_{name}", what, labels=["engine"])
            for engine, stats in sorted(self._engines.items()):
                family.add_metric([engine], stats[name])
            yield family


def _cumulative(stage: Stage) -> tuple[list[tuple[str, float]], float]:
    """Prometheus wants cumulative buckets, in seconds."""
    buckets, count = [], 0
    for bound, number in zip(BUCKETS_MS, stage.counts, strict=True):
        count += number
        buckets.append(("+Inf" if bound == float("inf") else f"{bound / 1000:g}", float(count)))
    return buckets, stage.sum_ms / 1000


def exposition(dispatcher: Dispatcher, engines: dict[str, dict[str, Any]]) -> tuple[bytes, str]:
    """The metrics as text, and its content type."""
    registry = CollectorRegistry()
    registry.register(_Families(dispatcher, engines))
    return generate_latest(registry), CONTENT_TYPE_LATEST
