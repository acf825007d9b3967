"""Shards: files of Parquet, each worked on as a run of its own by a worker of a cluster."""
