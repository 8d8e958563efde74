"""Inference where the evidence is partial: enumeration, importance sampling, recognition models."""

from deepscm.inference.labels import Labels as Labels
from deepscm.inference.recognition import Recognition as Recognition
from deepscm.inference.settings import InferenceWarning as InferenceWarning
from deepscm.inference.settings import Settings as Settings
