"""The README says what is so, and no file names the machine that it was made on."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_ci_runs_the_readmes_test_command() -> None:
    install, _, test = README.split("```")[3].strip().removeprefix("bash\n").rpartition(" && ")
    assert install.startswith("python3 -m venv .venv && ")
    assert test == ".venv/bin/python -m pytest"
    ci = (ROOT / ".ci" / "run").read_text().replace("pip install -q ", "pip install ")
    assert f"\n{install} && {test}\n" in ci


def test_what_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_every_option_that_the_readme_names_exists() -> None:
    from mgnet_jax.config import KEYS

    for key in re.findall(r"--config\.([a-z_.A-Z]+)", README):
        assert key in KEYS, key


def test_no_file_names_the_machine_it_was_made_on() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    files = [ROOT / name for name in listed] or [p for p in ROOT.glob("*.*") if p.is_file()]
    machine = re.compile(r"/(work|farm|root|home/\w+)/|index-url|find-links")
    for file in files:
        if file.suffix not in (".png", ".npz") and file.exists() and file != Path(__file__):
            assert not machine.search(file.read_text()), file
