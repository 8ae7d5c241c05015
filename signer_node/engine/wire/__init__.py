"""Generated from plugin.proto (`python3 dev.py protos`; CI diffs): what an OpenBao or Vault server says to a plugin."""
