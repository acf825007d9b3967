"""The ways in which real OpenAI-compatible servers fail, each by a name."""
