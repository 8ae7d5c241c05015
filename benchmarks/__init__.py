"""What this code costs beside its peers and beside the floor that elliptic curves set; see docs/benchmarks."""
