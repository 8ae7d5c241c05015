"""What Keyturn's messages mean: pure values in, values out.

No clock, network, file, log or randomness. Everything else stands on it.
"""
