"""The page of the documentation on fidelity: made of the recorded numbers, with reasons that these bear out."""

from __future__ import annotations

import copy
import re
import runpy
import string
import sys
from pathlib import Path

import pytest

from swimmy_scale.results.paper import paper_numbers as paper

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "studies"
COMMITTED = ROOT / "docs" / "fidelity.md"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(STUDIES))


@pytest.fixture
def results():
    """The maker, and the three results that it reads."""
    import fidelity_page

    return fidelity_page, [fidelity_page.load(name) for name in ("run", "reasons", "checks")]


def why(text: str, number: paper.PaperNumber) -> str:
    """The reason that the page gives."""
    part = text.split("## What differs, and why")[1]
    (found,) = re.findall(
        rf"^\| {re.escape(number.what)} \| {re.escape(number.section)} \| (.*) \|$", part, re.MULTILINE
    )
    return found


def test_the_page_is_made_of_the_results(results) -> None:
    maker, content = results
    assert COMMITTED.read_text() == maker.page(*content), "run python studies/fidelity_page.py"
    assert COMMITTED.read_text().count("SIMULATED DATA") == 1


def test_committed_page_has_the_papers_numbers_and_a_reason_for_each_that_differs(results) -> None:
    from fidelity_reasons import NOT_EXPLAINED

    text = COMMITTED.read_text()
    for number in paper.NUMBERS:
        (line,) = re.findall(rf"^\| {re.escape(f'{number.what} | {number.paper.text}')} \| .*$", text, re.MULTILINE)
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[5] in (paper.SAME, paper.REPRODUCED, paper.DIFFERS, paper.NONE)
        if cells[5] == paper.DIFFERS:
            assert why(text, number) != NOT_EXPLAINED


def test_no_reason_holds_a_number_of_a_run(results) -> None:
    """Numbers in the texts are edges of bins, sections, the paper's 480 weight sets, or names of lines."""
    from fidelity_reasons import REASONS

    allowed = {"40%", "100", "150", "250", "0.1", "1", "2%", "2", "5%", "5", "10%", "4.1", "480"}
    for reason in REASONS:
        literal = "".join(text for text, *_ in string.Formatter().parse(reason.text))
        assert set(re.findall(r"[\d.]*\d%?", literal)) <= allowed, literal
        assert set(reason.keys) <= {number.key for number in paper.NUMBERS}


def test_reasons_have_their_numbers_from_the_results(results) -> None:
    maker, (run, found, checks) = results
    changed = copy.deepcopy(found)
    changed["negative"]["r"] |= {"n": 4321, "too_faint_in_r": 4000}
    text = maker.page(run, changed, checks)
    by_key = {number.key: number for number in paper.NUMBERS}
    assert "4000 of 4321 are such here" in why(text, by_key["negative/r"])


def test_a_reason_that_was_not_measured_or_does_not_hold_is_not_given(results) -> None:
    from fidelity_reasons import NOT_EXPLAINED

    maker, (run, found, checks) = results
    changed = copy.deepcopy(found)
    changed["negative"]["r"]["too_faint_in_r"] = 0
    changed["negative"]["i"]["kinds"] = {"normal": 149}
    changed |= {"weight_sets": None, "more_quasars": None}
    text = maker.page(run, changed, checks)
    by_key = {number.key: number for number in paper.NUMBERS}
    for key in ("negative/r", "negative/i", "spearman/i", "table-2/any/quasar", "xelg-at-3-sigma/i"):
        assert why(text, by_key[key]) == NOT_EXPLAINED, key
    assert why(text, by_key["ew-above-100/g"]) != NOT_EXPLAINED


@pytest.mark.parametrize("name", ["better", "fidelity_page", "reasons"])
def test_every_study_says_how_it_is_run(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_path(str(STUDIES / f"{name}.py"), run_name="__main__")
    assert f"python studies/{name}.py" in capsys.readouterr().out


def test_numbers_and_reasons_are_of_one_run(results) -> None:
    maker, (run, found, checks) = results
    with pytest.raises(SystemExit, match="different weights"):
        maker.page(run, found | {"model_sha256": "another"}, checks)
