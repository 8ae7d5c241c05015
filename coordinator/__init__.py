"""The service that collects, routes, combines, broadcasts and records. Trusted for liveness, never for funds."""

import os

# No TLS below 1.3: grpc offers Python no minimum version, but its cipher list, which it reads once as it is imported,
# speaks of TLS 1.2 alone. One pre-shared-key suite, for which nobody has a key, leaves TLS 1.3 to negotiate.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-PSK-AES128-CBC-SHA")
