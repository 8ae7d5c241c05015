"""The engine: a secrets engine of our own, run by OpenBao or Vault beside themselves, that judges before it signs.

The seed is born inside and never leaves. `sign` takes a whole bundle and judges it as a node does; there is no way to
have a digest signed. This package and what it imports is all that the plugin file holds: no grpc, no Vault client, no
database, no logging package.
"""
