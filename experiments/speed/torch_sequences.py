"""The peer of `against_torch translation speech`: the same training in eager PyTorch on a CPU; needs only torch.

    venv/bin/python experiments/speed/torch_sequences.py --threads 2 --only translation

Prints "CASE N steps/s", the best of the repeats.  A step consists of zero_grad, forward, loss, backward, clipping and
AdamW's fused update, on one batch that stays in memory.  Attention is scaled_dot_product_attention.
"""

import argparse
import math
import time
from functools import partial

import torch
from torch import nn
from torch.nn import functional

WARM_UP = 2


class Attention(nn.Module):
    def __init__(self, width, heads, key_bias=True):
        super().__init__()
        self.heads = heads
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=key_bias)

    def forward(self, x, memory=None, causal=False):
        memory = x if memory is None else memory
        by_head = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for y in (self.query(x), self.key(memory), self.value(memory))
        )
        y = functional.scaled_dot_product_attention(*by_head, is_causal=causal)
        return self.out(y.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """Pre-norm."""

    def __init__(self, width, heads, activation, dropout, decoder=False, key_bias=True):
        super().__init__()
        self.activation, self.decoder, self.drop = activation, decoder, nn.Dropout(dropout)
        self.attention, self.norm_attention = Attention(width, heads, key_bias), nn.LayerNorm(width)
        if decoder:
            self.cross, self.norm_cross = Attention(width, heads, key_bias), nn.LayerNorm(width)
        self.up, self.down, self.norm_mlp = (
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
            nn.LayerNorm(width),
        )

    def forward(self, x, memory=None):
        x = x + self.drop(self.attention(self.norm_attention(x), causal=self.decoder))
        if self.decoder:
            x = x + self.drop(self.cross(self.norm_cross(x), memory))
        return x + self.drop(self.down(self.activation(self.up(self.norm_mlp(x)))))


def sinusoids(length, width):
    angles = torch.arange(length)[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class Transformer(nn.Module):
    def __init__(self, vocab_size, width, depth, heads, dropout):
        super().__init__()
        block = partial(Block, width, heads, functional.relu, dropout)
        self.embed, self.width = nn.Embedding(vocab_size, width), width
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        self.encoder = nn.ModuleList(block() for _ in range(depth))
        self.decoder = nn.ModuleList(block(decoder=True) for _ in range(depth))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)
        self.register_buffer("places", sinusoids(128, width))

    def embedded(self, tokens):
        return self.drop(self.embed(tokens) * math.sqrt(self.width) + self.places[: tokens.shape[1]])

    def forward(self, source, target):
        memory, x = self.embedded(source), self.embedded(target)
        for block in self.encoder:
            memory = block(memory)
        memory = self.encoder_norm(memory)
        for block in self.decoder:
            x = block(x, memory)
        return functional.linear(self.decoder_norm(x), self.embed.weight)


class CTC(nn.Module):
    def __init__(self, vocab_size, mels, width, depth, heads, dropout):
        super().__init__()
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(mels, width, 3, padding=1), nn.Conv1d(width, width, 3, stride=2, padding=1)]
        )
        block = partial(Block, width, heads, functional.gelu, dropout, key_bias=False)
        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.norm, self.head, self.drop = nn.LayerNorm(width), nn.Linear(width, vocab_size), nn.Dropout(dropout)
        self.register_buffer("places", sinusoids(256, width))
        self.register_buffer("window", torch.hann_window(400))
        self.register_buffer("filters", torch.rand(201, mels))

    def features(self, waveforms):
        """Returns [batch, mels, frames]; appends a frame of silence, so that the end is not reflected."""
        x = functional.pad(waveforms, (0, 480))
        power = torch.stft(x, 400, 160, window=self.window, return_complex=True).abs().square()
        frames = waveforms.shape[1] // 160
        log = (self.filters.T @ power[..., :frames]).clamp(min=1e-10).log10()
        return (torch.maximum(log, log.amax((1, 2), keepdim=True) - 8) + 4) / 4

    def forward(self, waveforms):
        with torch.no_grad():
            x = self.features(waveforms)
        for convolution in self.convolutions:
            x = functional.gelu(convolution(x))
        x = x.transpose(1, 2)
        x = self.drop(x + self.places[: x.shape[1]])
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def translation(batch, length):
    model = Transformer(vocab_size=8000, width=256, depth=3, heads=4, dropout=0.1)
    source, target = torch.randint(3, 8000, (2, batch, length))
    seen = torch.cat([torch.ones(batch, 1, dtype=torch.long), target[:, :-1]], dim=1)

    def loss():
        return functional.cross_entropy(model(source, seen).flatten(0, 1), target.flatten(), label_smoothing=0.1)

    return model, loss


def speech(batch, samples):
    model = CTC(vocab_size=18, mels=40, width=96, depth=4, heads=4, dropout=0.1)
    waveforms, labels = torch.rand(batch, samples) * 2 - 1, torch.randint(3, 18, (batch, 4))

    def loss():
        log_probs = model(waveforms).log_softmax(-1).transpose(0, 1)
        lengths = torch.full((batch,), len(log_probs)), torch.full((batch,), labels.shape[1])
        return functional.ctc_loss(log_probs, labels, *lengths, reduction="sum") / labels.numel()

    return model, loss


CASES = {"translation": (partial(translation, 64, 20), 6), "speech": (partial(speech, 64, 8000), 12)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=list(CASES))
    parser.add_argument(
        "--max-tries", type=int, help="accepted for the harness, without effect: every repeat counts here"
    )
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    for name in [asked.only] if asked.only else CASES:
        make, steps = CASES[name]
        model, loss_of = make()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

        def step(model=model, loss_of=loss_of, optimizer=optimizer):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return loss

        for _ in range(WARM_UP):
            step()
        rates = []
        for _ in range(asked.repeats):
            started = time.perf_counter()
            for _ in range(steps):
                step().item()
            rates.append(steps / (time.perf_counter() - started))
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{name} {max(rates):.3f} steps/s; {parameters:,} parameters")


if __name__ == "__main__":
    main()
