"""SeedVR2 (https://arxiv.org/abs/2506.05301): attention in shifted windows, one call for each."""

from .spec import Family, Variant

SEEDVR2 = Family(
    name="SeedVR2",
    models=("NaDiT",),
    variants=(Variant("SeedVR2", ()),),
    unsupported="ComfyUI runs this model's attention without the options that carry an override",
)
