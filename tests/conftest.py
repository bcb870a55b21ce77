"""Fixtures: the real ComfyUI, in this process and as a server, a tiny LTX-Video model, a real browser."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import time
from functools import partial
from pathlib import Path

import host
import hypothesis
import pytest
import torch
from host_folder import find_host
from loading import load_in_peace
from widget_defaults import defaults

# Nothing may depend on how busy the machine is.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

ROOT = Path(__file__).resolve().parent.parent
ARTEFACTS = ROOT / "output" / "test"
BEGUN = pytest.StashKey[float]()
TINY = "tiny-ltxv.safetensors"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Just large enough for two blocks and two heads; the text width is the demo prompt's.
TINY_CONFIG = {
    "in_channels": 128,
    "cross_attention_dim": 48,
    "attention_head_dim": 24,
    "num_attention_heads": 2,
    "num_layers": 2,
}


def pytest_addoption(parser):
    parser.addoption(
        "--update-snapshots", action="store_true", help="write tests/nodes/snapshots instead of comparing with it"
    )
    parser.addoption(
        "--seconds", type=float, help="skip tests that would begin later; those of each function take turns"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """With --seconds: one case of each function, then another of each, so that a little of everything comes first."""
    if config.getoption("--seconds") is None:
        return
    groups, place = {}, {}
    for item in items:
        groups.setdefault(item.nodeid.split("[")[0], []).append(item)
    for group in groups.values():
        # Cases lie in the order of the tables: by the golden ratio every row of them is met early.
        order = sorted(range(len(group)), key=lambda index: index * 0.618034 % 1)
        place |= {group[index]: turn for turn, index in enumerate(order)}
    items.sort(key=place.get)


def pytest_runtest_setup(item):
    """With --seconds: skip what would begin after them."""
    seconds = item.config.getoption("--seconds")
    if seconds is not None and time.monotonic() - item.session.stash.setdefault(BEGUN, time.monotonic()) > seconds:
        pytest.skip("its time was up")


@pytest.fixture(scope="session")
def comfy_host(tmp_path_factory) -> Path:
    """ComfyUI, importable in this process. Its attention is torch's, as on a GPU: --cpu alone would take sub_quad."""
    folder = find_host()
    import launch

    launch.stand_in()
    base = tmp_path_factory.mktemp("in-process")
    before = sys.argv
    sys.argv = ["main.py", "--cpu", "--use-pytorch-cross-attention", "--base-directory", str(base)]
    # First on the path: our own folder `nodes` must not hide ComfyUI's module of that name.
    sys.path.insert(0, str(folder))
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        # As main.py does it: ComfyUI's `nodes` puts its folder comfy/ with another `utils` first on the path.
        importlib.import_module("utils.extra_config")
        import comfy.sample
        import comfy.sd

        import nodes
    finally:
        sys.argv = before
    assert Path(nodes.__file__).parent == folder, f"another `nodes` was imported first: {nodes.__file__}"
    load_in_peace(comfy.model_management)
    return folder


@pytest.fixture
def inference(comfy_host):
    """ComfyUI runs nodes in inference mode; so do tests of nodes."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def pack(comfy_host):
    """The pack, imported as ComfyUI imports it: a package called like its folder."""
    name = str(ROOT).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_file(write_tiny, tmp_path_factory) -> Path:
    """A diffusion model file: ComfyUI's own LTX-Video class with 2 blocks of 2 heads and random weights."""
    return write_tiny(tmp_path_factory.mktemp("tiny") / TINY)


@pytest.fixture(scope="session")
def write_tiny(pack):
    """write_tiny(path, heads): writes that file, with another number of heads of the same width together."""
    return partial(_write_tiny, pack)


