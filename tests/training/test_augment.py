import torch

from lapgan.training.augment import augment, augment_pair


def test_brightness_saturation_and_contrast_have_their_ranges():
    """At 4x4 nothing moves, an eighth of a side being less than a pixel."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, 4, 4)[:1].expand(4096, 3, 4, 4)
    y = augment(x)
    # Saturation and contrast keep the mean of the image, so that only brightness moves it.
    brighter = (y - x).mean(dim=(1, 2, 3))
    assert brighter.abs().max() <= 0.5 + 1e-5
    assert torch.isclose(brighter.std(), torch.tensor(1 / 12**0.5), rtol=0.05)
    # The greys are stretched by the contrast alone, the colors by contrast and saturation.
    grey = y.mean(dim=1).flatten(1).std(dim=1) / x.mean(dim=1).flatten(1).std(dim=1)
    assert 0.5 - 1e-4 <= grey.min() < 0.52
    assert 1.48 < grey.max() <= 1.5 + 1e-4
    color = (y[:, 0] - y[:, 1])[:, 0, 0] / (x[:, 0] - x[:, 1])[:, 0, 0] / grey
    assert -1e-3 <= color.min() < 0.02
    assert 1.98 < color.max() <= 2 + 1e-3


def test_images_move_by_whole_pixels_up_to_an_eighth_of_a_side():
    torch.manual_seed(0)
    steps = torch.arange(16.0)
    # Different slopes tell the two axes apart; far from 0, the value beyond the edge.
    ramp = 50 + 0.1 * steps[None, :] + steps[:, None]
    y = augment(ramp.expand(2048, 3, 16, 16))
    inside = y != 0
    for axis in (1, 2):
        lines = inside.any(dim=1).any(dim=3 - axis)  # (2048, 16): rows, then columns
        missing = (16 - lines.sum(dim=1)) * torch.where(lines[:, 0], 1, -1)
        assert sorted(missing.unique().tolist()) == [-2, -1, 0, 1, 2]
    # What is left is the ramp, only stretched: contrast is all that tells on greys.
    middle = y[:, :, 4:12, 4:12]
    slopes = middle.diff(dim=2)
    assert torch.allclose(slopes, slopes[:, :1, :1, :1].expand_as(slopes), atol=1e-3)
    assert torch.allclose(middle.diff(dim=3), 0.1 * slopes[:, :, :1, :1], atol=1e-3)


def test_gradients_pass_through():
    """The sum of a 4x4 image changes by its brightness alone, so its gradient is 1 everywhere."""
    x = torch.randn(8, 3, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(augment(x).sum(), x)
    assert torch.allclose(gradient, torch.ones_like(x), atol=1e-5)


def test_each_image_is_changed_by_its_own_amounts_and_the_seed_repeats_them():
    x = torch.randn(1, 3, 8, 8).expand(16, 3, 8, 8)
    torch.manual_seed(3)
    first = augment(x)
    torch.manual_seed(3)
    assert torch.equal(augment(x), first)
    assert len(first.flatten(1).unique(dim=0)) == 16


def test_an_image_and_its_low_pass_image_are_changed_alike():
    x = torch.randn(8, 3, 16, 16)
    torch.manual_seed(3)
    expected = augment(x)
    torch.manual_seed(3)
    image, low = augment_pair(x, x)
    assert torch.equal(image, expected)
    assert torch.equal(low, expected)
    # What is added to an image is only moved and stretched, as much as the image.
    torch.manual_seed(3)
    image, low = augment_pair(x + 0.25, x)
    inside = expected != 0
    torch.testing.assert_close((image - low)[inside], torch.full_like(image[inside], 0.25))


def test_a_shift_leaves_the_colors_as_they_are():
    torch.manual_seed(0)
    x = torch.randn(256, 3, 16, 16)
    low = torch.randn(256, 3, 16, 16)
    y, z = augment_pair(x, low, "shift")
    assert not torch.equal(x, y)
    # The middle is seen whatever the shift, if the shift is undone.
    middle = (slice(4, 12), slice(4, 12))
    shifts = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]
    for before, after, low_before, low_after in zip(x, y, low, z, strict=True):
        found = [
            shift
            for shift in shifts
            if torch.equal(before.roll(shift, (1, 2))[:, *middle], after[:, *middle])
        ]
        assert len(found) == 1
        assert torch.equal(low_before.roll(found[0], (1, 2))[:, *middle], low_after[:, *middle])
