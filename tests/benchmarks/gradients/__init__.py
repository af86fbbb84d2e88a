"""What gradient checkers find, miss and cost: refnet beside its peers."""
