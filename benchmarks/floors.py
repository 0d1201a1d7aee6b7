"""The score stage in one worker against its own floors: reading, preprocessing and inference, each measured alone.

    python benchmarks/floors.py --n-objects 4096 --repeat 3 --json benchmarks/floors.json
    python benchmarks/floors.py --before ../older   # also the numba scorer of an older version, which has a .venv

Also inference against ``model.predict`` of the full network at its best batch size, and against the machine's float32
matrix product; and the numba scorer, from counts to scores, with its two largest parts. Everything runs in one process
with one thread each for TensorFlow and BLAS, in turn, so that what the machine does meanwhile hits all of them alike.
The stage itself includes writing, reading back, digests and receipts.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measure import answer_of, commit_of, of_checkout, report, row

if TYPE_CHECKING:
    from swimmy_scale.method.survey import FloatArray, Survey

BATCHES = (32, 128, 256, 512)
PREDICTED_OBJECTS = 1024
SGEMM = 2048


def needed_flops() -> float:
    """Floating-point operations that an object's scores need: the window of every layer, two a multiplication."""
    from swimmy_scale.method.network import Network, windows

    network, lo, hi = Network(), 29, 35
    kept = windows(network, lo, hi) or []
    (first, last), *after = kept
    side, n_in, flops = last - first, network.n_bands, 0.0
    for index, n_out in enumerate(network.convolution_filters, start=1):
        side -= 2
        flops += 2.0 * 9 * n_in * n_out * side**2
        n_in = n_out
        if index <= network.n_levels:
            side //= 2
        elif after:
            first, last = after.pop(0)
            side = last - first
    return flops


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def numba_seconds(
    weights: list[tuple[FloatArray, FloatArray]], survey: Survey, image: FloatArray, fwhm: FloatArray, times: int
) -> dict[str, float]:
    """Seconds of the numba scorer and of its two largest parts, for these objects ``times`` over."""
    from swimmy_scale.method.network import CACHE_BATCH_OBJECTS, Network, windows
    from swimmy_scale.method.preprocess import smoothing_sigma_px
    from swimmy_scale.model.numba_scorer import NumbaScorer, prepare
    from swimmy_scale.model.winograd import HALVE, convolve, plan

    scorer, sigma = NumbaScorer([weights], Network(), survey), smoothing_sigma_px(fwhm, survey)
    ((lo, hi), *_) = windows(Network(), *survey.aperture_range()) or []
    source = np.zeros((CACHE_BATCH_OBJECTS, hi - lo, hi - lo, survey.n_bands), np.float32)
    step, side = plan(*weights[0]), (hi - lo - 2) // 2
    halved = np.zeros((CACHE_BATCH_OBJECTS, side, side, len(step.bias)), np.float32)
    batches = [slice(k, k + CACHE_BATCH_OBJECTS) for k in range(0, len(image), CACHE_BATCH_OBJECTS)]

    def prepare_all() -> None:
        for rows in batches:
            prepare(image[rows], sigma[rows], survey, lo, 0, source[: len(image[rows])])

    def convolve_all() -> None:
        for _ in batches:
            convolve(source, step.kernel, step.bias, HALVE, 0, 0, halved)

    found = {}
    for name, work in (
        ("numba", lambda: scorer.score_counts(image, fwhm)),
        ("numba prepare", prepare_all),
        ("numba first convolution", convolve_all),
    ):
        work()  # compiles
        found[name] = timed(lambda work=work: [work() for _ in range(times)])  # type: ignore[misc]
    return found


def numba_before(folder: Path) -> dict[str, float]:
    """Seconds of the numba scorer of a version from before the modules were grouped, in an environment of that."""
    network, numba_scorer, surveys, weights = (
        importlib.import_module(f"swimmy_scale.{name}") for name in ("network", "numba_scorer", "survey", "weights")
    )
    path = folder / "model.keras"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    folded = weights.folded_weights(path, network.Network(), sha256)
    scorer = numba_scorer.NumbaScorer([folded], network.Network(), surveys.HSC)
    with np.load(folder / "counts.npz") as counts:
        image, fwhm, times = counts["image"], counts["fwhm"], int(counts["times"])
    scorer.score_counts(image, fwhm)  # compiles
    return {"numba before": timed(lambda: [scorer.score_counts(image, fwhm) for _ in range(times)])}


