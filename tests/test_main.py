"""The command line: its flags, its tools from the registry, and what it does with mistakes."""

import dataclasses
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from commands import command

from mgnet_jax.commandline import find_config
from mgnet_jax.config import ConfigError
from mgnet_jax.data.sources import DataError
from mgnet_jax.main import main
from mgnet_jax.models import ModelError, SpecError
from mgnet_jax.tools.tool import Command, Flag
from mgnet_jax.training.checkpoint import CheckpointError
from mgnet_jax.training.metrics import LogError
from mgnet_jax.training.report import TrainError
from mgnet_jax.training.supervise import Interrupted


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config.model.spek=3"], "config.model.spek; did you mean config.model.spec?"),
        (["--config.model.nu=3,3"], "unknown key config.model.nu; did you mean config.model.spec?"),
        (["--config=cifar10:smal"], "unknown preset 'smal'; did you mean 'small'? there are paper"),
        (["--config=nope"], "no config file 'nope'; give a path, or one of cifar10, cifar100"),
        (["--config.model.spec=MgNet[2,x]-8-B^l"], "config.model.spec: model name not understood"),
        (["--config.data.std=x,y"], "config.data.std=('x,y',) must be finite numbers > 0, one a"),
        (["--config.data.std=.2 .2"], "config.data.std=.2 .2 must be finite numbers > 0, one a"),
        (["--config.data.mean=.2,.3"], "config.data.mean=(0.2, 0.3) must have as many numbers"),
        (["--config.train.epochs=abc"], "config.train.epochs=abc must be a whole number >= 1"),
        (["--config.data.flip=maybe"], "config.data.flip=maybe must be True or False"),
        (["--config.name=../x"], "config.name='../x' must be a name without /"),
        (["--checkpoint=best"], "--checkpoint is for --mode=eval"),
        (["--config.train.batch_size=15", "--config.train.accumulate=2"], "must be divisible"),
        (["--modes=train"], "modes"),
        (["train"], "unexpected argument 'train'"),
        (["--mode=eval"], "train first"),
        (["--config=cifar10"], "--config.data.dir"),
        (["--config.data.source=tfds"], "digits"),
    ],
)
def test_mistakes_are_messages(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("MGNET_DATA", raising=False)
    assert command(tmp_path / "run", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = (", "SyntaxError"),
        ("x = 1", "get_config"),
        ("def get_config(): return {'name': 'x'}", "must return an ml_collections.ConfigDict"),
        ("import no_such_module", "no_such_module"),
    ],
)
def test_a_config_file_that_fails_is_a_message(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(text)
    assert command(tmp_path / "run", f"--config={tmp_path / 'mine.py'}") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --config")
    assert words in error


@pytest.mark.parametrize(
    ("text", "numbers"),
    [(".2,.25,.5", (0.2, 0.25, 0.5)), ("(1,2,3)", (1, 2, 3)), ("()", ()), (".5", (0.5,))],
)
def test_numbers_for_the_channels_come_from_the_command_line(
    text: str, numbers: tuple[float, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = Fake("dig")
    tools(monkeypatch, tool)
    config = "--config=cifar10:script"  # which has numbers of its own
    assert command(tmp_path, config, f"--config.data.std={text}") == 0
    assert tool.asked and tool.asked.config.data.std == numbers
    assert tool.asked.overrides == {"data.std": numbers}


def test_help_shows_the_flags(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(tmp_path, "--help") == 0
    out = capsys.readouterr().out
    assert all(flag in out for flag in ("--config", "--mode", "--workdir", "--checkpoint"))


def test_configs_are_found_by_name_and_by_path(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path(find_config("digits")).name == "digits.py"
    assert find_config("cifar10:small").endswith("cifar10.py:small")
    assert find_config("configs/mnist.py") == find_config("mnist")
    (tmp_path / "mine.py").touch()
    assert find_config("mine.py:a") == "mine.py:a"
    for missing in ("nope.py", "elsewhere/cifar10.py", "configs/more/cifar10.py"):
        with pytest.raises(ConfigError, match=f"no config file '{missing}'.*digits"):
            find_config(missing)


@dataclasses.dataclass
class Fake:
    """A tool that notes what it is asked."""

    NAME: str
    FLAGS: tuple[Flag, ...] = ()
    HELP: str = "a tool of this test"
    error: BaseException | None = None
    asked: Command | None = None

    def run(self, command: Command) -> None:
        self.asked = command
        if self.error:
            raise self.error


def tools(monkeypatch: pytest.MonkeyPatch, *fakes: Fake) -> None:
    """These tools in place of ours."""
    monkeypatch.setattr("mgnet_jax.commandline.TOOLS", {fake.NAME: fake for fake in fakes})


def test_the_tools_are_those_of_the_registry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    depth, out = Flag("depth", 3, "how deep"), Flag("out", "a.json", "file to write")
    first = Fake("dig", (depth, Flag("rate", 0.5, "how fast"), Flag("deep", False, "or not")))
    second = Fake("fill", (out, Flag("depth", 7, "how much")))
    tools(monkeypatch, first, second)
    assert command(tmp_path, "--depth=4", "--deep", "--config.train.epochs=7") == 0
    assert first.asked and not second.asked
    assert first.asked.flags == {"depth": 4, "rate": 0.5, "deep": True}
    assert first.asked.workdir == tmp_path
    assert (first.asked.config_named, first.asked.overrides) == (False, {"train.epochs": 7})
    assert main(["main", "--jit_cache=", "--mode=fill", "--config=mnist"]) == 0
    assert second.asked
    assert second.asked.flags == {"out": "a.json", "depth": 7}  # its own default
    assert second.asked.workdir == Path("runs", "mnist")
    assert (second.asked.config_named, second.asked.overrides) == (True, {})
    assert second.asked.config.data.name == "mnist"
    capsys.readouterr()
    assert command(tmp_path, "--out=b.json") == 2
    assert capsys.readouterr().err == "error: --out is for --mode=fill, not for --mode=dig\n"
    assert command(tmp_path, "--mode=bury") == 2
    assert "<dig|fill>" in capsys.readouterr().err
    assert command(tmp_path, "--help") == 0
    help = " ".join(capsys.readouterr().out.split())
    assert "dig: a tool of this test; fill: a tool of this test" in help
    assert "for --mode=dig: how deep; for --mode=fill: how much" in help


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("wrong"), 2, "error: wrong\n"),
        (DataError("wrong"), 2, "error: wrong\n"),
        (CheckpointError("wrong"), 2, "error: wrong\n"),
        (LogError("wrong"), 2, "error: wrong\n"),
        (ModelError("wrong"), 2, "error: wrong\n"),
        (SpecError("wrong"), 2, "error: wrong\n"),
        (flags.Error("wrong"), 2, "error: wrong\n"),
        (OSError("disk full"), 2, "error: disk full\n"),
        (TrainError("failed"), 1, "\nerror: failed\n"),
        (Interrupted(signal.SIGTERM, "saved"), 128 + signal.SIGTERM, "\nsaved\n"),
        (
            KeyboardInterrupt(),
            128 + signal.SIGINT,
            "\nstopped by SIGINT; nothing was saved after the newest checkpoint\n",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_for_people_have_a_message_and_an_exit_code(
    error: BaseException,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    tools(monkeypatch, Fake("dig", error=error))
    assert command(tmp_path) == code
    assert capsys.readouterr() == ("", text)


def test_a_bug_is_a_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools(monkeypatch, Fake("dig", error=ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        command(tmp_path)


def test_a_bucket_is_no_workdir(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["main", "--workdir=gs://bucket/run"]) == 2
    assert "--workdir=gs://bucket/run is in a bucket" in capsys.readouterr().err


FREED = """
import ctypes, os, threading
from mgnet_jax.main import keep_freed_memory

{call}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def use():
    block = libc.malloc(50 << 20)
    libc.memset(block, 1, 50 << 20)
    libc.free(block)

thread = threading.Thread(target=use)
thread.start()
thread.join()
print(int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc")
@pytest.mark.parametrize(
    ("call", "environment", "kept"),
    [
        ("keep_freed_memory()", {}, True),
        ("keep_freed_memory()", {"MALLOC_TRIM_THRESHOLD_": "131072"}, False),
        ("", {}, False),
    ],
)
def test_memory_that_was_freed_is_kept_for_the_next_array(
    call: str, environment: dict[str, str], kept: bool
) -> None:
    """MiB that a process has after a thread freed 50; nothing is done if the environment speaks."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", FREED.format(call=call)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (int(done.stdout) > 50) == kept
