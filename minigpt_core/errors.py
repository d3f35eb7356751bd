"""The errors a user may cause. Each message is one line that names the thing and the way out."""


class UserError(Exception):
    """Something outside the program is not as it must be; shown as one line, exit code 1."""

    exit_code = 1


class UsageError(UserError):
    """The request itself makes no sense (an option, a size, a name); exit code 2."""

    exit_code = 2


class TrainingError(UserError):
    """Training cannot go on (a loss that is not finite, memory); exit code 1."""
