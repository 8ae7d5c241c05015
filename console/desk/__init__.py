"""The desk: pages on the approver's own machine, which show what this program proved, and sign what it showed."""
