"""The Grafana dashboard as code: what to look at when something waits.

python tools/dashboard.py            write deploy/grafana/dashboards/millrace.json
python tools/dashboard.py --check    fail if it is not current
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef

FILE = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboards" / "millrace.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")


@dataclass(frozen=True)
class Query:
    """One PromQL expression and the legend of its series."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Chart:
    """One panel: a title, a unit, what it means, and its queries."""

    title: str
    unit: str
    description: str
    queries: tuple[Query, ...]


ROWS: dict[str, tuple[Chart, ...]] = {
    "Services": (
        Chart(
            "Requests",
            "reqps",
            "HTTP requests per second, by service",
            (Query("sum by (service) (rate(millrace_http_request_seconds_count[1m]))", "{{service}}"),),
        ),
        Chart(
            "Errors",
            "reqps",
            "Answers of 500 and above per second. 503 means: try again",
            (
                Query(
                    'sum by (service, status) (rate(millrace_http_request_seconds_count{status=~"5.."}[1m]))'
                    " or sum by (service) (0 * rate(millrace_http_request_seconds_count[1m]))",
                    "{{service}} {{status}}",
                ),
            ),
        ),
        Chart(
            "Duration, p95",
            "s",
            "Time within which 95 of 100 requests are answered",
            (
                Query(
                    "histogram_quantile(0.95, sum by (service, le) (rate(millrace_http_request_seconds_bucket[5m])))",
                    "{{service}}",
                ),
            ),
        ),
    ),
    "Events": (
        Chart(
            "Events published",
            "ops",
            "Outbox rows that the broker confirmed, per second",
            (Query("sum by (service) (rate(millrace_outbox_published_total[1m]))", "{{service}}"),),
        ),
        Chart(
            "Events that wait for the broker",
            "short",
            "Rows in the outboxes. It should fall back to 0",
            (Query("sum by (service) (millrace_outbox_pending)", "{{service}}"),),
        ),
        Chart(
            "Consumer lag",
            "short",
            "Messages that wait for each durable",
            (Query("max by (durable) (millrace_bus_consumer_lag)", "{{durable}}"),),
        ),
        Chart(
            "Deliveries by outcome",
            "ops",
            "Acknowledged, retried, dead-lettered",
            (Query("sum by (outcome) (rate(millrace_bus_handled_total[1m]))", "{{outcome}}"),),
        ),
    ),
    "Cache": (
        Chart(
            "Space",
            "bytes",
            "Used, reserved and free bytes of each site",
            (Query('millrace_cache_bytes{kind!="capacity"}', "{{site}} {{kind}}"),),
        ),
        Chart(
            "Hits and misses",
            "short",
            "Leases of bytes that were there, and of bytes that had to be fetched",
            (
                Query("sum by (site) (millrace_cache_hits_total)", "{{site}} hits"),
                Query("sum by (site) (millrace_cache_misses_total)", "{{site}} misses"),
            ),
        ),
        Chart(
            "Bytes not downloaded again",
            "bytes",
            "What the lake did not have to send a second time",
            (Query("sum by (site) (millrace_cache_saved_bytes_total)", "{{site}}"),),
        ),
    ),
    "Cache, closer": (
        Chart(
            "Evictions",
            "short",
            "Copies that left, by reason",
            (Query("sum by (site, reason) (millrace_cache_evictions_total)", "{{site}} {{reason}}"),),
        ),
        Chart(
            "Time to ready, p95",
            "s",
            "Time within which 95 of 100 fills are ready",
            (
                Query(
                    "histogram_quantile(0.95, sum by (site, le) (rate(millrace_cache_fill_seconds_bucket[15m])))",
                    "{{site}}",
                ),
            ),
        ),
        Chart(
            "Leases and pins",
            "short",
            "What keeps copies in place",
            (
                Query("sum by (site) (millrace_cache_leases)", "{{site}} leases"),
                Query("sum by (site) (millrace_cache_pins)", "{{site}} pins"),
            ),
        ),
        Chart(
            "Early starts",
            "short",
            "Runs that began before the fill was over, and the seconds that their readers waited for packs",
            (
                Query("sum by (site) (millrace_cache_early_leases_total)", "{{site}} early starts"),
                Query("sum by (site) (millrace_cache_early_wait_seconds_total)", "{{site}} seconds waited"),
            ),
        ),
        Chart(
            "Damage",
            "short",
            "Damaged files that were found, and files that were replaced",
            (
                Query("sum by (site) (millrace_cache_scrub_errors_total)", "{{site}} found"),
                Query("sum by (site) (millrace_cache_repaired_files_total)", "{{site}} replaced"),
            ),
        ),
        Chart(
            "Links",
            "Bps",
            "Bytes a second from the lake, and to those who read",
            (Query('max by (site, link) (millrace_cache_link{link!="open"})', "{{site}} {{link}}"),),
        ),
    ),
    "Serving and drift": (
        Chart(
            "Predictions",
            "reqps",
            "Inference requests per second",
            (Query("sum by (deployment) (rate(millrace_serving_infer_seconds_count[1m]))", "{{deployment}}"),),
        ),
        Chart(
            "Prediction time, p95",
            "s",
            "Time within which 95 of 100 predictions are answered",
            (
                Query(
                    "histogram_quantile(0.95, "
                    "sum by (deployment, le) (rate(millrace_serving_infer_seconds_bucket[5m])))",
                    "{{deployment}}",
                ),
            ),
        ),
        Chart(
            "Windows",
            "short",
            "Closed windows by verdict",
            (Query("sum by (outcome) (millrace_drift_windows_total)", "{{outcome}}"),),
        ),
    ),
}


def build() -> str:
    """Return the dashboard as JSON text."""
    board = (
        dashboard.Dashboard("Millrace")
        .uid("millrace")
        .description("From the lake to a watched model: what runs, what waits, what drifts.")
        .tags(["millrace"])
        .refresh("5s")
        .time("now-30m", "now")
        .timezone("browser")
        .readonly()
    )
    for title, charts in ROWS.items():
        board = board.with_row(dashboard.Row(title))
        for chart in charts:
            board = board.with_panel(_panel(chart, span=24 // len(charts)))
    return str(JSONEncoder(sort_keys=True, indent=2).encode(board.build())) + "\n"


def _panel(chart: Chart, *, span: int) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(chart.title)
        .description(chart.description)
        .unit(chart.unit)
        .datasource(SOURCE)
        .height(8)
        .span(span)
        .min(0)
        .line_width(2)
        .fill_opacity(8)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    for letter, query in zip("ABCDEFGH", chart.queries, strict=False):
        panel = panel.with_target(
            prometheus.Dataquery()
            .expr(query.expression)
            .legend_format(query.legend)
            .ref_id(letter)
            .datasource(SOURCE)
            .range()
        )
    return panel


def queries() -> list[tuple[str, str]]:
    """Return (panel title, expression) of every query: what a test asks a real Prometheus."""
    return [(chart.title, query.expression) for charts in ROWS.values() for chart in charts for query in chart.queries]


def main() -> int:
    """Write or check the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = build()
    if not parser.parse_args().check:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(text, encoding="utf-8")
        return 0
    if not FILE.exists() or FILE.read_text(encoding="utf-8") != text:
        sys.stdout.write("the Grafana dashboard is not current; run `make schemas`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
