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
        '(scheme.share_A, scheme.share_B)]\n        A = compute.kernel(self, "A"',
        '(scheme.share_A, False)]\n        A = compute.kernel(self, "A"',
        "models/test_mgnet.py",
    ),
    (
        "A is not subtracted",
        "models/iteration.py",
        "r = r - Ad if self.sign < 0 else r + Ad",
        "r = r if self.sign < 0 else r + Ad",
        "models/test_mgnet.py",
    ),
    (
        "direct form forgets A u on entry",
        "models/iteration.py",
        'f = r + A_of(u, "enter")',
        "f = r",
        "models/test_mgnet.py",
    ),
    (
        "the batch norms of a step are one",
        "models/iteration.py",
        'x = norm(f"bn_{after}")(x)',
        'x = norm("bn_K")(x)',
        "models/test_mgnet.py",
    ),
    (
        "no ReLU after B",
        "models/iteration.py",
        'return nn.relu(x) if self.form.startswith("s") else x',
        "return x",
        "models/test_mgnet.py",
    ),
    (
        "XLA's padding",
        "models/convolution.py",
        "margins = ((padding, padding), (padding, padding))",
        'margins = "SAME"',
        "models/test_convolution.py",
    ),
    (
        "gradient of x at stride 2",
        "models/convolution.py",
        "[(margin, margin + b) for b",
        "[(margin, margin) for b",
        "models/test_convolution.py",
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
        "the epochs of the schedule count from 0 in spite of first_epoch",
        "training/optim.py",
        'every - optim["first_epoch"] * steps_per_epoch, total',
        "every, total",
        "training/test_optim.py",
    ),
    (
        "the last batch is dropped in spite of use",
        "data/pipeline.py",
        '(last_batch == "use" and left > 0)',
        "False",
        "data/test_augment.py",
    ),
    (
        "the last batch is not trained on",
        "training/job.py",
        "(last, full, end)):",
        "):",
        "training/test_job.py",
    ),
    (
        "real sizes are not checked",
        "training/loop.py",
        "        check_last_batch(config, job.train_size, job.mesh.devices.size)\n",
        "",
        "tools/test_train.py",
    ),
    (
        "mean and std are ignored in scoring",
        "training/job.py",
        "batch_size=batch_size, **self._scale)",
        "batch_size=batch_size, mean=self.data.info.mean, std=self.data.info.std)",
        "training/test_job.py",
    ),
    (
        "mean is ignored",
        "training/job.py",
        "config.data.mean or info.mean",
        "info.mean",
        "training/test_job.py",
    ),
    (
        "std is ignored",
        "training/job.py",
        "config.data.std or info.std",
        "info.std",
        "training/test_job.py",
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
        "self.indices(start, stop - start)",
        "self.indices(0, stop - start)",
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
        " and not compute.remat",
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
        "the published script's epochs count from 0",
        "config/recipes.py",
        '    "optim.first_epoch": 1,\n',
        "",
        "config/test_presets.py",
    ),
    (
        "presets of rows share a folder",
        "config/recipes.py",
        '-{preset}", "model.spec"',
        '", "model.spec"',
        "config/test_presets.py",
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
        "import Costs, Network",
        "import MgNet, Costs, Network",
        "test_layering.py",
    ),
    (
        "gradient of the kernel at stride 2",
        "models/convolution.py",
        "[(padding, padding - b) for b",
        "[(padding, padding) for b",
        "models/test_convolution.py",
    ),
    (
        "vmap mixes images",
        "models/convolution.py",
        "x = jnp.moveaxis(x, x_axis, 0)",
        "x = jnp.moveaxis(x, x_axis, 0)[::-1]",
        "models/test_convolution.py",
    ),
    (
        "no batch norm after B = K",
        "models/iteration.py",
        "if self.norm or self.form",
        "if self.form",
        "models/test_iteration.py",
    ),
    (
        "A's norms of the hand-over are those of the step's names",
        "models/iteration.py",
        'f"{place}_u {place}_A"',
        'f"u {place}_A"',
        "models/test_iteration.py",
    ),
    (
        "pre-act ResNet subtracts",
        "models/resnet.py",
        "sign=1,",
        "sign=-1,",
        "models/test_iteration.py",
    ),
    (
        "ResNet has no ReLU on the sum",
        "models/resnet.py",
        "rectified=not self.pre_act",
        "rectified=False",
        "models/test_iteration.py",
    ),
    (
        "table3 shares on the first grid too",
        "models/resnet.py",
        "if level == 1 and project_first:",
        "if level == 0:",
        "models/test_paper.py",
    ),
    (
        "the text's B^{l,0} is one of the B^{l,i}",
        "models/resnet.py",
        "separate_B = self.halves and not self.project_first",
        "separate_B = False",
        "models/test_paper.py",
    ),
    (
        "A^{l,0} is apart from A^l",
        "models/resnet.py",
        "A if scheme.share_A else A[0]",
        "A * 0 if scheme.share_A else A[0]",
        "models/test_iteration.py",
    ),
    (
        "a nonlinear A has a dual form",
        "models/mgnet.py",
        'if self.spec.scheme.A.linear else ("direct",)',
        'if True else ("direct",)',
        "models/test_notation.py",
    ),
    (
        "the paper's misprint is built as named",
        "models/deep_resnet.py",
        "if printed and (depth, k) in MISPRINTS",
        "if False",
        "models/test_paper.py",
    ),
    (
        "dropout draws nothing",
        "models/deep_resnet.py",
        'deterministic=not self.train, name=f"drop{i}"',
        'deterministic=True, name=f"drop{i}"',
        "models/test_families.py",
    ),
    (
        "the blocks are not scanned",
        "models/deep_resnet.py",
        "repeat(Block, self.count - 1, self.compute",
        "repeat(Block, self.count - 1, dataclasses.replace(self.compute, unroll=999)",
        "models/test_families.py",
    ),
    (
        "work that nobody reads counts",
        "models/cost.py",
        "        if not any(wanted_here):\n            continue\n",
        "",
        "models/test_cost.py",
    ),
    (
        "a loop's last turn is as the others",
        "models/cost.py",
        "turns = left if wanted == previous else 1",
        "turns = left",
        "models/test_cost.py",
    ),
    (
        "features are computed unasked",
        "models/iteration.py",
        'return module.is_mutable_collection("intermediates") and',
        "return True and",
        "models/test_features.py",
    ),
    (
        "integers are taken as images",
        "models/network.py",
        "if not jnp.issubdtype(images.dtype, jnp.floating)",
        "if False",
        "models/test_families.py",
    ),
    (
        "one value has a variance",
        "models/layers.py",
        "if count < 2:",
        "if count < 0:",
        "models/test_families.py",
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
