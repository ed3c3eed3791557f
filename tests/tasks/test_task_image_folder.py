"""Folders of image files: what is read, in which order, and what cannot be read."""

import io
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import tasks
from experiments import threshold_grid
from tasks import _data

COLOURS = {"b": (0, 0, 255), "a": (255, 0, 0), "C": (0, 255, 0)}


@pytest.fixture
def colours(tmp_path):
    """Write a folder whose classes are colours, in files of each format."""
    for name, colour in COLOURS.items():
        folder = tmp_path / "colours" / name
        folder.mkdir(parents=True)
        for suffix in ("png", "jpg", "jpeg", "bmp", "webp"):
            Image.new("RGB", (9, 5), colour).save(folder / f"{suffix}-file.{suffix}")
    return tmp_path / "colours"


def failure(kind=ValueError, **options):
    with pytest.raises(kind) as caught:
        tasks.load("image_folder", **options)
    return str(caught.value)


def test_labels_follow_the_folders_names(colours):
    task = tasks.load("image_folder", folder=str(colours), image_size=4, test_fraction=0.4, validation="test")
    assert task.classes == 3 and task.input_shape == (4, 4, 3)
    assert np.bincount(task.y_train).tolist() == [3, 3, 3] and np.bincount(task.y_test).tolist() == [2, 2, 2]
    wanted = np.array([COLOURS[name] for name in sorted(COLOURS)]) / 255
    for x, y in ((task.x_train, task.y_train), (task.x_test, task.y_test)):
        np.testing.assert_allclose(x, np.broadcast_to(wanted[y][:, np.newaxis, np.newaxis], x.shape), atol=0.01)
        assert (np.diff(y) < 0).any()  # The classes are mixed.


def test_labels_are_chosen_by_name_or_number(colours):
    by_name, by_number = (
        tasks.load("image_folder", folder=colours, image_size=4, validation="test", labels=labels)
        for labels in (["b", "C"], [2, 0])
    )
    assert by_name.labels == by_number.labels == ("b", "C") and by_name.digest == by_number.digest
    assert np.array_equal(by_name.x_train, by_number.x_train) and np.array_equal(by_name.y_train, by_number.y_train)
    assert by_name.x_train[by_name.y_train == 0, ..., 2].min() > 0.9
    assert "has (['C', 'a', 'b']), received ['c'] besides" in failure(folder=colours, labels=["a", "c"])


def test_images_are_shrunk_with_all_their_pixels(tmp_path):
    stripes = np.zeros((8, 8, 3), "uint8")
    stripes[:, ::2] = 255
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.fromarray(stripes).save(tmp_path / name / f"{number}.png")
    task = tasks.load("image_folder", folder=tmp_path, test_fraction=0.5, image_size=4, validation="test")
    np.testing.assert_allclose(task.x_train[:, :, 1:3], 0.5, atol=0.05)


def test_a_folder_of_its_own_for_the_test_set(colours, tmp_path):
    whole = tasks.load("image_folder", folder=colours, test_folder=colours, image_size=4, validation="test")
    assert len(whole.x_train) == len(whole.x_test) == 15
    shutil.copytree(colours, tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "a")
    message = failure(folder=colours, test_folder=tmp_path / "other")
    assert "test_folder to have the classes of folder (C, a, b), received" in message and "with C, b." in message


def test_what_is_no_image_of_a_class_is_passed_over(colours):
    whole = tasks.load("image_folder", folder=colours, image_size=4, validation="test")
    (colours / ".hidden").mkdir()
    (colours / "readme.png").write_text("no class")
    (colours / "a" / "notes.txt").write_text("no image")
    (colours / "a" / "._png-file.png").write_text("no image")
    again = tasks.load("image_folder", folder=colours, image_size=4, validation="test")
    assert np.array_equal(whole.x_train, again.x_train) and np.array_equal(whole.y_test, again.y_test)


def test_grey_and_black_and_white_images_become_coloured(colours):
    Image.new("L", (5, 5), 51).save(colours / "a" / "grey.png")
    Image.new("1", (5, 5), 1).save(colours / "a" / "bits.png")
    task = tasks.load("image_folder", folder=colours, test_folder=colours, image_size=4, validation="test")
    found = {tuple(np.round(image[0, 0] * 255)) for image in task.x_train[task.y_train == 1]}
    assert {(51, 51, 51), (255, 255, 255)} <= found


def read_back(image, file_format="PNG", channels=3, size=4, **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return _data.resized(file, "the image", size, channels)


def palette(*colours):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([value for colour in colours for value in colour])
    return image


@pytest.mark.parametrize(
    "image, options, expected",
    [
        (Image.new("RGBA", (4, 4), (0, 0, 0, 0)), {}, [255, 255, 255]),
        (Image.new("RGBA", (4, 4), (51, 0, 0, 255)), {}, [51, 0, 0]),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 51)), {}, [255, 204, 204]),
        (Image.new("LA", (4, 4), (0, 0)), {}, [255, 255, 255]),
        (Image.new("LA", (4, 4), (0, 204)), {}, [51, 51, 51]),
        (palette((0, 0, 0), (255, 0, 0)), {}, [0, 0, 0]),
        (palette((0, 0, 0), (255, 0, 0)), {"transparency": 0}, [255, 255, 255]),
        (palette((0, 0, 0), (255, 0, 0)), {"transparency": b"\xcc\xff"}, [51, 51, 51]),
        (Image.new("RGB", (4, 4), (0, 0, 0)), {"transparency": (0, 0, 0)}, [255, 255, 255]),
        (Image.new("RGB", (4, 4), (0, 0, 0)), {"transparency": (1, 0, 0)}, [0, 0, 0]),
        (Image.new("L", (4, 4), 0), {"transparency": 0}, [255, 255, 255]),
        (Image.new("1", (4, 4), 0), {"transparency": 0}, [255, 255, 255]),
    ],
)
def test_what_is_transparent_lies_on_white(image, options, expected):
    assert (read_back(image, **options) == expected).all()
    assert abs(int(read_back(image, channels=1, **options)[0, 0, 0]) - np.dot(expected, [0.299, 0.587, 0.114])) <= 1


