"""The plugin's version: what it answers, and what a registration names. Semver with a v, as the server wants it."""

VERSION = "v0.1.0"
