"""Rules of others, as rules of ours: first-match lists desugared into rules that are all evaluated.

What the language cannot say in the same words is refused, with the place in the file; nothing is dropped in silence.
"""