def _write_tiny(pack, path: Path, heads: int = 2) -> Path:
    import comfy.ops
    import safetensors.torch
    from comfy.ldm.lightricks.model import LTXVModel

    tokens, _ = pack.attention.demo.prompt.empty_prompt()
    width = TINY_CONFIG["cross_attention_dim"]
    config = {**TINY_CONFIG, "num_attention_heads": heads, "attention_head_dim": width // heads}
    config["caption_channels"] = tokens.shape[-1]
    model = LTXVModel(**config, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)
    random = torch.Generator().manual_seed(0)
    # 0.2 makes attention matter: with smaller weights the latents hardly depend on it.
    weights = {k: torch.randn(v.shape, generator=random) * 0.2 for k, v in model.state_dict().items()}
    safetensors.torch.save_file(weights, path, metadata={"config": json.dumps({"transformer": config})})
    return path


@pytest.fixture(scope="session")
def tiny_ltxv(tiny_file):
    """The MODEL that Load Diffusion Model makes of the tiny file. Nodes must leave it as it is."""
    import comfy.sd

    with torch.inference_mode():
        return comfy.sd.load_diffusion_model(str(tiny_file))


class Lab:
    """Nodes and sampler as a workflow would chain them."""

    def __init__(self, pack, model):
        self.pack, self.model = pack, model
        self.prompt = pack.nodes.demo.VideoAttentionDemoPrompt.execute("red", "disc", "right").args

    def backend(self, model=None, backend="sdpa", **widgets):
        """A model behind Video Attention Backend, its widgets as they come unless given."""
        node = self.pack.nodes.backend.VideoAttentionBackend
        values = defaults(node)
        chosen = self.model if model is None else model
        return node.execute(chosen, **{**values, "backend": backend, **widgets}).args[0]

    def clear(self, model):
        return self.pack.nodes.backend.VideoAttentionClear.execute(model).args[0]

    def sample(self, model=None, steps=4, cfg=1.0, seed=1, negative=None, callback=None, latent=None):
        import comfy.sample

        latent = torch.zeros(1, 128, 2, 3, 4) if latent is None else latent
        noise = comfy.sample.prepare_noise(latent, seed)
        positive, empty = self.prompt
        return comfy.sample.sample(
            self.model if model is None else model,
            noise,
            steps,
            cfg,
            "euler",
            "simple",
            positive,
            negative or empty,
            latent,
            callback=callback,
            disable_pbar=True,
            seed=seed,
        )

    def report(self, latent):
        return self.pack.nodes.host.run_history.find(latent)

    def counted(self, model, **sampling):
        """(role, kernel) -> calls of one run."""
        return self.calls_of(self.report(self.sample(model, **sampling)))

    @staticmethod
    def error(out, truth) -> float:
        """Relative L2."""
        return ((out - truth).norm() / truth.norm()).item()

    @staticmethod
    def calls_of(report) -> dict:
        """(role, kernel) -> calls."""
        return {(row.role, row.used): row.calls for row in report.rows}

    @staticmethod
    def hooks(model) -> int:
        """How many hooks there are on the modules of a MODEL."""
        return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.model.diffusion_model.modules())


@pytest.fixture
def lab(pack, tiny_ltxv, inference):
    return Lab(pack, tiny_ltxv)


@pytest.fixture
def plain(lab):
    """What the tiny model gives without any node of ours."""
    return lab.sample()


@pytest.fixture(scope="session")
def server(tiny_file, tmp_path_factory):
    """A running ComfyUI with this pack, a second pack and tiny models: (address, base folder). Log: output/test."""
    import host
    import workflow_runs

    base = tmp_path_factory.mktemp("server")
    models = base / "models" / "diffusion_models"
    models.mkdir(parents=True)
    shutil.copyfile(tiny_file, models / TINY)
    workflow_runs.furnish(base, find_host())
    # A first start opens the template gallery over everything, some seconds late.
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}))
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    try:
        with host.serve(find_host(), base) as address:
            yield address, base
    finally:
        shutil.copyfile(base / "server.log", ARTEFACTS / "server.log")


# For one module at most: while Playwright runs, asyncio.run does not.
@pytest.fixture(scope="module")
def browser():
    """Chromium without a window, or a skip that says how to get it."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
    )
    program = os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not program:
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium), or set CHROMIUM_PATH")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=program, args=arguments)
        yield running
        running.close()


@pytest.fixture
def browser_page(server, browser):
    """ComfyUI's front end with an empty graph; page.messages holds what the console said."""
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    page.messages = []
    page.on(
        "console", lambda message: page.messages.append((message.type, message.text, message.location.get("url", "")))
    )
    page.on("pageerror", lambda error: page.messages.append(("error", str(error), getattr(error, "stack", "") or "")))
    page.goto(server[0])
    page.wait_for_function(host.LISTENS, timeout=240000)
    wait_until_listening(page)
    yield page
    page.close()


def wait_until_listening(page) -> None:
    """Empties the graph. The page draws seconds before it hears the mouse: ask until its search box opens."""
    box = page.get_by_placeholder("Add a node")
    for _ in range(30):
        page.evaluate("app.graph.clear()")
        page.mouse.dblclick(800, 600)
        page.wait_for_timeout(700)
        if box.count():
            break
    page.keyboard.press("Escape")
    box.wait_for(state="hidden", timeout=10000)
