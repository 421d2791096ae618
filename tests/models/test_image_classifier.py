import torch
import torch.nn.functional as F
from torch import nn

from lapgan.models.classifier import ImageClassifier


def test_the_classifier_halves_its_grid_down_to_four_places():
    assert ImageClassifier((32, 32), 4, 10).shapes == [(4, (16, 16)), (8, (8, 8)), (16, (4, 4))]
    assert ImageClassifier((8, 8), 4, 10).shapes == [(4, (4, 4))]
    assert ImageClassifier((16, 24), 4, 10).shapes == [(4, (8, 12)), (8, (4, 6))]


def test_it_gives_log_probabilities_and_learns_nothing_by_it():
    torch.manual_seed(0)
    net = ImageClassifier((16, 16), 4, 10)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = net(torch.randn(8, 3, 16, 16))
    assert torch.allclose(found.exp().sum(dim=1), torch.ones(8), atol=1e-5)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_one_image_is_judged_as_it_is_among_others():
    torch.manual_seed(0)
    net, images = ImageClassifier((16, 16), 4, 10), torch.randn(8, 3, 16, 16)
    net.study(images, torch.arange(8))
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
    learnt = net.study(images, target)
    assert torch.allclose(learnt.loss, -(smoothed * logp).sum(dim=1).mean())
    assert learnt.accuracy.item() == torch.tensor(3 / 5)
