"""What a hostile coordinator may tell a signer, lie by lie, each with the sentence of protocol.md that it breaks."""
