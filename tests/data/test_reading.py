import pytest

from lapgan.data import open_images
from lapgan.errors import LapganError


def spoil(photos, pixels, encode):
    """Makes four images unusable: one text, one truncated, two of other sizes."""
    (photos / "cat" / "0.png").write_text("hello")
    whole = (photos / "cat" / "2.png").read_bytes()
    (photos / "cat" / "2.png").write_bytes(whole[: len(whole) // 2])
    (photos / "dog" / "1.png").write_bytes(encode(pixels(height=8, width=6)))
    (photos / "dog" / "3.png").write_bytes(encode(pixels(height=9, width=8)))


def test_stop_names_every_bad_image_and_its_size_in_one_round(photos, pixels, encode):
    spoil(photos, pixels, encode)
    with pytest.raises(LapganError) as error:
        open_images(photos)
    message = str(error.value)
    assert "photos: 4 images cannot be used" in message
    assert "cat/0.png: is not a PNG" in message
    assert "cat/2.png: cannot be read" in message
    assert "dog/1.png: is 6x8 pixels (width x height), most are 8x6" in message
    assert "dog/3.png: is 8x9 pixels" in message
    assert "on_invalid='skip'" in message


def test_stop_names_an_image_that_only_decoding_shows_broken(photos, cache):
    whole = (photos / "cat" / "2.png").read_bytes()
    (photos / "cat" / "2.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LapganError, match=r"1 image cannot be used.*\n.*cat/2.png: cannot be read"):
        open_images(photos)
    assert not list(cache.rglob("*.npy"))


def test_skip_leaves_them_out_and_names_them_on_every_start(photos, pixels, encode, caplog):
    spoil(photos, pixels, encode)
    for _ in range(2):
        caplog.clear()
        images = open_images(photos, on_invalid="skip")
        assert images.labels.tolist() == [0, 0, 1, 1]
        assert (images.pixels[0] == pixels(4).transpose(2, 0, 1)).all()
        [record] = caplog.records
        assert (record.name, record.levelname) == ("lapgan.data", "WARNING")
        for name in ("cat/0.png", "cat/2.png", "dog/1.png", "dog/3.png"):
            assert f"{name}: " in record.message


def test_only_ten_are_named_and_the_rest_counted(photos, caplog):
    for index in range(13):
        (photos / "cat" / f"bad{index:02}.png").write_text("hello")
    open_images(photos, on_invalid="skip")
    assert caplog.text.count("is not a PNG") == 10
    assert "... and 3 more" in caplog.text


def test_nothing_left_is_an_error_even_on_skip(photos):
    for path in photos.rglob("*.png"):
        path.write_text("hello")
    with pytest.raises(LapganError, match=r"8 images cannot be used(.|\n)*No image is left"):
        open_images(photos, on_invalid="skip")


def test_nothing_left_after_decoding_is_an_error(tmp_path, pixels, encode):
    whole = encode(pixels())
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LapganError, match="No image is left"):
        open_images(tmp_path, on_invalid="skip")


def test_progress_is_drawn_on_stderr_only_when_asked(photos, capsys, monkeypatch):
    open_images(photos)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any stream for a terminal
    open_images(photos / "cat", progress=False)
    assert capsys.readouterr() == ("", "")
    open_images(photos, on_invalid="skip", progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "decoding images" in err


def test_pictures_of_all_sizes_are_sent_to_prepare(tmp_path, pixels, encode):
    for side in range(4, 9):
        (tmp_path / f"{side}.png").write_bytes(encode(pixels(height=side, width=side)))
    with pytest.raises(LapganError, match=r"found 5 sizes, such as 4x4 and 8x8 .*`lapgan prepare`"):
        open_images(tmp_path)


def test_all_truncated_images_are_named(photos):
    for name in ("cat/0.png", "cat/2.png", "dog/1.png"):
        whole = (photos / name).read_bytes()
        (photos / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LapganError, match=r"(?s)3 images cannot be used.*cat/2\.png.*dog/1\.png"):
        open_images(photos)


def test_a_size_can_be_refused_before_anything_is_decoded(photos, cache, monkeypatch):
    def refuse(name, size):
        raise LapganError(f"{name} {size}")

    monkeypatch.setattr("lapgan.data.reading.decode", None)
    with pytest.raises(LapganError, match=r"photos \(6, 8\)"):
        open_images(photos, check_size=refuse)


def test_content_is_that_of_the_images_that_are_left(photos):
    whole = open_images(photos)
    (photos / "cat" / "9.png").write_text("no image")
    rest = open_images(photos, on_invalid="skip")
    assert rest.fingerprint != whole.fingerprint
    assert rest.content == whole.content != ""
    (photos / "cat" / "9.png").unlink()
    (photos / "cat" / "0.png").rename(photos / "dog" / "0.png")
    assert open_images(photos).content != whole.content
