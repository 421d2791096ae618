"""Outside generators of 32x32 images, trained for a given time: what `quality.py` compares with.

    pip install torchgan diffusers
    pip install lightweight-gan stylegan2-pytorch      # neither can be imported without CUDA

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
            fake = g(torch.randn(len(real), 100, device=real.device))
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
        return g.eval()(torch.randn(n, 100, device=compute.device))

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
        noise = torch.randn_like(real)
        t = torch.randint(0, 1000, (len(real),), device=real.device)
        with compute.autocast():
            prediction = unet(noising.add_noise(real, noise, t), t).sample.float()
        adam.zero_grad()
        F.mse_loss(prediction, noise).backward()
        adam.step()
        update_average(average, unet, len(real), seen + len(real), 50_000)

    def sample(n: int) -> Tensor:
        x = torch.randn(n, 3, 32, 32, device=compute.device)
        sampling.set_timesteps(20)
        for t in sampling.timesteps:
            with compute.autocast():
                noise = average(x, t).sample.float()
            x = sampling.step(noise, t, x).prev_sample
        return x

    return Peer({"unet": unet, "average": average}, {"adam": adam}, step, sample)


def stylegan2(compute: Compute) -> Peer:
    """StyleGAN2 of stylegan2-pytorch at its default capacity, without path-length regularization.

    That regularization begins after 5,000 steps in the package, which needs CUDA.
    """
    from stylegan2_pytorch.stylegan2_pytorch import Discriminator, Generator, StyleVectorizer

    styles, g, d = StyleVectorizer(512, 8), Generator(32, 512), Discriminator(32)
    for net in (styles, g, d):
        net.apply(_draw_weights)
    for block in g.blocks:
        for layer in (block.to_noise1, block.to_noise2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    nets = nn.ModuleDict({"styles": styles, "g": g})

    def generate(nets: nn.ModuleDict, n: int) -> Tensor:
        w = nets["styles"](torch.randn(n, 512, device=compute.device))
        grain = torch.rand(n, 32, 32, 1, device=compute.device)
        return nets["g"](w[:, None].expand(-1, g.num_layers, -1), grain)

    def judge(images: Tensor, real: bool) -> tuple[list[Tensor], Tensor]:
        logits, quantization = d(images)
        return [logits], quantization.sum()

    return _hinge_peer(compute, (nets, d), (2e-4, 3e-4), generate, judge)


def lightweight_gan(compute: Compute) -> Peer:
    """The net of lightweight-gan (Liu et al., 2021) at its defaults; the package needs CUDA."""
    from lightweight_gan.lightweight_gan import Discriminator, Generator

    g, d = Generator(image_size=32), Discriminator(image_size=32)
    for net in (g, d):
        net.apply(_draw_weights)

    def generate(net: nn.Module, n: int) -> Tensor:
        return net(torch.randn(n, 256, device=compute.device))

    def judge(images: Tensor, real: bool) -> tuple[list[Tensor], Tensor]:
        logits, small, reconstruction = d(images, calc_aux_loss=real)
        return [logits, small], reconstruction if real else logits.new_zeros(())

    return _hinge_peer(compute, (g, d), (2e-4, 2e-4), generate, judge)


def _draw_weights(layer: nn.Module) -> None:
    """Initializes a layer as both packages do."""
    if type(layer) in (nn.Conv2d, nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="leaky_relu")


def _hinge_peer(
    compute: Compute,
    nets: tuple[nn.Module, nn.Module],
    rates: tuple[float, float],
    generate: Callable[[Any, int], Tensor],
    judge: Callable[[Tensor, bool], tuple[list[Tensor], Tensor]],
) -> Peer:
    """The game of stylegan2-pytorch and lightweight-gan: hinge, penalty every 4th step, in [0, 1].

    Args:
        compute: where the nets run.
        nets: G and D.
        rates: their learning rates.
        generate: from G, n images.
        judge: from D, logits of images, lower for real ones, and a further loss of D.
    """
    g, d = (compute.place(net) for net in nets)
    average = copy.deepcopy(g).requires_grad_(False)
    g_adam, d_adam = (
        torch.optim.Adam(net.parameters(), lr=rate, betas=(0.5, 0.9), foreach=True)
        for net, rate in zip((g, d), rates, strict=True)
    )

    def step(images: Tensor, seen: int) -> None:
        penalized = seen // _BATCH % 4 == 0
        real = ((images + 1) / 2).requires_grad_(penalized)
        with torch.no_grad(), compute.autocast():
            fake = generate(g, len(real)).float()
        fake.requires_grad_(penalized)
        with compute.autocast():
            (of_real, further), (of_fake, _) = judge(real, True), judge(fake, False)
        loss = further + sum(
            (F.relu(1 + r.float()) + F.relu(1 - f.float())).mean()
            for r, f in zip(of_real, of_fake, strict=True)
        )
        if penalized:
            loss = loss + 10 * (_squared_norm(of_real, real) + _squared_norm(of_fake, fake))
        _update(d_adam, loss)
        d.requires_grad_(False)
        with compute.autocast():
            logits, _ = judge(generate(g, len(real)), False)
        _update(g_adam, sum(x.float().mean() for x in logits))
        d.requires_grad_(True)
        update_average(average, g, len(real), seen + len(real), 50_000)

    def sample(n: int) -> Tensor:
        return (2 * generate(average, n) - 1).clamp(-1, 1)

    modules = {"g": g, "d": d, "average": average}
    return Peer(modules, {"g_adam": g_adam, "d_adam": d_adam}, step, sample)


def _squared_norm(logits: list[Tensor], images: Tensor) -> Tensor:
    total = sum(x.float().sum() for x in logits)
    (gradient,) = torch.autograd.grad(total, images, create_graph=True)
    return gradient.square().sum() / len(images)


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


PEERS: dict[str, Callable[[Compute], Peer]] = {
    "dcgan": dcgan,
    "ddpm": ddpm,
    "stylegan2": stylegan2,
    "lightweight-gan": lightweight_gan,
}


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
    return ((images.float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
