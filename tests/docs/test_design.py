"""`docs/design.md` names what the code has, and the code has what it names."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DESIGN = (ROOT / "docs" / "design.md").read_text()
PACKAGES = [
    pattern.rstrip("*")
    for pattern in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]["find"]["include"]
]
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", DESIGN, re.MULTILINE | re.DOTALL))
ROOMS = re.search(r"```\n(.*?)```", SECTIONS["Rooms"], re.DOTALL)[1]  # type: ignore[index]
ROOM = re.compile(r"(?:nas|searchspaces|predictors|workers|dashboard)/[\w/]*(?:\.py)?")
NAMED = set(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", DESIGN, flags=re.DOTALL)))


def rooms() -> list[tuple[str, str]]:
    """Each room that the plan draws, and the text up to the next."""
    starts = [*ROOM.finditer(ROOMS)]
    ends = [*(start.start() for start in starts[1:]), None]
    return [(start[0], ROOMS[start.end() : end]) for start, end in zip(starts, ends, strict=True)]


def source_files() -> list[Path]:
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


@cache
def definitions() -> dict[str, set[str]]:
    """Classes with the names in them, functions and constants (with none), of all the code."""
    found: dict[str, set[str]] = {}
    for path in source_files():
        for node in ast.parse(path.read_text()).body:
            match node:
                case ast.ClassDef():
                    found.setdefault(node.name, set()).update(members(node))
                case ast.FunctionDef():
                    found.setdefault(node.name, set())
                case (
                    ast.Assign(targets=[ast.Name(id=name)])
                    | ast.AnnAssign(target=ast.Name(id=name))
                ):
                    found.setdefault(name, set())
    return found


def members(node: ast.ClassDef) -> Iterator[str]:
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef):
            yield inner.name
        elif isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
            yield inner.target.id


@pytest.mark.parametrize(("room", "text"), rooms(), ids=[room for room, _ in rooms()])
def test_every_room_in_the_plan_exists_with_those_inside_it(room: str, text: str) -> None:
    assert (ROOT / room).exists()
    inside = re.findall(r"(?<![\w/])([a-z]+)/(?=\W)", text)
    assert [name for name in inside if not (ROOT / room / name).is_dir()] == []


def test_every_package_and_folder_of_the_code_is_in_the_plan() -> None:
    drawn = {room.rstrip("/") for room, _ in rooms()}
    drawn |= {f"{room}{name}" for room, text in rooms() for name in re.findall(r"([a-z]+)/", text)}
    folders = {
        folder.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for folder in [ROOT / package, *(ROOT / package).iterdir()]
        if folder.is_dir() and not folder.name.startswith("__")
    }
    modules = {f"nas/{path.name}" for path in (ROOT / "nas").glob("[a-z]*.py")}
    assert (folders - {"nas"} | modules) - drawn == set()


def test_every_path_named_exists() -> None:
    paths = {name for name in NAMED if re.fullmatch(r"[\w/.]*(/|\.(py|md|yml|yaml))\w*", name)}
    assert len(paths) > 10
    rooms_within = [ROOT, *(ROOT / package for package in PACKAGES)]
    rooms_within += [path for package in PACKAGES for path in (ROOT / package).iterdir()]
    gone = [path for path in paths if not any((room / path).exists() for room in rooms_within)]
    assert gone == []


def test_every_module_named_with_dots_exists() -> None:
    dotted = {name for name in NAMED if re.fullmatch(rf"({'|'.join(PACKAGES)})(\.\w+)+", name)}
    assert len(dotted) > 5
    for name in dotted:
        path = ROOT / name.replace(".", "/")
        if not path.is_dir() and not path.with_suffix(".py").is_file():
            assert path.parent.joinpath("__init__.py").is_file(), name
            assert path.name in path.parent.joinpath("__init__.py").read_text(), name


def test_every_class_and_member_named_exists() -> None:
    known = definitions()
    for name in NAMED:
        if found := re.fullmatch(r"([A-Z]\w+[a-z]\w*)(?:\.(\w+))?(?:\(.*\))?", name):
            if found[1] == "Dockerfile":
                continue
            assert found[1] in known, name
            assert found[2] is None or found[2] in known[found[1]], name


def test_seams_are_where_the_document_says() -> None:
    first = SECTIONS["Seams"].partition("\n1. ")[0]
    placed = re.findall(r"((?:`\w+`(?:, | and )?)+) (?:are )?in\s+`([\w/.]+\.py)`", first)
    assert len(placed) == 3
    for names, path in placed:
        classes = {
            n.name for n in ast.parse((ROOT / path).read_text()).body if isinstance(n, ast.ClassDef)
        }
        assert set(re.findall(r"\w+", names.replace(" and ", " "))) <= classes, path


def test_every_noun_is_spoken_by_the_core() -> None:
    nouns = re.findall(r"^\| ([a-z, ]+) \|", SECTIONS["Nouns"], re.MULTILINE)[1:]
    words = {word for noun in nouns for word in noun.split(", ")}
    assert len(words) >= 13
    said = []
    for path in (ROOT / "nas" / "core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                said += [getattr(node, "name", ""), ast.get_docstring(node) or ""]
    text = " ".join(said).lower()
    plural = {word: word.removesuffix("y") for word in words}  # family, families
    assert [word for word in words if not re.search(rf"\b{plural[word]}", text)] == []
