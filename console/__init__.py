"""What people use: clients of the coordinator that recompute whatever they show and whatever they sign."""
