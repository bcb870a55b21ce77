"""Starts ComfyUI's main.py, also on a CPU build of torch.

    python scripts/launch.py COMFYUI_FOLDER [ComfyUI's own arguments]

PyPI has no CPU builds of torchvision and torchaudio for Linux: their compiled halves need CUDA's libraries. ComfyUI
imports both and, for video, uses nothing compiled of either; so two stand-ins are enough. With a CUDA build of torch
nothing is stood in for.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import runpy
import sys
import types
from pathlib import Path

from processes import follow


def stand_in() -> None:
    """Lets torchvision and torchaudio be imported where their compiled halves cannot load."""
    import torch

    if torch.version.cuda is not None:
        return
    if not _loads("torchvision", "_C*", torch):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        # The definitions live as long as the library object.
        stand_in.library = library
    if not _loads("torchaudio", "lib/*", torch):
        for name in ("torchaudio", "torchaudio.functional", "torchaudio.transforms"):
            sys.modules[name] = _Absent(name)


def _loads(package: str, pattern: str, torch) -> bool:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return False
    compiled = [f for f in Path(spec.origin).parent.glob(pattern) if f.suffix in (".so", ".pyd", ".dylib", ".dll")]
    try:
        for file in compiled:
            torch.ops.load_library(str(file))
    except OSError:
        return False
    return bool(compiled)


class _Absent(types.ModuleType):
    """A module that can be imported and whose functions say that they are not there."""

    def __init__(self, name: str):
        super().__init__(name)
        self.__path__ = []
        self.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        full = f"{self.__name__}.{name}"
        if full in sys.modules:
            return sys.modules[full]

        def missing(*args, **kwargs):
            raise RuntimeError(f"{full} is not available with a CPU build of torch.")

        return missing


def launch(folder: Path, arguments: list[str]) -> None:
    stand_in()
    sys.path.insert(0, str(folder))
    sys.argv = [str(folder / "main.py"), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    # Python put this script's own folder first on the path: its names must not hide ComfyUI's.
    del sys.path[0]
    follow()
    launch(Path(sys.argv[1]).resolve(), sys.argv[2:])
