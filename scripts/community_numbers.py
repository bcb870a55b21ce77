"""Turns a folder of files shared from Video Attention Benchmark into a table by GPU.

python scripts/community_numbers.py FOLDER [--role self] [--page PATH]     (in .venv: it imports attention/)

Each file is what the node's `json` gives. A file that is not right is named with its reason and left out, and the exit
status is 1. --page writes the table between its markers, `<!-- numbers -->`, of a page instead of printing it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tables import filled

from attention.backends.autotune import HOST_RUN
from attention.core.site import ROLES, SELF
from attention.plans.bench_file import BadBenchmark, from_json

NOTHING = "No file has been shared yet: not measured on a GPU."
# Of the versions in a file, those that a row shows.
SHOWN = ("comfyui", "torch", "triton", "comfy-kitchen", "sageattention", "flash-attn", "xformers")
HEAD = (
    "| GPU | model | tokens | heads x size | kernel | ms | beside ComfyUI's own | relative L2 | date | versions |\n"
    + "|" + " --- |" * 10
)  # fmt: skip


def read(folder: Path) -> tuple[list[dict], list[str]]:
    """Read all files of a folder: what is right, and a sentence for each that is not."""
    found, wrong = [], []
    for path in sorted(folder.rglob("*.json")):
        try:
            found.append(from_json(path.read_text(encoding="utf-8")))
        except (BadBenchmark, OSError, UnicodeDecodeError) as why:
            wrong.append(f"{path.name}: {why}")
    return found, wrong


def table(files: list[dict], role: str = SELF) -> str:
    """Write a row for each kernel that ran, by GPU, model and size, fastest first."""
    rows = []
    for data in files:
        for call in (call for call in data["calls"] if call["role"] == role):
            base = next((row["ms"] for row in call["kernels"] if row["name"] == HOST_RUN and row["ms"]), None)
            for kernel in (row for row in call["kernels"] if row["ms"]):
                rows.append((key_of(data, call, kernel), row_of(data, call, kernel, base)))
    rows.sort(key=lambda pair: pair[0])
    return "\n".join([HEAD, *dict.fromkeys(row for _, row in rows)]) if rows else NOTHING


def key_of(data: dict, call: dict, kernel: dict) -> tuple:
    """Give what rows are sorted by."""
    return data["device"], data["model"], call["q_len"], call["head_dim"], data["date"], kernel["ms"]


def row_of(data: dict, call: dict, kernel: dict, base: float | None) -> str:
    """Write one row."""
    versions = data["versions"]
    told = ", ".join(f"{name} {versions[name]}" for name in SHOWN if name in versions)
    name = f"ComfyUI's own ({kernel.get('host', '')})" if kernel["name"] == HOST_RUN else kernel["name"]
    tokens = call["q_len"] if call["q_len"] == call["kv_len"] else f"{call['q_len']} x {call['kv_len']}"
    cells = (
        data["device"], data["model"], tokens, f"{call['batch']} x {call['heads']} x {call['head_dim']}", name,
        f"{kernel['ms']:.3f}", "-" if base is None else f"{base / kernel['ms']:.2f}x",
        "-" if kernel["error"] is None else f"{kernel['error']:.1e}", data["date"], told,
    )  # fmt: skip
    return f"| {' | '.join(plain(str(cell)) for cell in cells)} |"


def plain(text: str) -> str:
    """Take out of a stranger's words what would be more than words in a Markdown table."""
    return "".join(" " if c in "|<>[]`\\\r\n" else c for c in text).strip()[:120]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--role", choices=ROLES, default=SELF)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder}: no such folder")
    files, wrong = read(options.folder)
    text = table(files, options.role)
    if options.page:
        page = options.page.read_text(encoding="utf-8")
        options.page.write_text(filled(page, {"numbers": lambda: text}), encoding="utf-8")
    else:
        print(text)
    print("\n".join(f"left out: {why}" for why in wrong), file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
