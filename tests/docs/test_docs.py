"""The documents say what the code does."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from nas.cli import app
from nas.problem import MEASURED
from nas.strategies import STRATEGIES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [body for name, body in fenced if name == language]


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        *(f"docs/{name}.md" for name in ("tutorial", "devices", "extending", "operations")),
    ],
)
def test_every_command_in_documents_exists_with_its_options(document: str) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    text = "\n".join(blocks("", (ROOT / document).read_text())).replace("\\\n", " ")
    used = re.findall(r"^nas ([\w-]+)(.*)$", text, re.MULTILINE)
    assert used
    for name, rest in used:
        command = commands[name]
        for word in rest.split():
            command = getattr(command, "commands", {}).get(word, command)
        options = {o for p in command.params for o in p.opts}
        rest = rest.split(" #")[0]
        assert set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest)) <= options, name


def test_the_first_screen_has_the_two_commands() -> None:
    first = "\n".join(README.splitlines()[:15])
    assert "make demo" in first
    assert "make test" in first


def test_pictures_are_there_and_light() -> None:
    pictures = [ROOT / path for path in re.findall(r"!\[[^\]]+\]\(([\w/.]+)\)", README)]
    assert len(pictures) == 2
    assert all(path.stat().st_size < 150 * 1024 for path in pictures)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("name", MEASURED)
def test_every_measured_metric_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.slow
def test_the_readme_program_runs_as_written(tmp_path: Path) -> None:
    (program,) = blocks("python")
    short = program.replace("trials=30", "trials=5, finalists=2, training={'epochs': 1}")
    short = short.replace('"latency_ms<=0.05"', '"latency_ms<=1000"')
    assert short != program
    run(short, tmp_path)
    assert (tmp_path / "my_model" / "model.onnx").is_file()


@pytest.mark.slow
def test_the_tutorial_runs_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    program = "\n".join(blocks("python", (ROOT / "docs" / "tutorial.md").read_text()))
    short = program.replace("trials=30", "trials=4, training={'epochs': 1}")
    short = short.replace("finalists=6", "finalists=1").replace("latency_ms<=1", "latency_ms<=1000")
    run(short, tmp_path)
    assert (tmp_path / "tutorial_model" / "genotype.json").is_file()


def run(program: str, folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "document",
    ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))],
)
def test_paths_named_in_documents_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    named = set(
        re.findall(
            r"`((?:nas|searchspaces|predictors|workers|dashboard|tests|docs)/[\w/.]+)`", text
        )
    )
    assert all((ROOT / path).exists() for path in named), named


def test_the_python_reference_is_what_docstrings_say() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "reference.py"))["page"]()
    assert (ROOT / "docs" / "api.md").read_text() == made, "make docs"


def test_the_python_reference_depends_on_no_folder() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    assert not re.search(r" at 0x|PosixPath|/(?:home|work|tmp|root)/", text)
