"""Outside generators of 32x32 images, trained for a given time: what `quality.py` compares with.

    pip install torchgan diffusers

Each is the package's own net with the settings of its paper or documentation, and runs in the same
precision as ours. A peer that is interrupted continues from its last checkpoint.
"""

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapgan.compute import Compute
from lapgan.ema import update_average
from lapgan.files import atomic_path

_CHECKPOINT_SECONDS = 120
_BATCH, _SAMPLE_BATCH = 64, 512


@dataclass
class Peer:
    """A generator in training.

    Args:
        modules: its nets, by name.
        optimizers: of the nets.
        step: trains on images in [-1, 1], (64, 3, 32, 32), after so many images seen.
        sample: generates n images in [-1, 1].
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    step: Callable[[Tensor, int], None]
    sample: Callable[[int], Tensor]

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from a checkpoint."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {**self.modules, **self.optimizers}


def dcgan(compute: Compute) -> Peer:
    """DCGAN of torchgan, with the settings of Radford et al. (2016)."""
    from torchgan.models import DCGANDiscriminator, DCGANGenerator

    g = compute.place(DCGANGenerator(100, 32, 3, 64))
    d = compute.place(DCGANDiscriminator(32, 3, 64, last_nonlinearity=nn.Identity()))
    g_adam = torch.optim.Adam(g.parameters(), lr=2e-4, betas=(0.5, 0.999), foreach=True)
    d_adam = torch.optim.Adam(d.parameters(), lr=2e-4, betas=(0.5, 0.999), foreach=True)

    def step(real: Tensor, seen: int) -> None:
        with compute.autocast():
            fake = g(torch.randn(len(real), 100))
            d_loss = F.softplus(-d(real)).mean() + F.softplus(d(fake.detach())).mean()
        d_adam.zero_grad()
        d_loss.backward()
        d_adam.step()
        d.requires_grad_(False)
        with compute.autocast():
            g_loss = F.softplus(-d(fake)).mean()
        g_adam.zero_grad()
        g_loss.backward()
        g_adam.step()
        d.requires_grad_(True)

    def sample(n: int) -> Tensor:
        return g.eval()(torch.randn(n, 100))

    return Peer({"g": g, "d": d}, {"g_adam": g_adam, "d_adam": d_adam}, step, sample)


def ddpm(compute: Compute) -> Peer:
    """A small U-Net of diffusers that predicts noise (Ho et al., 2020); 20 DDIM steps."""
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

    unet = compute.place(
        UNet2DModel(
            sample_size=32,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=2,
            norm_num_groups=16,
        )
    )
    average = copy.deepcopy(unet).requires_grad_(False)
    adam = torch.optim.AdamW(unet.parameters(), lr=5e-4, foreach=True)
    noising, sampling = DDPMScheduler(1000), DDIMScheduler(1000)

    def step(real: Tensor, seen: int) -> None:
        noise, t = torch.randn_like(real), torch.randint(0, 1000, (len(real),))
        with compute.autocast():
            prediction = unet(noising.add_noise(real, noise, t), t).sample.float()
        adam.zero_grad()
        F.mse_loss(prediction, noise).backward()
        adam.step()
        update_average(average, unet, len(real), seen + len(real), 50_000)

    def sample(n: int) -> Tensor:
        x = torch.randn(n, 3, 32, 32)
        sampling.set_timesteps(20)
        for t in sampling.timesteps:
            with compute.autocast():
                noise = average(x, t).sample.float()
            x = sampling.step(noise, t, x).prev_sample
        return x

    return Peer({"unet": unet, "average": average}, {"adam": adam}, step, sample)


PEERS: dict[str, Callable[[Compute], Peer]] = {"dcgan": dcgan, "ddpm": ddpm}


def train_peer(
    name: str, compute: Compute, pixels: Tensor, seconds: float, seed: int, folder: Path
) -> tuple[Peer, int]:
    """Trains a peer on uint8 (n, 3, 32, 32), mirrored at random; returns it and the images seen."""
    torch.manual_seed(seed)
    peer, spent, seen = PEERS[name](compute), 0.0, 0
    state, progress = folder / "state.pt", folder / "progress.json"
    folder.mkdir(parents=True, exist_ok=True)
    if progress.exists():
        spent, seen = (json.loads(progress.read_text())[key] for key in ("seconds", "images"))
        if spent > 1.05 * seconds:
            raise RuntimeError(
                f"{state} was trained for {spent:.0f} seconds, not {seconds:.0f}; use another --out"
            )
        peer.restore(torch.load(state, weights_only=True))
    begun = saved = time.monotonic()
    begun -= spent
    while True:
        spent = time.monotonic() - begun
        if spent >= seconds or time.monotonic() - saved > _CHECKPOINT_SECONDS:
            with atomic_path(state) as temporary:
                torch.save(peer.state(), temporary)
            with atomic_path(progress) as temporary:
                temporary.write_text(json.dumps({"seconds": spent, "images": seen}))
            saved = time.monotonic()
        if spent >= seconds:
            return peer, seen
        real = pixels[torch.randint(0, len(pixels), (_BATCH,))].float() / 127.5 - 1
        flipped = torch.where(torch.rand(_BATCH, 1, 1, 1) < 0.5, real.flip(-1), real)
        peer.step(compute.place(flipped), seen)
        seen += _BATCH


@torch.no_grad()
def sample_peer(peer: Peer, n: int, seed: int) -> Tensor:
    """Generates n images, uint8 (n, 3, 32, 32)."""
    torch.manual_seed(seed)
    images = torch.cat([peer.sample(_SAMPLE_BATCH) for _ in range(0, n, _SAMPLE_BATCH)])[:n]
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
