"""The scripts of batch jobs: dask-jobqueue writes those of workers, a template here that of the driver."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import dask
import yaml

from swimmy_scale.cluster.local import SETTINGS
from swimmy_scale.cluster.places import Places
from swimmy_scale.cluster.signals import interrupts_kept
from swimmy_scale.cluster.site import Group, JobSpec, Site
from swimmy_scale.cluster.tls import TLS_FILES
from swimmy_scale.cluster.versions import fitting_version
from swimmy_scale.errors import EXIT_TIME_IS_UP
from swimmy_scale.storage.files import make_folder, write_atomically

CONFIG_NAME = "swimmy-scale"
OWN_GPU = "swimmy_scale.cluster.own_gpu"
CLUSTER_SETTINGS = {
    **SETTINGS,
    "distributed.comm.require-encryption": True,
    # Workers may wait in the queue for hours; the fleet notices when they will never come.
    "distributed.scheduler.no-workers-timeout": None,
}

DRIVER_TEMPLATE = Template(
    """$shebang

$header
$prologue
# Counted before and after, this tells whether the driver has got anywhere.
count() { find $receipts $models -type f ! -path '*/attempts/*' 2>/dev/null | wc -l; }
before=$$(count)
cancelled=no
# Traps come first, because a signal may come as soon as the driver starts.
# The end of the walltime is near: stop, and hand over.
trap 'kill -USR1 "$$!" 2>/dev/null' USR1
# The job is cancelled or preempted: end the workers, too.
trap 'cancelled=yes; kill -TERM "$$!" 2>/dev/null' TERM
$command &
driver=$$!
while :; do
    wait "$$driver"
    status=$$?
    kill -0 "$$driver" 2>/dev/null || break
done
# A signal may have ended that wait, and the driver before it was waited for again; 127 is that nothing is known of it.
wait "$$driver" 2>/dev/null
last=$$?
[ "$$last" = 127 ] || status=$$last
echo "driver of job $$SLURM_JOB_ID ended with status $$status"
if [ "$$status" != $time_is_up ] && { [ "$$status" -le 128 ] || [ "$$cancelled" = yes ]; }; then
    # Finished, failed for good, or cancelled: nothing follows.
    $end
    [ "$$status" = 3 ] && exit 0   # finished, with objects in quarantine
    exit "$$status"
fi
$again
"""
)
AGAIN = Template(
    """if [ "$$status" -gt 128 ] && [ "$$(count)" -le "$$before" ]; then
    echo "it died without getting anywhere, so it is not submitted again"
    exit "$$status"
fi
# Slurm may be busy, or still count the cancelled workers.
for pause in 2 5 10 20 30 0; do
    if next=$$(env -u SLURM_MEM_PER_NODE -u SLURM_MEM_PER_CPU sbatch --parsable $script); then
        echo "submitted again as job $$next"
        exit 0
    fi
    sleep "$$pause"
done
echo "it could not be submitted again: give the command swimmy-scale submit, it resumes"
exit 1
"""
)
COMMAND_TEMPLATE = Template(
    """$shebang

$header
$prologue
$command
status=$$?
[ "$$status" = 3 ] && exit 0   # done, with objects in quarantine
exit "$$status"
"""
)
CHAINED = 'echo "the next job of the chain goes on"\nexit "$status"'
END_CHAIN = Template('scancel --quiet --state=PENDING --user="$$(id -u)" --name=$name\n')


def _job(
    spec: JobSpec,
    places: Places,
    job_name: str,
    output: str,
    name: str,
    directives: Sequence[str],
    worker_args: Sequence[str] = (),
) -> Any:
    """The writer of dask-jobqueue, set up by the site file alone: a user's own Dask configuration does not count."""
    settings = {
        "name": job_name,
        # One Dask thread per process, which does one task at a time; TensorFlow has threads of its own.
        "cores": spec.processes,
        "processes": spec.processes,
        "memory": f"{int(spec.memory)}B",
        "python": shlex.join(spec.interpreter),
        "interface": spec.interface,
        "death-timeout": round(spec.death_timeout),
        "local-directory": spec.local_directory,
        "shared-temp-directory": None,
        "extra": None,
        "worker-command": "distributed.cli.dask_worker",
        "worker-extra-args": [*worker_args, *spec.worker_extra_args],
        "shebang": spec.shebang,
        "queue": spec.queue,
        "account": spec.account,
        "walltime": spec.walltime,
        "env-extra": None,
        "job-script-prologue": [*_prologue(spec), f"export DASK_CONFIG={places.log.dask_config}"],
        "job-cpu": spec.job_cpu or spec.cores,
        "job-mem": spec.job_mem,
        "job-extra": None,
        "job-extra-directives": [
            f"--chdir={places.log.path}",
            f"--output={output}",
            f"--error={output}",
            *directives,
            *spec.job_extra_directives,
        ],
        "job-directives-skip": list(spec.job_directives_skip),
        # This option would make the folder at once, even when a script is only printed.
        "log-directory": None,
    }
    with fitting_version("dask-jobqueue"):
        # Importing it would have Ctrl-C end the program without a word, and with the status of success.
        with interrupts_kept():
            from dask_jobqueue.slurm import SLURMJob

        with dask.config.set({f"jobqueue.{CONFIG_NAME}": settings}):
            return SLURMJob(f"--scheduler-file {places.log.scheduler}", name=name, config_name=CONFIG_NAME)


