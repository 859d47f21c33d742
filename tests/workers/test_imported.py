"""Imported tables: what is refused, sums over them, and how they are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nas.core import InvalidInputError
from tests.workers.formula_table import entries, formula, write
from workers.imported import ImportedTable, imported_names, imported_path, key_of, layer_of

KNOWN = "(8, 16, 4, 1, 1, 0, 1)-W4A8"
FIGURES = {"latency": 1.0, "energy": 2.0}


@pytest.fixture
def table(tmp_path: Path) -> ImportedTable:
    return ImportedTable.load("npu", write(tmp_path / "t.json", **{KNOWN: FIGURES}))


def test_a_layer_of_the_table_costs_what_its_entry_says(table: ImportedTable) -> None:
    found = table.sum_of([layer_of(KNOWN)] * 2)
    assert found.values == {"latency_ms": 2.0, "energy_mj": 4.0}
    assert (found.n_layers, found.n_interpolated) == (2, 0)


@pytest.mark.parametrize(
    "key",
    ["(8, 16, 4, 1, 1, 0, 1)-W5A8", "(40, 40, 8, 3, 2, 1, 40)-W8A8", "(8, 9, 5, 3, 1, 0, 1)-W4A4"],
)
def test_other_layers_are_told_by_the_closed_form(tmp_path: Path, key: str) -> None:
    table = ImportedTable.load("npu", write(tmp_path / "t.json"))
    known = next(iter(entries()))
    found = table.sum_of([layer_of(known), layer_of(key)])
    assert (found.n_layers, found.n_interpolated) == (2, 1)
    exact, told = entries()[known], formula(layer_of(key))
    assert found.values["latency_ms"] == pytest.approx(exact["latency"] + told["latency"])
    assert found.values["energy_mj"] == pytest.approx(exact["energy"] + told["energy"])


def test_layers_the_format_cannot_name_are_told_by_the_closed_form(table: ImportedTable) -> None:
    layer = layer_of(KNOWN)
    for other in (replace(layer, size=(4, 5)), replace(layer, dilation=(2, 2))):
        assert key_of(other) is None
        assert table.sum_of([other]).n_interpolated == 1


@pytest.mark.parametrize("key", list(entries())[::7])
def test_keys_and_layers_are_each_others_names(key: str) -> None:
    assert key_of(layer_of(key)) == key
    assert key_of(layer_of(key.replace(", ", ","))) == key


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"(8, 8, 4)-W4A4": FIGURES}, r"entry: '\(8, 8, 4\)-W4A4' .*\(n_in, n_out, size, kernel"),
        ({"(8, 8, 4, 1, 1, 0, 1)": FIGURES}, "-WxAy"),
        ({"(0, 8, 4, 1, 1, 0, 1)-W4A4": FIGURES}, "at least 1"),
        ({"(8, 8, 4, 1, 1, 0, 3)-W4A4": FIGURES}, "divide 8 and 8"),
        ({"(8, 8, 4, 7, 1, 1, 1)-W4A4": FIGURES}, "a kernel of at most 6"),
        ({"(8, 8, 4, 1, 1, 0, 1)-W0A4": FIGURES}, "1 to 32 bits"),
        ({"(8, 8, 4, 1, 1, 0, 1)-W4A33": FIGURES}, "1 to 32 bits"),
        ({KNOWN: 3}, r"entry \(8, 16.*: 3 is not usable: \{\"latency\": milliseconds"),
        ({KNOWN: {"latency": 1.0}}, 'entry .*"energy", in millijoules'),
        ({KNOWN: {**FIGURES, "latency": -1.0}}, "entry .*, latency: -1.0 .*milliseconds.*above 0"),
        ({KNOWN: {**FIGURES, "energy": "2"}}, "entry .*, energy: '2' .*millijoules"),
        ({KNOWN: {**FIGURES, "energy": True}}, "energy: True"),
        ({KNOWN: {**FIGURES, "energy": float("nan")}}, "energy: nan"),
        ({KNOWN: {**FIGURES, "energy": 10**400}}, "above 0"),
        ({KNOWN.replace(", ", ","): FIGURES}, "each layer once"),
    ],
)
def test_an_entry_that_cannot_be_is_named(
    tmp_path: Path, more: dict[str, object], said: str
) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({**entries(), **more}))
    with pytest.raises(InvalidInputError, match=said):
        ImportedTable.load("npu", path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[]", "a JSON object with entries"),
        (b"{", "a JSON object"),
        (b"\xff\xfe{", "a JSON object"),
        (b"[" * 100_000, "a JSON object"),
        (b"{}", "at least 8 layers; it has 0"),
        (b'{"head": 1, "head": 2}', "entry: 'head' .*each name once"),
        (None, "a file that can be read"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "t.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=said):
        ImportedTable.load("npu", path)


@pytest.mark.parametrize("name", ["cpu", "a b", "", "../x"])
def test_names_no_device_may_have_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match="device"):
        ImportedTable.load(name, write(tmp_path / "t.json"))


def test_a_table_is_read_as_it_was_kept(tmp_path: Path, table: ImportedTable) -> None:
    assert ImportedTable.read(tmp_path, "npu") is None and imported_names(tmp_path) == []
    table.save(tmp_path)
    found = ImportedTable.read(tmp_path, "npu")
    assert found is not None and imported_names(tmp_path) == ["npu"]
    assert (found.digest, found.left_out, found.errors) == (table.digest, ("head",), table.errors)
    asked = [layer_of(KNOWN), layer_of("(8, 9, 5, 3, 1, 0, 1)-W4A4")]
    assert found.sum_of(asked) == table.sum_of(asked) and found.summary == table.summary


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"forms": 3}'])
def test_a_kept_file_that_is_broken_is_named(tmp_path: Path, content: str) -> None:
    path = imported_path(tmp_path, "npu")
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=r"delete .*npu\.json and import it anew"):
        ImportedTable.read(tmp_path, "npu")


def test_the_summary_tells_bits_and_the_error_of_the_interpolation(table: ImportedTable) -> None:
    told = table.summary
    assert (told["layers"], told["left_out"]) == (len(entries()), ["head"])
    assert told["weight_bits"] == told["input_bits"] == [4, 8]
    assert set(told["errors"]) == set(told["metrics"]) == {"latency_ms", "energy_mj"}
    for errors in told["errors"].values():
        assert set(errors) == {"depthwise", "other"}
        assert all(0 <= error["median"] <= error["p90"] for error in errors.values())
    assert json.loads(json.dumps(told)) == told


def test_the_table_of_bitfusion(data_folder: Path) -> None:
    path = data_folder / "apq_bitfusion_lut.json"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    table = ImportedTable.load("bitfusion", path)
    told = table.summary
    assert (told["layers"], told["left_out"]) == (6567, ["head", "tail"])
    assert told["weight_bits"] == told["input_bits"] == [4, 6, 8]
    assert all(error["median"] < 0.2 for of in told["errors"].values() for error in of.values())
    raw = json.loads(path.read_text())
    for key in list(table.entries)[::500]:
        layer = layer_of(key)
        sum_ = table.sum_of([layer])
        assert sum_.values == {"latency_ms": raw[key]["latency"], "energy_mj": raw[key]["energy"]}
        half = (layer.size[0] // layer.stride[0], layer.size[1] // layer.stride[1])
        assert layer.out == half or layer.size[0] % 2
