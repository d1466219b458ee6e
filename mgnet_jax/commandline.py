"""The command line: `python -m mgnet_jax.main [--config=FILE[:PRESET]] [--config.KEY=VALUE ...]`.

Without arguments it trains a small MgNet on scikit-learn's digits. --mode=summary prints every KEY
with its value and meaning.
"""

# The only module that knows absl's flags. Exit codes: 0 done, 1 the run failed, 2 a mistake in the
# command, the configuration or the data, 128 + n stopped by signal n with the state saved.
import os

# XLA's log; its errors come as exceptions, and jaxlib 0.10 fills the screen when it takes a program
# for a CPU from the cache
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import platform
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from mgnet_jax.config import ConfigError, check_name, shipped, wrong_value
from mgnet_jax.tools import TOOLS
from mgnet_jax.tools.tool import Command, Flag
from mgnet_jax.training import installation, processes
from mgnet_jax.training.progress import say

DEFAULT = "digits"
MISTAKES = (flags.Error, OSError)  # messages too, without an exit code of their own
KEYWORD = re.compile(r"^(--?config\.init\.)from(=|$)")
"""What people write for config.init.source: Python's word, which config_flags cannot read."""
DEFINE: dict[type, Any] = {
    str: flags.DEFINE_string,
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
}


def tool_flags() -> dict[str, dict[str, Flag]]:
    """The flags that only some tools have: {flag: {mode: what it is there}}."""
    found: dict[str, dict[str, Flag]] = {}
    for mode, tool in TOOLS.items():
        for flag in tool.FLAGS:
            found.setdefault(flag.name, {})[mode] = flag
    return found


def define_flags(argv: list[str]) -> flags.FlagValues:
    """The flags; argv must hold --config=FILE, and has the overrides of its keys."""
    values = flags.FlagValues()
    modes = "; ".join(f"{mode}: {tool.HELP}" for mode, tool in TOOLS.items())
    flags.DEFINE_enum("mode", next(iter(TOOLS)), [*TOOLS], modes, flag_values=values)
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or "~/.cache/mgnet_jax/jit"
    for name, default, meaning in (
        ("workdir", "", "folder of the run; default: runs/<config.name>"),
        ("jit_cache", cache, "folder of compiled programs, for a faster next start; empty: none"),
    ):
        flags.DEFINE_string(name, default, meaning, flag_values=values)
    for name, owners in tool_flags().items():
        meaning = "; ".join(f"for --mode={mode}: {flag.meaning}" for mode, flag in owners.items())
        first = next(iter(owners.values()))
        DEFINE[type(first.default)](name, first.default, meaning, flag_values=values)
    flags.DEFINE_bool("help", False, "show this help", short_name="h", flag_values=values)
    meaning = "config file, or the name of one in configs/; :PRESET may follow"
    config_flags.DEFINE_config_file("config", None, meaning, flag_values=values, sys_argv=argv)
    return values


def find_config(name: str) -> str:
    """The path of a config file, `:preset` kept; NAME or configs/NAME.py may be one of ours.

    Raises:
      ConfigError: there is no such file.
    """
    path, colon, preset = name.partition(":")
    ours = Path(path).name.removesuffix(".py") + ".py"
    folders = shipped.FOLDERS if Path(path).parent in (Path(), Path("configs")) else ()
    for candidate in (Path(path), *(folder / ours for folder in folders)):
        if candidate.is_file():
            return f"{candidate}{colon}{preset}"
    known = ", ".join(shipped.files())
    raise ConfigError(f"no config file {path!r}; give a path, or one of {known}")


def names_config(arguments: list[str]) -> bool:
    """Whether the command line has --config."""
    return any(re.match(r"--?config(=|$)", argument) for argument in arguments)


