"""The command line `deepscm`: train, sample, counterfactual, evaluate, info. One module a command.

Modules here import torch and the rest of deepscm inside the commands, so that `--help` answers at once.
"""
