"""No circles: whatever a module imports can be understood, and loaded, without it."""

from __future__ import annotations

from graphlib import TopologicalSorter

import grimp

PACKAGES = ("nas", "searchspaces", "predictors", "workers", "dashboard")
FACADE = {"nas"}
"""It imports nothing when it is loaded, and hands names on when they are asked for."""


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    assert {"nas.jobs", "workers.evaluation", *PACKAGES} <= graph.modules
    imports = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules - FACADE}
    TopologicalSorter(imports).prepare()  # its error names the circle