def parse_arguments(argv: list[str]) -> tuple[flags.FlagValues, list[str]]:
    """Parses the command line, --config defaulting to digits: the flags, and what are none.

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
    arguments = [KEYWORD.sub(r"\1source\2", argument) for argument in arguments]
    for argument in arguments:
        if match := re.match(r"--?(?:no)?config\.([^=]*)", argument):
            check_name(match.group(1))
    sys.modules.pop("config_config", None)  # where config_flags would find the file read before
    values = define_flags([program, *arguments])
    values.set_gnu_getopt(True)  # words that are no flags may stand anywhere
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
    if extra and not takes_arguments(values.mode):
        raise flags.Error(f"unexpected argument {extra[0]!r}; flags are written --flag=value")
    if not isinstance(values.config, ConfigDict):
        raise ConfigError(
            "--config: get_config() of that file must return an ml_collections.ConfigDict"
        )
    for name, owners in tool_flags().items():
        if values[name].present and values.mode not in owners:
            raise flags.Error(
                f"--{name} is for --mode={' or '.join(owners)}, not for --mode={values.mode}"
            )
    return values, extra


def keep_programs(folder: str) -> None:
    """Keeps compiled programs in a folder; those for CPUs are of use on like processors alone."""
    path = None
    if folder:
        path = str(Path(folder).expanduser() / f"{platform.machine()}-{installation.processor()}")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_compilation_cache_dir", path)


def check_bucket(name: str) -> None:
    """Raises ConfigError if a workdir is no folder of a file system."""
    if re.match(r"\w+://", name):
        raise ConfigError(
            f"--workdir={name} is in a bucket: a run needs a folder of a file system, whose files "
            f"can be appended to and replaced. Give one, for several processes one that all share "
            f"(NFS, Filestore, Lustre), and copy it to the bucket afterwards"
        )


def takes_arguments(mode: str) -> bool:
    """Whether a tool takes words that are no flags."""
    return hasattr(TOOLS[mode], "ARGUMENTS")


def make_command(
    values: flags.FlagValues, arguments: list[str], config_named: bool, started: float
) -> Command:
    """What the command line asks of its tool."""
    check_bucket(values.workdir)
    own: dict[str, Any] = {}
    for flag in TOOLS[values.mode].FLAGS:
        given = values[flag.name]
        own[flag.name] = given.value if given.present else flag.default
    return Command(
        config=values.config,
        workdir=Path(values.workdir or Path("runs", values.config.get("name") or "unnamed")),
        flags=own,
        started=started,
        config_named=config_named,
        overrides=config_flags.get_override_values(values["config"]),
        workdir_named=bool(values.workdir),
        arguments=tuple(arguments),
    )


def exit_code(error: Exception) -> int | None:
    """The exit code of an error that is a message to people; None for one that is a bug."""
    own = getattr(error, "exit_code", None)
    return 2 if own is None and isinstance(error, MISTAKES) else own


def message(error: Exception, code: int) -> str:
    """What people read: a run that failed or was stopped has a line before it that may be open."""
    text = str(error) if code > 128 else f"error: {error}"
    return text if code == 2 else f"\n{text}"


def out_of_memory(error: jax.errors.JaxRuntimeError) -> str | None:
    """What people read if the error is lack of memory, else None."""
    if not re.search("RESOURCE_EXHAUSTED|[Oo]ut of memory", str(error)):
        return None
    return (
        f"\nerror: not enough memory: {str(error).splitlines()[0]}\n"
        "Lower config.train.batch_size, raise config.train.accumulate, set "
        "config.model.remat=steps, or take a smaller network; --mode=summary tells the memory."
    )


def run(argv: list[str], started: float) -> int:
    """Runs the command and gives its exit code; mistakes become messages, not tracebacks.

    Args:
      argv: the program and its arguments.
      started: time.monotonic() at the start of the command.
    """
    try:
        code = run_alone(argv, started)
    except Exception as error:
        if processes.lost_others(error):
            say(
                f"\nerror: another process of this run is gone: {str(error).splitlines()[0]}\n"
                "The same command goes on from the newest checkpoint.",
                stream=sys.stderr,
            )
        elif processes.several():
            traceback.print_exc()
            processes.failed(f"{type(error).__name__}: {error}")
        else:
            raise
        code = 1
    processes.end(code)
    return code


def run_alone(argv: list[str], started: float) -> int:
    """The same, for this process; what is a bug is a traceback."""
    try:
        values, extra = parse_arguments(argv)
        if values.help:
            say(f"{__doc__}\n{values.get_help()}")
        else:
            keep_programs(values.jit_cache)
            TOOLS[values.mode].run(make_command(values, extra, names_config(argv), started))
    except BrokenPipeError:  # as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        text, code = (
            "\nstopped by SIGINT; nothing was saved after the newest checkpoint",
            128 + signal.SIGINT,
        )
    except jax.errors.JaxRuntimeError as error:
        if processes.lost_others(error) or not (said := out_of_memory(error)):
            raise
        text, code = said, 1
    except Exception as error:
        if (known := exit_code(error)) is None:
            raise
        text, code = message(error, known), known
    else:
        return 0
    if processes.several() and code <= 128:
        processes.failed(text.strip().removeprefix("error: "))
        text = f"process {processes.index()}: {text.strip()}"
    if code <= 128 or processes.is_first():
        say(text, stream=sys.stderr)
    return code
