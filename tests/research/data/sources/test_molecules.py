"""Molecules by RDKit: features, splits, missing labels, and tables that are refused."""

import numpy as np
import pytest

from research.data.molecule_features import molecule_graph, parse, scaffold_split
from research.data.sources.molecules import Molecules
from research.errors import RequestError

pytest.importorskip("rdkit")

SMILES = [
    "CCO",
    "c1ccccc1",
    "c1ccccc1C",
    "C",
    "[Na+].[Cl-]",
    "C1CCCCC1N",
    "CC(=O)O",
    "c1ccncc1",
    "F/C=C/F",
    "N[C@@H](C)O",
]


def table(tmp_path, rows, header="smiles,target"):
    path = tmp_path / "molecules.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def numbered(tmp_path, **changes):
    rows = [f"{s},{i}" for i, s in enumerate(SMILES)]
    return Molecules(path=table(tmp_path, rows), split="random", test=2, validation=2, **changes)


def test_rows_hold_the_atoms_and_bonds(tmp_path):
    splits = numbered(tmp_path, row_nodes=12).load()
    assert [s.graphs for s in splits] == [6, 2, 2]
    seen = {}
    for source in splits:
        columns = source.arrays()
        for r, place in np.argwhere(columns["mask"]):
            seen[int(columns["target"][r, place, 0])] = int((columns["graph"][r] == place).sum())
    assert seen == {i: parse(s).GetNumAtoms() for i, s in enumerate(SMILES)}


def test_features_say_what_is_documented():
    benzene, ethene = molecule_graph(parse("c1ccccc1")), molecule_graph(parse("F/C=C/F"))
    assert benzene.nodes.sum(1).tolist() == [7] * 6  # one of each kind, aromatic, in a ring
    assert benzene.edge_features[:, 3].all() and benzene.edge_features[:, 5].all()
    double = ethene.edge_features[ethene.edge_features[:, 1] == 1]
    assert len(double) == 2 and (double[:, 6:] == [0, 1]).all()  # E, in both directions
    right, left = (molecule_graph(parse(s)).nodes[1, -2:].tolist() for s in ("N[C@@H](C)O", "N[C@H](C)O"))
    assert sorted([right, left]) == [[0, 1], [1, 0]]
    lone, salt = molecule_graph(parse("C")), molecule_graph(parse("[Na+].[Cl-]"))
    assert lone.edges.shape == (0, 2) and lone.edge_features.shape == (0, 8)
    assert len(salt.nodes) == 2 and len(salt.edges) == 0


def test_a_scaffold_is_in_one_split():
    smiles = [f"c1ccccc1{'C' * i}" for i in range(6)] + [f"C1CCCCC1{'N' * i}" for i in range(3)] + ["c1ccncc1"]
    train, validation, test = scaffold_split([parse(s) for s in smiles], 0.3, 0.1)
    assert train.tolist() == list(range(6)) and validation.tolist() == [6, 7, 8] and test.tolist() == [9]


def test_empty_cells_are_missing_labels_and_classes_are_0_and_1(tmp_path):
    path = table(tmp_path, ["CCO,0,1", "CC,,1.0", "CCC,1,", "CN,0,0"], "smiles,a,b")
    data = Molecules(path=path, target=("a", "b"), target_type="class", split="random", test=1, validation=1)
    whole = [s.arrays() for s in data.load()]
    labels = np.concatenate([c["label"][c["mask"]] for c in whole])
    assert sorted(map(tuple, labels.tolist())) == [(-1, 1), (0, 0), (0, 1), (1, -1)]


def test_a_column_gives_the_splits(tmp_path):
    rows = [f"{s},1,{word}" for s, word in zip(SMILES, ["train"] * 6 + ["valid"] * 2 + ["Test"] * 2, strict=True)]
    data = Molecules(path=table(tmp_path, rows, "smiles,target,split"), split="given")
    assert [s.graphs for s in data.load()] == [6, 2, 2]
    wrong = table(tmp_path, [*rows, "C,1,dev"], "smiles,target,split")
    with pytest.raises(RequestError, match="row 11: split 'dev'; expected one of train"):
        Molecules(path=wrong, split="given").load()


def test_molecules_that_do_not_parse_are_named_or_counted(tmp_path):
    path = table(tmp_path, [*(f"{s},1" for s in SMILES), "C1CC,2", ",3"])
    with pytest.raises(RequestError) as error:
        Molecules(path=path, split="random").load()
    assert "row 11: 'C1CC' is no SMILES" in str(error.value) and "2 rows of 12" in str(error.value)
    splits = Molecules(path=path, split="random", skip_invalid=True).load()
    assert sum(s.graphs for s in splits) == len(SMILES) and "2 molecules left out" in splits.train.note


@pytest.mark.parametrize(
    ("said", "rows", "changes"),
    [
        ("row 1: 'target' is 'soluble'; expected a number", ["C,soluble"], {}),
        ("row 2: 'target' is ''; expected a number", ["C,1", "CC,"], {}),
        ("row 1: 'target' is 'active'; expected 0 or 1", ["C,active"], {"target_type": "class"}),
        ("row 1: 'target' is '2'; expected 0 or 1", ["C,2"], {"target_type": "class"}),
        ("row 1: 'target' is 'inf'; expected a finite number", ["C,inf"], {}),
        ("no column 'logS'; ", ["C,1"], {"target": "logS"}),
        ("no column 'SMILES'; did you mean 'smiles'?", ["C,1"], {"smiles": "SMILES"}),
        ("no molecule is left for train", ["C,1", "CC,2"], {"split": "scaffold"}),
    ],
)
def test_tables_that_do_not_fit_are_one_line(tmp_path, said, rows, changes):
    data = Molecules(path=table(tmp_path, rows), **{"split": "random", **changes})
    with pytest.raises(RequestError) as error:
        data.load()
    assert said in str(error.value) and "\n" not in str(error.value)


def test_settings_that_do_not_fit_are_one_line():
    with pytest.raises(RequestError, match="expected fractions"):
        Molecules(path="a.csv", test=10).check()
    with pytest.raises(RequestError, match=r"target=\(\)"):
        Molecules(path="a.csv", target=()).check()


def test_smiles_are_encoded_one_to_a_row():
    data = Molecules(path="not_read.csv")
    columns = data.encode(["CCO", "C"])
    assert columns["mask"].tolist() == [[True], [True]]
    assert (columns["graph"] == 0).sum(1).tolist() == [3, 1]
    for raw, said in (
        (["CCO", "C1CC"], "molecule 1: 'C1CC'"),
        ([], "got none"),
        ([3], "molecule 0: expected a SMILES"),
    ):
        with pytest.raises(RequestError, match=said):
            data.encode(raw)
