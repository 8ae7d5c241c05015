"""The block chain behind one port: what is ours on it, whether it takes a transaction, what became of one."""
