"""A run shown by Weights & Biases, or by its drop-in trackio; the only place that knows them."""

import contextlib
from collections.abc import Mapping
from typing import Any

from mgnet_jax.training.progress import warn

TRACKERS = ("wandb", "trackio")


class Tracker(contextlib.ExitStack):
    """Takes the records of a run. What fails there is said once and costs the run nothing.

    Args:
      tracker: one of `TRACKERS`.
      project: that the run belongs to.
      name: of the run.
      run_id: under which a run that goes on is found again, where the tracker has such ids.
      config: of the run, {"section.key": value}.
    """

    def __init__(
        self, tracker: str, project: str, name: str, run_id: str, config: Mapping[str, Any]
    ):
        super().__init__()
        self.tracker, self._module = tracker, None
        options: dict[str, Any] = {"project": project, "name": name, "config": dict(config)}
        with self._unless_broken():
            if tracker == "wandb":
                import wandb as module

                options["id"] = run_id
            else:
                import trackio as module
            module.init(**options, resume="allow")
            self._module = module
            self.callback(self._finish)

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Takes a record: values by name, of the optimiser step."""
        if self._module:
            with self._unless_broken():
                self._module.log({f"{kind}/{name}": x for name, x in values.items()}, step=step)

    def _finish(self) -> None:
        if self._module:
            with self._unless_broken():
                self._module.finish()

    @contextlib.contextmanager
    def _unless_broken(self) -> Any:
        try:
            yield
        except Exception as error:  # of the network, of an account, of another version
            self._module = None
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            warn(f"{self.tracker} takes no more records of this run: {first}")
