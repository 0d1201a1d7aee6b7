"""Hyrax of LINCC Frameworks as `peers.py` runs it: an environment of its own, its settings, its commands.

Hyrax is a framework for machine learning on astronomical images (https://github.com/lincc-frameworks/hyrax). It is run
by its own command line with what its documentation recommends for cutouts in FITS files: `FitsImageDataset` and
`HyraxAutoencoderV2`. Nothing of it is part of this project; it is installed where the user says, by pip.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGES = ("hyrax==0.13", "torch==2.13.0")
# The versions of everything else, as they were when it was measured first.
CONSTRAINTS = Path(__file__).with_name("hyrax-constraints.txt")
RECORDED = ("hyrax", "torch", "torchvision", "numpy", "astropy", "pytorch-ignite", "pylance")
SIZE_PX = 64
# Where no torchvision fits the build of PyTorch (its import fails), the three transforms that Hyrax needs of it.
STAND_IN = '''\
"""In place of torchvision: what Hyrax takes of it to read FITS images and to run HyraxAutoencoderV2."""


class Lambda:
    def __init__(self, lambd):
        self._function = lambd

    def __call__(self, image):
        return self._function(image)


class Compose:
    def __init__(self, transforms):
        self._transforms = transforms

    def __call__(self, image):
        for transform in self._transforms:
            image = transform(image)
        return image


class CenterCrop:
    def __init__(self, size):
        self._size = size

    def __call__(self, image):
        height, width = (int(side) for side in self._size)
        if image.shape[-2] < height or image.shape[-1] < width:
            raise ValueError("an image is smaller than the crop")
        top, left = round((image.shape[-2] - height) / 2), round((image.shape[-1] - width) / 2)
        return image[..., top : top + height, left : left + width]
'''
STAND_IN_VERSION = "stand-in"


@dataclass(frozen=True)
class Hyrax:
    """An installed Hyrax."""

    environment: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.environment / "bin" / "python"

    def command(self, verb: str, settings: Path) -> list[str]:
        """The command line of a verb such as ``train`` or ``infer``."""
        return [str(self.environment / "bin" / "hyrax"), verb, "--runtime-config", str(settings)]

    def versions(self) -> dict[str, str]:
        """Of Python and of the packages that matter; a stand-in for torchvision is named so."""
        code = (
            "import json, platform, torchvision; from importlib.metadata import version; "
            f"print(json.dumps({{'python': platform.python_version()}} | {{name: version(name) for name in {RECORDED}"
            " if name != 'torchvision'} | {'torchvision': torchvision.__version__}))"
        )
        found: dict[str, str] = json.loads(self._answer(code))
        return found

    def count(self, results: Path) -> int:
        """Objects in the results of ``infer`` under a folder."""
        table = next(results.glob("*-infer-*/lance_db/results.lance"))
        return int(self._answer(f"import lance; print(lance.dataset({str(table)!r}).count_rows())"))

    def _answer(self, code: str) -> str:
        done = subprocess.run([str(self.python), "-c", code], stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip().splitlines()[-1]


def install(environment: Path, python: str) -> Hyrax:
    """Install Hyrax with an interpreter of Python 3.11, unless it is there."""
    hyrax, ready = Hyrax(environment), environment / "ready"
    if not ready.exists():
        print(f"installing {', '.join(PACKAGES)} in {environment}", flush=True)
        subprocess.run([python, "-m", "venv", "--clear", str(environment)], check=True)
        constraints = ["--constraint", str(CONSTRAINTS)] if CONSTRAINTS.exists() else []
        quiet = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([str(hyrax.python), "-m", "pip", "install", *quiet, *PACKAGES, *constraints], check=True)
        imported = subprocess.run([str(hyrax.python), "-c", "import torchvision.transforms.v2"], capture_output=True)
        if imported.returncode:
            _stand_in_for_torchvision(hyrax)
        ready.touch()
    return hyrax


def _stand_in_for_torchvision(hyrax: Hyrax) -> None:
    subprocess.run([str(hyrax.python), "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision"], check=True)
    packages = next((hyrax.environment / "lib").glob("python3*/site-packages"))
    folder = packages / "torchvision"
    (folder / "transforms").mkdir(parents=True)
    (folder / "__init__.py").write_text(f'__version__ = "{STAND_IN_VERSION}"\n')
    (folder / "models.py").touch()  # another of Hyrax's models imports it
    (folder / "transforms" / "__init__.py").touch()
    (folder / "transforms" / "v2.py").write_text(STAND_IN)


def write_settings(
    path: Path,
    files: Path,
    catalogue: Path,
    results: Path,
    *,
    dataset: str = "FitsImageDataset",
    n_readers: int = 0,
    weights: Path | None = None,
) -> Path:
    """Hyrax's settings for files in a folder, which ``catalogue`` lists by object_id, filter and filename.

    Parameters
    ----------
    path : Path
        Where they are written.
    results : Path
        Folder that gets a new folder of each command.
    dataset : str
        Class that reads the files.
    n_readers : int
        Processes of PyTorch's DataLoader that read; 0, Hyrax's default, reads in the process that computes.
    weights : Path, optional
        Of the model, for ``infer``.
    """
    # One group of objects to train on and the same to infer.
    groups = [
        f'[data_request.{group}.data]\ndataset_class = "{dataset}"\ndata_location = "{files}"\n'
        'fields = ["image"]\nprimary_id_field = "object_id"\n'
        for group in ("train", "infer")
    ]
    sections: Sequence[str] = (
        f'[general]\nresults_dir = "{results}"\n',
        '[model]\nname = "HyraxAutoencoderV2"\n',
        '[criterion]\nname = "torch.nn.MSELoss"\n',
        '[optimizer]\nname = "torch.optim.Adam"\n["torch.optim.Adam"]\nlr = 0.001\n',
        f'[data_set]\nfilter_catalog = "{catalogue}"\ncrop_to = [{SIZE_PX}, {SIZE_PX}]\nuse_cache = false\n',
        f"[data_loader]\nbatch_size = 512\nnum_workers = {n_readers}\n",
        "[train]\nepochs = 1\n",
        f'[infer]\nmodel_weights_file = "{weights}"\n' if weights else "",
        *groups,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(sections))
    return path


def train(hyrax: Hyrax, home: Path, files: Path, catalogue: Path) -> Path:
    """Weights after one epoch, made once."""
    weights = home / "training.pth"
    if not weights.exists():
        settings = write_settings(home / "train.toml", files, catalogue, home / "training")
        subprocess.run(hyrax.command("train", settings), check=True, capture_output=True)
        sorted((home / "training").glob("*-train-*/example_model.pth"))[-1].rename(weights)
    return weights


def try_on(hyrax: Hyrax, home: Path, files: Path, catalogue: Path, weights: Path, dataset: str) -> dict[str, Any]:
    """What ``infer`` does with a survey that may be too much for it: objects in its results, or its last words."""
    results = home / f"try-{dataset}"
    shutil.rmtree(results, ignore_errors=True)
    settings = write_settings(home / f"try-{dataset}.toml", files, catalogue, results, dataset=dataset, weights=weights)
    done = subprocess.run(hyrax.command("infer", settings), capture_output=True, text=True)
    if done.returncode:
        words = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return {"dataset": dataset, "n_results": 0, "error": words[-1] if words else f"exit status {done.returncode}"}
    return {"dataset": dataset, "n_results": hyrax.count(results), "error": None}
