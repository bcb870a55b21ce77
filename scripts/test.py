"""Every test, with a real ComfyUI and a real browser.

python scripts/test.py [--comfyui PATH] [pytest arguments]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import host

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> int:
    options, rest = host.parser(__doc__.splitlines()[0]).parse_known_args()
    folder = host.enter_environment(options.comfyui, "test.py", ("requirements-dev.txt",))
    browser = find_browser() or install_browser()
    environment = {**os.environ, "COMFYUI_PATH": str(folder), "CHROMIUM_PATH": browser or ""}
    command = [sys.executable, "-m", "pytest", *(rest or ["tests"])]
    done = subprocess.run(command, cwd=host.ROOT, env=environment)
    if not browser:
        host.say(
            "Browser tests were skipped: no Chromium. Install it and run again; on Debian as root this script does it."
        )
    return done.returncode


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def install_browser() -> str | None:
    """Chromium from Debian's packages when we may install it; None otherwise."""
    if not shutil.which("apt-get") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    host.say("Installing Chromium ...")
    quiet = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    }
    subprocess.run(["apt-get", "update"], **quiet)
    subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"], **quiet)
    return find_browser()


if __name__ == "__main__":
    host.main(main)
