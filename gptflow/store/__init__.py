"""The truth about runs: one SQLite file that holds their specs, rows and paid replies."""
