"""Evaluation of counterfactual images: a model, metrics and interventions give a report.

`evaluate` is the whole suite; `Predictors`, `Truth`, `Features` and `Latents` say what it may be given.
"""

from deepscm.evaluation.latents import latents_of as latents_of
from deepscm.evaluation.latents import train_latents as train_latents
from deepscm.evaluation.protocol import Features as Features
from deepscm.evaluation.protocol import Latents as Latents
from deepscm.evaluation.protocol import Predictors as Predictors
from deepscm.evaluation.protocol import Truth as Truth
from deepscm.evaluation.report import Report as Report
from deepscm.evaluation.report import Table as Table
from deepscm.evaluation.suite import evaluate as evaluate
from deepscm.evaluation.worlds import cooled as cooled
