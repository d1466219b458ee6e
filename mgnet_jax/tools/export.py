"""Writes a trained network into a folder that needs neither its run nor its data."""

from mgnet_jax.tools.tool import Command, Flag

NAME = "export"
HELP = "write a trained network for others"
FLAGS = (
    Flag("out", "", "folder; default: export in the workdir"),
    Flag("checkpoint", "last", "of a run: last, best, or a step"),
    Flag("stablehlo", "", "also a program by jax.export for cpu, cuda or tpu, as in 'cpu,cuda'"),
    Flag("onnx", False, "also an ONNX model; needs jax2onnx"),
    Flag("pytorch", False, "also a state dict and a file that loads it in PyTorch"),
    Flag("push", "", "also to the Hugging Face Hub, as USER/NAME; needs huggingface_hub"),
)


def run(command: Command) -> None:
    """Exports the run (or converts the PyTorch file) that --workdir names.

    Raises:
      CheckpointError: the run has no such checkpoint.
      WeightsError: there are no weights in the workdir, or PyTorch has no such network.
    """
    from pathlib import Path

    from mgnet_jax.trained import hub, onnx
    from mgnet_jax.trained.export import export
    from mgnet_jax.training.files import writing
    from mgnet_jax.training.initial import read_weights
    from mgnet_jax.training.progress import say, table

    flags, workdir = command.flags, command.workdir
    if flags["push"]:
        hub.require()
    if flags["onnx"]:
        onnx.require()
    weights = read_weights(str(workdir), flags["checkpoint"])
    beside = workdir.parent if workdir.is_file() else workdir
    out = Path(flags["out"] or beside / "export")
    platforms = [name for name in flags["stablehlo"].replace(" ", "").split(",") if name]
    with writing(out):
        files = export(weights, out, platforms, flags["pytorch"], flags["onnx"])
    say(f"{weights.facts.spec}, {weights.facts.source}, in {out}:\n")
    say(table([{"file": name, "": what} for name, what in files.items()]))
    if flags["push"]:
        say(f"\n{hub.push(out, flags['push'])}")
