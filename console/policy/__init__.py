"""Rules documents as people write them: YAML with places, lint with the keys of a genesis, simulation, imports.

YAML is read here and nowhere else: nodes, witnesses and the coordinator read canonical JSON.
"""
