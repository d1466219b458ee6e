"""The README says what is so, and no file names the machine that it was made on."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
OURS = ("mgnet_jax", "configs", "tests", "docs", "benchmarks", "launch", ".ci")


def test_ci_runs_the_readmes_test_command() -> None:
    install, _, test = README.split("```")[3].strip().removeprefix("bash\n").rpartition(" && ")
    assert install.startswith("python3 -m venv .venv && ")
    assert test == ".venv/bin/python -m pytest"
    ci = (ROOT / ".ci" / "run").read_text().replace("pip install -q ", "pip install ")
    assert f"\n{install} && {test}\n" in ci


def test_what_the_documents_link_to_is_there() -> None:
    for document in (ROOT / "README.md", ROOT / "benchmarks" / "README.md"):
        links = re.findall(r"\]\(([^)#:]+)\)", document.read_text())
        assert links
        for link in links:
            assert (document.parent / link).exists(), link


def test_every_option_that_the_readme_names_exists() -> None:
    from mgnet_jax.config import KEYS

    keys = re.findall(r"--config\.([a-z_]+\.[a-z_A-Z]+)", README)
    assert len(keys) > 5
    assert set(keys) <= set(KEYS)


def test_every_mutation_still_matches_one_place_in_the_code() -> None:
    module = runpy.run_path(str(ROOT / "tests" / "mutate.py"))
    assert len(module["MUTATIONS"]) > 30
    for name, file, old, new, tests in module["MUTATIONS"]:
        assert (ROOT / "mgnet_jax" / file).read_text().count(old) == 1, name
        assert old != new, name
        assert (ROOT / "tests" / tests).exists(), name


def test_no_file_names_the_machine_it_was_made_on() -> None:
    machine = re.compile(r"(?<![\w.])/(work|farm|root|home/\w+)/|index-url|find-links")
    folders = [p for name in OURS for p in (ROOT / name).rglob("*") if "__pycache__" not in p.parts]
    files = [
        p
        for p in (*ROOT.glob("*.*"), *folders)
        if p.is_file() and p.name != ".git" and p.suffix != ".png"
    ]
    assert len(files) > 40
    for file in files:
        if file not in (Path(__file__), ROOT / ".git"):  # .git: a file in a linked working tree
            assert not machine.search(file.read_text(errors="replace")), file
