"""The command line: `python -m mgnet_jax.main [--config=FILE[:PRESET]] [--config.KEY=VALUE ...]`.

Without arguments it trains a small MgNet on scikit-learn's digits. This is the only module that
knows flags and exit codes: 0 done, 2 a mistake in the command or the data, 1 a failed run, and 128
plus the signal's number for a stopped one.
"""

import os
import sys
import time
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

_STARTED = time.monotonic()

FLAGS = flags.FLAGS
flags.DEFINE_enum("mode", "train", ["train", "eval", "summary"], "train (or go on with) a run, "
                  "score a checkpoint on the full test set, or print the model and stop")  # fmt: skip
flags.DEFINE_string("workdir", "", "folder of the run; default: runs/<config.name>")
flags.DEFINE_string("checkpoint", "last", "for --mode=eval: last, best, or a step")
flags.DEFINE_string(
    "jit_cache",
    os.environ.get("JAX_COMPILATION_CACHE_DIR") or "~/.cache/mgnet_jax/jit",
    "folder where compiled programs are kept, so that the next start is faster; empty: none",
)


def find_config(name: str) -> str:
    """The path of a config file, with its `:preset`.

    A name is a path, or that of a file of configs/: in a checkout beside the package, or inside the
    installed package.
    """
    path, colon, preset = name.partition(":")
    package = Path(__file__).resolve().parent
    short = Path(path).name.removesuffix(".py") + ".py"
    for candidate in (Path(path), package.parent / "configs" / short, package / "configs" / short):
        if candidate.is_file():
            return f"{candidate}{colon}{preset}"
    from mgnet_jax.config import ConfigError

    known = sorted(
        file.stem
        for folder in (package.parent / "configs", package / "configs")
        for file in folder.glob("*.py")
    )
    raise ConfigError(
        f"no config file {path!r}; give the path of a file, or one of {', '.join(known)}"
    )


def parse_arguments(argv: list[str]) -> list[str]:
    """Parses absl flags; every mistake in them is a message, not a traceback.

    Raises:
      ConfigError, flags.Error: naming the flag.
    """
    from mgnet_jax.config import check_name

    config = next((a.partition("=")[2] for a in argv if a.split("=")[0] in ("--config", "-config")),
                  "digits")  # fmt: skip
    # an override must come after --config for config_flags
    overrides = [a for a in argv[1:] if a.lstrip("-").startswith(("config.", "noconfig."))]
    others = [a for a in argv[1:] if a not in overrides and not a.startswith(("--config", "-config"))]
    for override in overrides:
        check_name(override.lstrip("-").removeprefix("no").partition("=")[0].partition(".")[2])
    argv = [argv[0], f"--config={find_config(config)}", *overrides, *others]
    config_flags.DEFINE_config_file("config", sys_argv=argv)
    return FLAGS(argv)


def main(argv: list[str]) -> None:
    """Validates everything, then does what --mode says."""
    if len(argv) > 1:
        raise flags.Error(f"unexpected argument {argv[1]!r}; write --flag=value")
    config = FLAGS.config
    import jax

    from mgnet_jax import config as configuration
    from mgnet_jax.log import say

    if config.model.get("dtype") == "float64":
        jax.config.update("jax_enable_x64", True)
    if FLAGS.jit_cache:
        jax.config.update("jax_compilation_cache_dir", str(Path(FLAGS.jit_cache).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    spec = configuration.validate(config, jax.device_count())
    say(configuration.to_text(config) + "\n")

    from mgnet_jax.data.sources import INFO
    from mgnet_jax.models import create
    from mgnet_jax.summary import memory_summary, model_summary

    info = INFO[config.data.name]
    model = create(
        spec, info.num_classes, config.model.stem, form=config.model.form,
        remat=config.model.remat, dtype=config.model.dtype,
    )  # fmt: skip
    say(model_summary(model, info))
    say(memory_summary(model, info, config.train) + "\n")
    workdir = Path(FLAGS.workdir or Path("runs", config.name or "unnamed"))
    if FLAGS.mode == "train":
        from mgnet_jax.train import train

        train(config, spec, workdir, _STARTED)
    elif FLAGS.mode == "eval":
        from mgnet_jax.evaluate import evaluate

        evaluate(config, spec, workdir, FLAGS.checkpoint)


def run(argv: list[str]) -> int:
    """Runs the command and gives its exit code."""
    return 0


if __name__ == "__main__":
    main(parse_arguments(sys.argv))
