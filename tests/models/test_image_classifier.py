import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lapgan.models.classifier import ClassifierSection, ImageClassifier
from lapgan.sizes import Size


@pytest.mark.parametrize(
    ("size", "shapes"),
    [
        ((32, 32), [(4, 16, 16), (8, 8, 8), (16, 4, 4)]),
        ((8, 8), [(4, 4, 4)]),
        ((16, 24), [(4, 8, 12), (8, 4, 6)]),
    ],
    ids=str,
)
def test_the_classifier_halves_its_grid_down_to_four_places(
    size: Size, shapes: list[tuple[int, int, int]]
):
    net, maps = ImageClassifier(size, 4, 10), []
    for stage in net.stages:
        stage.register_forward_hook(lambda _, inputs, output: maps.append(tuple(output.shape[1:])))
    net(torch.randn(2, 3, *size))
    assert maps == shapes


def test_its_section_builds_it_for_a_level():
    net = ClassifierSection(level="6x8", maps=5).build(3)
    assert net.stages[0].first.out_channels == 5
    assert net(torch.randn(2, 3, 6, 8)).shape == (2, 3)


def test_it_returns_log_probabilities_and_does_not_change_by_it():
    torch.manual_seed(0)
    net = ImageClassifier((16, 16), 4, 10)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    log_probabilities = net(torch.randn(8, 3, 16, 16))
    assert torch.allclose(log_probabilities.exp().sum(dim=1), torch.ones(8), atol=1e-5)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_result_of_one_image_does_not_depend_on_the_others():
    torch.manual_seed(0)
    net, images = ImageClassifier((16, 16), 4, 10), torch.randn(8, 3, 16, 16)
    net.training_loss(images, torch.arange(8))
    assert torch.allclose(net(images[:1]), net(images)[:1], atol=1e-5)


def test_the_loss_is_the_cross_entropy_with_smoothed_labels():
    torch.manual_seed(0)
    net = ImageClassifier((4, 4), 4, 3)
    # Images of one color are the same however they are shifted; no weights but the last bias.
    images, target = torch.ones(5, 3, 4, 4), torch.tensor([0, 1, 2, 0, 0])
    nn.init.zeros_(net.last.weight)
    net.last.bias.data = torch.tensor([1.0, 0.0, -1.0])
    logp = net.last.bias.log_softmax(dim=0)
    smoothed = 0.9 * F.one_hot(target, 3) + 0.1 / 3
    result = net.training_loss(images, target)
    assert torch.allclose(result.loss, -(smoothed * logp).sum(dim=1).mean())
    assert result.accuracy.item() == torch.tensor(3 / 5)
