"""The command line: `python -m mgnet_jax.main [--config=FILE[:PRESET]] [--config.KEY=VALUE ...]`.

Without arguments it trains a small MgNet on scikit-learn's digits. --mode=summary prints every KEY
with its value and meaning.
"""

# The only module that knows flags and exit codes: 0 done, 1 the run failed, 2 a mistake in the
# command, the configuration or the data, 128 + n stopped by signal n with the state saved.
# ruff: noqa: E402
import time

STARTED = time.monotonic()  # before the imports, which take seconds

import hashlib
import os
import platform
import re
import signal
import sys
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from mgnet_jax.config import (
    ConfigError,
    check_name,
    make_model,
    to_text,
    validate,
    wrong_value,
)
from mgnet_jax.data.sources import INFO, DataError
from mgnet_jax.evaluate import evaluate, require_checkpoints
from mgnet_jax.training.checkpoint import CheckpointError
from mgnet_jax.training.describe import memory_summary, model_summary
from mgnet_jax.training.loop import Interrupted, TrainError, train
from mgnet_jax.training.metrics import LogError
from mgnet_jax.training.progress import say
from mgnet_jax.training.workdir import saved_config

PACKAGE = Path(__file__).resolve().parent
CONFIG_FOLDERS = (PACKAGE / "configs", PACKAGE.parent / "configs")  # installed; in a checkout
DEFAULT = "digits"
MISTAKES = (ConfigError, DataError, CheckpointError, LogError, flags.Error, OSError)


def define_flags(argv: list[str]) -> flags.FlagValues:
    """The flags; argv must hold --config=FILE, and has the overrides of its keys."""
    values = flags.FlagValues()
    flags.DEFINE_enum(
        "mode",
        "train",
        ["train", "eval", "summary"],
        "train (or go on with) a run, score a checkpoint on the full test set, or print the model",
        flag_values=values,
    )
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or "~/.cache/mgnet_jax/jit"
    for name, default, meaning in (
        ("workdir", "", "folder of the run; default: runs/<config.name>"),
        ("checkpoint", "last", "for --mode=eval: last, best, or a step"),
        ("jit_cache", cache, "folder of compiled programs, for a faster next start; empty: none"),
    ):
        flags.DEFINE_string(name, default, meaning, flag_values=values)
    flags.DEFINE_bool("help", False, "show this help", short_name="h", flag_values=values)
    config_flags.DEFINE_config_file(
        "config", None, "config file, or the name of one in configs/; :PRESET may follow",
        flag_values=values, sys_argv=argv,
    )  # fmt: skip
    return values


def find_config(name: str) -> str:
    """The path of a config file, `:preset` kept; NAME or configs/NAME.py may be one of ours.

    Raises:
      ConfigError: there is no such file.
    """
    path, colon, preset = name.partition(":")
    ours = Path(path).name.removesuffix(".py") + ".py"
    folders = CONFIG_FOLDERS if Path(path).parent in (Path(), Path("configs")) else ()
    for candidate in (Path(path), *(folder / ours for folder in folders)):
        if candidate.is_file():
            return f"{candidate}{colon}{preset}"
    known = sorted({file.stem for folder in CONFIG_FOLDERS for file in folder.glob("*.py")})
    raise ConfigError(f"no config file {path!r}; give a path, or one of {', '.join(known)}")


def names_config(arguments: list[str]) -> bool:
    """Whether the command line has --config."""
    return any(re.match(r"--?config(=|$)", argument) for argument in arguments)


