"""The classes in `docs/extending.md` do what it says, found by path as a user's are."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import nas
from nas.core import InvalidInputError

TEXT = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
BUDGET = {"trials": 4, "finalists": 1, "progress": False, "training": {"epochs": 1}}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block that the page says to save, in a folder that is imported from."""
    found = re.findall(r"Save this as `(\w+\.py)`:\n\n```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(found) == TEXT.count("```python")
    for name, body in found:
        (tmp_path / name).write_text(body)
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.slow
def test_own_networks_are_searched_and_shipped(tmp_path: Path) -> None:
    space = {"name": "tiny:TinyNet", "options": {"sparsity": ["dense", "2:4"]}}
    front = nas.search("digits", space=space, **BUDGET)  # type: ignore[arg-type]
    best = front[0]
    assert {"width", "kernel", "depth", "stage1.weight_bits"} <= set(best.trial.candidate.values)  # type: ignore[union-attr]
    assert best.export(tmp_path / "out").joinpath("model.onnx").is_file()
    assert isinstance(best.to_torch(), nn.Module)


@pytest.mark.slow
def test_a_network_that_is_trained_already_starts_from_its_weights() -> None:
    from mine import Baseline  # type: ignore[import-not-found]

    torch.manual_seed(0)
    network = nn.Sequential()
    network.features = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
    )  # fmt: skip
    network.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10))
    torch.save(network.state_dict(), "baseline.pt")
    family = Baseline((1, 8, 8), 10)
    candidate = family.space.candidate(family.space.sample(1, np.random.default_rng(0))[0])
    x = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        expected = network.eval()(x)
        torch.testing.assert_close(family.build(candidate).eval()(x), expected)
    front = nas.search(
        "digits",
        space="mine:Baseline",
        objectives=["accuracy", "weight_bytes"],
        **BUDGET,  # type: ignore[arg-type]
    )
    assert len(front) >= 1


@pytest.mark.slow
def test_an_own_strategy_climbs_and_takes_its_settings() -> None:
    strategy = {"name": "climbing:Climbing", "options": {"rate": 0.3}}
    front = nas.search("digits", strategy=strategy, objectives=["accuracy"], **BUDGET)  # type: ignore[arg-type]
    assert len(front) == 1
    wrong = {"name": "climbing:Climbing", "options": {"speed": 1}}
    with pytest.raises(InvalidInputError, match=r"strategy\.options.*speed"):
        nas.search("digits", strategy=wrong, **BUDGET)  # type: ignore[arg-type]


@pytest.mark.slow
def test_an_own_predictor_guides() -> None:
    options = {"predictor": "nearest:Nearest", "n_initial": 2}
    strategy = {"name": "predictor-guided", "options": options}
    assert len(nas.search("digits", strategy=strategy, **BUDGET)) >= 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "path", "said"),
    [
        ("space", "nowhere:Net", "No module named 'nowhere'"),
        ("space", "tiny:Huge", "no attribute 'Huge'"),
        ("space", "tiny:Residual", "a subclass of searchspaces"),
        ("space", "searchspaces:TracedFamily", "a class with network written"),
        ("strategy", "tiny:TinyNet", "a subclass of nas.core.interfaces.SearchStrategy"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_work(field: str, path: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(said)) as error:
        nas.preview("digits", space=path) if field == "space" else nas.search(
            "digits", strategy=path, progress=False
        )
    assert (error.value.field, error.value.value) == (field, path)