def measure(folder: Path) -> dict[str, float]:
    """Seconds for all objects: each floor, the stage; objects a second of ``model.predict``; FLOP a second."""
    from swimmy_scale.method.network import Network
    from swimmy_scale.method.preprocess import preprocess
    from swimmy_scale.model.devices import configure_threads
    from swimmy_scale.model.files import folded_weights, load
    from swimmy_scale.model.keras_scorer import Scorer
    from swimmy_scale.model.scoring import Model, Scoring
    from swimmy_scale.stages.score import ScoreStage
    from swimmy_scale.storage.cutouts import Cutouts
    from swimmy_scale.storage.files import digest_file
    from swimmy_scale.storage.run_directory import ledger_beside

    configure_threads(1)
    store, network = Cutouts(folder / "cutouts.zarr"), Network()
    path, sha256 = folder / "model.keras", digest_file(folder / "model.keras")
    model = load(path, network, sha256)
    scorer = Scorer([model], network, store.survey)
    starts = range(0, store.n_objects, store.chunk_objects)

    def read() -> None:
        for lo in starts:
            store.images(lo, lo + store.chunk_objects)
            store.read("fwhm_arcsec", lo, lo + store.chunk_objects)

    image, fwhm = store.images(0, store.chunk_objects), store.read("fwhm_arcsec", 0, store.chunk_objects)
    source = preprocess(image, fwhm, store.survey)
    scorer.score(source)
    output = folder / "scores.zarr"
    scoring = Scoring((Model(path, sha256),), network, 256, 1, "keras")
    stage = ScoreStage(ledger_beside(output, "score"), store.path, output, scoring)
    tasks = stage.plan()
    stage.perform(tasks[0])  # loads the model
    seconds = {
        "read": timed(read),
        "preprocess": timed(lambda: [preprocess(image, fwhm, store.survey) for _ in starts]),
        "infer": timed(lambda: [scorer.score(source) for _ in starts]),
        "stage": timed(lambda: [stage.perform(task) for task in tasks]),
    }
    shutil.rmtree(output)
    np.savez(folder / "counts.npz", image=image, fwhm=fwhm, times=len(starts))
    seconds |= numba_seconds(folded_weights(path, network, sha256), store.survey, image, fwhm, len(starts))
    full = np.ascontiguousarray(source.transpose(0, 2, 3, 1))
    full = np.concatenate([full] * -(-PREDICTED_OBJECTS // len(full)))[:PREDICTED_OBJECTS]
    for batch in BATCHES:
        model.predict(full[:batch], batch_size=batch, verbose=0)
        seconds[f"predict {batch}"] = timed(partial(model.predict, full, batch_size=batch, verbose=0))
    a = np.random.default_rng(1).random((SGEMM, SGEMM), np.float32)
    a @ a
    seconds["sgemm"] = min(timed(lambda: a @ a) for _ in range(3))
    return {"n_objects": store.n_objects, **seconds}


def in_a_process(python: str, variables: Mapping[str, str], *words: str) -> dict[str, float]:
    """What another process of this file measures, with one thread for BLAS; who reads ahead is the stage's own."""
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return answer_of([python, __file__, *words], **variables, **one_thread)  # type: ignore[no-any-return]


def main() -> None:
    """Prepare, measure in turn, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-objects", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--before", type=Path, help="a checkout of an older version, with its .venv")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure-before", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure)))
        return
    if options.measure_before is not None:
        print(json.dumps(numba_before(options.measure_before)))
        return
    from bank import make_bank, make_survey

    from swimmy_scale.method.network import Network
    from swimmy_scale.model.autoencoder import build
    from swimmy_scale.model.files import save

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_bank(folder / "bank", 512)
        make_survey(folder / "bank", folder / "cutouts.zarr", options.n_objects, 0)
        save(build(Network(), seed=1), folder / "model.keras")
        found = []
        for _ in range(options.repeat):
            found.append(in_a_process(sys.executable, {}, "--measure", name))
            if options.before is not None:
                found[-1] |= in_a_process(*of_checkout(options.before), "--measure-before", name)
    n = found[0]["n_objects"]
    rows = [
        row(f"{floor}, alone", "objects/s a core", [n / one[floor] for one in found])
        for floor in ("read", "preprocess", "infer")
    ]
    shares = [one["stage"] / (one["read"] + one["preprocess"] + one["infer"]) for one in found]
    rows.append(row("score stage, one worker", "objects/s", [n / one["stage"] for one in found]))
    middle = statistics.median(shares)
    rows.append(
        row("score stage over the sum of its floors", "", shares, ratio=middle, target=1.25, met=middle <= 1.25)
    )
    best = [max(PREDICTED_OBJECTS / one[f"predict {batch}"] for batch in BATCHES) for one in found]
    rows.append(row("model.predict of the full network, its best batch", "objects/s a core", best))
    faster = [(n / one["infer"]) / rate for one, rate in zip(found, best, strict=True)]
    middle = statistics.median(faster)
    rows.append(row("inference against model.predict", "", faster, ratio=middle, target=3.5, met=middle >= 3.5))
    for part, name in (
        ("numba", "numba scorer, from counts to scores"),
        ("numba prepare", "numba scorer: PSF match and stretch, alone"),
        ("numba first convolution", "numba scorer: first convolution, alone"),
    ):
        rows.append(row(name, "objects/s a core", [n / one[part] for one in found]))
    notes = []
    if options.before is not None:
        notes.append(f"before: commit {commit_of(options.before)}")
        rates = [n / one["numba before"] for one in found]
        ratio = statistics.median(rates) / statistics.median(n / one["numba"] for one in found)
        rows.append(row("numba scorer, from counts to scores, before", "objects/s a core", rates, ratio=ratio))
    sgemm = [2.0 * SGEMM**3 / one["sgemm"] for one in found]
    rows.append(row("float32 matrix product", "GFLOP/s a core", [rate / 1e9 for rate in sgemm]))
    used = [needed_flops() * n / one["infer"] / rate for one, rate in zip(found, sgemm, strict=True)]
    rows.append(row("inference's share of it, in the operations it needs", "%", [100 * share for share in used]))
    more = {"n_objects": n, "repeat": options.repeat, "mflop_an_object": needed_flops() / 1e6}
    report("floors", rows, options.json, notes, **more)


if __name__ == "__main__":
    main()
