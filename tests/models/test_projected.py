from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lapgan.models.projected import ProjectedDiscriminator, _turned


def striped(n: int, size: tuple[int, int] = (16, 16)) -> tuple[Tensor, Tensor]:
    """Noise with horizontal (0) or vertical (1) stripes, and which."""
    label = torch.arange(n) % 2
    waves = torch.randn(n, 1, size[0], 1).expand(n, 3, *size)
    across = torch.randn(n, 1, 1, size[1]).expand(n, 3, *size)
    return torch.where((label == 0).view(n, 1, 1, 1), waves, across), label


def taught(
    examples: Callable[[int], tuple[Tensor, Tensor | None]] = striped, num_classes: int = 2
) -> ProjectedDiscriminator:
    torch.manual_seed(0)
    d = ProjectedDiscriminator((16, 16), features=8, maps=8, units=16, num_classes=num_classes)
    d.fit(examples(256)[0], None)
    adam = torch.optim.Adam(d.parameters(), lr=3e-3)
    for _ in range(60):
        image, label = examples(64)
        adam.zero_grad()
        d.study(image, None, label).loss.backward()
        adam.step()
    return d


def test_the_classifier_learns_the_classes_and_the_judges_are_left_alone():
    torch.manual_seed(0)
    before = ProjectedDiscriminator((16, 16), features=8, maps=8, units=16, num_classes=2)
    d = taught()
    for name, weight in d.judges.named_parameters():
        assert torch.equal(weight, before.judges.get_parameter(name))
    image, label = striped(64)
    assert d.study(image, None, label).accuracy > 0.9


def ramps(n: int) -> Tensor:
    """Noise that grows brighter from the top to the bottom."""
    return torch.linspace(-2, 2, 16).view(1, 1, 16, 1) + torch.randn(n, 3, 16, 16)


@pytest.mark.parametrize(("upright", "expected"), [(True, 1.0), (False, 0.25)])
def test_without_classes_it_learns_rotations_where_there_are_any(upright: bool, expected: float):
    def images(n: int) -> tuple[Tensor, None]:
        return ramps(n) if upright else torch.randn(n, 3, 16, 16), None

    d = taught(images, num_classes=0)
    assert d.study(*images(512), None).accuracy.item() == pytest.approx(expected, abs=0.08)


def test_maps_have_zero_mean_and_unit_variance():
    d = taught()
    image, _ = striped(512)
    views = d.look(image, None)
    assert [tuple(view.shape[1:]) for view in views] == [(8, 8, 8), (16, 4, 4)]
    for view in views:
        assert view.mean().abs() < 0.1
        assert view.var(dim=(0, 2, 3)).mean().item() == pytest.approx(1, abs=0.2)


def test_looking_changes_nothing_and_study_changes_what_is_seen():
    d = taught()
    image, label = striped(64)
    before = [view.clone() for view in d.look(image, None)]
    assert all(map(torch.equal, before, d.look(image, None)))
    d.study(image, None, label)
    assert not torch.equal(before[0], d.look(image, None)[0])


def test_d_judges_the_image_however_it_is_split():
    d = taught()
    (image, label), (low, _) = striped(8), striped(8)
    logits = d(image, None, label)
    assert logits.shape == (8, 2)
    assert torch.allclose(d(image - low, low, label), logits, atol=1e-4)


def test_the_judges_hear_of_the_class():
    d = taught()
    image, label = striped(8)
    assert not torch.equal(d(image, None, label), d(image, None, 1 - label))


@pytest.mark.parametrize(("size", "turns"), [((4, 4), [0, 1, 2, 3]), ((4, 6), [0, 2, 0, 2])])
def test_images_are_turned_as_far_as_their_size_allows(size: tuple[int, int], turns: list[int]):
    image = torch.randn(4, 3, *size)
    turned, found = _turned(image)
    assert found.tolist() == turns
    for x, y, turn in zip(image, turned, turns, strict=True):
        assert torch.equal(y, torch.rot90(x, turn, (1, 2)))


def test_only_the_judges_learn_from_a_judgement():
    d = taught()
    image, label = striped(8)
    views = tuple(view.detach() for view in d.look(image, None))
    nn.Module.zero_grad(d)
    d.judge(views, label).sum().backward()
    assert all(p.grad is None for p in d.classifier.parameters())
    assert all(p.grad is not None for p in d.judges.parameters())
