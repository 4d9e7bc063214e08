"""The peer of `against_torch unet dit draw_unet draw_dit`: diffusers' models in eager PyTorch on a CPU.

    venv/bin/python experiments/speed/torch_diffusion.py --threads 2 --only unet

Needs torch and diffusers.  Prints "CASE N steps/s", or images/s where images are drawn, the median of the repeats.  A
training step consists of noising a batch that stays in memory, zero_grad, forward, loss, backward and AdamW's fused
update.  Images are drawn by DDIM, without guidance.
"""

import argparse
import statistics
import time

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiTTransformer2DModel, UNet2DModel
from torch.nn.functional import mse_loss

WARM_UP, STEPS = 2, 8
BATCH, IMAGES, SAMPLER_STEPS = 16, 16, 10


def unet():
    return UNet2DModel(
        sample_size=32,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        norm_num_groups=32,
    )


def dit():
    return DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=3,
        out_channels=3,
        num_layers=6,
        sample_size=32,
        patch_size=4,
        num_embeds_ada_norm=10,
        norm_eps=1e-6,
    )


MODELS = {"unet": unet, "dit": dit}


def predict(model, x, time, label):
    classes = {} if isinstance(model, UNet2DModel) else {"class_labels": label}
    return model(x, time, **classes).sample


def train(model):
    """Returns training steps/s."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    images, label = torch.rand(BATCH, 3, 32, 32) * 2 - 1, torch.arange(BATCH) % 10

    def step():
        times, noise = torch.randint(0, 1000, (BATCH,)), torch.randn(images.shape)
        optimizer.zero_grad(set_to_none=True)
        loss = mse_loss(predict(model, scheduler.add_noise(images, noise, times), times, label), noise)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(WARM_UP):
        step()
    started = time.perf_counter()
    for _ in range(STEPS):
        loss = step()
    float(loss)
    return STEPS / (time.perf_counter() - started)


@torch.inference_mode()
def draw(model):
    """Returns images/s."""
    model.eval()
    scheduler = DDIMScheduler(num_train_timesteps=1000)
    label = torch.arange(IMAGES) % 10

    def images(steps):
        scheduler.set_timesteps(steps)
        x = torch.randn(IMAGES, 3, 32, 32)
        for at in scheduler.timesteps:
            x = scheduler.step(predict(model, x, at.expand(IMAGES), label), at, x).prev_sample
        return x

    images(WARM_UP)
    started = time.perf_counter()
    float(images(SAMPLER_STEPS).sum())
    return IMAGES / (time.perf_counter() - started)


CASES = {name: (name, train, "steps/s") for name in MODELS}
CASES |= {f"draw_{name}": (name, draw, "images/s") for name in MODELS}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=list(CASES), required=True)
    parser.add_argument(
        "--max-tries", type=int, help="accepted for the harness, without effect: every repeat counts here"
    )
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    name, measure, unit = CASES[asked.only]
    model = MODELS[name]()
    rate = statistics.median(measure(model) for _ in range(asked.repeats))
    print(f"{asked.only} {rate:.3f} {unit}; {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
