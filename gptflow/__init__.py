"""gptflow: declarative pipelines of language-model work over data."""

__version__ = "0.1.0"