def test_images_for_print_keep_their_colours():
    found = read_back(Image.new("RGB", (4, 4), (200, 50, 25)).convert("CMYK"), "JPEG")
    np.testing.assert_allclose(found, np.broadcast_to([200, 50, 25], found.shape), atol=2)


@pytest.mark.parametrize("mode, file_format", [("RGB", "JPEG"), ("L", "JPEG"), ("RGBA", "PNG"), ("P", "PNG")])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_camera_was_held(orientation, mode, file_format):
    upright = np.zeros((8, 8), "uint8")
    upright[:4] = 160
    upright[:4, :4] = 255
    # What the camera writes is turned or mirrored; EXIF says which way round the first row and column are.
    written = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
        6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    image = Image.fromarray(np.ascontiguousarray(written)).convert(mode)
    exif = image.getexif()
    exif[0x0112] = orientation
    found = read_back(image, file_format, size=8, exif=exif)[..., 0]
    np.testing.assert_allclose(found, upright, atol=20)  # JPEG rounds


def test_colours_of_16_bits():
    """Pillow keeps the upper half of each channel; a transparent colour of 16 bits would match no pixel."""

    def chunk(kind, content):
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    def png(*more):
        header, row = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0), b"\0" + struct.pack(">3H", 40000, 20000, 0) * 4
        end = chunk(b"IDAT", zlib.compress(row * 4)) + chunk(b"IEND", b"")
        return io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + end)

    assert (_data.resized(png(), "the image", 4) == [40000 // 256, 20000 // 256, 0]).all()
    with pytest.raises(ValueError, match=r"Expected the image to be .* its transparent colour is one of 16 bits"):
        _data.resized(png(chunk(b"tRNS", struct.pack(">3H", 40000, 20000, 0))), "the image", 4)


def test_folders_that_do_not_fit(colours, tmp_path, monkeypatch):
    monkeypatch.delenv("WEIGHTWISE_DATA", raising=False)
    assert "WEIGHTWISE_DATA names; received neither. Write folder=" in failure(FileNotFoundError)
    monkeypatch.setenv("WEIGHTWISE_DATA", str(tmp_path))
    assert f"found nothing at {tmp_path / 'image_folder'}" in failure(FileNotFoundError)
    assert f"found nothing at {tmp_path / 'missing'}" in failure(FileNotFoundError, folder=tmp_path / "missing")
    assert "Expected test_folder to be" in failure(FileNotFoundError, folder=colours, test_folder=tmp_path / "missing")
    file = colours / "a" / "png-file.png"
    assert f"received the file {file}" in failure(folder=file)
    assert "found none in" in failure(folder=colours / "a")
    assert "two classes or more; found only colours in" in failure(folder=tmp_path)
    (colours / "d").mkdir()
    assert f"found none in {colours / 'd'}. Add some, or delete the folder" in failure(folder=colours)


def test_files_that_do_not_fit(colours):
    damaged = colours / "b" / "png-file.png"
    content = damaged.read_bytes()
    for wrong in (b"", b"text", content[: len(content) - 30]):
        damaged.write_bytes(wrong)
        message = failure(folder=colours)
        assert f"Expected {damaged} to be an image" in message and "Replace or delete it" in message
    Image.fromarray(np.full((5, 5), 40000, "uint16")).save(damaged)
    assert f"{damaged} to be an image with 8 bits a channel; reading it gave ValueError: its mode is I;16" in failure(
        folder=colours
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"image_size": 3}, "image_size .* to be a whole number of at least 4, received 3"),
        ({"image_size": 8.0}, "received 8.0"),
        ({"test_fraction": 0}, "test_fraction .* number between 0 and 1 .both excluded., received 0"),
        ({"test_fraction": 1.0}, "received 1.0"),
        ({"test_fraction": float("nan")}, "received nan"),
        ({"test_fraction": 0.1}, "between 0 and 1 that splits 15 images .* every label in both, received 0.1"),
        ({"test_fraction": None}, "received None"),
    ],
)
def test_options_that_do_not_fit(colours, options, message):
    with pytest.raises(ValueError, match=message):
        tasks.load("image_folder", folder=colours, **options)


def test_a_threshold_grid(image_folder, tmp_path):
    settings = dict(
        task="image_folder", options={"folder": str(image_folder), "image_size": 8}, measures=["magnitude"],
        levels=["weight"], thresholds=[0, 0.5, 1], epochs=1, out=tmp_path / "data", progress=False,
    )  # fmt: skip
    frame = threshold_grid.run(**settings)
    assert frame["threshold"].tolist() == [0, 0.5, 1] and (frame["status"] == "ok").all()
    assert set(frame["task"]) == {"image_folder"} and set(frame["model"]) == {"cnn"}
    assert np.isfinite(frame["validation_loss"]).all()
    again = threshold_grid.run(**settings)
    assert again["run"].tolist() == frame["run"].tolist()
