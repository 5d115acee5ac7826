"""Every error that tso raises on purpose.

One base class; each class is also the standard-library class that a caller would think of. The message is one
sentence or two: what is wrong, and what to do. Add a class only where a caller would want to catch it apart from
its siblings, or where the exit code differs.

Exit codes of the commands: 2 for the user's mistake (TsoError), 1 for a fault (InternalError and anything
unforeseen), 130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.
"""


class TsoError(Exception):
    """Base of everything below: one clear line for the person at the keyboard."""


class ConfigError(TsoError, ValueError):
    """An option that does not exist, has the wrong type, or cannot work."""


class DataError(TsoError, ValueError):
    """Input data that cannot be used; the message names the file and, where there is one, the line."""


class ModelError(TsoError, RuntimeError):
    """A model, tokenizer or chat template that cannot be loaded or used."""


class MissingDependency(TsoError, ImportError):
    """An optional package is needed; the message is the pip command that brings it."""


class ClusterError(TsoError, ConnectionError):
    """A cluster that cannot be reached, or that could not finish its work. The input is not at fault."""


class ServerError(TsoError, ConnectionError):
    """A model's server that cannot be reached or gives no usable answer. What has come is kept; run again later."""


class StoreError(TsoError, RuntimeError):
    """The run store refused."""


class StoreLocked(StoreError):
    """Another process is at work on this run."""


class StoreVersionError(StoreError):
    """The store was written by a version of tso that this one does not read."""


class StoreDamaged(StoreError):
    """The file is not a run store, or no longer a healthy one."""


class StoreConflict(StoreError):
    """A row contradicts what the store already holds, or the folder holds another run."""


class StoreFull(StoreError, OSError):
    """No space left on the device. What was committed before stays; run again to resume."""


class InternalError(TsoError, RuntimeError):
    """A fault of tso itself, such as counts that do not balance. Please report it."""
