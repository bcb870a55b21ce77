"""One model evaluation over several GPUs: how the tokens lie, who talks to whom, and what is exchanged."""
