"""Training the network that says how fit a face is to be recognised."""
