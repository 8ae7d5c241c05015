"""The service that collects, routes, combines, broadcasts and records. Trusted for liveness, never for funds."""
