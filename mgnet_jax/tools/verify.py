"""Checks that what is in a run's folder is whole."""

from mgnet_jax.tools.tool import Command, Flag

NAME = "verify"
HELP = "check that a run's folder is whole: checkpoints, metrics, configuration"
FLAGS: tuple[Flag, ...] = ()


def run(command: Command) -> None:
    """Prints what is whole and what is not; nothing is changed.

    Raises:
      CheckpointError: there is no run.
      VerifyError: something is not whole.
    """
    from mgnet_jax.training.progress import say, table
    from mgnet_jax.training.verify import VerifyError, verify

    findings = verify(command.workdir)
    rows = [
        {"": f.name, "state": "WRONG" if f.wrong else f.state, "what": f.wrong or f.note}
        for f in findings
    ]
    say(table(rows))
    if wrong := sum(bool(f.wrong) for f in findings):
        raise VerifyError(
            f"{wrong} of {len(findings)} in {command.workdir} are not whole. Training goes on from "
            f"the newest whole checkpoint and writes the rest again"
        )
