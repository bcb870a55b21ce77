"""Reads the machine code of a compiled kernel, with NVIDIA's tools that Triton's Linux packages bring."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import triton

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def operations(assembly: str) -> list[str]:
    """List the instructions' names, `MUFU.EX2` for instance, in order."""
    return re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", assembly, re.MULTILINE)


def is_a(name: str, operation: str) -> bool:
    """Tell whether an instruction is `name`, or a form of it: LDL.64 is a LDL."""
    return operation == name or operation.startswith(f"{name}.")


def long_loop(assembly: str) -> str:
    """Cut out the last loop with an exponential: that over full blocks. Empty where there is none."""
    labels, found = {}, ""
    for match in re.finditer(r"^(\.L\w+):|\bBRA\S*\s.*?`\((\.L\w+)\)", assembly, re.MULTILINE):
        if match[1]:
            labels[match[1]] = match.end()
        elif match[2] in labels and "MUFU.EX2" in assembly[labels[match[2]] : match.start()]:
            found = assembly[labels[match[2]] : match.start()]
    return found


def tool(name: str, *arguments) -> str:
    """Run one of NVIDIA's tools that Triton brings, and give its stdout. Raises CalledProcessError where it fails."""
    return subprocess.run([TOOLS / name, *arguments], capture_output=True, text=True, check=True).stdout