def parse_arguments(argv: list[str]) -> flags.FlagValues:
    """Parses the command line, --config defaulting to digits.

    Raises:
      ConfigError: an unknown config file, preset or key.
      flags.Error: an unknown flag or a value of the wrong type.
    """
    program, *arguments = argv
    for i, argument in enumerate(arguments):
        if match := re.fullmatch(r"--?config=(.*)", argument):
            arguments[i] = f"--config={find_config(match.group(1))}"
        elif i and re.fullmatch(r"--?config", arguments[i - 1]):
            arguments[i] = find_config(argument)
    if not names_config(arguments):
        arguments = [f"--config={find_config(DEFAULT)}", *arguments]
    for argument in arguments:
        if match := re.match(r"--?(?:no)?config\.([^=]*)", argument):
            check_name(match.group(1))
    sys.modules.pop("config_config", None)  # where config_flags would find the file read before
    values = define_flags([program, *arguments])
    try:
        _, *extra = values([program, *arguments])
    except flags.IllegalFlagValueError as error:
        override = re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error), re.DOTALL)
        raise wrong_value(*override.groups()) if override else error from None
    except (ConfigError, flags.Error):
        raise
    except Exception as error:  # from the user's own config file
        raise ConfigError(
            f"--config: that file fails with {type(error).__name__}: {error}"
        ) from error
    if extra:
        raise flags.Error(f"unexpected argument {extra[0]!r}; flags are written --flag=value")
    if not isinstance(values.config, ConfigDict):
        raise ConfigError(
            "--config: get_config() of that file must return an ml_collections.ConfigDict"
        )
    if values["checkpoint"].present and values.mode != "eval":
        raise flags.Error("--checkpoint is for --mode=eval; training goes on from the newest")
    return values


def keep_programs(folder: str) -> None:
    """Keeps compiled programs in a folder; those for CPUs are of use on like processors alone."""
    path = None
    if folder:
        cpuinfo = Path("/proc/cpuinfo")
        lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else [platform.processor()]
        features = next(
            (line for line in lines if line.startswith(("flags", "Features"))), lines[0]
        )
        kind = hashlib.sha256(features.encode()).hexdigest()[:8]
        path = str(Path(folder).expanduser() / f"{platform.machine()}-{kind}")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_compilation_cache_dir", path)


def choose_config(values: flags.FlagValues, workdir: Path, named: bool) -> ConfigDict:
    """The configuration: of the command line, or to score a run without --config the run's own."""
    saved = saved_config(workdir) if values.mode == "eval" and not named else None
    if saved is None:
        return values.config
    saved.update_from_flattened_dict(config_flags.get_override_values(values["config"]))
    return saved


def run(values: flags.FlagValues, named: bool) -> None:
    """Validates the configuration, prints it and the model, then does what --mode says."""
    workdir = Path(values.workdir or Path("runs", values.config.get("name") or "unnamed"))
    if values.mode == "eval":
        require_checkpoints(workdir)
    config = choose_config(values, workdir, named)
    keep_programs(values.jit_cache)
    validate(config, jax.device_count() if values.mode == "train" else 1)
    jax.config.update("jax_enable_x64", config.model.dtype == "float64")
    info = INFO[config.data.name]
    model = make_model(config)
    say(f"{to_text(config)}\n\n{model_summary(model, info)}")
    say(memory_summary(model, info, config.train) + "\n")
    if values.mode == "train":
        train(config, workdir, STARTED)
    elif values.mode == "eval":
        evaluate(config, workdir, values.checkpoint)


def main(argv: list[str]) -> int:
    """Runs the command and gives its exit code; mistakes become messages, not tracebacks."""
    try:
        values = parse_arguments(argv)
        if values.help:
            say(f"{__doc__}\n{values.get_help()}")
        else:
            run(values, names_config(argv))
    except Interrupted as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        return 128 + stopped.signal
    except TrainError as failed:
        print(f"\nerror: {failed}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except jax.errors.JaxRuntimeError as failed:
        if not re.search("RESOURCE_EXHAUSTED|[Oo]ut of memory", str(failed)):
            raise
        print(f"\nerror: not enough memory: {str(failed).splitlines()[0]}\nLower "
              f"config.train.batch_size, raise config.train.accumulate, set "
              f"config.model.remat=True, or take a smaller network.", file=sys.stderr)  # fmt: skip
        return 1
    except MISTAKES as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; nothing was saved after the newest checkpoint", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
