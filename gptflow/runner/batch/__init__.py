"""Batch mode: the calls of all rows go to the Batch API in rounds."""
