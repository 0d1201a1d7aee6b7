"""The pages and the README: the site builds, and every block of code and every command in them works."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from astropy.table import Table
from survey_runs import NETWORK, call, call_here

from swimmy_scale.cli import main
from swimmy_scale.cluster.site import load_site
from swimmy_scale.method.job import Job, Settings, parse_job

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# Commands that a test cannot run, and why; all others are run.
NOT_DONE = {
    "git": "needs the place of the repository",
    "make": "the target is looked up in the Makefile; the quick start does what `make demo` does",
    "tail": "follows a log that grows",
    "python3": "makes an environment and fills it, which takes minutes; `test_release.py` makes one of the wheel",
    "/shared/swimmy/bin/pip": "installs what `make wheels` downloads, which takes minutes",
    "scancel": "needs the job of the page; the tests of whole runs on Slurm cancel theirs",
}
# Commands of the program whose words alone are checked here.
ONLY_PARSED = {
    "run": "the quick start runs one; this job is the reader's own, or takes minutes",
    "add": "the new files are the reader's own; `test_growth.py` adds some",
    "submit": "needs Slurm; `test_slurm_run.py` submits to one",
    "doctor": "this machine need not be fit; the tests of the doctor run it",
    "weight-sets": "needs a campaign, which takes minutes; `test_evaluate.py` runs a small one",
}
# What stands, after the quick start, for names that readers replace by their own.
STANDS_FOR = {
    "my-survey.yaml": "jobs/demo.yaml",
    **dict.fromkeys(("RUN", "runs/my-survey", "/shared/runs/my-survey", "/shared/runs/paper"), "demo/run"),
    "jobs/paper.yaml": "jobs/demo.yaml",
    "my-site.yaml": "cluster/slurm-cpu.yaml",
    "[NAME...]": "redshift-histogram",
    "catalogue.fits": "demo/survey/catalogue.fits",
    "patch_qa.fits": "demo/survey/patch_qa.fits",
    "specObj-dr15.fits": "demo/survey/spectroscopy/specObj.fits",
    "SpecObj.fits": "demo/survey/spectroscopy/GAMA.fits",
    "galSpecInfo-dr8.fits": "demo/survey/spectroscopy/galSpecInfo.fits",
    "galSpecLine-dr8.fits": "demo/survey/spectroscopy/galSpecLine.fits",
    "galSpecExtra-dr8.fits": "demo/survey/spectroscopy/galSpecExtra.fits",
    "DR16Q_v4.fits": "demo/survey/spectroscopy/DR16Q.fits",
    "milliquas.fits": "demo/survey/spectroscopy/milliquas.fits",
}

# What a draft leaves behind: capitals count as they stand, other words in any case.
UNFINISHED = ("COST", "TODO", "FIXME", "XXX", "TBD", "lorem", "to be written", "coming soon", "<placeholder>")


@dataclass(frozen=True)
class Block:
    """One block of code of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}-{self.line}-{self.language}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in re.finditer(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
            yield Block(page, text[: found.start()].count("\n") + 1, found[1], found[2])
        # The README shows its commands as indented blocks.
        for found in re.finditer(r"(?:^    (?:swimmy-scale|make) (?:.*\\\n)*.*\n)+", text, flags=re.MULTILINE):
            commands = re.sub(r"^    (?=\S)", "$ ", found[0], flags=re.MULTILINE)
            yield Block(page, text[: found.start()].count("\n") + 1, "console", commands)


# Pages whose commands follow from each other have a test of their own.
RUN_ELSEWHERE = {"second-day.md": "tests/test_second_day.py", "get-the-data.md": "tests/test_get_the_data.py"}
BLOCKS = [block for block in blocks() if block.page.name not in RUN_ELSEWHERE]
QUICK_START = next(block for block in BLOCKS if block.page.name == "index.md" and "simulate" in block.text)


def of(*languages: str) -> Any:
    return pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in languages], ids=str)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the reader stands: a checkout after the quick start, with a smaller survey and network."""
    place = tmp_path_factory.mktemp("checkout")
    (place / "jobs").mkdir()
    job = yaml.safe_load((ROOT / "jobs" / "demo.yaml").read_text())
    schedule = {"epochs": 3, "keep_from_epoch": 2, "batch_size": 16, "seed": 1}
    job["train"] = {"network": NETWORK, "schedule": schedule, "n_threads": 1}
    (place / "jobs" / "demo.yaml").write_text(yaml.safe_dump(job))
    shutil.copytree(ROOT / "cluster", place / "cluster")
    with contextlib.chdir(place):
        for command in commands_of(QUICK_START):
            done = call(*smaller(command))
            assert done.returncode in (0, 3), f"{command}: {done.stderr}"
        chosen = Table.read("demo/run/candidates.ecsv")["object_id"]
        (place / "marks.csv").write_text(f"format_version,object_id,mark,note\n1,{chosen[0]},artefact,\n")
        yield place


def commands_of(block: Block) -> Iterator[list[str]]:
    """The words of each command of a console block, continued lines joined."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("$ "):
            for part in line[2:].split("&&"):
                # The program does not see where the shell sends its output.
                yield shlex.split(re.split(r" >>? ", part)[0], comments=True)


