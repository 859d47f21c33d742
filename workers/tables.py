"""What layers take on a device, and what a file should take: the sum over its layers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from nas.core import InvalidInputError
from workers.writing import written_whole

if TYPE_CHECKING:
    from searchspaces import ModelFamily
    from workers.profiling.layers import Layer

FOLDER = "latency_tables"
"""Below a workspace, a file for each device."""
LEAST_MS = 1e-4
"""What a layer takes at least when others are told from it: a tenth of a microsecond."""
RIDGE, N_NEAR, NEARNESS = 0.01, 3, 0.1
MIN_LAYERS = 6
"""Of one kind, from which others of the kind are interpolated; fewer borrow from all kinds."""


@dataclass(frozen=True)
class LayerTime:
    """One entry: a layer's kind, its work, and its milliseconds."""

    kind: str
    work: tuple[float, float, float]
    ms: float


@dataclass(frozen=True)
class TableSum:
    """What a table tells of a file.

    Attributes:
        ms: expected latency.
        n_layers: of the file.
        n_interpolated: of them, not in the table but told from others of their kind.
    """

    ms: float
    n_layers: int
    n_interpolated: int


@dataclass(frozen=True)
class LayerTable:
    """Milliseconds by layer on one device with one runtime.

    A file's latency is `scale` times the sum over its layers, and `per_layer_ms` for each of them:
    both are fitted to whole files that were timed, as what a runtime does between layers is not in
    a layer's time.

    Attributes:
        device: its name.
        runtime: name and version; other versions have other kernels.
        layers: by key (`workers.profiling.layers`).
        scale: see above; 1 before any file was timed.
        per_layer_ms: see above; 0 before.
        error: median relative error for files left out of the fit; None before.
        n_files: timed for the fit.
        families: digests of those of whose layers all that were looked for are here.
    """

    device: str
    runtime: str
    layers: Mapping[str, LayerTime]
    scale: float = 1.0
    per_layer_ms: float = 0.0
    error: float | None = None
    n_files: int = 0
    families: tuple[str, ...] = ()

    def sum_of(self, layers: Sequence[Layer]) -> TableSum:
        """What a file of these layers should take.

        Raises:
            InvalidInputError: the table is empty.
        """
        plain, n_unknown = self._plain(layers)
        ms = self.scale * plain + self.per_layer_ms * len(layers)
        return TableSum(ms, len(layers), n_unknown)

    def fitted(self, files: Sequence[Sequence[Layer]], ms: Sequence[float]) -> Self:
        """The same with scale, share per layer and error of whole files that took `ms`."""
        sums = np.array([[self._plain(file)[0], len(file)] for file in files])
        took = np.asarray(ms, dtype=np.float64)
        errors = []
        for i in range(len(took) if len(took) > 2 else 0):
            others = np.arange(len(took)) != i
            errors.append(abs(sums[i] @ relative_fit(sums[others], took[others]) / took[i] - 1.0))
        scale, each = relative_fit(sums, took)
        error = float(np.median(errors)) if errors else None
        return replace(
            self, scale=float(scale), per_layer_ms=float(each), error=error, n_files=len(took)
        )

    def with_layers(self, times: Mapping[str, LayerTime]) -> Self:
        """The same with more entries."""
        return replace(self, layers={**self.layers, **times})

    def with_family(self, digest: str) -> Self:
        """The same, with a family whose layers were looked for."""
        return replace(self, families=tuple(dict.fromkeys([*self.families, digest])))

    def _plain(self, layers: Sequence[Layer]) -> tuple[float, int]:
        unknown = [layer for layer in layers if layer.key not in self.layers]
        known = sum(self.layers[x.key].ms for x in layers if x.key in self.layers)
        return known + sum(self._interpolated(layer) for layer in unknown), len(unknown)

    def _interpolated(self, layer: Layer) -> float:
        """From layers of that kind: a power law in work, corrected by what is left of the nearest.

        Raises:
            InvalidInputError: the table is empty.
        """
        if not self.layers:
            raise InvalidInputError("table", self.device, "at least one layer that was timed")
        alike = [entry for entry in self.layers.values() if entry.kind == layer.kind]
        if len(alike) < MIN_LAYERS:
            alike = list(self.layers.values())
        work = np.log1p([entry.work for entry in alike])
        took = np.array([entry.ms for entry in alike])
        return _power_law(work, np.maximum(took, LEAST_MS), np.log1p(layer.work))

    @property
    def summary(self) -> dict[str, Any]:
        """What people want to know of it, as plain JSON; `error` is None before any fit."""
        return {
            "device": self.device,
            "runtime": self.runtime,
            "layers": len(self.layers),
            "scale": self.scale,
            "per_layer_ms": self.per_layer_ms,
            "files": self.n_files,
            "error": self.error,
        }

    # ---------------------------------------------------------------- files

    def save(self, home: Path) -> None:
        """Keep it below a workspace, in place of what was there."""
        with written_whole(table_path(home, self.device)) as temporary:
            temporary.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, home: Path, device: str, runtime: str | None = None) -> Self | None:
        """The table of a device; None where there is none, or only of another runtime."""
        try:
            body: dict[str, Any] = json.loads(table_path(home, device).read_text())
            entries = body.pop("layers").items()
            layers = {k: LayerTime(e["kind"], tuple(e["work"]), e["ms"]) for k, e in entries}
            families = tuple(body.pop("families", ()))
            table = cls(layers=layers, families=families, **body)
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return table if runtime in (None, table.runtime) else None


def family_digest(family: ModelFamily) -> str:
    """Equal for families whose networks have equal layers."""
    about = (family.space.digest, family.input_shape, family.n_classes)
    return hashlib.sha256(repr(about).encode()).hexdigest()[:16]


def table_path(home: Path, device: str) -> Path:
    """Where the table of a device is kept."""
    return home / FOLDER / f"{device}.json"


def _power_law(
    work: NDArray[np.float64], ms: NDArray[np.float64], asked: NDArray[np.float64]
) -> float:
    """Milliseconds at `asked (d,)` from `(n,)` of them at `work (n, d)`, all work in logarithms.

    Ridge regression, and the mean error of its nearest neighbours weighted by their nearness.
    """
    center, spread = work.mean(axis=0), work.std(axis=0)
    spread[spread == 0.0] = 1.0
    x, z, y = (work - center) / spread, (asked - center) / spread, np.log(ms)
    gram = x.T @ x + RIDGE * len(x) * np.eye(x.shape[1])
    slope = np.linalg.solve(gram, x.T @ (y - y.mean()))
    distance = np.linalg.norm(x - z, axis=1)
    near = distance.argsort(kind="stable")[:N_NEAR]
    nearness = 1.0 / (distance[near] + NEARNESS)
    left = (y - y.mean() - x @ slope)[near]
    return float(np.exp(y.mean() + z @ slope + nearness @ left / nearness.sum()))


def relative_fit(terms: NDArray[np.float64], took: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(d,)` non-negative coefficients of `(n, d)` terms for `(n,)` times, relative errors."""
    from scipy.optimize import nnls

    scale = terms.mean(axis=0)
    scale[scale == 0.0] = 1.0
    found, _ = nnls(terms / scale / took[:, None], np.ones(len(took)))
    return np.asarray(found / scale)
