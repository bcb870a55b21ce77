"""The nodes of plans on the tiny LTX-Video model, with what they sample counted."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

HOW = {
    "candidates": "patterns", "budget": "custom", "custom_budget": 0.05, "block_groups": 2, "step_ranges": 2,
    "end_error": "every choice", "seeds": 1, "seed": 1, "steps": 4, "cfg": 1.0, "sampler_name": "euler",
    "scheduler_name": "simple",
}  # fmt: skip
LATENT = torch.zeros(1, 128, 2, 3, 4)
# The two blocks of the tiny model, its two parts of four steps: what there is to decide about for one role.
UNITS = 4


def untimed(plan):
    """A plan without what no two runs take alike: the time of the whole sampling."""
    return replace(plan, whole_seconds=0.0, whole_exact_seconds=0.0)


def cost(timeline, steps) -> float:
    """What some steps took beside computing them: a forecast takes a tenth."""
    return 1.0 - 0.9 * sum(step.forecast > 0 for step in timeline if step.step - 1 in steps) / len(steps)


class Interrupted(Exception):
    pass


class Bench:
    """The nodes of plans, and how often and with what the model was sampled."""

    def __init__(self, lab, monkeypatch):
        nodes = lab.pack.nodes
        self.lab, self.plan, self.plans, self.calibration = lab, nodes.plan, nodes.runs.plans, nodes.runs.calibration
        self.probe = lab.pack.attention.plans.probe
        self.patterns = lab.pack.attention.patterns
        self.candidate = lab.pack.attention.plans.plan.Candidate
        self.samplings, self.stop_after = [], math.inf
        run = nodes.runs.repeated_sampling.sampling_job.run

        def counted(job, callback):
            if len(self.samplings) >= self.stop_after:
                raise Interrupted
            self.samplings.append(job)
            return run(job, callback)

        monkeypatch.setattr(nodes.runs.repeated_sampling.sampling_job, "run", counted)
        self.set = monkeypatch.setattr
        self.offer(self.patterns.Spatial(), self.patterns.Temporal())

    def offer(self, *candidates) -> None:
        """What is tried from now on: patterns, names of backends, or Candidates. The tiny model's calls are all
        overhead, so times are made up: the less a candidate sees, the faster."""
        made = [c if isinstance(c, self.candidate) else self.made(c) for c in candidates]
        seconds = {"host": 1.0, "temporal": 0.05}
        self.set(self.plans, "candidates", lambda kind: made)
        self.set(self.calibration, "WORTH", 0.0)
        self.set(self.lab.pack.nodes.runs.step_trials, "cost_of_forecasts", cost)
        self.set(self.probe, "time_in_turns", lambda runs, device: {name: seconds.get(name, 0.1) for name in runs})

    def made(self, one):
        return self.candidate(one) if isinstance(one, str) else self.candidate(pattern=one)

    def calibrate(self, model=None, latent=None, **other):
        """{output: value} of a Calibrate node."""
        node, (positive, negative) = self.plan.VideoAttentionCalibrate, self.lab.prompt
        samples = {"samples": LATENT if latent is None else latent}
        output = node.execute(model or self.lab.model, positive, negative, samples, **{**HOW, **other})
        return dict(zip((part.id for part in node.GET_SCHEMA().outputs), output.args)) | {"model": output.args[0]}


def start(lab, monkeypatch, folder) -> Bench:
    """A Bench that remembers nothing and keeps its plans in `folder`."""
    import folder_paths

    lab.pack.nodes.runs.plans._MEASURED.clear()
    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(folder))
    return Bench(lab, monkeypatch)
