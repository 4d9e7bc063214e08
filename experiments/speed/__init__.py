"""Timings, as ratios measured side by side in one run.  Each module says its command; results are in RESULTS.md."""
