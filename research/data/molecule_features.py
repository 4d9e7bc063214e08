"""Features of atoms and bonds by RDKit, and splits by scaffold.

An atom has 0 or 1 for each of: its element (C, N, O, S, F, Cl, Br, I, P, B, Si, Se, another), its number of neighbours
(0 to 5, more), formal charge (-1, 0, 1, another), number of hydrogens (0 to 3, more), hybridisation (sp, sp2, sp3,
another), being aromatic, being in a ring, and chirality (clockwise, counterclockwise).  A bond has 0 or 1 for each of:
its type (single, double, triple, aromatic), being conjugated, being in a ring, and its stereo (Z, E).  Hydrogens are no
atoms of their own, unless RDKit keeps them (as in `[H][H]`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from research.config.extras import from_extra
from research.data.graphs import Graph

ELEMENTS = ("C", "N", "O", "S", "F", "Cl", "Br", "I", "P", "B", "Si", "Se")


def chem() -> Any:
    """RDKit's `Chem`, which writes no warnings.

    Raises:
      RequestError: RDKit is not installed.
    """
    base = from_extra("rdkit.rdBase", "molecules", "a data set of molecules")
    base.DisableLog("rdApp.*")
    return from_extra("rdkit.Chem", "molecules", "a data set of molecules")


def parse(smiles: str) -> Any | None:
    """The molecule of a SMILES; None if it does not parse or has no atom."""
    molecule = chem().MolFromSmiles(smiles)
    return molecule if molecule is not None and molecule.GetNumAtoms() else None


def molecule_graph(molecule: Any) -> Graph:
    """A molecule as a graph: features uint8 of atoms and of bonds, each bond in both directions.

    >>> graph = molecule_graph(parse("CCO"))
    >>> graph.nodes.shape, graph.edges.tolist(), graph.edge_features.shape
    ((3, 37), [[0, 1], [1, 0], [1, 2], [2, 1]], (4, 8))
    """
    nodes = np.array([_atom(atom) for atom in molecule.GetAtoms()], np.uint8)
    ends, features = [], []
    for bond in molecule.GetBonds():
        a, b = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        ends += [(a, b), (b, a)]
        features += [_bond(bond)] * 2
    edges = np.array(ends, np.int32).reshape(-1, 2)
    return Graph(nodes, edges, np.array(features, np.uint8).reshape(len(edges), BOND_FEATURES))


BOND_FEATURES = 8


def _atom(atom: Any) -> list[int]:
    hybrid, tag = chem().HybridizationType, chem().ChiralType
    return [
        *_choice(atom.GetSymbol(), ELEMENTS),
        *_choice(atom.GetDegree(), range(6)),
        *_choice(atom.GetFormalCharge(), (-1, 0, 1)),
        *_choice(atom.GetTotalNumHs(), range(4)),
        *_choice(atom.GetHybridization(), (hybrid.SP, hybrid.SP2, hybrid.SP3)),
        int(atom.GetIsAromatic()),
        int(atom.IsInRing()),
        int(atom.GetChiralTag() == tag.CHI_TETRAHEDRAL_CW),
        int(atom.GetChiralTag() == tag.CHI_TETRAHEDRAL_CCW),
    ]


def _bond(bond: Any) -> list[int]:
    kind, stereo = chem().BondType, chem().BondStereo
    return [
        *(int(bond.GetBondType() == one) for one in (kind.SINGLE, kind.DOUBLE, kind.TRIPLE, kind.AROMATIC)),
        int(bond.GetIsConjugated()),
        int(bond.IsInRing()),
        int(bond.GetStereo() == stereo.STEREOZ),
        int(bond.GetStereo() == stereo.STEREOE),
    ]


def _choice(value: Any, options: Sequence[Any]) -> list[int]:
    """0 or 1 for each option, and for another value."""
    found = [int(value == option) for option in options]
    return [*found, int(not any(found))]


def scaffold_order(molecules: Sequence[Any]) -> list[list[int]]:
    """The molecules of each Bemis-Murcko scaffold (1996), with chirality, the largest group first."""
    scaffolds = from_extra("rdkit.Chem.Scaffolds.MurckoScaffold", "molecules", "split='scaffold'")
    groups: dict[str, list[int]] = defaultdict(list)
    for i, molecule in enumerate(molecules):
        groups[scaffolds.MurckoScaffoldSmiles(mol=molecule, includeChirality=True)].append(i)
    return sorted(groups.values(), key=lambda group: (len(group), group[0]), reverse=True)


def scaffold_split(molecules: Sequence[Any], validation: float, test: float) -> tuple[np.ndarray, ...]:
    """Divides molecules by scaffold as MoleculeNet does: (train, validation, test), each int [molecule].

    Groups go to the training split while there is room, then to validation, then to test, so that rare scaffolds are
    tested.
    """
    count = len(molecules)
    parts: tuple[list[int], ...] = ([], [], [])
    until = (1 - validation - test) * count, (1 - test) * count
    for group in scaffold_order(molecules):
        if len(parts[0]) + len(group) <= until[0]:
            parts[0].extend(group)
        elif len(parts[0]) + len(parts[1]) + len(group) <= until[1]:
            parts[1].extend(group)
        else:
            parts[2].extend(group)
    return tuple(np.array(part, int) for part in parts)
