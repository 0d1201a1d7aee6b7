"""JSON schemas and reference pages of the files that people write, both made from the models."""

from __future__ import annotations

import json
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter

from swimmy_scale.method.keys import REQUIRED, Key, every_section, is_section, keys_of, sections_in

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(root: type[BaseModel], title: str) -> dict[str, Any]:
    """The JSON schema of a file, with the meaning and an example of each key; for editors and other checkers.

    It holds names, types, words and limits. Rules between keys are the program's alone, but for those of the root.
    """
    schema = root.model_json_schema(by_alias=True)
    _mend(schema)
    sections = {section.__name__: section for _, section in every_section(root)}
    for name, part in [("", schema), *schema.get("$defs", {}).items()]:
        section = sections[name] if name else root
        part.pop("title", None)
        part["description"] = summary_of(section)
        keys = keys_of(section)
        for name_in_files, kind in getattr(section, "__keys_of_files__", {}).items():
            part["properties"][name_in_files] = TypeAdapter(kind).json_schema()
        for written, content in part.get("properties", {}).items():
            _describe(content, keys[written])
        spelt = {f"^{key.field}$": part["properties"][key.name] for key in keys.values() if key.field != key.name}
        if spelt:
            # Names with "_" are valid, and editors offer those with "-".
            part["patternProperties"] = spelt
            either = [name for name in part.get("required", []) if keys[name].field != name]
            part["required"] = [name for name in part.get("required", []) if name not in either]
            if either:
                part["allOf"] = [{"anyOf": [{"required": [name]}, {"required": [keys[name].field]}]} for name in either]
    return {"$schema": DIALECT, "title": title, **schema}


def _describe(content: dict[str, Any], key: Key) -> None:
    content.pop("title", None)
    content["description"] = _plain(f"{key.meaning} Takes {key.takes}.")
    if key.example:
        content["examples"] = [yaml.safe_load(key.example)]
    if sections_in(key.kind):
        # Whole sections by default are noise in an editor.
        content.pop("default", None)


def _mend(schema: Any) -> None:
    """Say what pydantic refuses, but does not write: names of a mapping that do not have their form.

    And in place of oneOf for the forms of a section anyOf, of which editors show what is nearest.
    """
    if isinstance(schema, dict):
        if "oneOf" in schema:
            schema["anyOf"] = schema.pop("oneOf")
        if "patternProperties" in schema and "properties" not in schema:
            schema["additionalProperties"] = False
        for part in schema.values():
            _mend(part)
    elif isinstance(schema, list):
        for part in schema:
            _mend(part)


def summary_of(section: type) -> str:
    """What a section is, in the first paragraph of its docstring."""
    return _plain(" ".join((section.__doc__ or "").strip().split("\n\n")[0].split()))


def _plain(text: str) -> str:
    return text.replace("``", "`")


def reference(root: type[BaseModel], heading: str, introduction: str) -> str:
    """A page in Markdown: every section with its keys, what each takes, its default and its meaning."""
    lines = [f"# {heading}", "", introduction.strip(), ""]
    lines += ["## The whole file", "", summary_of(root), "", *_table(root)]
    told: dict[type, str] = {}
    for place, section in every_section(root):
        form = " in another form" if place in told.values() and section not in told else ""
        lines += ["", f"## `{place}`{form}", ""]
        if section in told:
            lines += [f"As [`{told[section]}`](#{_anchor(told[section])})."]
            continue
        told[section] = place
        lines += [summary_of(section), "", *_table(section)]
    return "\n".join(lines) + "\n"


def _table(section: type) -> list[str]:
    rows = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    for key in keys_of(section).values():
        meaning = _plain(key.meaning) + (f" Example: `{key.example}`." if key.example else "")
        cells = (f"`{key.name}`", key.takes, _default(key), meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def _default(key: Key) -> str:
    """The default as it is written in YAML."""
    if key.default is REQUIRED:
        return "must be given"
    if is_section(type(key.default)):
        return "all defaults"
    value = key.default
    if isinstance(value, int) and not isinstance(value, bool) and hasattr(value, "human_readable"):
        return f"`{value.human_readable()}`"
    text = yaml.safe_dump(json.loads(json.dumps(value)), default_flow_style=True, width=10_000).strip()
    return f"`{text.removesuffix('...').strip()}`"


def _anchor(place: str) -> str:
    """The anchor that the documentation's site gives to the heading of a section."""
    return "".join(letter for letter in place.lower() if letter.isalnum() or letter in "-_")
