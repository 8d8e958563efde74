"""Every error that deepscm raises on purpose.

All derive from `DeepSCMError`, and each message says what came, what was expected and what to do. Where a built-in
exception describes the same mistake, the class derives from it too, so code that catches `ValueError` keeps working.
"""

from __future__ import annotations


class DeepSCMError(Exception):
    """Root of all errors raised by deepscm."""


class GraphError(DeepSCMError, ValueError):
    """A cycle, an unknown or duplicate name, a parent without a node."""


class DataError(DeepSCMError, ValueError):
    """Values of the wrong shape, type or category, or not finite."""


class SupportError(DataError):
    """Values outside a variable's declared support."""


class FormatError(DataError):
    """A file that is truncated, corrupt or of another format."""


class NotFoundError(DataError):
    """Data that are nowhere to be found, and could not be downloaded."""


class InterventionError(DeepSCMError, ValueError):
    """An intervention that the model has no meaning for."""


class MechanismError(DeepSCMError, ValueError):
    """A mechanism that does not fit its variable, its parents or its settings."""


class NotFittedError(MechanismError):
    """A mechanism was used before it was fitted or prepared."""


class CapabilityError(DeepSCMError, TypeError):
    """A query needs something that a mechanism cannot do."""


class InferenceError(DeepSCMError, RuntimeError):
    """Inference ran, but its answer cannot be trusted."""


class TrainingError(DeepSCMError, RuntimeError):
    """Training cannot start, go on or be resumed."""


class CheckpointError(DeepSCMError, RuntimeError):
    """A checkpoint cannot be written or read."""


class DeviceError(DeepSCMError, RuntimeError):
    """A device that is unknown or not available here."""


class ConfigurationError(DeepSCMError, ValueError):
    """A model module, a command-line option or a setting that cannot be understood."""
