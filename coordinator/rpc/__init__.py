"""The border of the coordinator: who may call what, how large, how long, and what an error becomes on the wire.

Protobuf stops here. Nothing behind this package sees a message, a certificate or a status code.
"""
