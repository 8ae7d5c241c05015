"""The `keyturn` command line."""
