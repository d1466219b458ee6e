"""What shellcheck says of the scripts, and what they print instead of doing it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from standins import LAUNCH, ROOT, Machine

SCRIPTS = [*sorted(LAUNCH.glob("*.sh")), LAUNCH / "slurm.sbatch", ROOT / "tests/launch/srun"]
GOLDEN = Path(__file__).parent / "golden"
WHERE = ("--name=mgnet", "--zone=us-west4-a")
V5E = ("--type=v5litepod-16", "--version=v2-alpha-tpuv5-lite")
CASES = {
    "local": ("local.sh", "2", "--config=digits", "--workdir=runs/of two"),
    "create": ("tpu_vm.sh", "create", *WHERE, *V5E),
    "create_slices": ("tpu_vm.sh", "create", *WHERE, *V5E, "--spot", "--slices=2", "--project=p"),
    "status": ("tpu_vm.sh", "status", *WHERE),
    "setup": ("tpu_vm.sh", "setup", *WHERE),
    "run": ("tpu_vm.sh", "run", *WHERE, "--", "--config=imagenet", "--workdir=/mnt/a b"),
    "logs": ("tpu_vm.sh", "logs", *WHERE, "--lines=9"),
    "stop": ("tpu_vm.sh", "stop", *WHERE),
    "delete": ("tpu_vm.sh", "delete", *WHERE),
}


def test_shellcheck_finds_nothing() -> None:
    assert len(SCRIPTS) == 4
    shellcheck = Path(sys.executable).with_name("shellcheck")
    found = subprocess.run([shellcheck, *SCRIPTS], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_each_script_stops_at_errors_and_has_short_lines(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("case", CASES)
def test_a_dry_run_prints_the_commands_and_runs_none(case: str, machine: Machine) -> None:
    for name in ("gcloud", "python", "git"):
        machine.command(name, "")
    script, *arguments = CASES[case]
    code, out, err = machine.run(script, "--dry-run", *arguments)
    assert (code, err) == (0, "")
    assert out == (GOLDEN / f"{case}.txt").read_text()
    assert not list(machine.folder.glob("*.calls"))


def test_the_readme_names_all_that_is_there() -> None:
    readme = (LAUNCH / "README.md").read_text()
    for path in LAUNCH.iterdir():
        named = any(f"]({path.name}{end}" in readme for end in (")", "/"))
        assert path.name == "README.md" or named, path
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (LAUNCH / link).exists(), link
