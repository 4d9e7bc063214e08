"""The sizes of both stacks of an encoder-decoder, and refusals of unsuitable widths and kernels."""

import dataclasses

import pytest

from research.errors import RequestError
from research.layers.transformer import check_stack, decoder_sizes, encoder_sizes


@dataclasses.dataclass(frozen=True)
class Model:
    width: int = 12
    depth: int = 4
    num_heads: int = 3
    mlp_width: int | None = None
    decoder_depth: int | None = None
    decoder_num_heads: int | None = None
    decoder_mlp_width: int | None = None
    kernel: str = "auto"
    attention_dropout: float = 0.0
    dtype: str = "float32"


def sizes(depth: int, num_heads: int, mlp_width: int) -> dict[str, int]:
    return {"depth": depth, "num_heads": num_heads, "mlp_width": mlp_width}


@pytest.mark.parametrize(
    ("model", "encoder", "decoder"),
    [
        (Model(), sizes(4, 3, 48), sizes(4, 3, 48)),
        (Model(mlp_width=7), sizes(4, 3, 7), sizes(4, 3, 7)),
        (Model(decoder_mlp_width=5), sizes(4, 3, 48), sizes(4, 3, 5)),
        (Model(decoder_depth=1, decoder_num_heads=2), sizes(4, 3, 48), sizes(1, 2, 48)),
    ],
)
def test_a_decoder_is_as_large_as_its_encoder_but_for_what_is_said(model, encoder, decoder):
    assert encoder_sizes(model) == encoder and decoder_sizes(model) == decoder


def test_the_heads_of_either_stack_divide_the_width():
    model = Model(num_heads=5, decoder_num_heads=7)
    with pytest.raises(RequestError, match="^num_heads=5: "):
        check_stack(model, encoder_sizes(model))
    with pytest.raises(RequestError, match="^decoder_num_heads=7: "):
        check_stack(model, decoder_sizes(model), num_heads="decoder_num_heads")
