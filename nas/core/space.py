"""The search space: named conditional decisions, and operators over whole populations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from nas.core.candidate import Candidate, Genotypes, Value
from nas.core.cell import Cell, canonical_cells, live_vertices, loosened
from nas.core.decision import Decision
from nas.core.enumeration import INACTIVE, all_rows, changed_once, number_of_candidates
from nas.core.errors import InvalidInputError, UnknownNameError

FORMAT_VERSION = 1
MAX_ROWS = 1_000_000


@final
@dataclass(frozen=True)
class SearchSpace:
    """Decisions, parents before children, and every operator a search needs over them.

    Operators take and return `(n, d)` int16 matrices of option indices with -1 where a decision
    is inactive, never change their arguments, and return rows in canonical form.

    Attributes:
        decisions: in order; a condition names an earlier decision.
        cell: which of them form a graph; rows of isomorphic graphs are then the same candidate,
            and operators of vertices on no path from input to output are inactive.

    Raises:
        InvalidInputError: no decisions, repeated names, a condition on a decision or value that
            does not come before, or a cell of decisions that are not there.
    """

    decisions: tuple[Decision, ...]
    cell: Cell | None = None

    def __post_init__(self) -> None:
        if not self.decisions:
            raise InvalidInputError("space.decisions", (), "at least one decision")
        seen: dict[str, Decision] = {}
        for decision in self.decisions:
            if decision.name in seen:
                raise InvalidInputError("space.decisions", decision.name, "each name only once")
            if decision.condition is not None:
                parent = seen.get(decision.condition.parent)
                if parent is None:
                    raise UnknownNameError(
                        f"decision {decision.name}.condition", decision.condition.parent, seen
                    )
                if not set(decision.condition.values) <= set(parent.options):
                    raise InvalidInputError(
                        f"decision {decision.name}.condition",
                        decision.condition.values,
                        f"options of {parent.name}: {parent.options}",
                    )
            seen[decision.name] = decision
        if self.cell is not None:
            self.cell.check(seen)

    def __len__(self) -> int:
        return len(self.decisions)

    # ---------------------------------------------------------------- building

    def join(self, other: SearchSpace, prefix: str = "") -> SearchSpace:
        """This space and `other` side by side; `prefix.` goes before the other's names.

        Raises:
            InvalidInputError: a name would stand twice, or `other` has a cell.
        """
        if other.cell is not None:
            raise InvalidInputError("space.cell", other.cell, "a cell in the first space only")
        added = [d.renamed(prefix) if prefix else d for d in other.decisions]
        return SearchSpace((*self.decisions, *added), self.cell)

    def narrowed(self, options: Mapping[str, Sequence[Value]]) -> SearchSpace:
        """This space with fewer options; decisions that can no longer exist are left out.

        Args:
            options: by decision name, those that stay, in any order.

        Raises:
            UnknownNameError: no such decision.
            InvalidInputError: an option it does not have, or none left; or part of a cell, whose
                canonical form might not be left.
        """
        part = set(options) & {*self.cell.operators, *self.cell.edges} if self.cell else set()
        if part:
            raise InvalidInputError("narrowed", sorted(part), "decisions outside the cell")
        for name, kept in options.items():
            if name not in self.column:
                raise UnknownNameError("narrowed", name, self.names)
            known = self.decisions[self.column[name]].options
            if not kept or not set(kept) <= set(known):
                raise InvalidInputError(f"narrowed.{name}", list(kept), f"some of {list(known)}")
        left: dict[str, Decision] = {}
        for decision in self.decisions:
            kept = options.get(decision.name, decision.options)
            condition = decision.condition
            if condition is not None:
                parent = left.get(condition.parent)
                values = tuple(v for v in condition.values if parent and v in parent.options)
                if not values:
                    continue
                condition = replace(condition, values=values)
            stays = tuple(o for o in decision.options if o in kept)
            left[decision.name] = replace(decision, options=stays, condition=condition)
        return SearchSpace(tuple(left.values()), self.cell)

    def widened(self, rows: Genotypes, narrow: SearchSpace) -> Genotypes:
        """`(n, d)` rows of this space for `(n, e)` rows of one that was `narrowed` from it."""
        rows = narrow.canonical(rows)
        columns = np.full((len(self), len(rows)), INACTIVE, dtype=np.int16)
        for i, decision in enumerate(self.decisions):
            if decision.name in narrow.column:
                j = narrow.column[decision.name]
                index = [decision.options.index(o) for o in narrow.decisions[j].options]
                columns[i] = np.array([*index, INACTIVE], dtype=np.int16)[rows[:, j]]
        return self.canonical(columns.T)

    @cached_property
    def size(self) -> int:
        """The exact number of distinct candidates; with a cell, isomorphic graphs counted apart."""
        return number_of_candidates(self.decisions)

    # ---------------------------------------------------------------- tables behind the operators

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Decision names in column order."""
        return tuple(d.name for d in self.decisions)

    @cached_property
    def n_options(self) -> NDArray[np.int16]:
        """`(d,)` number of options per decision."""
        return np.array([len(d.options) for d in self.decisions], dtype=np.int16)

    @cached_property
    def column(self) -> Mapping[str, int]:
        """Column number by decision name."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def _conditions(self) -> tuple[tuple[int, int, NDArray[np.bool_]], ...]:
        """Per conditional decision: its column, its parent's, and `(options + 1,)` allowed.

        The table is indexed by the parent's option index; its last entry (index -1) is False.
        """
        rows = []
        for i, decision in enumerate(self.decisions):
            if decision.condition is None:
                continue
            j = self.column[decision.condition.parent]
            parent = self.decisions[j]
            allowed = [option in decision.condition.values for option in parent.options]
            rows.append((i, j, np.array([*allowed, False])))
        return tuple(rows)

    @cached_property
    def _cell_columns(self) -> tuple[list[int], list[int]]:
        """Column numbers of the cell's edges and of its operators."""
        assert self.cell is not None
        edges = [self.column[name] for name in self.cell.edges]
        return edges, [self.column[name] for name in self.cell.operators]

    @cached_property
    def _zobrist(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """`(d,)` offsets and one random 64-bit word per (decision, option or inactive)."""
        widths = self.n_options.astype(np.int64) + 1
        offsets = np.concatenate([[0], np.cumsum(widths)[:-1]]) + 1
        words = np.random.default_rng(0).integers(
            0, np.iinfo(np.uint64).max, size=int(widths.sum()), dtype=np.uint64, endpoint=True
        )
        return offsets, words

    # ---------------------------------------------------------------- operators over rows

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """`(n, d)` random rows, every active decision uniform over its options."""
        draws = rng.random((len(self), n), dtype=np.float32)
        draws *= self.n_options[:, None]
        rows = np.minimum(draws.astype(np.int16), self.n_options[:, None] - 1)
        return self._deactivated(rows).T

    def mutate(
        self, rows: Genotypes, rng: np.random.Generator, rate: float | None = None
    ) -> Genotypes:
        """Each active decision moves to another of its options with probability `rate`.

        At least one decision of every row changes wherever any has a choice (in a cell it may be
        one that does not count). A decision that becomes active is drawn uniformly.

        Args:
            rows: `(n, d)` valid rows.
            rng: source of randomness.
            rate: probability per active decision; None changes exactly one decision a row.
        """
        rows = self._loosened(self._checked(rows), rng)
        n = len(rows)
        free = (rows != INACTIVE) & (self.n_options > 1)
        scores = np.where(free, rng.random(rows.shape, dtype=np.float32), 2.0)
        chosen = scores < (0.0 if rate is None else rate)
        chosen[np.arange(n), scores.argmin(axis=1)] |= free.any(axis=1)
        steps = 1 + (rng.random(rows.shape) * np.maximum(self.n_options - 1, 1)).astype(np.int16)
        fresh = (rng.random(rows.shape) * self.n_options).astype(np.int16)
        filled = np.where(rows == INACTIVE, fresh, rows)
        moved = np.where(chosen, (filled + steps) % self.n_options, filled)
        return self._deactivated(np.ascontiguousarray(moved.T.astype(np.int16))).T

    def crossover(self, a: Genotypes, b: Genotypes, rng: np.random.Generator) -> Genotypes:
        """Uniform crossover row by row: every decision comes from `a` or from `b`.

        Where the parent picked has the decision inactive the other's option is taken, and where
        both have, a uniform draw.

        Args:
            a: `(n, d)` valid rows.
            b: `(n, d)` valid rows.
            rng: source of randomness.
        """
        a, b = self._checked(a), self._checked(b)
        if a.shape != b.shape:
            raise InvalidInputError("crossover", b.shape, f"two matrices of shape {a.shape}")
        pick = rng.random(a.shape, dtype=np.float32) < 0.5
        first, second = np.where(pick, a, b), np.where(pick, b, a)
        fresh = (rng.random(a.shape) * self.n_options).astype(np.int16)
        child = np.where(first != INACTIVE, first, np.where(second != INACTIVE, second, fresh))
        return self._deactivated(np.ascontiguousarray(child.T.astype(np.int16))).T

    def canonical(self, rows: Genotypes) -> Genotypes:
        """The same candidates with -1 in every decision that does not exist for them.

        Raises:
            InvalidInputError: wrong number of columns, an index out of range, or an active
                decision without an option.
        """
        rows = self._checked(rows)
        columns = self._deactivated(np.ascontiguousarray(rows.T)).T
        lost = (columns == INACTIVE) & ~self._inactive(columns)
        if lost.any():
            row, column = np.argwhere(lost)[0]
            raise InvalidInputError(
                f"genotype row {row}", INACTIVE, f"an option of {self.names[column]}"
            )
        return columns

    def keys(self, rows: Genotypes) -> NDArray[np.uint64]:
        """`(n,)` 64-bit keys; rows of the same candidate have the same key (Zobrist sums)."""
        offsets, words = self._zobrist
        columns = self._deactivated(np.ascontiguousarray(self._checked(rows).T))
        total = np.zeros(columns.shape[1], dtype=np.uint64)
        for i, offset in enumerate(offsets):
            total += words[columns[i] + offset]
        return total

    def rows(self) -> Genotypes:
        """`(size, d)` every candidate; for small spaces.

        Raises:
            InvalidInputError: more than a million, or a cell, whose candidates cannot be listed.
        """
        if self.cell is not None or self.size > MAX_ROWS:
            raise InvalidInputError("space.size", self.size, f"at most {MAX_ROWS}, without a cell")
        return all_rows(self.decisions)

    def neighbours(self, row: Genotypes) -> Genotypes:
        """`(m, d)` every candidate that differs from `row` in one active decision.

        A decision that becomes active takes its first option.
        """
        row = self.canonical(np.atleast_2d(row))[0]
        return self.canonical(changed_once(row, self.n_options))

    # ---------------------------------------------------------------- one candidate

    def candidate(self, row: Genotypes) -> Candidate:
        """The candidate of one `(d,)` row."""
        row = self.canonical(np.atleast_2d(row))
        key = f"{int(self.keys(row)[0]):016x}"
        pairs = zip(self.decisions, row[0].tolist(), strict=True)
        return Candidate({d.name: d.options[i] for d, i in pairs if i != INACTIVE}, key)

    def row(self, candidate: Candidate | Mapping[str, Value]) -> Genotypes:
        """The `(d,)` row of a candidate, or of its values alone.

        Raises:
            InvalidInputError: a decision missing, unknown, or without that option.
        """
        values = candidate.values if isinstance(candidate, Candidate) else candidate
        for name in values:
            if name not in self.column:
                raise UnknownNameError("candidate", name, self.names)
        row = np.full(len(self), INACTIVE, dtype=np.int16)
        for i, decision in enumerate(self.decisions):
            if decision.name not in values:
                condition = decision.condition
                exists = condition is None or values.get(condition.parent) in condition.values
                if exists and self.cell is None:  # a cell's canonical form leaves some out
                    raise InvalidInputError(
                        f"candidate.{decision.name}", None, f"one of {list(decision.options)}"
                    )
                continue
            value = values[decision.name]
            try:
                row[i] = decision.options.index(value)
            except ValueError:
                raise InvalidInputError(
                    f"candidate.{decision.name}", value, f"one of {list(decision.options)}"
                ) from None
        return self.canonical(row[None])[0]

    # ---------------------------------------------------------------- JSON

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back to an equal space."""
        decisions = [d.to_json() for d in self.decisions]
        body: dict[str, Any] = {"version": FORMAT_VERSION, "decisions": decisions}
        return body if self.cell is None else {**body, "cell": self.cell.to_json()}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            InvalidInputError: another version, or not this form.
        """
        if body.get("version") != FORMAT_VERSION:
            raise InvalidInputError("space.version", body.get("version"), f"{FORMAT_VERSION}")
        decisions = body.get("decisions")
        if not isinstance(decisions, Sequence) or isinstance(decisions, str):
            raise InvalidInputError("space.decisions", decisions, "a list of decisions")
        cell = body.get("cell")
        return cls(tuple(Decision.from_json(d) for d in decisions), cell and Cell.from_json(cell))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the JSON form: equal spaces, equal digests."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    # ---------------------------------------------------------------- inside

    def _deactivated(self, columns: NDArray[np.int16]) -> NDArray[np.int16]:
        """`(d, n)` columns with -1 set, in place, where a decision's condition does not hold."""
        for i, j, allowed in self._conditions:
            columns[i][~allowed[columns[j]]] = INACTIVE
        if self.cell is not None:
            edges, operators = self._cell_columns
            graphs, labels = canonical_cells(
                self.cell.adjacency(columns[edges]), columns[operators].T
            )
            columns[edges] = self.cell.edge_columns(graphs)
            columns[operators] = labels.T
        return columns

    def _inactive(self, rows: Genotypes) -> NDArray[np.bool_]:
        """`(n, d)` whether a decision does not exist in its row."""
        mask = np.zeros(rows.shape, dtype=np.bool_)
        for i, j, allowed in self._conditions:
            mask[:, i] = ~allowed[rows[:, j]]
        if self.cell is not None:
            edges, operators = self._cell_columns
            live = live_vertices(self.cell.adjacency(rows[:, edges].T))
            mask[:, operators] = ~live[:, 1:-1]
        return mask

    def _loosened(self, rows: Genotypes, rng: np.random.Generator) -> Genotypes:
        """Rows with the unused vertices of their cells anywhere, ready to be connected."""
        if self.cell is None:
            return rows
        edges, operators = self._cell_columns
        rows = rows.copy()
        graphs, labels = loosened(self.cell.adjacency(rows[:, edges].T), rows[:, operators], rng)
        rows[:, edges], rows[:, operators] = self.cell.edge_columns(graphs).T, labels
        return rows

    def _checked(self, rows: Genotypes) -> Genotypes:
        """A new `(n, d)` int16 matrix, or an error that says what is wrong with `rows`."""
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[1] != len(self):
            raise InvalidInputError("genotypes", rows.shape, f"shape (n, {len(self)})")
        bad = (rows < INACTIVE) | (rows >= self.n_options)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise InvalidInputError(
                f"genotype row {row}",
                int(rows[row, column]),
                f"{self.names[column]} has options 0 to {self.n_options[column] - 1}",
            )
        return rows.astype(np.int16)
