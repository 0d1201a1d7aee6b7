"""Checks of the interpreters that a site file names: whether they run the program, and let a driver reach Slurm."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence

import swimmy_scale
from swimmy_scale.cluster.doctor.findings import Finding, ok, problem, warning
from swimmy_scale.cluster.site import DRIVER, Site

TIMEOUT_SECONDS = 60.0
NEEDED = ("sbatch", "squeue", "scancel")
"""Slurm's commands that a driver gives."""

ASKED = f"""
import json, shutil, swimmy_scale
missing = [name for name in {NEEDED!r} if shutil.which(name) is None]
print(json.dumps({{"version": swimmy_scale.__version__, "missing": missing}}))
"""
ON_NODES = "Check that the nodes have it"


def check_interpreter(words: Sequence[str], for_driver: bool, timeout_seconds: float = TIMEOUT_SECONDS) -> Finding:
    """An interpreter, perhaps in a container, that runs on the nodes; it is tried here, where it need not be."""
    command = shlex.join(words)
    if shutil.which(words[0]) is None:
        return warning("interpreter", f"{words[0]} is not on this machine", ON_NODES)
    try:
        done = subprocess.run(  # noqa: S603
            [*words, "-c", ASKED], capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return warning("interpreter", f"{command} does not start within {timeout_seconds:.0f} s here", ON_NODES)
    except OSError as error:
        return warning("interpreter", f"{command} does not start here: {error.strerror}", ON_NODES)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return warning("interpreter", f"{command} does not run this program here: {said}", ON_NODES)
    seen = json.loads(done.stdout.splitlines()[-1])
    if seen["version"] != swimmy_scale.__version__:
        text = f"{command} has swimmy-scale {seen['version']}, this one is {swimmy_scale.__version__}"
        return problem("interpreter", text, "Install the same version in both")
    if for_driver and seen["missing"]:
        text = f"{command}, which the driver runs in, has no {', '.join(seen['missing'])}"
        remedy = "Bind Slurm's commands into the container, or give jobqueue.driver a python that is not in one"
        return problem("interpreter", text, remedy)
    return ok("interpreter", f"{command} runs this program")


def check_interpreters(site: Site) -> Iterator[Finding]:
    """The interpreters that a site names, each once."""
    kinds = {DRIVER: site.driver, **{group.name: group.spec for group in site.groups}}
    drivers = site.driver.python
    for words in dict.fromkeys(spec.python for spec in kinds.values() if spec.python):
        yield check_interpreter(words, for_driver=words == drivers)
