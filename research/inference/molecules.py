"""Importance of the atoms and bonds of a molecule for a prediction, drawn on the molecule."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.config.extras import from_extra
from research.config.types import conform
from research.data.molecule_features import parse
from research.errors import require
from research.inference.predictor import Predictor

if TYPE_CHECKING:
    from PIL import Image

Method = Literal["gradient", "occlusion"]


class Importance(NamedTuple):
    """Contributions of the parts of a molecule to an output of the model, in units of that output.

    Attributes:
      smiles: the molecule.
      atoms: [atoms], in the order of the SMILES.
      bonds: [bonds], in RDKit's order; zeros where the model does not use features of bonds.
    """

    smiles: str
    atoms: np.ndarray
    bonds: np.ndarray

    def draw(self, size: int = 400) -> Image.Image:
        """The molecule with its parts in red where they raise the output, and in blue where they lower it."""
        from PIL import Image

        drawing = from_extra("rdkit.Chem.Draw.rdMolDraw2D", "molecules", "a drawing").MolDraw2DCairo(size, size)
        largest = max(float(abs(self.atoms).max()), float(abs(self.bonds).max(initial=0)), 1e-12)
        atoms, bonds = ({i: _colour(float(x) / largest) for i, x in enumerate(part)} for part in self[1:])
        drawing.DrawMolecule(
            parse(self.smiles),
            highlightAtoms=list(atoms),
            highlightAtomColors=atoms,
            highlightBonds=list(bonds),
            highlightBondColors=bonds,
        )
        drawing.FinishDrawing()
        return Image.open(io.BytesIO(drawing.GetDrawingText())).convert("RGB")


def importance(predictor: Predictor, smiles: str, *, output: int = 0, method: Method = "gradient") -> Importance:
    """Explains one output of a model of molecules: `importance(load(run), "CCO").draw().save("ethanol.png")`.

    Args:
      predictor: a trained model on `research.data.Molecules`.
      smiles: the molecule.
      output: the number of the target or label.
      method: "gradient" multiplies the features of an atom or bond with the gradient of the output by them; "occlusion"
        is the change of the output if the features of an atom or a bond become 0.

    Raises:
      RequestError: the SMILES cannot be read, or the model has no such output.
    """
    conform(method, Method, "method")
    inputs = predictor.inputs([smiles])
    parts = {name: inputs[name].astype(jnp.float32) for name in ("nodes", "edge_features")}

    @jax.jit
    def answer(parts: dict[str, Any]) -> jax.Array:
        return predictor.model.apply(predictor.variables, **{**inputs, **parts}, train=False)[0, 0]

    count = len(answer(parts))
    require(0 <= output < count, f"output={output}: expected 0 to {count - 1}")
    molecule = parse(smiles)
    atoms, bonds = molecule.GetNumAtoms(), molecule.GetNumBonds()
    if method == "gradient":
        gradients = jax.grad(lambda parts: answer(parts)[output])(parts)
        by_atom, by_edge = (np.asarray((parts[name] * gradients[name])[0].sum(-1)) for name in parts)
        return Importance(smiles, by_atom[:atoms], by_edge[: 2 * bonds].reshape(bonds, 2).sum(1))
    before = float(answer(parts)[output])

    def without(name: str, places: list[int]) -> float:
        return before - float(answer({**parts, name: parts[name].at[0, jnp.array(places)].set(0)})[output])

    return Importance(
        smiles,
        np.array([without("nodes", [i]) for i in range(atoms)]),
        np.array([without("edge_features", [2 * i, 2 * i + 1]) for i in range(bonds)]),
    )


def _colour(share: float) -> tuple[float, float, float]:
    """White at 0, red at 1, blue at -1."""
    rest = 1 - abs(share)
    return (1.0, rest, rest) if share > 0 else (rest, rest, 1.0)
