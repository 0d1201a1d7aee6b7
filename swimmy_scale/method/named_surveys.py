"""Surveys by name: data files of the package that a job takes as a whole, or as the base of its own values."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, get_args

import yaml

from swimmy_scale.method.survey import SurveyName
from swimmy_scale.method.words import alternatives, did_you_mean

NAMES: tuple[str, ...] = get_args(SurveyName)


@cache
def read_survey(name: str) -> dict[str, Any]:
    """The file of a survey: ``survey``, values of `Survey` by name, and ``sources``, where each comes from."""
    text = resources.files(f"{__package__}.surveys").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def with_base(content: Any) -> Any:
    """What a job says of its survey, with all that its base gives: a name alone, or a section with the key ``base``.

    Raises
    ------
    ValueError
        When there is no survey of the name.
    """
    if isinstance(content, str):
        content = {"base": content}
    if not isinstance(content, dict) or "base" not in content:
        return content
    base = content["base"]
    if base not in NAMES:
        question = did_you_mean(base, NAMES) if isinstance(base, str) else ""
        raise ValueError(f"no survey is called {base!r}; there are {alternatives(NAMES)}. {question}".strip())
    own = {key: value for key, value in content.items() if key != "base"}
    return {**read_survey(base)["survey"], **own}
