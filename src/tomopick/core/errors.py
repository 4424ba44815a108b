"""What a user can cause. The command line prints the message on one line and exits with 2."""


class TomopickError(Exception):
    """Base of every error that a user can mend.

    The message says what was found, what was expected and what to do, and names the file or run. A field or argument
    that it speaks of stands in backticks, `field` or `field=value`; the command line puts its own flags there.
    """


class ReadError(TomopickError):
    """A file or volume that cannot be read, or is not what it was given as."""


class SelectionError(TomopickError):
    """A run, tomogram type, object or set of picks that does not exist or is not unique."""


class NoPicksError(SelectionError):
    """A run has picks, but none of those asked for; which need not be wrong where other runs have them."""


class SeveralPicksError(SelectionError):
    """Several sets of picks fit. Which field chooses among them only the caller knows, who names it anew.

    Attributes:
        found: where there are several.
        wanted: what to choose from.
    """

    def __init__(self, found: str, wanted: str, field: str = "picks") -> None:
        super().__init__(f"{found}; say which with `{field}`: {wanted}")
        self.found, self.wanted = found, wanted


class RecipeError(TomopickError):
    """An unknown recipe or override, or values that do not fit together."""


class ModelError(TomopickError):
    """A model folder that is incomplete, altered, or does not fit its input."""


class OutputError(TomopickError):
    """An output that exists and was not made by us, or that cannot be written."""


class EngineError(TomopickError):
    """An engine that is not installed, or that does not know a device, a precision or a network."""
