"""A headless Chromium for tests: started as an ordinary browser, told to stay off the network, and watched."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

PROGRAMS = ("chromium", "chromedriver")
PACKAGES = ("chromium", "chromium-driver")
SECONDS = 30.0  # a busy machine is slow; nothing waits longer than it must
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-default-apps"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb"),
)


def unavailable_reason() -> str | None:
    """Why no Chromium can run here, for `pytest.skip`; None where one can run, or has to."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if not missing or (os.geteuid() == 0 and shutil.which("apt-get")):
        return None
    return f"{', '.join(missing)} not installed, and only root on a Debian-like system can install them"


def install() -> None:
    """Installs Chromium and its driver where they are missing."""
    with Path("/tmp/report-browser-install.lock").open("w") as lock:  # noqa: S108
        fcntl.flock(lock, fcntl.LOCK_EX)  # another checkout may be installing too
        if all(shutil.which(name) for name in PROGRAMS):
            return
        apt = ["apt-get", "-o", "DPkg::Lock::Timeout=120", "-qq"]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in ([*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", *PACKAGES]):
            done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=280, check=False)
            assert done.returncode == 0, f"{' '.join(words)}:\n{done.stderr[-3000:]}"


class Browser:
    """One Chromium with one page.

    Attributes
    ----------
    driver : Chrome
    downloads : Path
        Where it saves files.
    """

    def __init__(self, driver: Chrome, downloads: Path) -> None:
        self.driver, self.downloads = driver, downloads

    def open(self, page: Path) -> None:
        """Opens a page from disk and waits until its gallery can be used."""
        self.driver.get(page.as_uri())
        self.wait_until(lambda: self.script("return document.documentElement.dataset.ready"), "the gallery is ready")

    def script(self, text: str, *arguments: Any) -> Any:
        """What a piece of JavaScript returns. It runs outside of the page's policy."""
        return self.driver.execute_script(text, *arguments)  # type: ignore[no-untyped-call]

    def all(self, css: str) -> list[WebElement]:
        """Elements by CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str) -> WebElement:
        """The first element by CSS selector."""
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def press(self, keys: str) -> None:
        """Types keys where the focus is."""
        self.driver.switch_to.active_element.send_keys(keys)

    def choose(self, name: str, value: str) -> None:
        """Gives a field of the form a value, as a person does."""
        self.script(
            "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
            "field.dispatchEvent(new Event('input', {bubbles: true}));",
            name,
            value,
        )

    def prefer(self, colours: str = "light", media: str = "") -> None:
        """Has the system prefer light or dark colours, or the page shown as on paper."""
        features = [
            {"name": "prefers-color-scheme", "value": colours},
            {"name": "prefers-reduced-motion", "value": "reduce"},  # clicks would miss what still scrolls
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})

    def saved(self, name: str) -> str:
        """Text of a file that the page had saved; it is taken away."""
        path = self.downloads / name
        self.wait_until(lambda: path.is_file() and path.stat().st_size, f"{name} is saved")
        with path.open(newline="", encoding="utf-8") as stream:
            text = stream.read()
        path.unlink()
        return text

    def picture(self, path: Path, width: int, height: int) -> None:
        """The upper left part of the page as a PNG or JPEG."""
        kind = "jpeg" if path.suffix in {".jpg", ".jpeg"} else "png"
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        time.sleep(0.5)  # lazy images are decoded after they come into view
        answer = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": kind})
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        path.write_bytes(base64.b64decode(answer["data"]))

    def requests(self) -> list[str]:
        """Addresses of all that was asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """What the console has said since the last call: errors, warnings, refusals of the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def wait_until(self, predicate: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not predicate():
            assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}; {self.complaints()}"
            time.sleep(0.05)


@contextlib.contextmanager
def running_browser(folder: Path) -> Iterator[Browser]:
    """A started browser with an empty profile in ``folder``, ended at the end."""
    install()
    downloads = folder / "downloads"
    downloads.mkdir(parents=True)
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*QUIET, f"--user-data-dir={folder / 'profile'}", "--window-size=1280,900", "--lang=en"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(SECONDS)
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
        yield Browser(driver, downloads)
    finally:
        driver.quit()
