"""The modes: each says where the workers of a run live, and nothing else."""
