"""Every family of models with published weights that we read."""

from __future__ import annotations

from research.pretrained import convnext, efficientnet, gpt2, llama, marian, resnet, rnn, vit, whisper
from research.pretrained.family import Family

FAMILIES: tuple[Family, ...] = (
    resnet.FAMILY,
    efficientnet.FAMILY,
    convnext.FAMILY,
    vit.FAMILY,
    gpt2.FAMILY,
    llama.FAMILY,
    *rnn.FAMILIES,
    marian.FAMILY,
    whisper.FAMILY,
)
