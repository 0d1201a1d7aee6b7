"""The notebooks run from their first cell to their last, on a run that is made here."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import swimmy_scale

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "docs" / "notebooks"


@pytest.fixture(scope="module")
def survey(finished: Path) -> Path:
    return finished / "survey"


@pytest.fixture(scope="module")
def run(finished: Path) -> Path:
    return finished / "run"


def outputs(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    """Text of all outputs of one kind: ``stream``, or a type of displayed data."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == kind:
                found.append(output.text)
            elif kind in output.get("data", {}):
                found.append(output.data[kind])
    return found


# Jupyter's libraries warn about each other.
@pytest.mark.filterwarnings("ignore:::jupyter_client", "ignore:::zmq", "ignore:::traitlets", "ignore:::nbclient")
@pytest.mark.parametrize("name", ["a-run", "from-arrays-to-candidates"])
def test_a_notebook_runs(name: str, run: Path, survey: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, value in {
        "SWIMMY_RUN": str(run),
        "SWIMMY_CUTOUTS": str(run / "cutouts.zarr"),
        "SWIMMY_SURVEY": str(survey),
        "PYTHONPATH": str(ROOT),
        # Ignore the user's own set-up.
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
    }.items():
        monkeypatch.setenv(variable, value)
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    done = NotebookClient(notebook, timeout=200, kernel_name="python3").execute(cwd=str(NOTEBOOKS))
    said = "".join(outputs(done, "stream"))
    # Nothing to puzzle a reader.
    assert not re.search("Warning|Error", said)
    assert "239 objects" in said
    if name == "a-run":
        assert re.search(r"(\d+) of \1 candidates are in the truth table", said)
        numbers = re.findall(r"^([grizy]): ([\d.]+) by hand, ([\d.]+) in scores.zarr", said, re.MULTILINE)
        assert [band for band, _, _ in numbers] == list("grizy")
        assert len(outputs(done, "image/png")) == 3
        assert any("xarray.Dataset" in text for text in outputs(done, "text/plain"))
    else:
        assert "as the arrays gave it, to the last bit: True" in said
        assert re.search(r"[1-9]\d* candidates", said)
        assert "candidates.fits candidates.vot" in said
        assert len(outputs(done, "image/png")) == 1


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_shipped_with_its_outputs(path: Path) -> None:
    """Those of one pass from the first cell to the last, and of no machine in particular."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) >= 8
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert outputs(notebook, "image/png")
    assert not re.search(r"/(home|tmp|root|work|usr)/|Warning|Traceback", "".join(outputs(notebook, "stream")))
    assert not re.search(r"/(home|tmp|root|work|usr)/", "".join(outputs(notebook, "text/html")))
    assert path.stat().st_size < 600_000


def test_what_a_real_run_opens_as(run: Path) -> None:
    ds = swimmy_scale.open_run(run)
    assert (ds.sizes["object_id"], ds.attrs["n_left_out"]) == (239, 1), "one id is there twice, once in quarantine"
    assert [name for name in ds.variables if "long_name" not in ds[name].attrs] == []
    assert (ds.swimmy.candidates("2sigma").candidate.sel(level="2sigma").any("band")).all()


def test_the_page_shows_what_works(run: Path) -> None:
    page = (ROOT / "docs" / "open-a-run.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(block.replace("demo/run", str(run)), names)  # noqa: S102
    ds = names["ds"]
    assert names["one"].image.dims == ("y", "x")
    assert names["several"].object_id.values.tolist() == ds.object_id.values[[5, 3]].tolist()
    assert names["sample"].in_sample.values.all()
    assert names["picture"].shape == (names["strange"].sizes["object_id"], 3, 64, 64)
    plain = ds.isel(object_id=ds.candidate.sel(level="3sigma").any("band").values)
    assert plain.identical(names["strange"])
    ra, dec = ds.ra.values, ds.dec.values
    inside = (ra >= 120.9) & (ra <= 121.1) & (dec >= -3) & (dec <= -2)
    assert names["box"].object_id.values.tolist() == ds.object_id.values[inside].tolist()
    assert names["across"].sizes["object_id"] == 0


def test_the_page_of_troubles_names_every_check() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    table = page.split("| check |")[1].split("\n\n")[0]
    shown = set(re.findall(r"`([^`]+)`", "".join(re.findall(r"^\|([^|]+)\|", table, re.MULTILINE))))
    source = "".join(path.read_text() for path in (ROOT / "swimmy_scale" / "cluster" / "doctor").glob("*.py"))
    assert shown == set(re.findall(r"""(?:ok|warning|problem|kind)\(\s*"([^"]+)",""", source))