def _prologue(spec: JobSpec) -> list[str]:
    # A prologue that fails ends the job at once, with its message in the log.
    return ["set -e", *spec.job_script_prologue, "set +e"] if spec.job_script_prologue else []


def resource(group: Group) -> str:
    """The Dask resource of which each worker of a group offers one."""
    return "GPU" if group.gpus else "CPU"


def _gpu_directives(group: Group) -> list[str]:
    asks = any(re.match(r"--(gres|gpus)", line) for line in group.spec.job_extra_directives)
    return [f"--gres=gpu:{group.gpus}"] if group.gpus and not asks else []


def worker_script(group: Group, places: Places) -> str:
    """The job script of a group's workers, the same for each of its jobs."""
    spec = group.spec
    directives = ["--no-requeue", *_gpu_directives(group)]
    args = [
        "--resources",
        f"{resource(group)}=1",
        "--no-dashboard",
        "--protocol",
        "tls://",
        *(f"--tls-{name.replace('_', '-')} {places.log.tls / file}" for name, file in TLS_FILES.items()),
    ]
    if group.gpus > 1:
        args += ["--preload", OWN_GPU]
    # The shell puts the job's number into the worker's name, so that no name is used twice.
    name = f"{group.name}-${{SLURM_JOB_ID}}"
    output = f"{places.log.workers}/{group.name}-%j.log"
    script: str = _job(spec, places, places.job_name(group.name), output, name, directives, args).job_script()
    return script


def worker_scripts(site: Site, places: Places) -> dict[Path, str]:
    """The job scripts of all groups, by the paths that they are submitted from."""
    return {places.log.script(group.name): worker_script(group, places) for group in site.groups}


def driver_script(site: Site, places: Places, command: Sequence[str], chained: bool) -> str:
    """The job script of the driver.

    Parameters
    ----------
    command : sequence of str
        The program that it runs, and its arguments.
    chained : bool
        Whether the next driver is already in the queue, so that this one does not submit itself again.
    """
    directives = [
        f"--signal=B:USR1@{site.section.signal_seconds}",
        # One driver of a run at a time. Slurm starts it again when its node has failed.
        "--dependency=singleton",
        "--requeue",
        "--open-mode=append",
    ]
    job = _job(site.driver, places, places.tag, f"{places.log.path}/driver-%j.log", "driver", directives)
    script = shlex.quote(str(places.log.script("driver")))
    return DRIVER_TEMPLATE.substitute(
        shebang=site.driver.shebang,
        header=job.job_header,
        prologue="\n".join(_prologue(site.driver)),
        receipts=shlex.quote(str(places.directory.receipts)),
        models=shlex.quote(str(places.directory.models.path)),
        command=shlex.join(command),
        time_is_up=EXIT_TIME_IS_UP,
        end=END_CHAIN.substitute(name=places.tag).strip() if chained else ":",
        again=CHAINED if chained else AGAIN.substitute(script=script),
    )


def command_script(group: Group, places: Places, name: str, command: Sequence[str]) -> str:
    """The job script of another command, which is one job like those of a group of workers.

    Two of one name run one after the other: they write to the same files.
    """
    directives = ["--no-requeue", "--dependency=singleton", *_gpu_directives(group)]
    output = f"{places.log.path}/{name}-%j.log"
    job = _job(group.spec, places, places.command_name(name), output, name, directives)
    return COMMAND_TEMPLATE.substitute(
        shebang=group.spec.shebang,
        header=job.job_header,
        prologue="\n".join(_prologue(group.spec)),
        command=shlex.join(command),
    )


def write_scripts(site: Site, places: Places) -> None:
    """Write the job scripts of all groups, and the Dask configuration of their workers."""
    for path, text in worker_scripts(site, places).items():
        write_atomically(path, text.encode())
    nested: dict[str, Any] = {}
    dask.config.set(CLUSTER_SETTINGS, config=nested)  # the dots of the keys make the nesting
    write_atomically(places.log.dask_config, yaml.safe_dump(nested).encode())
    make_folder(places.log.workers)
