"""Keys that live as long as one driver: only those who can read them can speak with its scheduler."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from distributed.security import Security

from swimmy_scale.storage.files import errors_name, make_folder

# Dask's names for the parts of a key, and the files that hold them.
TLS_FILES = {"ca_file": "ca.pem", "cert": "cert.pem", "key": "key.pem"}


@contextlib.contextmanager
def tls_files(folder: Path) -> Iterator[Security]:
    """A new certificate authority, certificate and key as files, which are removed at the end.

    Driver and workers share the folder's file system. It is made with mode 0700, its files with 0600.
    """
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder.parent)
    folder.mkdir(mode=0o700)
    try:
        made = Security.temporary().get_tls_config_for_role("worker")
        paths = {}
        for name, file in TLS_FILES.items():
            path = folder / file
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with errors_name(path), os.fdopen(descriptor, "w") as stream:
                stream.write(made[name])
            paths[name] = str(path)
        roles = {
            f"tls_{role}_{name}": paths[name] for role in ("client", "scheduler", "worker") for name in ("cert", "key")
        }
        yield Security(tls_ca_file=paths["ca_file"], require_encryption=True, **roles)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