def smaller(command: list[str]) -> list[str]:
    """The arguments of a swimmy-scale command with fewer objects to simulate."""
    number = command.index("--n-objects") + 1 if "--n-objects" in command else None
    return [*command[1:number], "300", *command[number + 1 :]] if number else command[1:]


def is_done(words: Sequence[str]) -> bool:
    """Whether a command is run here, not only its words checked."""
    # `test_slurm_run.py` has a report made by a job of a site.
    is_batch_job = "--site" in words and words[0] in ("report", "figures", "tables", "select")
    # What compiles for seconds; `test_embedding.py` makes one.
    is_umap = "umap" in words
    return not (is_batch_job or is_umap) and (words[0] not in ONLY_PARSED or words[-1] == "--print-job-script")


@cache
def do(words: tuple[str, ...]) -> None:
    """Run a command in the reader's folder, once even if several pages show it."""
    done = call_here(*words)
    assert done.returncode in (0, 3), f"{words}: {done.stderr}"


@pytest.mark.slow
@of("console")
def test_commands(block: Block, folder: Path) -> None:
    if block is QUICK_START:
        return  # the fixture has run it
    commands = list(commands_of(block))
    assert commands, "a console block has commands, which start with $"
    for command in commands:
        if Path(command[0]).name == "swimmy-scale":
            run_or_parse(command)
        elif command[0] == "make":
            makefile = (ROOT / "Makefile").read_text()
            assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in command[1:])
        else:
            assert command[0] in (*NOT_DONE, "cd"), f"{command}: run it here, or say why not"


def run_or_parse(command: list[str]) -> None:
    words = [STANDS_FOR.get(word, word) for word in smaller(command)]
    if is_done(words):
        do(tuple(words))
        return
    context, group, words = click.Context(main, **main.context_settings), main, command[1:]
    found = group.get_command(context, words[0])
    assert found is not None, command
    found.make_context(words[0], words[1:])


PAGES_WITH_PYTHON = [page for page in PAGES if any(b.page == page and b.language == "python" for b in BLOCKS)]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_WITH_PYTHON, ids=lambda page: page.name)
def test_python(page: Path, folder: Path) -> None:
    """The blocks of a page run in order, as in one session."""
    names: dict[str, Any] = {"__name__": "page"}
    for block in BLOCKS:
        if block.page == page and block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(block.text, str(block), "exec"), names)  # noqa: S102
            assert printed.getvalue() or "print" not in block.text


