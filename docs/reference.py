"""Make the pages of the job file and the site file from their models: ``python docs/reference.py``."""

from __future__ import annotations

from pathlib import Path

from swimmy_scale.cluster.site import SiteFile
from swimmy_scale.method.job import Job
from swimmy_scale.method.schema import reference

DOCS = Path(__file__).resolve().parent

IN_AN_EDITOR = """
An editor that knows JSON schemas completes the keys, shows what each means, and marks what is wrong:

```console
$ swimmy-scale schema {what} > {what}.schema.json
```

Then write this as the first line of the file, with the path of the schema from there; VS Code (with its YAML
extension), Neovim and JetBrains' editors read it:

```text
# yaml-language-server: $schema={what}.schema.json
```

The schema holds names, types, words and limits. Rules between keys, and what is in the files that a {what} names, only
the program checks: `{check}` does so before anything is started.
"""

JOB = f"""
A job file says what to do. Every key has a default but those that must be given; an unknown key is an error. Relative
paths are relative to the job file. The files in `jobs/` are examples, and `job.yaml` of a run directory shows every key
with its value. Sections of the paper stand in brackets.

{IN_AN_EDITOR.format(what="job", check="swimmy-scale plan JOB")}
"""

SITE = f"""
A site file says where to compute. It is in dask-jobqueue's own form: sections of such a file can be taken over. The
files in `cluster/` are examples, and [Run on your cluster](cluster.md) explains them.

{IN_AN_EDITOR.format(what="site", check="swimmy-scale doctor --site SITE")}
"""


def pages() -> dict[Path, str]:
    """The text of each page."""
    return {
        DOCS / "job-file.md": reference(Job, "The job file", JOB),
        DOCS / "site-file.md": reference(SiteFile, "The site file", SITE),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
