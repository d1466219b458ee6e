"""Shows what is inside a trained network."""

from pathlib import Path

from mgnet_jax.tools.tool import Command, Flag, check

NAME = "inspect"
HELP = "look into a run's network: residuals, A as an operator, convergence, feature maps"
FLAGS = (
    Flag("checkpoint", "last", "of a run: last, best, or a step"),
    Flag("count", 500, "test images looked at"),
    Flag("examples", 3, "of these shown with their feature maps"),
    Flag("out", "", "folder of inspect.html and its figures and numbers; default: the workdir"),
)


def run(command: Command) -> None:
    """Writes inspect.html, and a folder inspect/ with its figures (PNG), numbers (JSON, CSV).

    Raises:
      CheckpointError: there is no such checkpoint.
      ConfigError: the run's configuration cannot be used.
      DataError: the test images cannot be read.
    """
    import json

    import jax
    import jax.numpy as jnp
    import numpy as np

    from mgnet_jax.analysis.inspection import inspect
    from mgnet_jax.data.augment import normalise
    from mgnet_jax.data.sets import load_test
    from mgnet_jax.models import ModelError, features
    from mgnet_jax.reports import inspection
    from mgnet_jax.tools.eval import choose_config
    from mgnet_jax.training import files
    from mgnet_jax.training.initial import restored
    from mgnet_jax.training.job import Job
    from mgnet_jax.training.outcomes import first_images
    from mgnet_jax.training.progress import say, table
    from mgnet_jax.training.workdir import require_checkpoints, saved_data

    workdir = command.workdir
    require_checkpoints(workdir)
    kept, config = saved_data(workdir), choose_config(command)
    info = check(config, info=kept.info if kept else None).info
    data = load_test(config.data, info, kept.class_names if kept else ())
    job = Job(config, data)
    saved, state = restored(job, workdir, command.flags["checkpoint"])
    images, labels = first_images(job, max(1, command.flags["count"]))
    model = job.model if config.model.dtype == "float64" else job.model.clone(dtype="float32")
    variables = jax.device_get(state.variables)
    x = np.asarray(normalise(jnp.asarray(images), **job.scale))
    say(f"{job.model.spec}, step {saved.step:,}: looking at {len(images):,} test images ...")
    found, why = None, ""
    try:
        found = inspect(model, variables, x, labels)
    except ModelError as error:
        why = str(error)
    few = x[: max(0, command.flags["examples"])]
    drawn, said = inspection.figures(found), []
    if len(few):
        logits = np.asarray(jax.jit(lambda v, x: model.apply(v, x))(variables, few))
        guesses = [int(i) for i in logits.argmax(-1)]
        names = data.names
        said = [f"{names[labels[i]]}, taken for {names[guess]}" for i, guess in enumerate(guesses)]
        seen = jax.device_get(jax.jit(lambda v, x: features(model, v, x))(variables, few))
        drawn |= inspection.pictures(variables, seen, images[: len(few)], said, guesses)
    out = Path(command.flags["out"] or workdir)
    title = f"Inside {job.model.spec} on {config.data.name}"
    for name, png in drawn.items():
        files.write(out / "inspect" / f"{name}.png", png)
    if found:
        for name, rows in inspection.tables(found).items():
            say(f"\n{name}\n{table(rows)}" if rows else "")
        numbers = json.dumps(found.as_json(), indent=1, allow_nan=False) + "\n"
        files.write(out / "inspect" / "inspect.json", numbers)
        files.write(out / "inspect" / "steps.csv", inspection.steps_csv(found))
    files.write(out / "inspect.html", inspection.page(title, found, why, drawn, said))
    say(f"\n{out / 'inspect.html'}{f': {why}' if why else ''}")
