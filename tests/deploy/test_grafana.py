"""The Grafana board asks for metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from prometheus_client import Counter, Gauge, Histogram

GRAFANA = Path(__file__).parents[2] / "dashboard" / "grafana"
BOARD = json.loads((GRAFANA / "boards" / "nas.json").read_text())
WORDS = {"sum", "max", "by", "rate", "increase", "histogram_quantile", "le"}


def ours() -> set[str]:
    """Names under which Prometheus knows the metrics of the service."""
    from nas.service import monitoring

    suffixes = {Counter: ("_total",), Gauge: ("",), Histogram: ("_bucket", "_count", "_sum")}
    metrics = [m for m in vars(monitoring).values() if isinstance(m, tuple(suffixes))]
    return {metric.describe()[0].name + s for metric in metrics for s in suffixes[type(metric)]}


def expressions() -> list[str]:
    return [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


def metrics_in(expression: str) -> set[str]:
    """Names that are no functions, labels or values."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\bby \([^)]*\)", "", expression)
    return set(re.findall(r"[a-zA-Z_]\w*", bare)) - WORDS


def test_every_metric_of_the_board_is_one_of_ours_or_of_rays() -> None:
    named = set().union(*map(metrics_in, expressions()))
    assert {name for name in named if not name.startswith("ray_")} <= ours()
    assert any(name.startswith("ray_") for name in named)


def test_every_metric_of_ours_is_on_the_board() -> None:
    text = "\n".join(expressions())
    bases = {re.sub("_(total|bucket|count|sum)$", "", name) for name in ours()}
    assert all(base in text for base in bases)


def test_panels_are_told_apart_and_do_not_overlap() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["gridPos"]["x"] % panel["gridPos"]["w"] == 0
        assert panel["gridPos"]["y"] % panel["gridPos"]["h"] == 0


def test_the_board_and_its_source_are_provisioned() -> None:
    provisioning = GRAFANA / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    for panel in BOARD["panels"]:
        assert {t["datasource"]["uid"] for t in panel["targets"]} == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards/nas.yml").read_text())["providers"]
    compose = yaml.safe_load((GRAFANA.parents[1] / "docker-compose.yml").read_text())
    mounted = compose["services"]["grafana"]["volumes"]
    assert f"./dashboard/grafana/boards:{provider['options']['path']}:ro" in mounted
    assert source["url"] == "http://prometheus:9090"
