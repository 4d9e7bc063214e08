"""The peer of `against_torch vit`: timm's ViT-Ti with patches of 4 on 32×32 images, in eager PyTorch on a CPU.

    venv/bin/python experiments/speed/torch_vit.py --threads 2 --repeats 3

Needs torch and timm.  Prints "vit N steps/s", the median over the repeats.  A step consists of zero_grad, forward,
loss, backward and AdamW's fused update, on one batch of 32 that stays in memory.
"""

import argparse
import statistics
import time

import timm
import torch
from torch.nn.functional import cross_entropy

WARM_UP, STEPS = 2, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["vit"], default="vit")
    parser.add_argument(
        "--max-tries", type=int, help="accepted for the harness, without effect: every repeat counts here"
    )
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, num_classes=10).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    images, labels = torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(WARM_UP):
        step()
    rates = []
    for _ in range(asked.repeats):
        started = time.perf_counter()
        for _ in range(STEPS):
            loss = step()
        float(loss)
        rates.append(STEPS / (time.perf_counter() - started))
    parameters = sum(p.numel() for p in model.parameters())
    print(f"vit {statistics.median(rates):.3f} steps/s; {parameters:,} parameters")


if __name__ == "__main__":
    main()
