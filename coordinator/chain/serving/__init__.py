"""The embedded regtest chain for programs of others, on loopback: Esplora REST, Electrum protocol, part of Core's RPC.

For development and for tests that prove our adapters and other people's clients on the same servers. It is no node: it
talks to no network and knows one chain.
"""
