"""Coverage-guided fuzzing of what reads foreign bytes: `python3 dev.py soak fuzz`, docs/fuzzing.md.

A target is a module with `check(raw)`, which raises where a promise is broken, and `seeds()`, its corpus.
"""
