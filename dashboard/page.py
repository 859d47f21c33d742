"""Pages that load nothing from anywhere: text, tables and Plotly figures in one HTML file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs


def render_page(title: str, body: str, figures: Mapping[str, go.Figure]) -> str:
    """A whole page.

    Args:
        title: of the window.
        body: HTML, with a `place` for every figure.
        figures: by the name of their place.
    """
    payload = [{"target": name, **json.loads(figure.to_json())} for name, figure in figures.items()]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_static("report.css")}</style>
</head>
<body>
{body}
<script type="application/json" id="figures">{_safe_json(payload)}</script>
<script>{get_plotlyjs()}</script>
<script>{_static("report.js")}</script>
</body>
</html>
"""


def place(name: str) -> str:
    """HTML of the place where the figure of that name is drawn."""
    return f'<div class="figure" id="{name}"></div>'


def _safe_json(payload: Any) -> str:
    return json.dumps(payload, separators=(",", ":")).replace("<", "\\u003c")


def _static(name: str) -> str:
    return files("dashboard").joinpath("static", name).read_text()
