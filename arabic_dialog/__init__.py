"""Make, train and judge Arabic multi-turn dialogue models."""

from importlib import import_module

__version__ = "0.1.0"

# The names that a reader uses most, each with its home. A name is loaded when it is first asked for
# (PEP 562), so that `import arabic_dialog` and `--help` wait for no library.
_HOMES = {
    "Turn": "core.records",
    "Conversation": "core.records",
    "UserError": "core.records",
    "load_jsonl": "core.files",
    "load_profile": "core.settings",
    "load_model": "models.loading",
    "load_tokenizer": "models.tokenizers",
    "load_encoder": "models.encoders",
    "read_conversations": "generation.reading",
    "perplexity": "metrics.perplexity",
    "Raven": "metrics.raven",
    "rater_agreement": "rating.agreement",
    "open_run": "reporting.results",
    "reproduce": "commands.reproduce",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
