"""Checks that driver and workers can speak with each other, and that nothing else needs a network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

from astropy import units
from astropy.coordinates import SkyCoord
from astropy.utils import data
from distributed.security import Security

from swimmy_scale.cluster.doctor.findings import Finding, ok, problem, warning
from swimmy_scale.cluster.versions import fitting_version

LOOPBACK = "127.0.0.1"
TIMEOUT_SECONDS = 10.0
MESSAGE = b"is anybody there?"


def check_ports(address: str = LOOPBACK) -> Finding:
    """Listen on a free port, as Dask's scheduler does, and connect to it."""
    try:
        with (
            socket.create_server((address, 0)) as server,
            socket.create_connection(server.getsockname()[:2], timeout=TIMEOUT_SECONDS),
        ):
            return ok("ports", f"a program can listen on {address} and be reached there")
    except OSError as error:
        return problem("ports", f"{address}: {error.strerror or error}", "Ask who runs this machine: Dask needs ports")


def _answer(server: socket.socket, security: Security) -> None:
    connection, _ = server.accept()
    connection.settimeout(TIMEOUT_SECONDS)
    context = security.get_listen_args("scheduler")["ssl_context"]
    with context.wrap_socket(connection, server_side=True) as stream:
        stream.sendall(stream.recv(len(MESSAGE)))


def check_tls() -> Finding:
    """Make keys as a driver does, and speak TLS with them."""
    try:
        security = Security.temporary()
        with socket.create_server((LOOPBACK, 0)) as server:
            server.settimeout(TIMEOUT_SECONDS)
            thread = threading.Thread(target=_answer, args=(server, security), daemon=True)
            thread.start()
            context = security.get_connection_args("client")["ssl_context"]
            with (
                socket.create_connection(server.getsockname()[:2], timeout=TIMEOUT_SECONDS) as connection,
                context.wrap_socket(connection) as stream,
            ):
                stream.sendall(MESSAGE)
                answer, version = stream.recv(len(MESSAGE)), stream.version()
            thread.join(TIMEOUT_SECONDS)
    except (OSError, ImportError, ValueError) as error:
        return problem("TLS", f"keys do not work: {error}", "Install from the lock file: make setup")
    if answer != MESSAGE:
        return problem("TLS", "what was sent did not arrive", "Install from the lock file: make setup")
    return ok("TLS", f"driver and workers can speak {version} with keys of their own")


def check_interface(name: str, whose: str) -> Finding:
    """Look for a network interface that the site file names; a job's node may have others than this machine."""
    with fitting_version("distributed"):
        from distributed.utils import get_ip_interface
    try:
        return ok("network", f"{name} of {whose} has the address {get_ip_interface(name)} here")
    except ValueError as error:
        return warning("network", f"{name} of {whose} is not on this machine ({error})", "Check that the nodes have it")


def check_no_downloads() -> Finding:
    """Match positions with astropy's downloads forbidden: compute nodes often cannot reach the internet."""
    positions = SkyCoord([10.0, 20.0] * units.deg, [1.0, 2.0] * units.deg)
    try:
        with data.conf.set_temp("allow_internet", False):
            row, _, _ = positions.match_to_catalog_sky(positions)
    except Exception as error:  # whatever it is, the user is told
        return problem("downloads", f"astropy wants to download something ({error})", "Install from the lock file")
    if row.tolist() != [0, 1]:
        return problem("downloads", "astropy matches positions wrongly", "Install from the lock file: make setup")
    return ok("downloads", "none: positions are matched without a network")


def check_connections() -> Iterator[Finding]:
    """All checks that need no site."""
    yield check_ports()
    yield check_tls()
    yield check_no_downloads()
