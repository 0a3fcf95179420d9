"""What no form in integers or in float can mend."""


class RefusalError(ValueError):
    """The reason why a call cannot be taken at all, as an island of float neither."""
