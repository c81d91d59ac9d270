"""The models that the command line knows, by the acronyms of the field."""

MODELS = ("bsc", "tsc", "dsc", "mca", "mmca", "gsc", "mop")


def model_class(name):
    """Return the estimator of an acronym."""
    from .. import dictionary

    return getattr(dictionary, name.upper())
