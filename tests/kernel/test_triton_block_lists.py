"""Lists of key blocks against brute force, how calls are tiled, and what our kernel refuses. Nothing runs Triton."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from attention.backends import own_triton, registry
from attention.backends.spec import Unavailable
from attention.backends.triton import block_lists, launch, quantize, tiling
from attention.core.geometry import Geometry
from attention.core.reference import relative_l2
from attention.patterns import SlidingTile, TopBlocks
from attention.patterns.blocks import KEYS, QUERIES, select_blocks
from attention.patterns.spec import relation_of
from benchmarks.floors import GPUS, IN_ORDER, ONE_AFTER_THE_OTHER, around, floor, tops

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
NAMES = ("video attention int8", "video attention 16 bit", "video attention float8")
HOPPER = Geometry(1, 32, 32, 6144, 6144, 128, torch.bfloat16, "cuda", capability=(9, 0))


def seen_by(blocks: block_lists.BlockLists, q_len: int) -> torch.Tensor:
    """What the lists let every query see, as the kernel reads them: (batch, heads, Lq, Lk) bool."""
    batch, heads, rows, _ = blocks.index.shape
    columns = -(-blocks.kv_len // block_lists.KEYS)
    seen = torch.zeros(batch, heads, rows * block_lists.QUERIES, columns * block_lists.KEYS, dtype=torch.bool)
    for b, h, row in torch.cartesian_prod(*map(torch.arange, (batch, heads, rows))).tolist():
        whole, every = blocks.count[b, h, row].tolist()
        for i in range(every):
            column, mask = int(blocks.index[b, h, row, i]), blocks.masks
            tile = True
            if i >= whole and mask is not None:
                words = mask[blocks.mask_index[b, h, row, i]].repeat_interleave(32, dim=1)
                tile = ((words >> torch.arange(block_lists.KEYS) % 32) & 1).bool()
            top, left = row * block_lists.QUERIES, column * block_lists.KEYS
            seen[b, h, top : top + block_lists.QUERIES, left : left + block_lists.KEYS] = tile
    return seen[:, :, :q_len, : blocks.kv_len]


def band(q_idx, k_idx):
    return (q_idx - k_idx).abs() < 90


GRID = (4, 10, 11)
TOKENS = 440
RELATIONS = {
    "band": (band, 300, 333),
    "whole blocks": (lambda q, k: (q // QUERIES + k // KEYS) % 2 == 0, 256, 320),
    "nothing": (lambda q, k: (q < 0) & (k < 0), 130, 70),
    "everything": (lambda q, k: (q >= 0) & (k >= 0), 130, 70),
    "sliding tile": (
        lambda q, k: relation_of(SlidingTile(frames=2, tile=(2, 5, 5)), GRID).mask_mod(0, 0, q, k), TOKENS, TOKENS
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RELATIONS)
def test_lists_of_a_mask_are_the_mask(name):
    seen, q_len, kv_len = RELATIONS[name]
    made = block_lists.of_mask(seen, q_len, kv_len, CPU)
    truth = seen(torch.arange(q_len)[:, None], torch.arange(kv_len)[None, :])
    assert torch.equal(seen_by(made, q_len)[0, 0], truth)


def test_whole_tiles_need_no_mask_and_empty_ones_no_entry():
    made = block_lists.of_mask(RELATIONS["whole blocks"][0], 256, 320, CPU)
    assert made.count.tolist() == [[[[3, 3], [2, 2]]]] and made.index.shape[-1] == 3 and len(made.masks) == 1


def test_the_ragged_block_is_an_edge():
    """The kernel reads past the keys in a block that counts as whole."""
    for made in (
        block_lists.of_mask(band, 64, 65, CPU),
        block_lists.of_blocks(torch.ones(1, 1, 1, 2, dtype=torch.bool), 65),
    ):
        assert made.count.tolist() == [[[[1, 2]]]] and made.index[0, 0, 0].tolist() == [0, 1]


def test_equal_tiles_are_kept_once():
    made = block_lists.of_mask(lambda q, k: (q % QUERIES >= k % KEYS) & (q // QUERIES == k // KEYS), 640, 320, CPU)
    assert len(made.masks) == 2  # and the one that hides nothing


def test_lists_of_chosen_blocks():
    torch.manual_seed(0)
    q, k = (torch.randn(2, 3, 300, 16) for _ in range(2))
    kept = select_blocks(TopBlocks(keep=40), q, k)
    assert (QUERIES, KEYS) == (block_lists.QUERIES, block_lists.KEYS)
    truth = kept.repeat_interleave(QUERIES, 2)[:, :, :300].repeat_interleave(KEYS, 3)[..., :300]
    made = block_lists.of_blocks(kept, 300, means=True)
    assert torch.equal(seen_by(made, 300), truth)
    assert torch.equal(made.by_mean.bool(), ~kept) and made.masks is None
    assert block_lists.of_blocks(kept, 300).by_mean is None


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1)])
def test_every_gpu_has_a_tiling(capability, listed):
    for quantized in (True, False):
        for head_dim in (8, 64, 72, 128):
            one = tiling.tiling_for(capability, quantized, head_dim, bias=False, listed=listed)
            assert not listed or (one.m, one.n) == (block_lists.QUERIES, block_lists.KEYS)
    assert tiling.tiling_for((8, 9), True, 128, bias=False, listed=listed) == tiling.tiling_for(
        (8, 6), True, 128, bias=False, listed=listed
    )


REFUSALS = (
    ({"head_dim": 256}, "head size 256, takes 8 to 128 in steps of 8"),
    ({"head_dim": 17}, "head size 17, takes 8 to 128 in steps of 8"),
    ({"mask": "dense"}, "dense mask"),
    ({"capability": (7, 5)}, "needs compute capability 8.{}, this GPU has 7.5"),
    ({"dtype": torch.float32}, "dtype float32, takes float16, bfloat16"),
    ({"scale": -1.0}, "scale -1, takes a positive one"),
    ({"grad": True}, "no gradient"),
    ({"device": "cpu"}, "needs cuda, the tensors are on cpu"),
    ({}, None),
    ({"mask": "key", "kv_len": 77, "kv_heads": 8}, None),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("change", "reason"), REFUSALS, ids=lambda value: str(value))
def test_refusals(name, change, reason):
    wanted = reason and reason.format(9 if "float8" in name else 0)
    assert registry.get(name).refuses(replace(HOPPER, **change)) == wanted


def test_only_the_16_bit_variant_is_exact():
    assert [registry.get(name).limits.exact for name in NAMES] == [False, True, False]
    assert not any(registry.get(name).auto for name in NAMES)


def test_without_triton_the_backend_says_so():
    code = (
        "import sys; sys.modules['triton'] = None; from attention.backends import registry;"
        f"print([registry.why_not(name) for name in {NAMES!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.count("Triton cannot be imported") == 3 and "pip install triton" in done.stdout, done.stderr


@pytest.mark.parametrize("version", ["2.3.1", "3.1.0", "3.2.0.post21", "3.2.0+git1234", "3.3.0"])
def test_a_triton_that_is_too_old(monkeypatch, version):
    monkeypatch.setattr(launch, "triton_version", launch.triton_version.__wrapped__)
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__=version))
    with pytest.raises(Unavailable, match=re.escape(f"Triton {version} is too old; 3.3.1 or newer is needed")):
        own_triton.load(quantized=True)


@pytest.mark.parametrize("version", ["3.3.1", "3.3.1.post19", "3.4.0", "3.10.0", "4.0.0"])
def test_a_triton_that_is_new_enough(monkeypatch, version):
    monkeypatch.setattr(launch, "triton_version", launch.triton_version.__wrapped__)
    monkeypatch.setattr(pytest.importorskip("triton"), "__version__", version)
    assert own_triton.load(quantized=True).keywords == {"quantized": True}


def test_before_triton_3_5():
    """Entries took no stages of their own, and the tiles of 5 stages fit no GPU of sm_86, 89 and 120; float8 was not
    summed in float16 on sm_89."""
    for capability, quantized, head_dim in tiling.TILINGS:
        new, old = (
            {
                how: tiling.tiling_for(
                    capability, quantized, head_dim, bias=False, triton=triton, **dict.fromkeys(how, True)
                )
                for how in (("listed",), ("listed", "float8"))
            }
            for triton in ((3, 5), (3, 4, 9))
        )
        lists, float8 = new
        assert (new[lists].stages, old[lists].stages) == (5, 3) and old[lists] == replace(new[lists], stages=3)
        assert old[float8] == replace(old[lists], fp16_accumulate=0) and new[float8] == new[lists]
        dense = {"bias": False, "listed": False}
        assert tiling.tiling_for(capability, quantized, head_dim, **dense, triton=(3, 4)) == tiling.tiling_for(
            capability, quantized, head_dim, **dense
        )


def test_sums_that_are_rounded_after_16_products():
    """A GPU's own rounding of a tile's sums, which the interpreter has not: far below the error of INT8 scores."""
    torch.manual_seed(0)
    weights, v = torch.exp2(-2 * torch.rand(128, 4096)), torch.randn(4096, 128)
    scale = v.abs().amax(0) / quantize.largest_value(torch.float16, True)
    halves, values, truth = weights.half(), (v / scale).half(), weights.double() @ v.double()
    exact, rounded = torch.zeros(2, 128, 128)
    for first in range(0, 4096, block_lists.KEYS):
        tile = torch.zeros(128, 128, dtype=torch.float16)
        for part in (slice(at, at + 16) for at in range(first, first + block_lists.KEYS, 16)):
            products = halves[:, part].float() @ values[part].float()
            exact += products
            tile = (tile.float() + products).half()
        rounded += tile.float()
    errors = [relative_l2(sums * scale, truth) for sums in (exact, rounded)]
    assert errors[0] < errors[1] < 6e-4, errors


WRONG = (
    ({"q": (1, 3, 8, 64)}, "do not fit each other"),
    ({"v": (1, 2, 9, 64)}, "do not fit each other"),
    ({"q": (1, 4, 0, 64)}, "empty tensors"),
    ({"q": (1, 4, 8, 160), "k": (1, 2, 8, 160), "v": (1, 2, 8, 160)}, "head size 160, takes 1 to 128"),
    ({"scale": 0.0}, "scale 0, takes a positive one"),
    ({"mask": torch.zeros(1, 1, 8, 8)}, "takes \\(1|B, 1|H, 1, 8\\)"),
    ({"mask": torch.zeros(1, 1, 1, 7)}, "takes \\(1|B, 1|H, 1, 8\\)"),
    ({"blocks": block_lists.of_mask(band, 300, 8, CPU)}, "lists for 1 x 1 x 3 blocks of queries"),
    ({"blocks": block_lists.of_mask(band, 8, 9, CPU)}, "lists for 9 keys, k has 8"),
    (
        {
            "blocks": block_lists.of_blocks(torch.ones(1, 1, 1, 1, dtype=torch.bool), 8, True),
            "mask": torch.zeros(1, 4, 1, 8),
        },
        "the same for every head",
    ),
)


@pytest.mark.parametrize(("change", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_errors(change, message):
    shapes = {"q": (1, 4, 8, 64), "k": (1, 2, 8, 64), "v": (1, 2, 8, 64)}
    named = {name: torch.zeros(change.get(name, shape)) for name, shape in shapes.items()}
    rest = {name: value for name, value in change.items() if name not in shapes}
    with pytest.raises(ValueError, match=message):
        launch.attention(**named, **rest, quantized=True)


def test_the_floors_are_the_peaks():
    """A 16-bit kernel's floor is the peak of halves; INT8 gains what its products gain; a head of 64 not."""
    h200 = GPUS["H200 SXM"]
    size = (40, 75600, 75600, 128)
    half, int8 = (floor(h200, *size, quantized=quantized) for quantized in (False, True))
    assert tops(*size, half.ms) == pytest.approx(h200.half)
    assert int8.ms / half.ms == pytest.approx((1 + h200.half / h200.int8) / 2) and int8.bound == "tensor"
    assert floor(h200, *size, quantized=True, density=0.25).tensor == pytest.approx(int8.tensor / 4)
    small = floor(h200, 40, 75600, 75600, 64, quantized=True)
    assert small.tensor < small.exponentials < small.instructions == small.ms and small.bound == "instructions"
    assert floor(h200, 40, 1, 75600, 128, quantized=False).bound == "memory"
    eight = floor(h200, *size, quantized=True, float8=True)
    assert eight.tensor / int8.tensor == pytest.approx(2 / 3) and eight.memory > int8.memory
    # GeForce: scores four times as fast as float32 sums of halves, weights twice.
    geforce = [floor(GPUS["RTX 4090"], *size, quantized=quantized).tensor for quantized in (False, True)]
    assert geforce[1] / geforce[0] == pytest.approx((1 / 4 + 1 / 2) / 2, rel=1e-3)
    # Every resource but the bytes is of the pairs of tokens, and none of them is forgotten.
    quarter, whole = (floor(h200, 40, 75600, n, 128, quantized=True) for n in (75600 // 4, 75600))
    assert whole.instructions == pytest.approx(4 * quarter.instructions) and int8.exponentials < int8.instructions
    # Wan 720p, 40 heads: 3.1 GB for q, k, v and the output, 0.65 ms.
    assert half.memory == pytest.approx(0.645, abs=0.01)


def test_what_surrounds_a_sparse_call():
    """The page's figures: a pass for each of q, k and v halves the bytes around the kernel."""
    page = (ROOT / "benchmarks" / "KERNEL.md").read_text(encoding="utf-8")
    for name in ("A100 SXM 80 GB", "RTX 4090", "H200 SXM"):
        one, several = (around(GPUS[name], 40, 75600, 128, each) for each in (IN_ORDER, ONE_AFTER_THE_OTHER))
        assert f"| {name} | {several:.2f} | {one:.2f} |" in page and one < 0.51 * several
