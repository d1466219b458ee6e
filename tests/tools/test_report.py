"""--mode=report and --mode=compare: pages that say what the runs say."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from commands import command, records
from PIL import Image

import mgnet_jax
from mgnet_jax.config import default, repeating
from mgnet_jax.data import sources
from mgnet_jax.reports import html
from mgnet_jax.training.outcomes import Outcomes


@pytest.fixture(scope="module")
def page(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "new" / "report.html"
    assert command(trained, "--mode=report", f"--out={out}") == 0
    return out.read_text()


def test_it_takes_no_network(page: str) -> None:
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "<script" not in page


def test_its_confusion_is_that_of_the_network(trained: Path, page: str) -> None:
    test = sources.load("digits").test
    found = mgnet_jax.load(trained).predict(test.images).argmax(1)
    rows = re.findall(r"<tr><th>(\d)</th>(.*?)</tr>", page)
    assert len(rows) == 10
    for name, cells in rows:
        numbers = [int(x or 0) for x in re.findall(r">(\d*)</td>", cells)]
        expected = np.bincount(found[test.labels == int(name)], minlength=10)
        assert numbers == expected.tolist()


def test_its_examples_are_images_of_the_set(trained: Path, page: str) -> None:
    test = sources.load("digits").test
    p = mgnet_jax.load(trained).predict(test.images)
    wrong = np.flatnonzero(p.argmax(1) != test.labels)
    surest = wrong[np.argsort(-p.max(1)[wrong])]
    captions = re.findall(r'<figure><img alt="([^"]*)"', page)
    first = surest[0]
    assert (
        captions[0] == f"{p[first].argmax()} {100 * p[first].max():.1f} %, is {test.labels[first]}"
    )
    assert len(captions) == min(12, len(wrong)) + 12
    raw = re.search(r'<figure><img alt="[^"]*" src="data:image/png;base64,([^"]*)"', page)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(raw.group(1)))))
    np.testing.assert_array_equal(pixels, test.images[first, ..., 0])


def test_its_scores_and_its_command(trained: Path, page: str) -> None:
    final = [r for r in records(trained) if r["kind"] == "eval"][-1]
    assert f"{100 * final['test_accuracy']:.2f} %" in page
    assert "--config.train.epochs=12" in page and "--config.eval.every_epochs=4" in page


def test_without_the_images_it_says_so(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mgnet_jax.data.sets.load_test", _absent)
        assert command(trained, "--mode=report", f"--out={out}") == 0
    assert "No examples: they are gone" in out.read_text()


def _absent(*arguments: object) -> None:
    raise sources.DataError("they are gone")


def test_what_people_write_stays_text() -> None:
    assert html.table([{"<a>": "<b>&"}]).count("&lt;") == 2
    assert "&lt;i&gt;" in html.page("<i>")


def test_the_surest_are_in_order() -> None:
    seen = Outcomes(
        labels=np.array([0, 1, 1, 0]),
        taken_for=np.array([0, 0, 1, 1]),
        probability=np.array([0.6, 0.9, 0.8, 0.95]),
    )
    assert seen.confusion(2).tolist() == [[1, 1], [1, 1]]
    assert seen.most_sure(False, 5).tolist() == [3, 1]
    assert seen.most_sure(True, 1).tolist() == [2]


def test_a_command_repeats_a_configuration() -> None:
    config = default()
    config.data.name, config.data.std = "cifar10", (0.1, 0.2, 0.3)
    config.model.spec = "MgNet[1,1]-[8]-B^l"
    words = repeating(config)
    assert "--config=cifar10" in words and "'--config.model.spec=MgNet[1,1]-[8]-B^l'" in words
    assert "--config.data.std=0.1,0.2,0.3," in words


def test_runs_are_compared(
    trained: Path, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "c.html"
    runs = (str(trained), str(uninterrupted))
    assert command(tmp_path / "unused", "--mode=compare", *runs, f"--out={page}") == 0
    out = capsys.readouterr().out
    assert re.search(r"train\.epochs +12 +2\n", out) and "model.dtype" not in out
    assert page.exists() and page.with_suffix(".png").exists()
    assert "'MgNet[1,1]-[8]-B^l'" in page.read_text().replace("&#x27;", "'")


@pytest.mark.parametrize(
    ("words", "said"),
    [(("{run}",), "needs the folders of two or more"), (("{run}", "/nowhere"), "/nowhere is not")],
)
def test_comparing_needs_runs(
    trained: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.format(run=trained) for word in words]
    assert command(trained, "--mode=compare", *given) == 2
    assert said in capsys.readouterr().err
