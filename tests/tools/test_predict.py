"""--mode=predict: every file is predicted or named, as the test images were scored."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import command
from PIL import Image

from mgnet_jax.data import sources


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    test = sources.load("digits").test
    for i in range(6):
        image = Image.fromarray(test.images[i, ..., 0])
        image.save(folder / f"{test.labels[i]}-{i}.png")
    large = Image.fromarray(test.images[0, ..., 0]).resize((80, 80), Image.Resampling.NEAREST)
    (folder / "more").mkdir()
    large.convert("RGB").save(folder / "more" / f"{test.labels[0]}-large.jpg", quality=95)
    (folder / "broken.png").write_bytes(b"no image")
    (folder / ".hidden").write_bytes(b"no image")
    return folder


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_is_predicted_and_what_is_broken_named(
    trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "found.jsonl"
    flags = (f"--images={photos}", "--top=3", "--batch=4", f"--out={out}")
    assert command(trained, "--mode=predict", *flags) == 0
    printed, found = capsys.readouterr().out, read(out)
    assert len(found) == 8 and "7 images, 1 skipped" in printed
    assert f"skipped {photos / 'broken.png'}: no image that Pillow reads" in printed
    right = [r["classes"][0] == Path(r["image"]).name[0] for r in found if "error" not in r]
    assert sum(right) >= 6
    for record in (r for r in found if "error" not in r):
        p = record["probabilities"]
        assert len(p) == 3 and p == sorted(p, reverse=True) and 0 < sum(p) <= 1 + 1e-6
    pixels = sources.load("digits").test.images[3:4]
    import mgnet_jax

    (one,) = [r for r in found if r["image"].endswith("-3.png")]
    expected = np.sort(mgnet_jax.load(trained).predict(pixels)[0])[::-1][:3]
    np.testing.assert_allclose(one["probabilities"], expected, atol=1e-6)


def test_a_pattern_and_the_screen(
    trained: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(trained.rglob("*"))
    assert command(trained, "--mode=predict", f"--images={photos}/*-?.png", "--out=-") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and all(len(json.loads(line)["classes"]) == 5 for line in lines)
    assert sorted(trained.rglob("*")) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "needs --images=FILE, FOLDER or a pattern"),
        (("--images=/nowhere/*.jpg",), "--images=/nowhere/*.jpg: there is no file"),
    ],
)
def test_mistakes(
    trained: Path, flags: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(trained, "--mode=predict", *flags) == 2
    assert words in capsys.readouterr().err


def test_nothing_but_broken_images_is_an_error(
    trained: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (f"--images={photos / 'broken.png'}", "--out=-")
    assert command(trained, "--mode=predict", *flags) == 2
    assert "none of 1 files is an image" in capsys.readouterr().err
