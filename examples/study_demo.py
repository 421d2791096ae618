"""A whole study without people: degraded images instead of models, simulated raters.

    python examples/study_demo.py data/cifar10/test.parquet docs/study-demo

The three "models" are CIFAR-10 images degraded in known ways, so the results say nothing about any
generative model. The output shows what a report looks like.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from lapgan.study.design import Design
from lapgan.study.drawing import draw_images
from lapgan.study.export import export
from lapgan.study.report import write_report
from lapgan.study.simulate import Observers, simulate_into
from lapgan.study.stimuli import STIMULI, freeze
from lapgan.study.store import Store


def blur(image: np.ndarray) -> np.ndarray:
    """Blurs with a Gaussian of one pixel."""
    return gaussian_filter(image.astype(float), (1, 1, 0)).round().astype(np.uint8)


def posterize(image: np.ndarray) -> np.ndarray:
    """Reduces each channel to four levels."""
    return (image // 64 * 64 + 32).astype(np.uint8)


def scramble_phases(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replaces the phases of the spectrum by those of white noise."""
    noise = np.angle(np.fft.fft2(rng.standard_normal(image.shape[:2])))[..., None]
    spectrum = np.abs(np.fft.fft2(image.astype(float), axes=(0, 1))) * np.exp(1j * noise)
    spectrum[0, 0] = image.sum((0, 1))
    return np.fft.ifft2(spectrum, axes=(0, 1)).real.clip(0, 255).round().astype(np.uint8)


def main() -> None:
    """Creates the sources, the study, the raters and the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cifar10", type=Path, help="parquet file of real images")
    parser.add_argument("out", type=Path, help="folder for the report and the answers")
    parser.add_argument("--answers", action="store_true", help="export the answers as well")
    options = parser.parse_args()
    out, parquet = options.out.resolve(), options.cifar10.resolve()
    rng = np.random.default_rng(0)
    images = draw_images(str(parquet), 600, [99], "test")
    degraded = {
        "blurred": np.stack([blur(image) for image in images[:200]]),
        "posterized": np.stack([posterize(image) for image in images[200:400]]),
        "phase-scrambled": np.stack([scramble_phases(image, rng) for image in images[400:]]),
    }
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # so that the manifest names sources without this machine's folders
        shutil.copy(parquet, parquet.name)
        for name, pixels in degraded.items():
            np.savez(f"{name}.npz", images=pixels)
        design = Design(title="Demonstration: simulated raters, degraded pictures", seed=2015)
        fakes = {name: f"{name}.npz" for name in degraded}
        study = freeze(Path("demo"), design, parquet.name, fakes)
        store = Store(study)
        raters = Observers(
            d_prime={"blurred": 1.2, "posterized": 2.2, "phase-scrambled": 4.0},
            half_ms=120,
            criterion=-0.8,
            criterion_std=0.35,
            lapse=0.02,
        )
        simulate_into(store, raters, 15, np.random.default_rng(1))
        rows = store.rows()
        progress, stimuli = store.progress(), study.folder / STIMULI
        for path in write_report(study.manifest, rows, out, progress=progress, stimuli=stimuli):
            print(path)
        if options.answers:
            export(rows, out)
        store.close()


if __name__ == "__main__":
    main()
