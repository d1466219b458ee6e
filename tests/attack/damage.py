"""Ways in which files of a checkpoint are damaged, each by a seed."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path, random.Random], None]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(newest: Path, rng: random.Random) -> None:
    """One byte of all is another one; a byte of a large file is as likely as one of a small."""
    file = rng.choice([path for path in files(newest) if path.stat().st_size])
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    file.write_bytes(content)


def truncate(newest: Path, rng: random.Random) -> None:
    file = rng.choice([path for path in files(newest) if path.stat().st_size])
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))])


def zero(newest: Path, rng: random.Random) -> None:
    file = rng.choice([path for path in files(newest) if any(path.read_bytes())])
    file.write_bytes(bytes(file.stat().st_size))


def delete(newest: Path, rng: random.Random) -> None:
    rng.choice(files(newest)).unlink()


def swap(newest: Path, rng: random.Random) -> None:
    while True:
        one, other = rng.sample(files(newest), 2)
        a, b = one.read_bytes(), other.read_bytes()
        if a != b:
            one.write_bytes(b)
            other.write_bytes(a)
            return


def half_copied(newest: Path, rng: random.Random) -> None:
    """As a copy that was broken off: some files are there, one in part, the rest not."""
    every = files(newest)
    kept = rng.randrange(len(every))
    size = every[kept].stat().st_size
    every[kept].write_bytes(every[kept].read_bytes()[: rng.randrange(size) if size else 0])
    for path in every[kept + (size > 0) :]:
        path.unlink()


def of_the_older(newest: Path, rng: random.Random) -> None:
    """A file is that of the checkpoint before, or the whole folder is, under the new name."""
    older = newest.with_name("22")
    both = [p for p in files(older) if (newest / p.relative_to(older)).exists()]
    changed = [p for p in both if p.read_bytes() != (newest / p.relative_to(older)).read_bytes()]
    if rng.random() < 0.3 or not changed:
        shutil.rmtree(newest)
        shutil.copytree(older, newest)
        return
    file = rng.choice(changed)
    shutil.copy(file, newest / file.relative_to(older))


HEAVY: tuple[Damage, ...] = (truncate, zero, delete, swap, half_copied, of_the_older)
