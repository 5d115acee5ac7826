"""The errors of tso: one base class, and each error also a class of the standard library."""


class TsoError(Exception):
    """Base class of every error that tso raises on purpose."""


class ConfigError(TsoError, ValueError):
    """An option or a user's plug-in cannot be used as given."""


class DataError(TsoError, ValueError):
    """Input data cannot be used."""


class MissingDependency(TsoError, ImportError):
    """An optional package is needed and not installed."""
