"""The properties that every correct operator, network and training step must have, and what feeds them."""
