"""Another team's accelerator as a table: what each layer takes there, at which bits.

The format is that of APQ's table of BitFusion (Wang et al. 2020), a JSON object of entries
`"(n_in, n_out, size, kernel, stride, padding, groups)-WxAy": {"latency": ms, "energy": mJ}`.
Those named by a word alone are of parts without a shape, and left out.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from nas.core import InvalidInputError
from nas.core.device import device_name
from searchspaces.weighted import WeightedLayer
from workers.closed_form import MIN_LAYERS, ClosedForm, HeldOut, errors_from_json, held_out
from workers.writing import written_whole

FOLDER = "imported_tables"
"""Below a workspace, a file for each device."""
LATENCY, ENERGY = "latency_ms", "energy_mj"
COLUMNS = {LATENCY: "latency", ENERGY: "energy"}
"""Metrics that an imported table tells, and their names in entries."""
UNITS = {LATENCY: "milliseconds", ENERGY: "millijoules"}
MOST_BITS = 32

SHAPE = "(n_in, n_out, size, kernel, stride, padding, groups)-WxAy"
ENTRY = re.compile(r"\(" + r"\s*,\s*".join([r"\s*(\d{1,6})\s*"] * 7) + r"\)-W(\d{1,3})A(\d{1,3})")
PART = re.compile(r"[A-Za-z_]+")


@dataclass(frozen=True)
class Simulation:
    """What a table tells of a network.

    Attributes:
        values: sums over its layers, by metric.
        n_layers: of the network.
        n_interpolated: of them, not in the table but told by the closed form.
    """

    values: Mapping[str, float]
    n_layers: int
    n_interpolated: int


@dataclass(frozen=True)
class ImportedTable:
    """Figures of layers on a device that nobody measures here.

    Attributes:
        device: its name.
        entries: by key of the layer, figures in the order of `COLUMNS`.
        forms: by metric, what tells layers that have no entry.
        errors: by metric and kind of layer, of forms fitted to half the entries for the others.
        left_out: names in the file that are no layers.
        digest: of the entries.
    """

    device: str
    entries: Mapping[str, Sequence[float]]
    forms: Mapping[str, ClosedForm]
    errors: Mapping[str, Mapping[str, HeldOut]]
    left_out: tuple[str, ...]
    digest: str

    @classmethod
    def load(cls, device: str, path: Path) -> Self:
        """Read a file of the format above, and fit the forms.

        Raises:
            InvalidInputError: a name no device may have, a file that cannot be read or has too few
                layers, or an entry that cannot be; names the entry, its value and what would be
                right.
        """
        device_name(device)
        entries, left_out = _parsed(path)
        layers = [layer_of(key) for key in entries]
        columns = {metric: [e[i] for e in entries.values()] for i, metric in enumerate(COLUMNS)}
        return cls(
            device,
            entries,
            {metric: ClosedForm.fitted(layers, column) for metric, column in columns.items()},
            {metric: held_out(layers, column) for metric, column in columns.items()},
            tuple(left_out),
            hashlib.sha256(repr(sorted(entries.items())).encode()).hexdigest()[:16],
        )

    def sum_of(self, layers: Sequence[WeightedLayer]) -> Simulation:
        """What a network of these layers should take: entries where there are any, else forms."""
        found = [self.entries.get(key_of(layer) or "") for layer in layers]
        values = {
            metric: math.fsum(
                self.forms[metric].of(layer) if entry is None else entry[i]
                for layer, entry in zip(layers, found, strict=True)
            )
            for i, metric in enumerate(COLUMNS)
        }
        return Simulation(values, len(layers), found.count(None))

    @property
    def summary(self) -> dict[str, Any]:
        """What people want to know of it, as plain JSON; relative errors of the interpolation."""
        bits = [pair.split("A") for pair in {key.rpartition("-W")[2] for key in self.entries}]
        return {
            "device": self.device,
            "metrics": list(COLUMNS),
            "layers": len(self.entries),
            "left_out": list(self.left_out),
            "weight_bits": sorted({int(weight) for weight, _ in bits}),
            "input_bits": sorted({int(given) for _, given in bits}),
            "errors": {m: {k: asdict(e) for k, e in of.items()} for m, of in self.errors.items()},
        }

    # ---------------------------------------------------------------- files

    def save(self, home: Path) -> None:
        """Keep it below a workspace, in place of what was there."""
        with written_whole(imported_path(home, self.device)) as temporary:
            temporary.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, home: Path, device: str) -> Self | None:
        """The table of a device; None where none was imported.

        Raises:
            InvalidInputError: its file is broken.
        """
        path = imported_path(home, device)
        try:
            return cls(**_kept(path, path.stat().st_mtime_ns))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            expected = f"a table that can be read: delete {path} and import it anew"
            raise InvalidInputError("device", device, expected) from None


def imported_path(home: Path, device: str) -> Path:
    """Where the imported table of a device is kept."""
    return home / FOLDER / f"{device}.json"


def imported_names(home: Path) -> list[str]:
    """Devices below a workspace whose tables were imported."""
    return sorted(path.stem for path in (home / FOLDER).glob("*.json"))


def key_of(layer: WeightedLayer) -> str | None:
    """The name of a layer's entry; None where the format has none, as for oblong images."""
    pairs = (layer.size, layer.kernel, layer.stride, layer.padding, layer.dilation)
    if any(one != other for one, other in pairs) or layer.dilation != (1, 1):
        return None
    (size, _), (kernel, _), (stride, _), (padding, _), _ = pairs
    shape = (layer.n_in, layer.n_out, size, kernel, stride, padding, layer.groups)
    return f"{shape}-W{layer.weight_bits}A{layer.input_bits}"


