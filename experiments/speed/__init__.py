"""Timings, as ratios measured in turns in one run.  Each module shows its command; results are in RESULTS.md."""
