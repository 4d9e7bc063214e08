"""Trains experiments/shakespeare_gpt.py in eager PyTorch, for `shakespeare_against_torch`; needs only torch.

    venv/bin/python shakespeare_torch.py input.txt --steps 2000 --threads 2

Prints the seconds of the steps after the first, and the last loss.
"""

import argparse
import math
import time

import torch
from torch import nn
from torch.nn import functional

VOCABULARY, CONTEXT, WIDTH, DEPTH, HEADS, BATCH = 65, 64, 128, 4, 4, 12
RATE, LEAST_RATE, WARMUP = 1e-3, 1e-4, 100


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x):
        batch, length, _ = x.shape
        heads = (y.view(batch, length, HEADS, -1).transpose(1, 2) for y in self.query_key_value(x).chunk(3, dim=-1))
        y = functional.scaled_dot_product_attention(*heads, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, length, WIDTH))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm_attention, self.attention = nn.LayerNorm(WIDTH, bias=False), Attention()
        self.norm_mlp = nn.LayerNorm(WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        x = x + self.attention(self.norm_attention(x))
        return x + self.down(functional.gelu(self.up(self.norm_mlp(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, x in self.named_parameters():
            if x.ndim > 1:
                into_sum = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(x, std=0.02 / math.sqrt(2 * DEPTH) if into_sum else 0.02)

    def forward(self, tokens, targets):
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.norm(x), self.tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def rate(step, steps):
    if step < WARMUP:
        return RATE * step / WARMUP
    progress = (step - WARMUP) / max(1, steps - WARMUP)
    return LEAST_RATE + 0.5 * (1 + math.cos(math.pi * progress)) * (RATE - LEAST_RATE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--unfused", action="store_true", help="update one tensor at a time in AdamW")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)

    with open(asked.text, encoding="utf-8") as file:
        text = file.read()
    number = {character: i for i, character in enumerate(sorted(set(text)))}
    tokens = torch.tensor([number[character] for character in text[: int(0.9 * len(text))]])

    model = GPT()
    decayed = [x for x in model.parameters() if x.ndim > 1]
    others = [x for x in model.parameters() if x.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), fused=not asked.unfused)

    first = None
    for step in range(asked.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, asked.steps)
        starts = torch.randint(len(tokens) - CONTEXT, (BATCH,))
        windows = torch.stack([tokens[i : i + CONTEXT + 1] for i in starts])
        loss = model(windows[:, :-1], windows[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        first = first or time.perf_counter()
    loss = loss.item()
    print(f"{asked.steps - 1} steps in {time.perf_counter() - first:.2f} s, loss {loss:.3f}")


if __name__ == "__main__":
    main()
