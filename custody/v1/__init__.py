"""Generated from protos/ by `python3 dev.py protos`; only the services import it, custody.* never does."""
