"""The report of benchmarks is what was kept, and covers every benchmark there is."""

from __future__ import annotations

import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from typer.main import get_command

from nas.cli import app

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "benchmarks"
KEPT = sorted((ROOT / "docs" / "benchmarks").glob("*"))


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, found as a script finds those beside it."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in ("faults", "parts", "report"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return import_module("report")


def test_the_page_is_what_is_kept(report: ModuleType) -> None:
    assert (ROOT / "docs" / "benchmarks.md").read_text() == report.assembled()


def test_every_script_is_in_a_part_or_named_as_a_module(report: ModuleType) -> None:
    parts = sys.modules["parts"]
    run = {name for p in report.PARTS.values() for name in re.findall(r"(\w+\.py)", p.command)}
    assert run | set(parts.MODULES) == {path.name for path in SCRIPTS.glob("*.py")}
    assert not run & set(parts.MODULES)


def test_every_file_kept_is_of_a_part(report: ModuleType) -> None:
    known = {*(f"{name}.txt" for name in report.PARTS), "verdicts.toml"}
    assert {path.name for path in KEPT} <= known
    assert set(report.verdicts()) <= set(report.PARTS)


def test_options_of_commands_exist(report: ModuleType) -> None:
    benchmark = get_command(app).commands["benchmark"]  # type: ignore[attr-defined]
    known = {option for parameter in benchmark.params for option in parameter.opts}
    for part in report.PARTS.values():
        program, file, *rest = shlex.split(part.command)
        options = {word for word in rest if word.startswith("--")}
        if program.endswith("/nas"):
            assert file == "benchmark" and options <= known, part.name
        else:
            source = (ROOT / file).read_text()
            spelled = {o for o in options if f'"{o}"' in source or f"{o[2:]}=" in source}
            assert spelled == options, part.name


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_nothing_kept_tells_of_a_folder_of_a_machine(path: Path, report: ModuleType) -> None:
    assert report.HERE.search(path.read_text()) is None


def test_every_fault_has_its_test(report: ModuleType) -> None:
    for fault in sys.modules["faults"].FAULTS:
        assert f"def {fault.name}(" in (ROOT / fault.file).read_text(), fault.name


def test_a_part_is_kept_without_paths_and_told_as_it_was(
    report: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "benchmarks").mkdir()
    verdicts = tmp_path / "benchmarks" / "verdicts.toml"
    verdicts.write_text('[storing]\nsays = "Slow."\nshort = "half as fast"\n')
    part = report.Part("storing", "The store", "echo 3 in /tmp/x/nas.db and a/tmp/b", "Speed.", 1)
    failing = report.Part("asking", "Asking", "false", "Nothing.", 1)
    assert report.run([part, failing], tmp_path) == 1
    kept = report.Kept.read(tmp_path / "benchmarks" / "storing.txt")
    assert kept.output == "3 in …/nas.db and a/tmp/b\n"
    assert set(kept.about) == {"command", "date", "commit", "machine", "seconds"}
    assert not (tmp_path / "benchmarks" / "asking.txt").exists()
    page = (tmp_path / "benchmarks.md").read_text()
    assert page.split("\n\n")[1].startswith(
        "**What falls short of its aim:** [storing](#the-store)"
    )
    assert "```\necho 3 in /tmp/x/nas.db and a/tmp/b\n```" in page
    assert "```text\n3 in …/nas.db and a/tmp/b\n```" in page
    assert "by now the command is `.venv/bin/python tests/benchmarks/service.py store" in page
    assert "Slow." in page and page.count("Never run.") == len(report.PARTS) - 1
    assert "storing                    took" in report.listed(tmp_path)
