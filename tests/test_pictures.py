import io

import numpy as np
import torch
from PIL import Image

from lapgan.pictures import encode_png, sheet, zoom_to


def test_a_sheet_lays_images_out_in_rows_with_gaps():
    images = torch.arange(5).to(torch.uint8).view(5, 1, 1, 1).expand(5, 3, 2, 4)
    canvas = sheet(images, columns=3)
    assert canvas.shape == (3, 2 + 2 + 2, 3 * 4 + 2 * 2)
    assert canvas[0, 0, [0, 6, 12]].tolist() == [0, 1, 2]
    assert canvas[0, 4, [0, 6, 12]].tolist() == [3, 4, 255]
    assert (canvas[:, 2:4] == 255).all()


def test_a_png_holds_the_very_pixels():
    image = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    read = np.array(Image.open(io.BytesIO(encode_png(image, zoom=3))))
    assert (read == image.permute(1, 2, 0).numpy().repeat(3, 0).repeat(3, 1)).all()


def test_zooming_repeats_pixels_at_any_ratio():
    image = torch.tensor([[10, 20], [30, 40]]).to(torch.uint8).expand(1, 3, 2, 2)
    assert zoom_to(image, (3, 5))[0, 0].tolist() == [[10] * 3 + [20] * 2] * 2 + [[30] * 3 + [40] * 2]
