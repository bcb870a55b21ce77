"""TABLE: how many steps in a row each of ComfyUI's samplers stands to have forecast, or why none."""

from __future__ import annotations

from ..core.reason import Reason

ADAPTIVE = Reason("it chooses its own steps by what the model answers")
UNEVEN = Reason("its steps are of several orders, with one to three evaluations each")
# One evaluation a step, and what it evaluates goes on smoothly: as many as are asked for.
ANY = None
# Several evaluations a step correct each other, or each step adds noise that no forecast knows of: a computed step
# between any two.
ONE = 1

TABLE: dict[str, int | None | Reason] = {
    "euler": ANY,
    "euler_cfg_pp": ANY,
    "euler_ancestral": ONE,
    "euler_ancestral_cfg_pp": ONE,
    "heun": ONE,
    "heunpp2": ONE,
    "exp_heun_2_x0": ONE,
    "exp_heun_2_x0_sde": ONE,
    "dpm_2": ONE,
    "dpm_2_ancestral": ONE,
    "lms": ANY,
    "dpm_fast": UNEVEN,
    "dpm_adaptive": ADAPTIVE,
    "dpmpp_2s_ancestral": ONE,
    "dpmpp_2s_ancestral_cfg_pp": ONE,
    "dpmpp_sde": ONE,
    "dpmpp_sde_gpu": ONE,
    "dpmpp_2m": ANY,
    "dpmpp_2m_cfg_pp": ANY,
    "dpmpp_2m_sde": ONE,
    "dpmpp_2m_sde_gpu": ONE,
    "dpmpp_2m_sde_heun": ONE,
    "dpmpp_2m_sde_heun_gpu": ONE,
    "dpmpp_3m_sde": ONE,
    "dpmpp_3m_sde_gpu": ONE,
    "ddpm": ONE,
    "lcm": ONE,
    "ipndm": ANY,
    "ipndm_v": ANY,
    "deis": ANY,
    "res_multistep": ANY,
    "res_multistep_cfg_pp": ANY,
    "res_multistep_ancestral": ONE,
    "res_multistep_ancestral_cfg_pp": ONE,
    "gradient_estimation": ANY,
    "gradient_estimation_cfg_pp": ANY,
    "er_sde": ONE,
    "seeds_2": ONE,
    "seeds_3": ONE,
    "sa_solver": ONE,
    "sa_solver_pece": ONE,
    "ddim": ANY,
    "uni_pc": ANY,
    "uni_pc_bh2": ANY,
}
