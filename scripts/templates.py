"""The workflows that come with the pack, by the names of their files."""

from __future__ import annotations

from functools import partial

import demo_templates
import lesson_templates
import ltx_templates
import minimax_templates
import scene_templates
import wan_templates

# File name without ending -> what builds it. The front end shows the name as the title.
WORKFLOWS = {
    "Video attention demo": demo_templates.demo,
    "Is it worth it": demo_templates.worth,
    "Compare attention, A against B": demo_templates.compare,
    "Calibrate and share a plan": demo_templates.calibrate,
    "Long video": demo_templates.long_video,
    "Inside a model": demo_templates.inside,
    "Learn attention in video": lesson_templates.learn,
    "Two shapes": scene_templates.scenes,
    "MiniMax-H3 text to video": partial(minimax_templates.h3, kind="t2v"),
    "MiniMax-H3 image to video": partial(minimax_templates.h3, kind="i2v"),
    "MiniMax-H3 references to video": partial(minimax_templates.h3, kind="r2v"),
    "FastH3 text to video": minimax_templates.fast_h3,
    "LTX-2.5 text to video, two stages": partial(ltx_templates.two_stages, release="LTX-2.5", start_image=False),
    "LTX-2.5 image to video, two stages": partial(ltx_templates.two_stages, release="LTX-2.5", start_image=True),
    "LTX-2.3 text to video, two stages": partial(ltx_templates.two_stages, release="LTX-2.3", start_image=False),
    "LTX-2.3 image to video, two stages": partial(ltx_templates.two_stages, release="LTX-2.3", start_image=True),
    "LTX-2.3 text to video, one stage, guided": ltx_templates.one_stage,
    "LTX-2.3 long clip with sound": ltx_templates.long_clip,
    "Wan 2.2 14B text to video, two experts": partial(wan_templates.wan_14b, from_image=False),
    "Wan 2.2 14B image to video, two experts": partial(wan_templates.wan_14b, from_image=True),
    "Wan 2.2 5B text and image to video": wan_templates.wan_5b,
    "Wan 2.2 5B long clip": wan_templates.wan_long,
    "Wan-Animate-2 motion of a clip": wan_templates.animate_2,
    "HunyuanVideo 1.5 text to video": wan_templates.hunyuan,
}
