"""A folder that cannot be written, or is gone: said with what to do, and nothing is lost."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
import pytest
from attack.conftest import EVERY
from attack.runs import Run, assert_as_uninterrupted, files
from commands import command

from mgnet_jax.training import checkpoint, manifest, metrics, records
from mgnet_jax.training import files as training_files
from mgnet_jax.training.checkpoint import Checkpoints
from mgnet_jax.training.saving import Saver

NEVER = "--config.checkpoint.retry_minutes=0"
SOON = "--config.checkpoint.retry_minutes=0.02"  # tried again every 0.12 s


class Attack:
    """A run in this process, to which something happens before it saves some step."""

    def __init__(self, workdir: Path, patch: pytest.MonkeyPatch, capsys: Any):
        self.workdir, self.patch, self.capsys = workdir, patch, capsys
        self.said = ""

    def at(self, step: int, action: Callable[[], object]) -> None:
        """Does something once, before that step is saved."""
        save, waiting = Saver.save, [action]

        def saving(saver: Saver, state: Any, *facts: Any) -> None:
            if int(state.step) >= step and waiting:
                saver.checkpoints.wait()
                waiting.pop()()
            save(saver, state, *facts)

        self.patch.setattr(Saver, "save", saving)

    def run(self, *flags: str) -> int:
        code = command(self.workdir, *EVERY, *flags)
        captured = self.capsys.readouterr()
        self.said = captured.out + captured.err
        assert "Traceback" not in self.said
        return code

    def failing(self, number: int, times: int | None) -> Callable[..., None]:
        """What raises an OSError so many times, or always, and then does what it stands for."""
        left = [times or 10**9]

        def fail(*_: object, **__: object) -> None:
            if left[0]:
                left[0] -= 1
                raise OSError(number, os.strerror(number), "some file")

        return fail

    def before(self, owner: Any, name: str, first: Callable[..., None]) -> None:
        """Lets something happen before each call of a function."""
        function = getattr(owner, name)

        def both(*arguments: Any, **options: Any) -> Any:
            first(*arguments, **options)
            return function(*arguments, **options)

        self.patch.setattr(owner, name, both)

    def undo(self) -> None:
        self.patch.undo()


@pytest.fixture
def attack(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Attack:
    return Attack(tmp_path / "run", monkeypatch, capsys)


@pytest.fixture
def small_disk(attack: Attack, tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB that the workdir is on; not everybody may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here: that takes root")
    attack.workdir = disk / "run"
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> None:
    with (disk / "other").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))


def newest_is_whole(workdir: Path) -> int:
    with Checkpoints(workdir) as checkpoints:
        found = checkpoints.newest()
    assert found is not None
    return found.step


slow = pytest.mark.slow


def test_a_disk_that_is_full_at_the_start(
    attack: Attack, small_disk: Path, uninterrupted: Path
) -> None:
    fill(small_disk)
    assert attack.run() == 1
    assert str(attack.workdir) in attack.said and "make room" in attack.said
    (small_disk / "other").unlink()
    assert attack.run() == 0
    assert_as_uninterrupted(attack.workdir, uninterrupted)


@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while(
    attack: Attack, small_disk: Path, uninterrupted: Path
) -> None:
    """Also one that is written to meanwhile by the metrics."""
    for background in ("off", "on"):
        shutil.rmtree(attack.workdir, ignore_errors=True)
        attack.at(20, lambda: fill(small_disk))
        freed = [0]

        def again(*_: object, freed: list[int] = freed) -> None:
            freed[0] += (small_disk / "other").exists()
            if freed[0] == 2:
                (small_disk / "other").unlink(missing_ok=True)

        attack.before(checkpoint, "require_room", again)
        assert (
            attack.run(SOON.replace("0.02", "0.5"), f"--config.checkpoint.background={background}")
            == 0
        )
        assert "not saved: " in attack.said and "make room" in attack.said
        assert "saved after step" in attack.said
        attack.undo()
        assert_as_uninterrupted(attack.workdir, uninterrupted)


@pytest.mark.parametrize("background", ["on", pytest.param("off", marks=slow)])
def test_a_disk_that_stays_full(
    background: str, attack: Attack, small_disk: Path, uninterrupted: Path
) -> None:
    attack.at(20, lambda: fill(small_disk))
    assert attack.run(SOON, f"--config.checkpoint.background={background}") == 1
    assert "The newest checkpoint is of step 10 in " in attack.said
    assert "the same command goes on" in attack.said
    assert newest_is_whole(attack.workdir) == 10
    attack.undo()
    assert attack.run() == 1  # still no room
    assert "make room" in attack.said and str(attack.workdir) in attack.said
    assert newest_is_whole(attack.workdir) == 10
    (small_disk / "other").unlink()
    assert attack.run() == 0
    assert_as_uninterrupted(attack.workdir, uninterrupted)


@slow
def test_a_disk_that_is_full_at_the_very_end(
    attack: Attack, small_disk: Path, uninterrupted: Path
) -> None:
    attack.before(records, "plot_curves", lambda *_: fill(small_disk))
    assert attack.run() == 1
    assert "curves.png" in attack.said and "make room" in attack.said
    attack.undo()
    (small_disk / "other").unlink()
    assert attack.run() == 0
    assert (attack.workdir / "curves.png").read_bytes().endswith(b"IEND\xaeB`\x82")
    assert_as_uninterrupted(attack.workdir, uninterrupted)


@pytest.mark.parametrize("size", [pytest.param(2000, marks=slow), pytest.param(20, marks=slow)])
def test_a_limit_of_the_size_of_files(size: int, attack: Attack, uninterrupted: Path) -> None:
    before = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, -1))"
    run = subprocess.run(
        Run.line(attack.workdir, NEVER, before=before),
        env=Run.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout
    assert "Traceback" not in run.stdout
    assert str(attack.workdir) in run.stdout and "File too large" in run.stdout
    assert attack.run() == 0
    assert_as_uninterrupted(attack.workdir, uninterrupted)


def test_a_folder_that_may_only_be_read(
    attack: Attack, small_disk: Path, broken_off: Path, uninterrupted: Path
) -> None:
    shutil.copytree(broken_off, attack.workdir)
    before = files(attack.workdir)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert attack.run() == 2
    assert str(attack.workdir) in attack.said and "give another --workdir" in attack.said
    for mode in ("eval", "verify"):  # which write nothing
        assert command(attack.workdir, f"--mode={mode}") == (mode == "verify" and 0)
    assert files(attack.workdir) == before
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert attack.run() == 0
    assert_as_uninterrupted(attack.workdir, uninterrupted)


@pytest.mark.parametrize("background", ["off", pytest.param("on", marks=slow)])
def test_a_workdir_that_is_gone_or_another_one(background: str, attack: Attack) -> None:
    flag = f"--config.checkpoint.background={background}"
    kept = attack.workdir.with_name("kept")

    def replace() -> None:
        attack.workdir.rename(kept)
        attack.workdir.mkdir()
        (attack.workdir / "mine.txt").write_text("mine")

    attack.at(20, replace)
    assert attack.run(flag) == 1
    assert f"{attack.workdir} was removed or replaced" in attack.said
    assert "Put the folder back" in attack.said
    assert files(attack.workdir) == {"mine.txt": b"mine"}
    assert newest_is_whole(kept) == 10
    attack.undo()
    attack.at(20, lambda: shutil.rmtree(kept))
    attack.workdir = kept
    assert attack.run(flag) == 1
    assert "was removed or replaced" in attack.said
    assert not kept.exists()


@pytest.mark.parametrize("step", [20, pytest.param(44, marks=slow)])
def test_checkpoints_that_are_gone(step: int, attack: Attack, uninterrupted: Path) -> None:
    attack.at(step, lambda: shutil.rmtree(attack.workdir / "checkpoints"))
    assert attack.run() == 0
    assert "was removed with all that was in it; it is made again" in attack.said
    assert_as_uninterrupted(attack.workdir, uninterrupted)


def test_what_does_not_belong_there_is_left_alone(
    attack: Attack, broken_off: Path, uninterrupted: Path
) -> None:
    """Nor is a backup beside a checkpoint."""
    shutil.copytree(broken_off, attack.workdir)
    folder = attack.workdir / "checkpoints"
    shutil.copytree(folder / "22", folder / "22.old")
    (folder / "notes.saving").write_text("mine")
    (folder / "030").mkdir()
    (folder / "٣").mkdir()
    (folder / "30" / "mine.txt").write_text("mine")
    before = files(folder / "22.old")
    (folder / "24.saving" / "state").mkdir(parents=True)  # this one is ours
    assert attack.run() == 0
    assert files(folder / "22.old") == before
    assert (folder / "notes.saving").read_text() == "mine"
    assert (folder / "030").is_dir() and (folder / "٣").is_dir()
    assert not (folder / "24.saving").exists()
    assert_as_uninterrupted(attack.workdir, uninterrupted)
    assert "22.old" in (said := attack.capsys.readouterr().out) and "does not belong here" in said


@slow
def test_a_file_in_the_place_of_the_checkpoints(attack: Attack) -> None:
    attack.workdir.mkdir()
    (attack.workdir / "checkpoints").write_text("mine")
    assert attack.run() == 2
    assert str(attack.workdir / "checkpoints") in attack.said
    assert (attack.workdir / "checkpoints").read_text() == "mine"


QUOTA = [
    ("off", 3),
    *(pytest.param(b, n, marks=slow) for b, n in (("on", None), ("on", 3), ("off", None))),
]


@pytest.mark.parametrize(("background", "times"), QUOTA)
def test_a_quota_that_is_used_up(
    background: str, times: int | None, attack: Attack, uninterrupted: Path
) -> None:
    """A quota, unlike a full disk, is seen only when something is written."""
    fail = attack.failing(errno.EDQUOT, times)
    attack.at(20, lambda: attack.before(ocp.Checkpointer, "save", fail))
    code = attack.run(SOON.replace("0.02", "0.1"), f"--config.checkpoint.background={background}")
    assert "Disk quota exceeded" in attack.said and "make room" in attack.said
    if times:
        assert code == 0
        assert attack.said.count("not saved: ") == 1 == attack.said.count("saved after step")
    else:
        assert code == 1
        assert "The newest checkpoint is of step 10" in attack.said
        assert "saved after step" not in attack.said
        assert newest_is_whole(attack.workdir) == 10
        attack.undo()
        assert attack.run() == 0
    assert_as_uninterrupted(attack.workdir, uninterrupted)


class Failing(FileIO):
    """A file of which only the first line can be written."""

    def write(self, content: Any) -> int:
        self.count = getattr(self, "count", 0) + 1
        if self.count == 2:
            return super().write(content[:5])
        return super().write(content)


@slow
@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        (manifest, "replace_file", errno.ENOSPC),
        (checkpoint, "sync", errno.EIO),
        (training_files, "sync", errno.EIO),
        (metrics, "replace_file", errno.ENOSPC),
        (Path, "rename", errno.EBUSY),
        (Path, "mkdir", errno.EIO),
    ],
)
def test_whatever_fails_for_a_while_is_done_later(
    owner: Any, name: str, number: int, attack: Attack, uninterrupted: Path
) -> None:
    for step in (10, 22, 44):  # the epochs' ends are scored after they are saved
        shutil.rmtree(attack.workdir, ignore_errors=True)
        fail = attack.failing(number, 2)
        attack.at(step, lambda fail=fail: attack.before(owner, name, fail))
        if owner is metrics:
            attack.patch.setattr(metrics, "FileIO", Failing)
        assert attack.run(SOON.replace("0.02", "0.5")) == 0, attack.said
        attack.undo()
        assert_as_uninterrupted(attack.workdir, uninterrupted)


@slow
def test_old_checkpoints_that_cannot_be_removed_cost_nothing(
    attack: Attack, uninterrupted: Path
) -> None:
    """As on NFS while another host reads them."""
    remove = shutil.rmtree

    def busy(path: Path, ignore_errors: bool = False) -> None:
        if str(path).endswith(".removing"):
            if ignore_errors:
                return
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))
        remove(path, ignore_errors=ignore_errors)

    attack.patch.setattr(shutil, "rmtree", busy)
    assert attack.run() == 0
    assert "not saved" not in attack.said
    assert_as_uninterrupted(attack.workdir, uninterrupted)
    attack.undo()
    assert [*attack.workdir.glob("checkpoints/*.removing")]
    assert attack.run() == 0
    assert not [*attack.workdir.glob("checkpoints/*.removing")]
