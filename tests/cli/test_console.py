"""Tables on terminals of every width, in files and in pipes: no name is cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from swimmy_scale.cli.console import Output, print_table

HEAD = ["in band", *(f"class_number_{n}\n{n},000" for n in range(9))]
ROWS = [["g", *(f"{n} {n}.0%" for n in range(9))], ["any", *("-" * 9)]]


def printed(width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    print_table(console, HEAD, ROWS, "Candidates", n_left=1)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.mark.parametrize("width", [20, 40, 80, 120, 300])
def test_no_name_is_cut(width: int) -> None:
    text = printed(width)
    for name in HEAD:
        for line in name.split("\n"):
            assert line in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= max(width, 33)
    # Every part of a table says which row is which.
    assert text.count("in band") == text.count("│ any") >= 1
    assert text.count("Candidates") == 1


def test_one_table_where_there_is_room() -> None:
    assert printed(300).count("in band") == 1


def test_what_is_no_terminal_has_no_width(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(Output(), HEAD, ROWS, n_left=1)
    text = capsys.readouterr().out
    assert text.count("in band") == 1
    assert all(f"class_number_{n}" in text for n in range(9))
