"""The comparison of ways to train, score and choose: its arithmetic against plain NumPy, and the page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from swimmy_scale.method.job import Settings, parse_job

ROOT = Path(__file__).resolve().parents[2]
N_SEEDS, N_EPOCHS, N_BANDS = 6, 3, 3


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "studies"))


@pytest.fixture
def comparison():
    """Random scores of 400 common and 200 rare objects by six runs of three epochs, and what they are made of."""
    import better

    rng = np.random.default_rng(4)
    sizes = {"common": 400, "rare": 200}
    kinds = {"common": np.full(400, "normal"), "rare": rng.permutation(np.repeat(better.RARE, 50))}
    surveys = {
        name: better.Survey(
            kinds[name], rng.uniform(5, 20, (n, N_BANDS)), rng.uniform(0.01, 0.5, (n, N_BANDS)), np.arange(n) % 3 == 0
        )
        for name, n in sizes.items()
    }
    runs = []
    for _ in range(N_SEEDS):
        run = {"val_loss": rng.uniform(size=N_EPOCHS)}
        for name, n in sizes.items():
            shift = 1.0 if name == "rare" else 0.0
            residual = rng.normal(shift, 1.0, (n, N_EPOCHS, N_BANDS)).astype(np.float32)
            run |= {f"residual-{name}": residual, f"score-{name}": np.exp(residual)}
        runs.append(run)
    return better, runs, surveys


def plain_rate(common, rare, residual, members, fraction):
    """Share of members that any band selects; arrays (n, band)."""
    threshold = np.quantile(common.astype(np.float64), 1 - fraction, axis=0)
    return ((rare > threshold) & (residual > 0)).any(axis=1)[members].mean()


@pytest.mark.parametrize("floor", [None, 0.05])
def test_rates_are_those_of_plain_numpy(comparison, floor: float | None) -> None:
    better, runs, surveys = comparison
    compared = better.Comparison(runs, surveys, floor)

    def score(seed, name):
        epoch = int(np.argmin(runs[seed]["val_loss"]))
        residual = runs[seed][f"residual-{name}"][:, epoch].astype(np.float64)
        if floor is None:
            return np.exp(residual.astype(np.float32)).astype(np.float64), residual
        of = surveys[name]
        expected = np.maximum(of.source_sum - residual, 1e-12)
        return np.abs(residual) / np.sqrt(of.noise**2 + (floor * expected) ** 2), residual

    for rule, seeds in (("best", [2]), ("mean", [0, 1, 4])):
        found = compared.of_group(seeds, "validation loss", rule)
        common = np.mean([score(seed, "common")[0] for seed in seeds], axis=0)
        rare = np.mean([score(seed, "rare")[0] for seed in seeds], axis=0)
        residual = np.mean([score(seed, "rare")[1] for seed in seeds], axis=0)
        for c, name in enumerate(better.RARE):
            for level, fraction in enumerate(better.LEVELS.values()):
                expected = plain_rate(common, rare, residual, compared.reports[name], fraction)
                assert found[level, c, -1] == pytest.approx(expected)
        assert found.shape == (2, 6, 4)
        of_common = np.mean([score(seed, "common")[1] for seed in seeds], axis=0)
        expected = plain_rate(common, common, of_common, surveys["common"].training, 0.05)
        assert found[0, 5, -1] == pytest.approx(expected)
        assert (found[0, 4, :3] <= 0.05).all(), "a band selects 5% of the sample at most"
        assert (found[0, 4, :3] > 0.01).all()


def test_no_object_chooses_and_tests(comparison) -> None:
    better, runs, surveys = comparison
    compared = better.Comparison(runs, surveys, None)
    for name in better.KNOWN:
        assert not (compared.chooses[name] & compared.reports[name]).any()
        assert (compared.chooses[name] | compared.reports[name]).sum() == 50


def test_the_known_classes_choose_the_best_set(comparison) -> None:
    better, runs, surveys = comparison
    compared = better.Comparison(runs, surveys, None)
    sums = {}
    for seed, epoch in np.ndindex(N_SEEDS, N_EPOCHS):
        of = [runs[seed][f"{what}"][:, epoch] for what in ("score-common", "score-rare", "residual-rare")]
        sums[seed, epoch] = sum(plain_rate(*of, compared.chooses[name], 0.05) for name in better.KNOWN)
    best = max(sums, key=lambda key: sums[key])
    assert compared._order(range(N_SEEDS), "known classes")[0] == best
    found = compared.of_group(range(N_SEEDS), "known classes", "best")
    of = [runs[best[0]][what][:, best[1]] for what in ("score-common", "score-rare", "residual-rare")]
    assert found[0, 0, -1] == pytest.approx(plain_rate(*of, compared.reports["quasar"], 0.05))


def test_groups_use_every_run_as_often() -> None:
    import better

    groups = better.groups_of(10, 5)
    assert len(groups) == 10
    assert np.bincount(np.concatenate(groups)).tolist() == [5] * 10
    assert better.groups_of(10, 10) == [list(range(10))]
    assert better.groups_of(10, 1) == [[k] for k in range(10)]
    assert better.groups_of(4, 5) == []


@pytest.mark.parametrize("n_runs", [1, 5])
def test_the_error_of_a_difference_is_its_scatter(n_runs: int) -> None:
    """Over many repetitions of ten runs, means of overlapping groups scatter as their error says."""
    import better
    import better_page

    rng, groups = np.random.default_rng(1), better.groups_of(10, n_runs)
    means, errors = [], []
    for _ in range(4000):
        one, other = rng.normal(size=(2, 10))
        values = [np.array([of[group].mean() for group in groups]) for of in (one, other)]
        mean, error = better_page.difference(*values, n_runs, 10)
        means.append(mean)
        errors.append(error)
    assert math.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(means), rel=0.05)


def test_settings_of_the_trainings_are_valid() -> None:
    from better_runs import Sizes, settings

    for batch, n_runs in ((0, 10), (1, 3)):
        text = settings("", Sizes(n_seeds=13), batch)
        train = parse_job(text, Path("/x/s.yaml"), Settings).train
        assert train is not None
        assert (train.classes, train.n_runs, train.schedule.seed) == ((), n_runs, 1 + 10 * batch)
        assert train.network.encoder_filters == (64, 32)


def test_what_the_page_says_in_short_is_in_the_results() -> None:
    import better_page

    content = better_page.load()
    level = next(iter(content["levels"]))

    def compared(way: tuple, base: tuple) -> dict[str, tuple[float, float]]:
        return better_page.against(content, level, *(better_page.find(content, *item) for item in (way, base)))

    for n_runs, choose, combine in (
        (5, "known classes", "best"),
        (1, "validation loss", "best"),
        (5, "validation loss", "mean"),
    ):
        how = n_runs, choose, combine
        for group, pair in compared(("blind", "paper", *how), ("clean", "paper", *how)).items():
            assert not (better_page.matters(pair) and pair[0] < 0), f"blind training loses {group}"
    with_labels = content["sizes"]["n_seeds"] // 2, "known classes", "best"
    paper = "clean", "paper", *with_labels
    for way in better_page.shown(content, [5]):
        base = better_page.find(content, *paper)
        for group in better_page.CLASSES:
            pair = better_page.against(content, level, way, base)[group]
            assert not (better_page.matters(pair) and pair[0] > 0), "nothing is better than the paper's way"
    by_loss = "clean", "paper", 5, "validation loss", "best"
    for combine in ("mean", "rank"):
        together = compared(("blind", "paper", 5, "validation loss", combine), by_loss)
        assert better_page.matters(together["xelg"])
        assert together["xelg"][0] > 0
        rates = [
            better_page.values_of(better_page.find(content, *way), level, "xelg")
            for way in (("blind", "paper", 5, "validation loss", combine), paper, ("blind", *by_loss[1:]))
        ]
        assert rates[0].mean() > 0.8 * rates[1].mean(), "most that labels would have found"
        assert rates[0].std() < rates[2].std() / 2, "chance has less of a part"
    assert better_page.matters(quasars := compared(("clean", "paper", 5, "validation loss", "mean"), by_loss)["quasar"])
    assert quasars[0] > 0, "several runs find more quasars"
    for choose in ("validation loss", "known classes"):
        how = 1, choose, "best"
        assert better_page.matters(blind := compared(("blind", "paper", *how), ("clean", "paper", *how))["xelg"])
        assert blind[0] > 0, "one blind run finds more XELGs"
    one = 1, "validation loss", "best"
    noise = compared(("clean", "noise", *one), ("clean", "paper", *one))
    assert better_page.matters(noise["xelg"])
    assert noise["xelg"][0] > 0


def test_the_page_is_made_of_the_results() -> None:
    import better_page

    assert (ROOT / "docs" / "better.md").read_text() == better_page.page(), "run python studies/better.py --page"
    assert better_page.page().count("SIMULATED DATA") == 1
