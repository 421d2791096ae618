"""What an exported form costs, and how fast a cascade is in other runtimes.

    LAPGAN_DATA=... python benchmarks/export.py cifar10-cc-small [--data cifar10 --n 5000]
        [--images 256] [--browser]

Each form draws from the same noise. With --data, fd-lite0 of n images of each form against n
training images. Images per second are of `--images` images, in batches of 64, in PyTorch, in
onnxruntime and, with --browser, in Chromium (WebAssembly on the processor; two sheets of 80, the
second one counts). Needs the extras `export` and `eval`; --browser needs `dev` and Chromium.
"""

import os
import re
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import onnxruntime  # noqa: TID253
import torch
import typer
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.compute import choose_compute
from lapgan.export import FORMS, export_onnx
from lapgan.export.graphs import make_inputs

_BATCH = 64


def draw(cascade: Cascade, file: Path, n: int) -> Tensor:
    """Draws n images with the whole graph of a file, in pixels."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    coarsest = f"image_{cascade.recipe.level_names[-1]}"
    labels = cascade.labels(n)
    blocks = []
    for start in range(0, n, _BATCH):
        values = make_inputs(cascade, min(_BATCH, n - start), seed=start)
        values |= {"start": values[coarsest], "given": torch.zeros_like(values["given"])}
        if labels is not None:
            values["label"] = labels[start : start + _BATCH]
        feeds = {name: x.numpy() for name, x in values.items() if name in names}
        (image,) = session.run(["image"], feeds)
        blocks.append(cascade.normalization.denormalize(torch.from_numpy(image)))
    return torch.cat(blocks)


def measure_speed(cascade: Cascade, file: Path, n: int) -> float:
    """Returns images per second in onnxruntime, without the noise and the loading."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    values = make_inputs(cascade, _BATCH, seed=0)
    values["start"] = values[f"image_{cascade.recipe.level_names[-1]}"]
    feeds = {value.name: values[value.name].numpy() for value in session.get_inputs()}
    session.run(["image"], feeds)
    start = time.perf_counter()
    for _ in range(0, n, _BATCH):
        session.run(["image"], feeds)
    return n / (time.perf_counter() - start)


def measure_pytorch(cascade: Cascade, n: int) -> float:
    """Returns images per second of `Cascade.sample`."""
    cascade.sample(_BATCH)
    start = time.perf_counter()
    cascade.sample(n)
    return n / (time.perf_counter() - start)


def measure_browser(cascade: Cascade, model: str, folder: Path) -> dict[str, str]:
    """Returns when coarse images and the first sheet came, the speed of one of 80, and on what."""
    from playwright.sync_api import sync_playwright

    from lapgan.demo import write_site
    from lapgan.demo.serve import make_server

    write_site(cascade, folder / "site", model)
    chromium = os.environ.get("LAPGAN_CHROMIUM") or shutil.which("chromium")
    with make_server(folder / "site", 0) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.set_default_timeout(600_000)
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        start = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("#output canvas[width]")  # an empty one has no width
        coarse = time.perf_counter() - start
        page.wait_for_selector("#output[aria-busy=false] canvas")
        first = time.perf_counter() - start
        page.select_option("[name=count]", "80")
        page.wait_for_selector("text=/^80 images in/")
        page.get_by_role("button", name="New seed").click()
        page.wait_for_selector("text=/^80 images in/")
        status, runtime = page.inner_text("#status"), page.inner_text("#runtime")
        browser.close()
        server.shutdown()
    seconds = float(re.findall(r"in ([\d.]+) s", status)[0])
    return {
        "coarse": f"{coarse:.1f}",
        "first": f"{first:.1f}",
        "speed": f"{80 / seconds:.0f}",
        "runtime": runtime,
    }


def real_features(data: str, cascade: Cascade, n: int, extractor: Any) -> Any:
    from lapgan.data import open_images
    from lapgan.evaluation.features.extract import extract_features

    images = open_images(data)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]
    pixels = torch.from_numpy(images.pixels[order.sort().values.numpy()])
    return extract_features(pixels, extractor)


def main(
    model: Annotated[str, typer.Argument()] = "cifar10-cc-small",
    data: Annotated[str | None, typer.Option()] = None,
    n: Annotated[int, typer.Option(min=1300)] = 5000,
    images: Annotated[int, typer.Option(min=_BATCH)] = 256,
    browser: Annotated[bool, typer.Option("--browser")] = False,
) -> None:
    from lapgan.evaluation.features.extract import extract_features, load_extractor
    from lapgan.evaluation.metrics.frechet import frechet_distance

    cascade = Cascade.load(model, choose_compute("cpu", "float32"))
    extractor = load_extractor() if data else None
    real = real_features(data, cascade, n, extractor) if data else None
    print(f"{model}, {torch.get_num_threads()} threads")
    print(f"PyTorch {measure_pytorch(cascade, images):.0f} images/s", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest = export_onnx(cascade, folder / "onnx", model, FORMS)
        print(f"{'form':8} {'MiB':>6} {'images/s':>9} {'difference':>11}  fd-lite0")
        for entry in manifest["graphs"]:
            if entry["graph"] != "cascade":
                continue
            file = folder / "onnx" / entry["file"]
            distance = ""
            if extractor is not None:
                fake = extract_features(draw(cascade, file, n), extractor)
                estimate = frechet_distance(real, fake)
                distance = f"{estimate.value:.1f} +- {estimate.error:.1f}"
            print(
                f"{entry['form']:8} {entry['bytes'] / 2**20:6.1f} "
                f"{measure_speed(cascade, file, images):9.0f} "
                f"{127.5 * entry['largest_difference']:11.2g}  {distance}",
                flush=True,
            )
        if browser:
            found = measure_browser(cascade, model, folder)
            print(
                f"browser {found['speed']} images/s, coarse images after {found['coarse']} s, "
                f"first sheet after {found['first']} s"
            )
            print(found["runtime"])


if __name__ == "__main__":
    typer.run(main)