@of("yaml")
def test_yaml(block: Block, tmp_path: Path) -> None:
    content = yaml.safe_load(block.text)
    if "jobqueue" in content:
        path = tmp_path / "site.yaml"
        path.write_text(block.text)
        load_site(path)
        return
    if content.keys() == {"additions"}:
        # A section of a whole job alone: it goes with the page's first one.
        own = next(one for one in BLOCKS if one.page == block.page and one.language == "yaml")
        parse_job(own.text + block.text, tmp_path / "job.yaml", Job)
        return
    whole = {"catalogue", "cutouts", "ingest"} & content.keys() and {"train", "model", "models"} & content.keys()
    parse_job(block.text, tmp_path / "job.yaml", Job if whole else Settings)


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in BLOCKS} <= {"console", "python", "yaml", "text"}
    assert {block.language for block in BLOCKS} >= {"console", "python", "yaml"}


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    """Strictly: a dead link, or a page that is in no menu, is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    api = (tmp_path / "site" / "api" / "index.html").read_text()
    for module, members in re.findall(r"^::: (\S+)\n    options: \{members: \[(.*)\]\}", api_page(), re.MULTILINE):
        for member in members.split(", "):
            assert f'id="{module}.{member}"' in api, f"{module}.{member}"
    method = (tmp_path / "site" / "method" / "index.html").read_text()
    assert method.count("<math") >= 10
    assert "$$" not in method
    assert not re.search(r"<script[^>]+src=.https?:", method), "a page needs no network"
    menu = (ROOT / "mkdocs.yml").read_text()
    assert all(page.name in menu for page in PAGES[1:]), "every page is in the menu"


def api_page() -> str:
    return (ROOT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target


def test_the_reference_pages_are_what_the_models_give() -> None:
    names = runpy.run_path(str(ROOT / "docs" / "reference.py"))
    for path, text in names["pages"]().items():
        assert path.read_text() == text, f"{path.name}: make it again by `python docs/reference.py`"


def test_console_is_what_the_reader_has() -> None:
    assert shutil.which("swimmy-scale", path=str(Path(sys.executable).parent))


def unfinished(text: str) -> list[str]:
    """What a text holds of `UNFINISHED`, and its headings with nothing below them."""
    line = " ".join(text.split())
    words = [
        word
        for word in UNFINISHED
        if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", line, 0 if word.isupper() else re.IGNORECASE)
    ]
    return words + empty_headings(text)


def empty_headings(text: str) -> list[str]:
    """Headings of Markdown without a text, or followed by no text and no smaller heading."""
    outside_code = re.sub(r"^```.*?^```", "code", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line.rstrip() for line in outside_code.splitlines() if line.strip()]
    found = []
    for line, following in zip(lines, [*lines[1:], "#"], strict=True):
        this, after = (re.match(r"(#{1,6})( .*)?$", each) for each in (line, following))
        if this and (not this[2] or (after and len(after[1]) <= len(this[1]))):
            found.append(line)
    return found


def texts_for_users() -> Iterator[tuple[str, str]]:
    """Where, and what: the pages, the notebooks, the job and site files, docstrings, and the help of every command."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
    for path in pages:
        yield str(path.relative_to(ROOT)), path.read_text()
    for path in ROOT.glob("docs/**/*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        yield path.name, "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for path in [*ROOT.glob("jobs/*"), *ROOT.glob("cluster/*.yaml")]:
        # A comment is no heading.
        yield path.name, path.read_text().replace("#", "")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in ROOT.glob("swimmy_scale/**/*.py"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)]
        yield str(path.relative_to(ROOT)), "\n".join(ast.get_docstring(node) or "" for node in nodes)
    for name, command in main.commands.items():
        # Click keeps a command's option of help as it was first asked for.
        context = click.Context(command, info_name=name, **command.context_settings)
        yield f"{name} --help", command.get_help(context)


def test_nothing_that_users_read_is_unfinished() -> None:
    texts = dict(texts_for_users())
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/campaign.md", "a-run.ipynb"} <= texts.keys()
    assert {"campaign.yaml", "slurm-cpu.yaml", "benchmarks/limits.md", "run --help"} <= texts.keys()
    assert {where: found for where, text in texts.items() if (found := unfinished(text))} == {}


@pytest.mark.parametrize("word", UNFINISHED)
def test_an_unfinished_text_is_found(word: str) -> None:
    assert unfinished(f"What it takes:\n{word.replace(' ', chr(10))}.\n") == [word]
    assert unfinished("What it costs, in /tmp/slurm.XXXXXX: todos, Cost and written code.\n") == []


def test_an_empty_heading_is_found() -> None:
    text = "# Title\n\n## One\n\n```text\n# of the code\n```\n\n## Two\n\n### Part\ntext\n\n##\ntext\n\n## Last\n"
    assert empty_headings(text) == ["##", "## Last"]
    assert empty_headings("## Two\n\n# Three\ntext\n") == ["## Two"]
