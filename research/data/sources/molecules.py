"""Molecules in a table of SMILES, as packed graphs, with numbers or labels to predict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from research.console import counted
from research.data import molecule_features
from research.data.graphs import GraphData, GraphList, RowShape, one_per_row
from research.data.padding import padded_length
from research.data.source import Source
from research.data.sources.table_files import check_columns, check_delimiter, read_table
from research.data.spec import Splits, check_amount
from research.errors import RequestError, require

SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
"""{word in a column of splits: the split}."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Molecules(GraphData):
    """Molecules from a table (.csv, .tsv, also .gz; .parquet) with a column of SMILES (pip install -e '.[molecules]').

    >>> data = Molecules(path="esol.csv", target="logS")

    Rows are as in `GraphData`, with the features that `research.data.molecule_features` lists, and `row` int32
    [places], the row of the table from 0.  With
    `target_type="number"` they have `target` float32 [places, targets]; with "class", `label` int32 [places, targets],
    which is 0, 1 or -1 where the cell is empty.

    Attributes:
      path: the file.
      smiles: the column of SMILES.
      target: the column to predict, or several.
      target_type: whether the targets are numbers or classes, 0 and 1.
      split: "scaffold" divides by Bemis-Murcko scaffold as MoleculeNet does, "random" by `split_seed`, and "given" by
        the column `split_column`, which says train, valid(ation) or test.
      split_column: the column of splits.
      test: the fraction of molecules in the test split.
      skip_invalid: leave out molecules that do not parse, and count them, instead of refusing the file.
      delimiter: of a CSV.
    """

    path: str
    smiles: str = "smiles"
    target: str | tuple[str, ...] = "target"
    target_type: Literal["number", "class"] = "number"
    split: Literal["scaffold", "random", "given"] = "scaffold"
    split_column: str = "split"
    test: float | int = 0.1
    skip_invalid: bool = False
    delimiter: str = ","

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,) if isinstance(self.target, str) else self.target

    def check(self) -> None:
        super().check()
        check_amount("test", self.test)
        check_delimiter(self.delimiter)
        require(bool(self.targets), "target=(): expected at least one column")
        amounts = (self.validation, self.test)
        fractions = all(isinstance(x, float) for x in amounts) and sum(amounts) < 1
        require(
            self.split != "scaffold" or fractions,
            f"split='scaffold' with validation={self.validation}, test={self.test}: expected fractions",
        )

    def read(self) -> Splits:
        table = read_table(self.path, delimiter=self.delimiter)
        check_columns(table, self.path, "smiles", [self.smiles])
        check_columns(table, self.path, "target", self.targets)
        require(pa.types.is_string(table.schema.field(self.smiles).type), f"smiles={self.smiles!r}: expected text")
        texts = [(text or "").strip() for text in table[self.smiles].to_pylist()]
        molecules = [molecule_features.parse(text) for text in texts]
        bad = [i for i, molecule in enumerate(molecules) if molecule is None]
        if bad and not self.skip_invalid:
            raise RequestError(
                f"{self.path}, row {bad[0] + 1}: {texts[bad[0]]!r} is no SMILES that RDKit can read, as in "
                f"{counted(len(bad), 'row')} of {len(texts)}; skip_invalid=true leaves them out"
            )
        kept = [i for i, molecule in enumerate(molecules) if molecule is not None]
        require(bool(kept), f"{self.path}: no SMILES of {counted(len(texts), 'row')} can be read")
        molecules = [molecules[i] for i in kept]
        names = [f"{self.path}, row {i + 1}" for i in kept]
        columns = [self._cells(table, name)[kept] for name in self.targets]
        values = np.stack(columns, 1)
        note = f"{counted(len(bad), 'molecule')} left out that RDKit cannot read" if bad else ""
        kind = {"target": values} if self.target_type == "number" else {"label": values.astype(np.int32)}
        kind["row"] = np.array(kept, np.int32)
        whole = GraphList([molecule_features.molecule_graph(m) for m in molecules], kind, names, note)
        if self.split == "given":
            return self._given(table, kept, whole)
        if self.split == "random":
            train, test = self.hold_out(whole, "test")
            return Splits(train=train, test=test)
        parts = molecule_features.scaffold_split(molecules, self.validation, self.test)
        for name, part in zip(Splits._fields, parts, strict=True):
            require(len(part) > 0, f"split='scaffold': no molecule is left for {name}; expected more of them")
        return Splits(*(whole.take(part) for part in parts))

    def encode(self, raw: str | Sequence[str]) -> dict[str, np.ndarray]:
        """Encodes SMILES for prediction, one molecule per row."""
        if isinstance(raw, dict):
            return super().encode(raw)
        texts = [raw] if isinstance(raw, str) else list(raw)
        require(bool(texts), "expected a SMILES, or a list of them, got none")
        graphs = []
        for i, text in enumerate(texts):
            require(isinstance(text, str), f"molecule {i}: expected a SMILES, got {type(text).__name__}")
            molecule = molecule_features.parse(text)
            require(molecule is not None, f"molecule {i}: {text!r} is no SMILES that RDKit can read")
            graphs.append(molecule_features.molecule_graph(molecule))
        whole = GraphList(graphs, {}, texts)
        nodes, edges = (padded_length(max(int(x.max()), 1), 1 << 30) for x in whole.sizes())
        return one_per_row(whole, RowShape(nodes, edges, 1)).arrays()

    def inferred(self, train: Source) -> list[dict[str, str]]:
        """Says how the columns are read."""
        kind = "number" if self.target_type == "number" else "class, 0 or 1; empty cells have no label"
        return [{"column": self.smiles, "read as": "SMILES"}, *({"column": t, "read as": kind} for t in self.targets)]

    def _cells(self, table: pa.Table, name: str) -> np.ndarray:
        """One column of targets as float32 [row]; classes are 0, 1 or -1 for an empty cell."""
        cells = np.full(table.num_rows, -1, np.float32)
        for i, cell in enumerate(table[name].to_pylist()):
            given = str(cell).strip() if cell is not None else ""
            said = f"{self.path}, row {i + 1}: {name!r} is {given!r}"
            if not given:
                require(self.target_type == "class", f"{said}; expected a number")
                continue
            try:
                cells[i] = float(given)
            except ValueError:
                raise RequestError(
                    f"{said}; expected {'0 or 1' if self.target_type == 'class' else 'a number'}"
                ) from None
            require(np.isfinite(cells[i]), f"{said}; expected a finite number")
            require(self.target_type == "number" or cells[i] in (0, 1), f"{said}; expected 0 or 1")
        return cells

    def _given(self, table: pa.Table, kept: list[int], whole: GraphList) -> Splits:
        check_columns(table, self.path, "split_column", [self.split_column])
        words = [str(word).strip().lower() for word in table[self.split_column].to_pylist()]
        for i in kept:
            known = ", ".join(SPLITS)
            require(words[i] in SPLITS, f"{self.path}, row {i + 1}: split {words[i]!r}; expected one of {known}")
        split = np.array([SPLITS[words[i]] for i in kept])
        require((split == "train").any(), f"{self.path}: no row has split 'train'")
        parts = (np.flatnonzero(split == name) for name in Splits._fields)
        return Splits(*(whole.take(part) if len(part) else None for part in parts))