def layer_of(key: str) -> WeightedLayer:
    """The layer that an entry is named after.

    Raises:
        InvalidInputError: it is named after none.
    """
    match = ENTRY.fullmatch(key)
    if match is None:
        raise InvalidInputError("entry", key, f"a name like {SHAPE} of whole numbers")
    n_in, n_out, size, kernel, stride, padding, groups, wide, given = map(int, match.groups())
    if min(n_in, n_out, size, kernel, stride, groups) < 1:
        raise InvalidInputError("entry", key, "all of its shape but padding at least 1")
    if n_in % groups or n_out % groups:
        raise InvalidInputError("entry", key, f"groups that divide {n_in} and {n_out} channels")
    if kernel > size + 2 * padding:
        raise InvalidInputError("entry", key, f"a kernel of at most {size + 2 * padding}")
    if not all(1 <= bits <= MOST_BITS for bits in (wide, given)):
        raise InvalidInputError("entry", key, f"1 to {MOST_BITS} bits")
    return WeightedLayer(
        n_in,
        n_out,
        (size, size),
        (kernel, kernel),
        (stride, stride),
        (padding, padding),
        groups,
        wide,
        given,
    )


def _parsed(path: Path) -> tuple[dict[str, tuple[float, ...]], list[str]]:
    """Entries by canonical key, and names that are no layers."""
    entries: dict[str, tuple[float, ...]] = {}
    left_out = []
    for name, value in _read(path).items():
        if PART.fullmatch(name):
            left_out.append(name)
            continue
        key = key_of(layer_of(name)) or name
        if key in entries:
            raise InvalidInputError("entry", name, "each layer once")
        if not isinstance(value, dict):
            expected = '{"latency": milliseconds, "energy": millijoules}'
            raise InvalidInputError(f"entry {name}", value, expected)
        entries[key] = tuple(_figure(name, value, metric) for metric in COLUMNS)
    if len(entries) < MIN_LAYERS:
        expected = f"at least {MIN_LAYERS} layers; it has {len(entries)}"
        raise InvalidInputError("file", str(path), expected)
    return entries, left_out


def _figure(name: str, value: Mapping[str, object], metric: str) -> float:
    """A figure of an entry: finite and positive."""
    column = COLUMNS[metric]
    if column not in value:
        raise InvalidInputError(f"entry {name}", value, f'"{column}", in {UNITS[metric]}')
    found = value[column]
    if isinstance(found, (int, float)) and not isinstance(found, bool) and 0 < found < 1e12:
        return float(found)
    expected = f"{UNITS[metric]}, a number above 0"
    raise InvalidInputError(f"entry {name}, {column}", found, expected)


def _read(path: Path) -> dict[str, object]:
    """A file's JSON object, no name of which is there twice."""
    try:
        found = json.loads(path.read_bytes(), object_pairs_hook=_once)
    except InvalidInputError:
        raise
    except OSError as error:
        expected = f"a file that can be read ({error.strerror})"
        raise InvalidInputError("file", str(path), expected) from None
    except (ValueError, RecursionError) as error:
        raise InvalidInputError("file", str(path), f"a JSON object ({error})") from None
    if not isinstance(found, dict):
        raise InvalidInputError("file", str(path), f"a JSON object with entries {SHAPE}")
    return found


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInputError("entry", twice, "each name once")
    return found


@lru_cache(maxsize=8)
def _kept(path: Path, changed_ns: int) -> dict[str, Any]:
    """Fields of a table, read again only when its file has changed."""
    body: dict[str, Any] = json.loads(path.read_text())
    body["forms"] = {m: ClosedForm(form["coefficients"]) for m, form in body["forms"].items()}
    body["errors"] = {m: errors_from_json(errors) for m, errors in body["errors"].items()}
    body["left_out"] = tuple(body["left_out"])
    return body
