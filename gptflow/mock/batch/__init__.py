"""The Files and Batch APIs of the simulated server."""
