"""Breaks the code on purpose, one place at a time, and runs the tests that must notice.

    python tests/mutate.py [WORD ...]     only the mutations whose name holds one of the words

Each mutation is made in a copy of the tree; exit code 1 if one survives. Minutes in all.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
MUTATIONS = [  # name, file, what is there, what is put there, tests
    (
        "B^l is not shared",
        "models/iteration.py",
        "if self.share_B else (self.nu, 3",
        "if False else (self.nu, 3",
        "models/test_mgnet.py",
    ),
    (
        "A is not subtracted",
        "models/iteration.py",
        "data = data - conv(d, A)",
        "data = data",
        "models/test_mgnet.py",
    ),
    (
        "direct form forgets A u on entry",
        "models/iteration.py",
        "r if self.first else r + conv(u, A)",
        "r",
        "models/test_mgnet.py",
    ),
    (
        "the batch norms of a step are one",
        "models/iteration.py",
        'name="bn_B")(conv(r, B)',
        'name="bn_r2")(conv(r, B)',
        "models/test_mgnet.py",
    ),
    (
        "no ReLU after B",
        "models/iteration.py",
        'd = nn.relu(BatchNorm(self.param_dtype, name="bn_B")(conv(r, B), self.train))',
        'd = BatchNorm(self.param_dtype, name="bn_B")(conv(r, B), self.train)',
        "models/test_mgnet.py",
    ),
    (
        "XLA's padding",
        "models/layers.py",
        "(stride, stride), ((pad, pad), (pad, pad)))",
        '(stride, stride), "SAME")',
        "models/test_layers.py",
    ),
    (
        "gradient of x at stride 2",
        "models/layers.py",
        "size - 1 - pad + b) for b",
        "size - 1 - pad) for b",
        "models/test_layers.py",
    ),
    (
        "running variance is biased",
        "models/layers.py",
        "var * (count / max(count - 1, 1))",
        "var",
        "models/test_layers.py",
    ),
    (
        "running momentum",
        "models/layers.py",
        "BN_MOMENTUM = 0.9",
        "BN_MOMENTUM = 0.99",
        "models/test_layers.py",
    ),
    (
        "batch statistics are not updated",
        "models/layers.py",
        "running_mean.value = _running(",
        "_ = (",
        "models/test_layers.py",
    ),
    (
        "fan_in counts the steps",
        "models/layers.py",
        "(0,) if stacked else ()",
        "()",
        "models/test_layers.py",
    ),
    (
        "truncated normal",
        "models/layers.py",
        '"fan_in", "normal"',
        '"fan_in", "truncated_normal"',
        "models/test_layers.py",
    ),
    (
        "weight decay spares batch norm",
        "training/optim.py",
        'optim["decay_mask"] == "kernels"',
        "True",
        "training/test_optim.py",
    ),
    (
        "weight decay after momentum",
        "training/optim.py",
        """        optax.add_decayed_weights(optim["weight_decay"], mask),
        optax.sgd(schedule, optim["momentum"] or None, optim["nesterov"]),""",
        """        optax.trace(optim["momentum"], optim["nesterov"]),
        optax.add_decayed_weights(optim["weight_decay"], mask),
        optax.scale_by_learning_rate(schedule),""",
        "training/test_optim.py",
    ),
    (
        "drops count from the end of warm-up",
        "training/optim.py",
        "drop - warmup: optim",
        "drop: optim",
        "training/test_optim.py",
    ),
    (
        "every epoch has the same order",
        "data/pipeline.py",
        "default_rng((seed, epoch))",
        "default_rng((seed, 0))",
        "data/test_augment.py",
    ),
    (
        "every call trains on the first images",
        "training/job.py",
        "self.indices(begin, count)",
        "self.indices(0, count)",
        "training/test_job.py",
    ),
    (
        "augmentation does not change",
        "training/steps.py",
        "jax.random.fold_in(key, state.step)",
        "key",
        "training/test_steps.py",
    ),
    (
        "crops miss the last place",
        "data/augment.py",
        "2 * padding + 1)",
        "2 * padding)",
        "data/test_augment.py",
    ),
    (
        "the filled-up batch counts",
        "training/steps.py",
        "mask = jnp.minimum(places, size - 1), places < size",
        "mask = jnp.minimum(places, size - 1), places >= 0",
        "training/test_steps.py",
    ),
    (
        "parts are not averaged",
        "training/steps.py",
        "lambda g: g / parts, grads",
        "lambda g: g, grads",
        "training/test_steps.py",
    ),
    (
        "parts do not chain batch statistics",
        "training/steps.py",
        "            batch_stats, grads, metrics = carry",
        "            _, grads, metrics = carry\n            batch_stats = state.batch_stats",
        "training/test_steps.py",
    ),
    (
        "EMA is not scored",
        "training/state.py",
        'self.ema or {"params"',
        '{"params"',
        "training/test_steps.py",
    ),
    (
        "EMA does not forget",
        "training/steps.py",
        "(1 + state.step) / (10 + state.step)",
        "1.0",
        "training/test_steps.py",
    ),
    (
        "the loop is unrolled with remat",
        "models/iteration.py",
        " and not self.remat",
        "",
        "models/test_mgnet.py",
    ),
    (
        "batch norm of each device alone",
        "models/layers.py",
        "mean = jnp.mean(x_wide, axes)",
        "mean = jnp.mean(x_wide[: x.shape[0] // 2], axes)",
        "models/test_layers.py",
    ),
    (
        "eval cleans up",
        "training/checkpoint.py",
        "if keep is None:",
        "if False:",
        "tools/test_eval.py",
    ),
    (
        "poisoned weights are saved",
        "training/loop.py",
        "if not steps.all_finite(",
        "if steps is (",
        "tools/test_train.py",
    ),
    (
        "the worst is kept",
        "training/checkpoint.py",
        'return metrics["score"]',
        'return -metrics["score"]',
        "training/test_checkpoint.py",
    ),
    (
        "the best is not kept",
        "training/checkpoint.py",
        "[preservation_policy.LatestN(keep), best]",
        "[preservation_policy.LatestN(keep)]",
        "training/test_checkpoint.py",
    ),
    (
        "the test set chooses in spite of held-out images",
        "training/results.py",
        '"validation_accuracy" if config.data.validation',
        '"test_accuracy" if config.data.validation',
        "tools/test_train.py",
    ),
    (
        "unknown keys pass",
        "config/validate.py",
        "    for name in flat:\n        check_name(name)\n",
        "",
        "config/test_validate.py",
    ),
    (
        "a range is not checked",
        "config/validate.py",
        " or not key.allowed(value):",
        ":",
        "config/test_validate.py",
    ),
    (
        "another configuration goes on",
        "training/workdir.py",
        "if saved and (changed",
        "if False and (changed",
        "tools/test_train.py",
    ),
    (
        "a section's keys are not checked against others",
        "config/validate.py",
        "        section.check(config, devices)",
        "        pass",
        "config/test_validate.py",
    ),
    (
        "options do not reach the network",
        "config/sections/model.py",
        ", **model_options(config))",
        ")",
        "config/test_validate.py",
    ),
    (
        "every error is a message",
        "main.py",
        "isinstance(error, MISTAKES) else own",
        "True else own",
        "test_main.py",
    ),
    (
        "flags of other tools pass",
        "main.py",
        "if values[name].present and values.mode not in owners",
        "if False",
        "test_main.py",
    ),
    (
        "a tool has the default of another's flag",
        "main.py",
        "given.value if given.present else flag.default",
        "given.value",
        "test_main.py",
    ),
    (
        "eval does not take the run's own configuration",
        "tools/eval.py",
        "None if command.config_named else saved_config(command.workdir)",
        "None",
        "tools/test_eval.py",
    ),
    (
        "the tools load all at once",
        "tools/tool.py",
        "import dataclasses",
        "import dataclasses\nimport mgnet_jax.training.loop",
        "tools/test_summary.py",
    ),
    (
        "data imports the configuration",
        "data/augment.py",
        "import jax\n",
        "import jax\nimport mgnet_jax.config\n",
        "test_layering.py",
    ),
    (
        "a circle of imports",
        "config/table.py",
        "    config = ConfigDict()\n",
        "    import mgnet_jax.config.presets\n    config = ConfigDict()\n",
        "test_layering.py",
    ),
    (
        "a family is named outside models",
        "training/describe.py",
        "import Network",
        "import MgNet, Network",
        "test_layering.py",
    ),
]


def run_tests(file: str, old: str, new: str, tests: str) -> int:
    """Pytest's exit code on the mutated code: 0 passed, 1 failed, others could not run."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("mgnet_jax", "tests", "configs"):
            shutil.copytree(ROOT / name, Path(folder, name))
        shutil.copy(ROOT / "pyproject.toml", folder)
        path = Path(folder, "mgnet_jax", file)
        text = path.read_text()
        if text.count(old) != 1:
            raise SystemExit(f"{file} has {text.count(old)} times: {old}")
        path.write_text(text.replace(old, new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", f"tests/{tests}"]
        return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode


def main(words: list[str]) -> int:
    """Runs the mutations; gives 1 if one survives."""
    chosen = [m for m in MUTATIONS if not words or any(word in m[0] for word in words)]
    noticed = 0
    for name, *mutation in chosen:
        code = run_tests(*mutation)
        noticed += code == 1
        print(f"{ {0: 'SURVIVES', 1: 'noticed '}.get(code, 'BROKEN  ') }  {name}", flush=True)
    print(f"{noticed} of {len(chosen)} mutations noticed")
    return int(noticed < len(chosen))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
