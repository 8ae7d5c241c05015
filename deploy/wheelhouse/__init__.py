"""An air-gapped node's software in one folder: made on a machine with a network, installed on one without."""
